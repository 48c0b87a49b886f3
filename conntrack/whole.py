"""A file that is there whole, or not at all: written beside its place under another name, then renamed.

How every file that a user names is written. Until it is renamed, what was at its place before stays; so it
does when the disk is full, and when the process is killed. A place that is no regular file (a device, a named pipe) is
written as it is. rename(2) replaces a file in one step; fsync(2) comes before it, so that a crash of the machine, or a
disk that tells only late that it is full, cannot leave an empty file under the name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

__all__ = ["WholeFile"]


class WholeFile:
    """A file being written; `finish` puts it in its place, `discard` removes what there is of it.

    Args:
        path: where it is to be. A symbolic link stays, what it points to is replaced.
        keep: what is there when nobody finishes it (the process is killed) is worth something: it is called PATH.part
            (or PATH.2.part, where that is from an earlier time), else .ctrack-*.tmp.

    Attributes:
        path: where the bytes are until it is finished.
        stream: takes the bytes; not buffered with `keep`.

    Raises:
        OSError: it cannot be written there.
    """

    def __init__(self, path: str, *, keep: bool = False) -> None:
        self.path = path
        self._keep = keep
        self._place: Path | None = None
        status = None
        with suppress(FileNotFoundError):
            status = Path(path).stat()
        if status is not None and not stat.S_ISREG(status.st_mode):
            self.stream: BinaryIO = open(path, "wb", buffering=0 if keep else -1)  # noqa: SIM115  (closed by finish or discard)
            return
        if status is not None and not os.access(path, os.W_OK):
            raise PermissionError(13, os.strerror(13), path)
        self._place = Path(os.path.realpath(path))
        for name in _names(self._place, keep):
            try:
                self.stream = open(name, "xb", buffering=0 if keep else -1)  # noqa: SIM115  (closed by finish or discard)
            except FileExistsError:
                continue
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from None
            self.path = name
            break
        if status is not None:
            os.fchmod(self.stream.fileno(), stat.S_IMODE(status.st_mode))
            with suppress(OSError):
                os.fchown(self.stream.fileno(), status.st_uid, status.st_gid)

    def finish(self) -> None:
        """Put it in its place.

        Raises:
            OSError: the last of it cannot be written; it is discarded then.
        """
        try:
            self.stream.flush()
            if self._place is not None:
                os.fsync(self.stream.fileno())
            self.stream.close()
            if self._place is not None:
                os.replace(self.path, self._place)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Remove what there is of it, after a failure; with `keep` it stays under its other name."""
        with suppress(OSError):  # what is not written yet may fail to be
            self.stream.close()
        if self._place is not None and not self._keep:
            Path(self.path).unlink(missing_ok=True)


def _names(place: Path, keep: bool) -> Iterator[str]:
    """Yield names beside `place`, until one is free."""
    for number in count(1):
        if not keep:
            yield str(place.with_name(f".ctrack-{os.urandom(4).hex()}.tmp"))
        else:
            yield f"{place}.part" if number == 1 else f"{place}.{number}.part"
