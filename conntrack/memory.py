"""Large arrays whose memory is taken page by page as it is touched: reserved once, not copied while they grow.

Knows nothing of what is kept in them. A reservation costs address space only (MAP_NORESERVE, mmap(2)); where that is
short (ulimit -v, strict overcommit) less is reserved, and the tracker copies when it has outgrown it.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["HUGE_PAGE_BYTES", "Reservation", "half_of_memory"]

MAP_NORESERVE = 0x4000
"""From <asm-generic/mman-common.h>; the mmap module has no name for it before Python 3.13."""
HUGE_PAGE_BYTES = 2 << 20
"""Of x86-64, and of arm64 with pages of 4 KiB."""


class Reservation:
    """Zeroed records that take memory as they are touched.

    Args:
        count: records to reserve; as many as can be had by halving, not below `least`.
        dtype: of a record.
        least: the fewest that will do.
        huge_from_bytes: huge pages from here on, if one fits: each record may be on another page, and looking pages up
            is what the step waits for. Not from the beginning: a small capture should not pay for zeroing one.

    Attributes:
        records: the array, shape (at least `least`,).

    Raises:
        MemoryError: not even `least` can be had.
    """

    def __init__(self, count: int, dtype: np.dtype[Any], least: int, *, huge_from_bytes: int = HUGE_PAGE_BYTES) -> None:
        self._area, count = _map(count, dtype.itemsize, least)
        if len(self._area) - huge_from_bytes >= HUGE_PAGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel that has none
                self._area.madvise(mmap.MADV_HUGEPAGE, huge_from_bytes)
        self.records: np.ndarray[Any, Any] = np.frombuffer(self._area, dtype=dtype, count=count)

    def give_back(self, begin: int, end: int) -> None:
        """Give the memory of records `begin` to `end` back to the system, in whole pages; they read as zero after."""
        size = self.records.itemsize
        first = -(-begin * size // mmap.PAGESIZE) * mmap.PAGESIZE
        length = end * size // mmap.PAGESIZE * mmap.PAGESIZE - first
        if length > 0:
            self._area.madvise(mmap.MADV_DONTNEED, first, length)


def half_of_memory() -> int:
    """Return half of the bytes of memory that there are, of the machine or of a control group that gets less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):  # cgroups(7): v2, v1
        try:
            total = min(total, int(Path(limit).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return total // 2


def _map(count: int, itemsize: int, least: int) -> tuple[mmap.mmap, int]:
    while True:
        try:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
            return mmap.mmap(-1, count * itemsize, flags=flags), count
        except (OSError, OverflowError) as error:
            if count <= least:
                raise MemoryError(f"{count * itemsize} bytes for {count} records of {itemsize}") from error
            count = max(count // 2, least)
