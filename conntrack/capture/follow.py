"""A capture that is still being written, and the files that its writer goes on to: tcpdump -C, -G and -W, dumpcap -b.

Owns when a file is over. At the end of a file it is looked again, four times a second, whether more was written, and
whether there is a next one; a next one is one that was not read yet: another name, another inode, or other first bytes
(tcpdump -W writes its files again from their start). The files are, of

* a directory: all in it; a pattern (ring_*.pcapng, in quotes): all that match;
* a file: itself, and those that tcpdump -C and dumpcap -b name after it: cap, cap1, cap2; cap_00001_20261121.pcapng.

Those that are there at the start are read from the oldest on. Without an end of its own: Ctrl-C ends it.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence

from conntrack.capture.kinds import HEAD_BYTES as LOOKED_BYTES
from conntrack.capture.kinds import kind_of, not_a_capture
from conntrack.capture.stream import STANDARD_INPUT, Stream
from conntrack.capture.tcpdump_text import is_tcpdump_text
from conntrack.errors import CaptureError, InputError

__all__ = ["POLL_S", "follow_streams"]

POLL_S = 0.25
"""How often a file that has come to its end is looked at again."""
HEAD_BYTES = 40
"""They tell a file that is written again: a pcap's first packet begins in them. A shorter file has not begun: a pcap
header alone, which tcpdump writes at once, is no reason yet to leave the file before."""

_DUMPCAP = re.compile(r"(?P<stem>.*)_\d{5,}_\d{14}(?P<suffix>(?:\.\w+)*)")

Identity = tuple[str, int, bytes]


def follow_streams(paths: Sequence[str | os.PathLike[str]], note: Callable[[str], None]) -> Iterator[Stream]:
    """Yield the files of a rotating set as streams, each of which goes on until there is a next file.

    Args:
        paths: one file, directory or pattern, or "-".
        note: is told what the user should know.

    Raises:
        InputError: more than one is given, or there is nothing to wait for.
    """
    if len(paths) != 1:
        raise InputError("--follow: give one file, directory or pattern (in quotes), not several")
    path = os.fsdecode(paths[0])
    if path == STANDARD_INPUT or _is_pipe(path):
        return iter((Stream(path),))
    files = _Set(path)
    if not files.names() and not os.path.isdir(os.path.dirname(path) or "."):
        raise InputError(f"{path}: no such file, and no such directory to wait for it in; check the name")
    if not files.has_next():
        _refuse(path)
        note(f"{path}: nothing there yet; waiting for it")
    return _follow(files)


def _follow(files: _Set) -> Iterator[Stream]:
    while True:
        name = files.next()
        if name is None:
            time.sleep(POLL_S)
            continue
        try:
            yield Stream(name, source=_Growing(name, files))
        except OSError:
            continue  # gone again


def _refuse(path: str) -> None:
    # A file that is no capture will not become one.
    if os.path.isfile(path):
        with open(path, "rb") as file:
            head = file.read(LOOKED_BYTES)
        if is_tcpdump_text(head):
            raise InputError(f"{path}: what tcpdump prints cannot be followed in a file; pipe it into: ctrack -")
        if len(head) >= 4 and kind_of(head[:4]) is None:
            raise not_a_capture(path, head)


def _is_pipe(path: str) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode)


class _Set:
    """The files that belong together, and which of them were read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._read: set[Identity] = set()

    def names(self) -> list[str]:
        """Return the files that are there now."""
        path = self.path
        if os.path.isdir(path):
            found = [os.path.join(path, name) for name in os.listdir(path)]
        elif glob.has_magic(path) and not os.path.exists(path):
            found = glob.glob(path)
        else:
            found = [path, *self._siblings(path)]
        return [name for name in found if os.path.isfile(name)]

    def next(self) -> str | None:
        """Return the oldest file that was not read yet, None if there is none. It counts as read from here on."""
        waiting = []
        for name in self.names():
            identity = _identity(name)
            if identity is not None and identity not in self._read:
                waiting.append((_changed_ns(name), name, identity))
        if not waiting:
            return None
        _, name, identity = min(waiting)
        self._read.add(identity)
        return name

    def has_next(self) -> bool:
        """Return whether `next` would return one."""
        return any(identity is not None and identity not in self._read for identity in map(_identity, self.names()))

    @staticmethod
    def _siblings(path: str) -> list[str]:
        folder, base = os.path.split(path)
        match = _DUMPCAP.fullmatch(base)
        stem, suffix = (match["stem"], match["suffix"]) if match else os.path.splitext(base)
        ring = re.compile(re.escape(stem) + r"_\d{5,}_\d{14}" + re.escape(suffix))
        count = re.compile(re.escape(base) + r"\d+")
        try:
            names = os.listdir(folder or ".")
        except OSError:
            return []
        return [os.path.join(folder, name) for name in names if ring.fullmatch(name) or count.fullmatch(name)]


def _identity(name: str) -> Identity | None:
    try:
        with open(name, "rb", buffering=0) as file:
            head = file.read(HEAD_BYTES)
            return (
                (name, os.fstat(file.fileno()).st_ino, head) if len(head) == HEAD_BYTES and kind_of(head[:4]) else None
            )
    except OSError:
        return None


def _changed_ns(name: str) -> int:
    try:
        return os.stat(name).st_mtime_ns
    except OSError:
        return 0


class _Growing:
    """A file that may grow, until there is a next one: `stream.Bytes`."""

    live = True

    def __init__(self, path: str, files: _Set) -> None:
        self._path = path
        self._files = files
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (closed by close)
        self.raw_bytes = 0

    def readinto(self, room: memoryview) -> int:
        while True:
            size = self._file.readinto(room)
            if size:
                self.raw_bytes += size
                return size
            self._check()
            if self._files.has_next():  # the writer has left this file: what it wrote last is there by now
                size = self._file.readinto(room) or 0
                self.raw_bytes += size
                return size
            time.sleep(POLL_S)

    def ready(self, timeout_s: float) -> bool:
        if os.fstat(self._file.fileno()).st_size > self.raw_bytes or self._files.has_next():
            return True
        time.sleep(timeout_s)
        return os.fstat(self._file.fileno()).st_size > self.raw_bytes

    def close(self) -> None:
        self._file.close()

    def _check(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        if size < self.raw_bytes:
            what = f"was cut while it was read (to {size} bytes; {self.raw_bytes} were read)"
            raise CaptureError(self._path, size, f"{what}; what came before was used")
