"""The longest silences of a capture: where no TCP segment came, which may be where the capture lost some.

Fed with batches in order of time; keeps a handful of numbers, whatever the length.
"""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

__all__ = ["LEAST_NS", "Silences"]

LEAST_NS = 1_000_000_000
"""A shorter one is none: hosts wait for 0.2 to 1 s before they send again what was lost (RFC 6298)."""
MOST = 5


class Silences:
    """The longest times without a segment."""

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._longest: list[tuple[int, int]] = []

    def feed(self, segments: npt.NDArray[np.void]) -> None:
        """Take in a batch: SEGMENT_DTYPE, shape (n,), later than the batch before."""
        times = segments["ts_ns"]
        if self._last_ns is not None:
            times = np.concatenate([[self._last_ns], times])
        lengths = np.diff(times)
        for at in np.flatnonzero(lengths >= LEAST_NS).tolist():
            heapq.heappush(self._longest, (int(lengths[at]), int(times[at])))
            if len(self._longest) > MOST:
                heapq.heappop(self._longest)
        self._last_ns = int(times[-1])

    def longest(self) -> list[tuple[int, int]]:
        """Return (begin, length) in nanoseconds of the longest, in order of time."""
        return sorted((begin, length) for length, begin in self._longest)
