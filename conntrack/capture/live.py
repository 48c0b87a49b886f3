"""What passes an interface now: Wireshark's dumpcap in a pipe, whose pcapng our own reader reads.

Owns the process and what its failures mean. dumpcap is a small program that holds the right to capture, so that nothing
else needs it; where only tshark is to be found, its own dumpcap is run, or tshark, which starts it and passes the same
stream on. Without a dumpcap that this user may run nothing of Wireshark captures: tshark is a front end of it, and
pyshark's LiveCapture runs it itself. dumpcap tells its drops at the end, in an interface statistics block: they are in
`CaptureInfo.described`, like those of every pcapng file. While it runs it cannot be asked (dumpcap 4.0): no signal does
(SIGUSR1 ends it), `-S` counts on another socket, the blocks between come with files of a ring alone, and the kernel
tells PACKET_STATISTICS to nobody but the owner of the socket.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from conntrack.capture import BATCH_SEGMENTS, Capture
from conntrack.capture.stream import STANDARD_INPUT, Bytes, Stream, input_size
from conntrack.errors import CaptureError, InputError
from conntrack.whole import WholeFile

__all__ = ["BUFFER_MIB", "SNAP_BYTES", "Captured", "Kept", "open_interfaces", "open_pipe"]

PACKAGE = "wireshark-common"
"""Of Debian and Ubuntu; wireshark-cli elsewhere."""
SNAP_BYTES = 256
"""Of each frame, where packets are not kept: headers, options and a tunnel around them; payload is not looked at."""
BUFFER_MIB = 64
"""Of kernel memory for packets that dumpcap has not taken yet: a second at 200,000 a second."""
PIPE_BYTES = 1 << 20
"""Between dumpcap and us; the most that a user may ask for (/proc/sys/fs/pipe-max-size)."""
ENDS_WITHIN_S = 5.0
"""Of being asked to, dumpcap does; else it is killed."""
_MOST_WORDS = 4096
_EMPTY = struct.pack("=IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
"""A section of pcapng without anything in it (draft-ietf-opsawg-pcapng section 4.1)."""


class Captured:
    """The pcapng that dumpcap writes while it captures: `stream.Bytes`.

    Args:
        interfaces: their names, as `ip link` shows them.
        filter: an expression of pcap-filter(7) that the kernel applies, None for all.
        snap_bytes: of each frame; 0 for all of it.

    Attributes:
        note: what to know of how it is captured, in a sentence; "" where it is dumpcap as found in PATH.

    Raises:
        InputError: there is no such interface, neither dumpcap nor tshark, or no right to run it.
    """

    live = True

    def __init__(self, interfaces: Sequence[str], filter: str | None = None, *, snap_bytes: int = SNAP_BYTES) -> None:
        self.path = ", ".join(interfaces)
        self.raw_bytes = 0
        self._filter = filter
        self._ending = False
        _check_names(interfaces)
        program, self.note = _find_program(self.path)
        command = [program, "-q", "-s", str(snap_bytes), "-B", str(BUFFER_MIB)]
        command += ["-f", filter] if filter else []
        command += [argument for name in interfaces for argument in ("-i", name)]
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        try:
            self._process = subprocess.Popen(
                [*command, "-w", "-"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._words,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for us: what it has captured is still read
            )
        except PermissionError:
            raise _no_permission(self.path) from None
        assert self._process.stdout is not None
        self._out = self._process.stdout
        with suppress(OSError):
            fcntl.fcntl(self._out.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(self._out.fileno(), select.POLLIN)

    def readinto(self, room: memoryview) -> int:
        size: int = self._out.readinto(room) or 0  # type: ignore[attr-defined]
        self.raw_bytes += size
        if not size:
            code = self._process.wait()
            failed_at_once = code > 0 and not self.raw_bytes  # asked to end or not: it never began
            if code and (failed_at_once or not self._ending):
                raise self._fault()
            if self._ending and not self.raw_bytes:  # it was to end before it wrote a byte: nothing was captured
                room[: len(_EMPTY)] = _EMPTY
                self.raw_bytes = size = len(_EMPTY)
        return size

    def ready(self, timeout_s: float) -> bool:
        return bool(self._poll.poll(timeout_s * 1000))

    def stop(self) -> None:
        """Ask dumpcap to end: it writes what it has and its statistics, then the stream ends."""
        self._ending = True
        with suppress(ProcessLookupError, PermissionError):
            self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        self.stop()
        self._out.close()
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words.close()

    def _fault(self) -> CaptureError | InputError:
        self._words.seek(0)
        said = self._words.read(_MOST_WORDS).decode(errors="replace")
        if "run" in said and "dumpcap in child process: No such" in said:  # tshark's words
            return InputError(
                f"{self.path}: tshark is installed without dumpcap, which it captures through; install the package "
                f"{PACKAGE}, or pipe a capture in: tcpdump -i {self.path} -w - | ctrack live -"
            )
        if "ermission" in said or "not permitted" in said:
            return _no_permission(self.path)
        if "capture filter" in said:
            return InputError(f"--filter: '{self._filter}' is no expression of pcap-filter(7){_parenthesis(said)}")
        lines = [line.split(": ", 1)[1] for line in said.splitlines() if line.startswith(("dumpcap: ", "tshark: "))]
        reason = lines[0].rstrip(".") if lines else f"exit code {self._process.returncode}"
        if not self.raw_bytes:
            return InputError(f"{self.path}: cannot be captured on ({reason}); dumpcap -D lists what can")
        what = f"the capture ended by itself ({reason}); what came before was used"
        return CaptureError(self.path, self.raw_bytes, what)


class Kept:
    """Bytes that are written to a file as they are read: `stream.Bytes` made of `stream.Bytes`.

    The file is called PATH.part until this is closed; it stays that where it cannot be written on, or the process ends.

    Args:
        source: closed with this.
        path: the file, made new.
        note: is told when the file cannot be written on; reading goes on then.

    Raises:
        InputError: the file cannot be made.
    """

    def __init__(self, source: Bytes, path: str, note: Callable[[str], None]) -> None:
        self._source = source
        self._path = path
        self._note = note
        self._writes = True
        try:
            self._file = WholeFile(path, keep=True)
        except OSError as error:
            source.close()
            raise InputError(f"{path}: {(error.strerror or str(error)).lower()}; give another name to -w") from None

    @property
    def live(self) -> bool:
        return self._source.live

    @property
    def raw_bytes(self) -> int:
        return self._source.raw_bytes

    def readinto(self, room: memoryview) -> int:
        size = self._source.readinto(room)
        left = room[:size]
        while self._writes and len(left):
            try:
                left = left[self._file.stream.write(left) :]
            except OSError as error:
                self._writes = False
                self._file.discard()
                self._note(
                    f"{self._file.path}: {(error.strerror or str(error)).lower()}; packets are not kept any more"
                )
        return size

    def ready(self, timeout_s: float) -> bool:
        return self._source.ready(timeout_s)

    def close(self) -> None:
        self._source.close()
        if self._writes:
            self._finish()

    def _finish(self) -> None:
        self._writes = False
        try:
            self._file.finish()
        except OSError as error:
            self._note(f"{self._path}: {(error.strerror or str(error)).lower()}; packets were not kept")


def open_interfaces(
    interfaces: Sequence[str], *, filter: str | None = None, keep: str | None = None, snap_bytes: int | None = None
) -> tuple[Capture, Captured]:
    """Open what passes `interfaces` as a capture that ends when the second of what is returned is told to stop.

    Args:
        interfaces: their names.
        filter: an expression of pcap-filter(7), which the kernel applies.
        keep: a file for the packets, in pcapng, as dumpcap gives them to us.
        snap_bytes: of each frame, 0 for all; SNAP_BYTES by default, all of it where packets are kept.

    Raises:
        InputError: as `Captured` and `Kept`.
    """
    snap = snap_bytes if snap_bytes is not None else 0 if keep else SNAP_BYTES
    captured = Captured(interfaces, filter, snap_bytes=snap)
    capture = Capture(BATCH_SEGMENTS)
    if captured.note:
        capture.info.notes.append(captured.note)
    capture.read_streams(_one(captured.path, captured, keep, capture))
    return capture, captured


def open_pipe(path: str, *, filter: str | None = None, keep: str | None = None) -> Capture:
    """Open standard input ("-"), a named pipe or a file as a capture, and keep its bytes as they are.

    Raises:
        InputError: it cannot be opened; as `Kept`.
        ConntrackError: the filter is no expression that libpcap takes, or libpcap is not installed.
    """
    passing = None
    if filter is not None:
        from conntrack.capture.filter import Filter

        passing = Filter(filter)
    if path != STANDARD_INPUT:
        input_size(path)
    if keep is not None and path != STANDARD_INPUT and Path(keep).exists() and Path(keep).samefile(path):
        raise InputError(f"{keep}: is the capture itself; give another name to -w")
    capture = Capture(BATCH_SEGMENTS, filter=passing)
    capture.read_streams(_one(path, None, keep, capture))
    return capture


def _one(path: str, source: Bytes | None, keep: str | None, capture: Capture) -> Iterator[Stream]:
    stream = Stream(path, source=source)
    if keep is not None:
        stream.source = Kept(stream.source, keep, capture.info.notes.append)
    return iter((stream,))


def _find_program(path: str) -> tuple[str, str]:
    # dumpcap; else the one beside tshark; else tshark, which knows where its own is. With what is to be said of it.
    if (found := shutil.which("dumpcap")) is not None:
        return found, ""
    if (tshark := shutil.which("tshark")) is not None:
        beside = Path(tshark).resolve().with_name("dumpcap")
        if os.access(beside, os.X_OK):
            return str(beside), f"dumpcap is not in PATH: captured by tshark's, {beside}"
        return tshark, f"no dumpcap is found: captured by tshark, {tshark}"
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if (Path(folder) / "dumpcap").exists():  # Debian lets only its group run it
            raise _no_permission(path)
    raise InputError(
        f"{path}: neither dumpcap nor tshark is installed; install the package {PACKAGE}, "
        f"or pipe a capture in: tcpdump -i {path} -w - | ctrack live -"
    )


def _check_names(interfaces: Sequence[str]) -> None:
    there = [name for _, name in socket.if_nameindex()]
    for name in interfaces:
        if name != "any" and name not in there:
            raise InputError(f"{name}: no such interface; there are {', '.join(there)}, and any")


def _no_permission(path: str) -> InputError:
    return InputError(
        f"{path}: no permission to capture; join the group wireshark (sudo dpkg-reconfigure wireshark-common; "
        f"sudo usermod -aG wireshark $USER), or pipe: sudo tcpdump -i {path} -w - | ctrack live -"
    )


def _parenthesis(said: str) -> str:
    _, bracket, rest = said.partition("(")
    return f" ({rest.split(')')[0].strip()})" if bracket else ""
