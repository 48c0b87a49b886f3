"""What happened when, for one group of a Tally: levels, sums over windows, the episode around a peak. Knows no TCP."""

from __future__ import annotations

import numpy as np

from conntrack.detect.columns import FAR_NS
from conntrack.detect.counting import Tally

__all__ = ["Series", "around_peak", "running_sum", "sorted_by", "window_sums"]

EPISODE_RATIO = 0.05
"""An episode lasts while the level is above this share of its peak."""


class Series:
    """Events of one group on the grid of a Tally, up to the end of the capture."""

    def __init__(self, tally: Tally, group: int, end_ts_ns: int = FAR_NS) -> None:
        self.step_ns = tally.step_ns
        ticks, columns, counts = tally.series_of(group)
        kept = ticks <= end_ts_ns // self.step_ns
        self._ticks, self._columns, self._counts = ticks[kept], columns[kept], counts[kept]

    def events(self, column: int, last_ts_ns: int = FAR_NS) -> tuple[np.ndarray, np.ndarray]:
        """Return (ticks, counts) of a column."""
        chosen = (self._columns == column) & (self._ticks <= last_ts_ns // self.step_ns)
        return self._ticks[chosen], self._counts[chosen]

    def total(self, column: int, first_ts_ns: int = 0, last_ts_ns: int = FAR_NS) -> int:
        """Return how many of a column fell between two times, both included."""
        ticks, counts = self.events(column, last_ts_ns)
        return int(counts[ticks >= first_ts_ns // self.step_ns].sum())

    def level(self, up: int, down: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (instants, how many are going on at each) of what column `up` begins and column `down` ends."""
        (up_ticks, up_counts), (down_ticks, down_counts) = self.events(up), self.events(down)
        return running_sum(np.concatenate([up_ticks, down_ticks]), np.concatenate([up_counts, -down_counts]))


def sorted_by(ticks: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both in order of tick."""
    order = np.argsort(ticks, kind="stable")
    return ticks[order], counts[order]


def running_sum(ticks: np.ndarray, changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (distinct ticks, sum of the changes up to and at each)."""
    if len(ticks) == 0:
        return ticks, changes
    ticks, changes = sorted_by(ticks, changes)
    starts = np.flatnonzero(np.concatenate(([True], ticks[1:] != ticks[:-1])))
    return ticks[starts], np.cumsum(np.add.reduceat(changes, starts))


def window_sums(ticks: np.ndarray, counts: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (instants, how many fell in the `window` ticks up to and at each)."""
    return running_sum(np.concatenate([ticks, ticks + window]), np.concatenate([counts, -counts]))


def around_peak(level: np.ndarray) -> tuple[int, int]:
    """Return the first and last index of the run above `EPISODE_RATIO` of the peak that holds the peak."""
    peak = int(np.argmax(level))
    below = np.flatnonzero(level < max(1.0, EPISODE_RATIO * int(level[peak])))
    at = int(np.searchsorted(below, peak))
    low = int(below[at - 1]) + 1 if at else 0
    high = int(below[at]) - 1 if at < len(below) else len(level) - 1
    return low, high
