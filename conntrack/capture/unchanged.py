"""Whether a file is still the one that was looked at before: for those who read it again, or in parts.

Files are replaced by rotation, cut by copytruncate, and grow while they are written. Growing is no change. What is seen
is another inode, a smaller size, and another time of change at the same size; a file that is overwritten in place by a
longer one is taken for one that grew.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from conntrack.errors import InputError

__all__ = ["FileState"]


@dataclass(frozen=True, slots=True)
class FileState:
    """What stat(2) says of a file.

    Attributes:
        device, inode: which file it is; device numbers, and inodes on some network file systems, differ by machine.
        size: in bytes.
        changed_ns: time of the last change of its contents.
    """

    device: int
    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, file: str | int) -> FileState | None:
        """Return that of a name or descriptor; None of what is no file of this machine (a URL), or not there."""
        try:
            status = os.stat(file)
        except (OSError, ValueError):
            return None
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def check(self, path: str) -> None:
        """Look at it again.

        Raises:
            InputError: it is another file, or was cut or written over.
        """
        now = FileState.of(path)
        if now is None or (now.device == self.device and now.inode != self.inode):
            what = "was replaced while it was read"
        elif now.size < self.size:
            what = f"was cut while it was read (from {self.size:,} to {now.size:,} bytes)"
        elif now.size == self.size and now.changed_ns != self.changed_ns:
            what = "was written over while it was read"
        else:
            return
        raise InputError(f"{path}: {what}; read it again when nobody changes it, or a copy")
