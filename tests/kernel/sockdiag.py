"""The kernel's socket table over NETLINK_SOCK_DIAG, without a process for each look (sock_diag(7), linux/inet_diag.h).

`Table.dump` costs a few system calls and keeps the answer as the kernel gave it; `parse` reads it afterwards, when time
is of no importance. Sockets of the caller's network namespace only. Knows nothing of captures or trackers.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

__all__ = ["KERNEL_STATES", "Sample", "Socket", "Table", "key_of", "parse", "read_samples", "write_sample"]

KERNEL_STATES = {
    1: "ESTABLISHED",
    2: "SYN_SENT",
    3: "SYN_RECEIVED",
    4: "FIN_WAIT_1",
    5: "FIN_WAIT_2",
    6: "TIME_WAIT",
    7: "CLOSED",
    8: "CLOSE_WAIT",
    9: "LAST_ACK",
    11: "CLOSING",
    12: "SYN_RECEIVED",
}
"""include/net/tcp_states.h, in the words of RFC 9293; 12 is a request that is not a socket yet."""

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_MESSAGE = struct.Struct("=BBBB2s2s16s16sIIIIIIII")
_FRAME = struct.Struct("<qqI")
_BEFORE_ANY = "=BBBBI48x"
_ALL_BUT_LISTEN = sum(1 << state for state in KERNEL_STATES)
_MAPPED = bytes(10) + b"\xff\xff"


class Socket(NamedTuple):
    """One line of the table.

    Attributes:
        key: local address (16 bytes, IPv4 as ::ffff:a.b.c.d), local port, remote address, remote port; network order.
        state: a name of KERNEL_STATES.
        unacknowledged: octets written and not acknowledged yet, sent or not; a queued FIN is one.
        received: octets waiting for the application.
    """

    key: bytes
    state: str
    unacknowledged: int
    received: int


class Sample(NamedTuple):
    """The table as it was at some moment between two times (nanoseconds since 1970)."""

    before_ns: int
    after_ns: int
    raw: bytes


class Table:
    """The TCP sockets of this network namespace, both families."""

    def __init__(self) -> None:
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
        self._netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sequence = 0

    def dump(self) -> Sample:
        """Return all sockets but those that listen.

        Raises:
            OSError: the kernel refused.
        """
        before = time.time_ns()
        raw = b"".join(chunk for family in (socket.AF_INET, socket.AF_INET6) for chunk in self._dump_family(family))
        return Sample(before, time.time_ns(), raw)

    def _dump_family(self, family: int) -> Iterator[bytes]:
        self._sequence += 1
        request = struct.pack(_BEFORE_ANY, family, socket.IPPROTO_TCP, 0, 0, _ALL_BUT_LISTEN)
        length = _HEADER.size + len(request)
        header = _HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, self._sequence, 0)
        self._netlink.send(header + request)
        while True:
            chunk = self._netlink.recv(1 << 17)
            yield chunk
            if any(kind == _NLMSG_DONE for kind, _ in _messages(chunk)):
                return


def _messages(raw: bytes) -> Iterator[tuple[int, int]]:
    """(type, offset of the body) of each netlink message."""
    at = 0
    while at + _HEADER.size <= len(raw):
        length, kind, _, _, _ = _HEADER.unpack_from(raw, at)
        if kind == _NLMSG_ERROR:
            raise OSError(-struct.unpack_from("=i", raw, at + _HEADER.size)[0], "the kernel's socket table")
        yield kind, at + _HEADER.size
        at += (length + 3) & ~3


def parse(raw: bytes) -> Iterator[Socket]:
    """Yield the sockets of a dump."""
    for kind, at in _messages(raw):
        if kind != _SOCK_DIAG_BY_FAMILY:
            continue
        fields = _MESSAGE.unpack_from(raw, at)
        family, state = fields[0], fields[1]
        local_port, remote_port, local, remote = fields[4:8]
        if family == socket.AF_INET:
            local, remote = _MAPPED + local[:4], _MAPPED + remote[:4]
        yield Socket(local + local_port + remote + remote_port, KERNEL_STATES[state], fields[13], fields[12])


def key_of(local: tuple[Any, ...], remote: tuple[Any, ...]) -> bytes:
    """The key of a socket with these names (getsockname, getpeername)."""
    ends = []
    for ip, port, *_ in (local, remote):
        packed = socket.inet_pton(socket.AF_INET6, ip) if ":" in ip else _MAPPED + socket.inet_aton(ip)
        ends.append(packed + port.to_bytes(2, "big"))
    return b"".join(ends)


def write_sample(out: BinaryIO, sample: Sample) -> None:
    """Append a sample to a file that `read_samples` reads."""
    out.write(_FRAME.pack(sample.before_ns, sample.after_ns, len(sample.raw)) + sample.raw)


def read_samples(path: Path) -> Iterator[Sample]:
    """Yield the samples of a file, in order; one cut short at the end is left out."""
    with path.open("rb") as file:
        while len(frame := file.read(_FRAME.size)) == _FRAME.size:
            before, after, length = _FRAME.unpack(frame)
            raw = file.read(length)
            if len(raw) == length:
                yield Sample(before, after, raw)
