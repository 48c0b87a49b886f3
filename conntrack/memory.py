"""Large arrays whose memory is taken page by page as it is touched: reserved once, not copied while they grow.

Knows nothing of what is kept in them. A reservation costs address space only (MAP_NORESERVE, mmap(2)); where that is
short (ulimit -v, strict overcommit) less is reserved, and the tracker copies when it has outgrown it.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

__all__ = ["HUGE_FROM_BYTES", "reserve"]

MAP_NORESERVE = 0x4000
"""From <asm-generic/mman-common.h>; the mmap module has no name for it before Python 3.13."""
HUGE_FROM_BYTES = 8 << 20
"""Huge pages only beyond this: a small capture should not pay for zeroing 2 MiB at a time."""


def reserve(count: int, dtype: np.dtype[Any], least: int) -> np.ndarray[Any, Any]:
    """Return zeroed records of `dtype`: `count` of them, or as many as can be had by halving, not below `least`.

    Raises:
        MemoryError: not even `least` can be had.
    """
    while True:
        size = count * dtype.itemsize
        try:
            area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
        except (OSError, OverflowError) as error:
            if count <= least:
                raise MemoryError(f"{size} bytes for {count} records of {dtype.itemsize}") from error
            count = max(count // 2, least)
            continue
        if size > HUGE_FROM_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
            area.madvise(mmap.MADV_HUGEPAGE, HUGE_FROM_BYTES)
        return np.frombuffer(area, dtype=dtype, count=count)
