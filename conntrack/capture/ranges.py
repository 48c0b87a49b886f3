"""Bytes of a file from any offset on: what reading in pieces needs of a file, wherever it is.

Owns the file on this machine; one elsewhere is remote.py's. Knows no format.
"""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
import numpy.typing as npt

from conntrack.capture.remote import RemoteFile, is_remote
from conntrack.capture.stream import cannot_open
from conntrack.errors import CaptureError

__all__ = ["RandomFile", "Range", "open_random", "read_at"]


class RandomFile(Protocol):
    """A file that can be read from any offset."""

    size: int

    def read_into(self, room: memoryview, offset: int) -> int:
        """Fill `room` from its start with bytes from `offset` on; return how many, 0 only at the end.

        Raises:
            OSError: it cannot be read.
        """

    def close(self) -> None:
        """Let go of it."""


class _LocalFile:
    def __init__(self, path: str) -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise cannot_open(path, error) from error
        self.size = os.fstat(self._fd).st_size

    def read_into(self, room: memoryview, offset: int) -> int:
        return os.preadv(self._fd, [room], offset)

    def close(self) -> None:
        os.close(self._fd)


def open_random(path: str) -> RandomFile:
    """Open a file for reading from any offset.

    Raises:
        InputError: it cannot be opened.
    """
    return RemoteFile(path) if is_remote(path) else _LocalFile(path)


def read_at(path: str, file: RandomFile, offset: int, size: int) -> npt.NDArray[np.uint8]:
    """Return `size` bytes from `offset` on, fewer where the file ends.

    Raises:
        CaptureError: the system cannot read them.
    """
    data: npt.NDArray[np.uint8] = np.empty(max(min(size, file.size - offset), 0), np.uint8)
    filled = 0
    while filled < len(data):
        try:
            got = file.read_into(data[filled:].data, offset + filled)
        except OSError as error:
            at = offset + filled
            raise CaptureError(path, at, f"cannot be read on at offset {at}: {error.strerror or error}") from error
        if not got:
            break
        filled += got
    return data[:filled]


class Range:
    """Bytes of a file from `offset` up to `limit`, which whoever reads may move on; see stream.Bytes.

    Attributes:
        at_end: the end of the file was read (or it was cut in the meantime).
    """

    live = False

    def __init__(self, file: RandomFile, offset: int, limit: int) -> None:
        self._file = file
        self._first = self._at = offset
        self.limit = limit
        self.at_end = False

    @property
    def raw_bytes(self) -> int:
        """How many bytes were used."""
        return self._at - self._first

    def readinto(self, room: memoryview) -> int:
        """Fill `room` from its start; 0 at the limit."""
        size = min(len(room), self.limit - self._at)
        if size <= 0:
            return 0
        got = self._file.read_into(room[:size], self._at)
        self._at += got
        self.at_end = not got or self._at >= self._file.size
        return got

    def ready(self, timeout_s: float) -> bool:
        """Nobody waits for a file."""
        return True

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
