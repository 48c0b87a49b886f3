"""Refusals of input from outside that is broken or hostile, where a capture's own readers are not concerned.

A firewall's table, the kernel's socket table, a server that holds a capture, names that tcpdump printed: each is told
in one line, or counted by its reason.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path
from typing import Any

import fsspec.core
import pytest

from conntrack.capture import open_capture, tcpdump_text
from conntrack.capture.remote import RemoteFile
from conntrack.cli import main
from conntrack.compare.netfilter import take_netfilter
from conntrack.compare.snapshot import Snapshot
from conntrack.errors import InputError
from conntrack.host import netlink

# --- A firewall's table -----------------------------------------------------------------------------------------------

TUPLE = "src=10.0.0.1 dst=10.0.0.2 sport=40000 dport=80"
NO_STATE, NO_TUPLES = "no state of netfilter", "an entry without its two tuples"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("tcp 6", NO_STATE),
        (f"tcp 6 soon ESTABLISHED {TUPLE} {TUPLE}", NO_STATE),
        (f"tcp 6 {10**10} ESTABLISHED {TUPLE} {TUPLE}", NO_STATE),
        (f"tcp 6 99 CONNECTED {TUPLE} {TUPLE}", NO_STATE),
        (f"tcp 6 99 ESTABLISHED {TUPLE}", NO_TUPLES),
        (f"tcp 6 99 ESTABLISHED {TUPLE} {TUPLE} sport=1", NO_TUPLES),
        (f"tcp 6 99 ESTABLISHED {TUPLE} {TUPLE.replace('10.0.0.1', '10.0.0.256')}", NO_TUPLES),
        (f"tcp 6 99 ESTABLISHED {TUPLE.replace('40000', '65536')} {TUPLE}", NO_TUPLES),
        (f"tcp 6 99 ESTABLISHED {TUPLE} {TUPLE.replace('=80', '=http')}", NO_TUPLES),
    ],
)
def test_a_line_of_conntrack_that_cannot_be_one_is_counted(line: str, reason: str) -> None:
    snapshot = Snapshot("nf.txt", "conntrack")
    take_netfilter(line, snapshot)
    assert (dict(snapshot.skipped), snapshot.entries) == ({reason: 1}, [])


def test_standard_input_is_one_of_both(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "-", "--with", "-"]) == 2
    assert (
        capfd.readouterr().err
        == "ctrack: --with: standard input is the capture; give the snapshot as a file; see 'ctrack compare --help'\n"
    )


# --- The kernel's socket table ----------------------------------------------------------------------------------------

DONE, ERROR = 3, 2


def message(kind: int, sequence: int, said: int = 0, *, length: int = 20) -> bytes:
    return struct.pack("=IHHIIi", length, kind, 0, sequence, 0, -said)


class Kernel:
    """A netlink socket that gives the prepared answers, one to each request."""

    answers: list[bytes]
    flags = 0

    def __init__(self, *_: object) -> None:
        self._left = list(self.answers)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None: ...

    def setsockopt(self, *_: object) -> None: ...

    def settimeout(self, _: float) -> None: ...

    def send(self, _: bytes) -> None: ...

    def recvmsg_into(self, buffers: list[memoryview]) -> tuple[int, list[Any], int, Any]:
        answer = self._left.pop(0)
        buffers[0][: len(answer)] = answer
        return len(answer), [], self.flags, None


def dumped(monkeypatch: pytest.MonkeyPatch, *answers: bytes, flags: int = 0) -> int:
    with monkeypatch.context() as context:
        context.setattr(netlink.socket, "socket", type("Prepared", (Kernel,), {"answers": answers, "flags": flags}))
        return len(netlink.dump())


def test_what_the_kernel_refuses_is_said_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PermissionError, match=os.strerror(errno.EPERM)):
        dumped(monkeypatch, message(ERROR, 1, errno.EPERM))


def test_a_kernel_without_ipv6_has_the_other_table(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dumped(monkeypatch, message(DONE, 1), message(ERROR, 2, errno.ENOENT)) == 0
    with pytest.raises(FileNotFoundError):
        dumped(monkeypatch, message(ERROR, 1, errno.ENOENT), message(DONE, 2))


def test_an_answer_that_cannot_be_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="the kernel's socket table cannot be understood"):
        dumped(monkeypatch, message(DONE, 1, length=3))
    with pytest.raises(OSError, match="a message of the kernel's socket table is too long"):
        dumped(monkeypatch, message(DONE, 1), flags=socket.MSG_TRUNC)


# --- A server that holds a capture ------------------------------------------------------------------------------------


class Server:
    """A file system of fsspec with one file, of which it gives less than it says."""

    def __init__(self, size: int | None, content: bytes) -> None:
        self._size, self._content = size, content

    def info(self, _: str) -> dict[str, Any]:
        return {"size": self._size}

    def cat_file(self, _: str, *, start: int, end: int) -> bytes:
        return self._content[start:end]


def test_a_server_that_tells_no_length_or_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(size: int | None, content: bytes) -> RemoteFile:
        monkeypatch.setattr(fsspec.core, "url_to_fs", lambda _: (Server(size, content), "a.pcap"))
        return RemoteFile("http://host/a.pcap")

    with pytest.raises(InputError, match=r"^http://host/a\.pcap: the server does not say how long it is"):
        opened(None, b"")
    file, room = opened(1000, bytes(600)), memoryview(bytearray(500))
    assert file.read_into(room, 0) == 500
    with pytest.raises(OSError, match="the server broke off: 100 of 500 bytes came"):
        file.read_into(room, 500)
    assert file.read_into(room, 1000) == 0


# --- What tcpdump printed ---------------------------------------------------------------------------------------------


def test_more_names_than_addresses_are_set_aside_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcpdump_text, "MOST_NAMES", 3)
    lines = [f"12:00:00.00000{n} IP a{n}.x.80 > b.x.81: Flags [.], ack 1, win 1, length 0\n" for n in range(4)]
    path = tmp_path / "named.txt"
    path.write_text("".join(lines))
    with pytest.raises(InputError, match="line 3: too many host names; print with -n"), open_capture([path]) as capture:
        list(capture)
