"""Bytes of one input, in one buffer that is filled again and again.

Owns the open file and the buffer; knows no format. Large reads into a fixed buffer, not a mapping: on a 20-million
packet capture in page cache a mapping saved 10 of 40 ns a packet, but counts the file as resident memory, does not
work on a pipe, and kills the process when the file is cut while it is read (a capture being rotated). Where the bytes
come from can be exchanged once the first of them are known: a decompressor (compressed.py), a converter (foreign.py).
"""

from __future__ import annotations

import os
import select
import stat
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from conntrack.capture.remote import RemoteFile, RemoteStream, is_remote
from conntrack.errors import CaptureError, InputError

__all__ = ["BUFFER_BYTES", "STANDARD_INPUT", "Bytes", "Stream", "cannot_open", "input_size"]

STANDARD_INPUT = "-"
BUFFER_BYTES = 1 << 20
"""Measured: 0.25 to 4 MiB are the same within 5 %, below and above is slower."""


def input_size(path: str) -> int | None:
    """Return the size of a regular file in bytes, None of anything else that can be read.

    Raises:
        InputError: there is nothing to read at `path`.
    """
    if path == STANDARD_INPUT:
        return None
    if is_remote(path):
        return RemoteFile(path).size
    try:
        status = os.stat(path)
    except OSError as error:
        raise cannot_open(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: is a directory; give -r to read the captures in it, or name them")
    if not stat.S_ISREG(status.st_mode):
        return None
    if status.st_size == 0:
        raise InputError(f"{path}: empty file (0 bytes); was the capture stopped before it was written?")
    return status.st_size


class Bytes(Protocol):
    """Where bytes come from."""

    @property
    def live(self) -> bool:
        """Whether somebody writes while we read, so that reading may have to wait."""

    @property
    def raw_bytes(self) -> int:
        """How many bytes of the file were used so far; where they are compressed, fewer than were given."""

    def readinto(self, room: memoryview) -> int:
        """Fill `room` from its start; wait for at least one byte; 0 at the end.

        Raises:
            OSError: the system cannot read on.
            CaptureError: the bytes cannot be decompressed, converted or followed any further.
        """

    def ready(self, timeout_s: float) -> bool:
        """Wait until `readinto` would not wait, at most so long; return whether it would not."""

    def close(self) -> None:
        """Let go of it."""


class _File:
    """A file, pipe or device, as it is."""

    def __init__(self, path: str) -> None:
        self._poll: select.poll | None = None
        self.raw_bytes = 0
        try:
            self._file = open(  # noqa: SIM115  (a file number; closed by close)
                0 if path == STANDARD_INPUT else path, "rb", buffering=0, closefd=path != STANDARD_INPUT
            )
        except OSError as error:
            raise cannot_open(path, error) from error
        if self._file.isatty():
            self.close()
            raise InputError(f"{path}: is a terminal; pipe a capture into it (tcpdump -w - | ctrack -)")
        self.live = not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        if self.live:
            self._poll = select.poll()
            self._poll.register(self._file.fileno(), select.POLLIN)

    def readinto(self, room: memoryview) -> int:
        size = self._file.readinto(room)
        while size is None and self._poll:  # a pipe set not to block, and empty
            self._poll.poll()
            size = self._file.readinto(room)
        self.raw_bytes += size or 0
        return size or 0

    def ready(self, timeout_s: float) -> bool:
        return self._poll is None or bool(self._poll.poll(timeout_s * 1000))

    def close(self) -> None:
        self._file.close()


class Stream:
    """One input, read from its first byte on. A context manager.

    Args:
        path: its name as the user gave it, "-" for standard input.
        data: a buffer to use, uint8; one is made if there is none.
        source: where the bytes come from; the file at `path` if there is none.

    Attributes:
        path: its name as the user gave it, "-" for standard input.
        data: the buffer, uint8; bytes `position` to `end` of it are read and not yet used.
        read_bytes: how many bytes were read so far, after decompression.
        format: what it is, in words, once a reader is found for it.

    Raises:
        InputError: it cannot be opened.
    """

    def __init__(self, path: str, data: npt.NDArray[np.uint8] | None = None, source: Bytes | None = None) -> None:
        self.path = path
        self.source: Bytes = source or (RemoteStream(path) if is_remote(path) else _File(path))
        self.data: npt.NDArray[np.uint8] = np.empty(BUFFER_BYTES, np.uint8) if data is None else data
        self.position = 0
        self.end = 0
        self.read_bytes = 0
        self.format = ""

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the input (standard input stays open)."""
        self.source.close()

    def exchange(self, source: Bytes) -> None:
        """Go on with other bytes from their first on; those that are in the buffer are forgotten."""
        self.source = source
        self.position = self.end = self.read_bytes = 0

    @property
    def available(self) -> int:
        """Bytes read and not yet used."""
        return self.end - self.position

    @property
    def offset(self) -> int:
        """Where the next unused byte is in the input."""
        return self.read_bytes - self.available

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes without using them; fewer only at the end of the input."""
        while self.available < size and self.more(size):
            pass
        return self.data[self.position : min(self.position + size, self.end)].tobytes()

    def skip(self, size: int) -> None:
        """Use up `size` bytes that `peek` returned."""
        self.position += size

    def more(self, needed: int) -> bool:
        """Read once, so that at least one byte is added; False at the end of the input.

        Args:
            needed: bytes that must fit into the buffer from the first unused one on; it grows for them. The caller
                has held this number against a limit.

        Raises:
            CaptureError: the system cannot read on.
        """
        rest = self.available
        if needed > self.data.size:
            grown = np.empty(max(needed, 2 * self.data.size), np.uint8)
            grown[:rest] = self.data[self.position : self.end]
            self.data = grown
        elif self.position:
            self.data[:rest] = self.data[self.position : self.end]
        self.position, self.end = 0, rest
        try:
            size = self.source.readinto(self.data[rest:].data)
        except OSError as error:
            message = f"cannot be read on at offset {self.read_bytes}: {error.strerror}"
            raise CaptureError(self.path, self.read_bytes, message) from error
        self.end += size
        self.read_bytes += size
        return bool(size)

    def damage(self, what: str, packets_used: int) -> CaptureError:
        """Return the error for damage at the next unused byte.

        Args:
            what: what is wrong, with an open parenthesis in it, which the offset closes.
            packets_used: packets of this input that came before.
        """
        packets = "1 packet" if packets_used == 1 else f"{packets_used} packets"
        return CaptureError(self.path, self.offset, f"{what}, offset {self.offset}); {packets} used")


def cannot_open(path: str, error: OSError) -> InputError:
    """Return the error for a file that the system does not open."""
    match error:
        case FileNotFoundError():
            return InputError(f"{path}: no such file; check the name")
        case PermissionError():
            return InputError(f"{path}: permission denied; run as a user who may read it")
        case _:
            return InputError(f"{path}: cannot be opened ({error.strerror}); check the name")
