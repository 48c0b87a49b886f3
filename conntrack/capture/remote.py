"""A capture in an object store or on a web server, read by ranges of bytes through fsspec.

Owns what of an address is a capture's: "s3://bucket/key", "gs://...", "hdfs://...", "https://...", whatever fsspec has
a driver for. Who may read there is the driver's business (its environment variables and files), as are its retries.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from conntrack.errors import InputError

__all__ = ["RemoteFile", "RemoteStream", "is_remote"]

FIRST_BLOCK_BYTES = 1 << 18
MOST_BLOCK_BYTES = 8 << 20
"""Asked for at once, and twice as much each time: an object store takes tens of milliseconds to answer, whatever is
asked; but of most files only the head is looked at before they are read."""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_remote(path: str) -> bool:
    """Whether `path` is the address of a capture elsewhere."""
    return _ADDRESS.match(path) is not None


class RemoteFile:
    """A capture elsewhere, read from any offset; see ranges.RandomFile.

    Args:
        path: its address.

    Raises:
        InputError: there is none, it may not be read, or the driver is not installed.
    """

    def __init__(self, path: str) -> None:
        try:
            core: Any = import_module("fsspec.core")
        except ImportError:
            raise InputError(f"{path}: needs fsspec; pip install 'tcp-conntrack[remote]'") from None
        try:
            self._system, self._name = core.url_to_fs(path)
            info = self._system.info(self._name)
        except ImportError as error:
            raise InputError(f"{path}: {str(error).rstrip('.')}") from None
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; check the name") from None
        except PermissionError:
            raise InputError(f"{path}: permission denied; check the credentials that its driver uses") from None
        except Exception as error:  # drivers raise errors of their own libraries
            raise InputError(f"{path}: cannot be opened ({_first_line(error)}); check the address") from None
        if info.get("size") is None:
            raise InputError(f"{path}: the server does not say how long it is; copy it here first")
        self.size = int(info["size"])
        if self.size == 0:
            raise InputError(f"{path}: empty file (0 bytes); was the capture stopped before it was written?")

    def read_into(self, room: memoryview, offset: int) -> int:
        """Fill `room` from its start with bytes from `offset` on; return how many, 0 only at the end.

        Raises:
            OSError: it cannot be read, or fewer bytes came than there are.
        """
        stop = min(offset + len(room), self.size)
        if stop <= offset:
            return 0
        try:
            data = self._system.cat_file(self._name, start=offset, end=stop)
        except Exception as error:  # as above
            raise OSError(None, _first_line(error)) from error
        if len(data) != stop - offset:
            raise OSError(None, f"the server broke off: {len(data)} of {stop - offset} bytes came")
        room[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Nothing is held between two reads."""


class RemoteStream:
    """The same from its first byte to its last; see stream.Bytes."""

    live = False

    def __init__(self, path: str) -> None:
        self._file = RemoteFile(path)
        self._ahead = memoryview(b"")
        self._block_bytes = FIRST_BLOCK_BYTES
        self.raw_bytes = 0

    def readinto(self, room: memoryview) -> int:
        """Fill `room` from its start; 0 at the end."""
        if not self._ahead:
            size = min(self._block_bytes, self._file.size - self.raw_bytes)
            self._block_bytes = min(2 * self._block_bytes, MOST_BLOCK_BYTES)
            block = bytearray(size)
            self._ahead = memoryview(block)[: self._file.read_into(memoryview(block), self.raw_bytes)]
        taken = min(len(room), len(self._ahead))
        room[:taken] = self._ahead[:taken]
        self._ahead = self._ahead[taken:]
        self.raw_bytes += taken
        return taken

    def ready(self, timeout_s: float) -> bool:
        """It never waits for a writer."""
        return True

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
