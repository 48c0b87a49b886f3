"""Counting that can be split, shuffled and merged: what every detector is built on. Knows no connection and no state.

Three containers, all plain numpy arrays inside (no Python object per key), all exact in the sense written on each:
`KeyIndex` numbers keys densely, `Tally` counts by (group, tick of time, column), `LowestPerGroup` keeps the smallest
values of each group. Feeding the same things in any order, in any split, or to two containers that are then merged,
gives the same answer: sums and minima commute, and the one thing that adapts (the step of a Tally) depends on the union
alone.

Read `Tally` first: why instants on a grid stay exact when the grid is made coarser is what the detectors rest on.
"""

from __future__ import annotations

import os

import numpy as np

from conntrack.core.keys import intern

__all__ = ["NO_GROUP", "KeyIndex", "LowestPerGroup", "Tally", "ticks_of"]

NO_GROUP = -1
"""What `KeyIndex.intern` answers for a key that it had no room for."""

_COLUMN_BITS, _TICK_BITS, _GROUP_BITS = 4, 36, 24
_COLUMN_MASK = np.uint64((1 << _COLUMN_BITS) - 1)
_TICK_MASK = np.uint64((1 << _TICK_BITS) - 1)
_GROUP_SHIFT = np.uint64(_COLUMN_BITS + _TICK_BITS)
_TICK_SHIFT = np.uint64(_COLUMN_BITS)
_MAX_TICK = (1 << _TICK_BITS) - 1
_NEW = 1 << 18  # counts that wait to be sorted, at least: 2 MB


def ticks_of(times_ns: np.ndarray, step_ns: int) -> np.ndarray:
    """Return the number of the first multiple of `step_ns` that is not before each time: ceil(time / step).

    Ceilings compose: ceil(ceil(t / a) / b) = ceil(t / (a * b)). So +1 at the tick where something starts and -1 at the
    tick where it ends give, summed up to tick k, exactly how many are going on at the instant k * step, and still do
    after ticks are merged by an integer factor.
    """
    return (times_ns + (step_ns - 1)) // step_ns


class KeyIndex:
    """Numbers distinct keys 0, 1, 2, ... as they come; 8 bytes a word of key, and 8 to 16 of table, for each.

    The numbers depend on the order of feeding; what is said about a key must not. Exact up to `limit` distinct keys;
    rows of keys beyond are answered with NO_GROUP and counted in `overflow_rows` (which keys those are does depend on
    order).

    Args:
        width: words of 64 bits in a key.
        limit: most keys kept, at most 2**24 (the room in the keys of a Tally).
    """

    def __init__(self, width: int, limit: int = 1 << 22) -> None:
        if limit > 1 << _GROUP_BITS:
            raise ValueError(f"limit is {limit}, at most {1 << _GROUP_BITS} keys can be numbered")
        self.limit = limit
        self.overflow_rows = 0
        self._count = 0
        self._seed = int.from_bytes(os.urandom(8), "little")  # keys come from the wire: nobody shall know the slots
        self._keys = np.empty((512, width), np.uint64)
        self._table = np.full(1024, -1, np.int32)

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> np.ndarray:
        """The keys by number: uint64, shape (len(self), width), a view."""
        return self._keys[: self._count]

    def intern(self, words: np.ndarray) -> np.ndarray:
        """Return the number of each key, int64, shape (n,), giving new numbers to keys not seen before.

        Args:
            words: the keys, uint64 of shape (n, width).
        """
        numbers = np.empty(len(words), np.int64)
        done = self._intern(words, numbers)
        while done < len(words):
            self._grow()
            done += self._intern(words[done:], numbers[done:])
        if self._count == self.limit:
            self.overflow_rows += int(np.count_nonzero(numbers == NO_GROUP))
        return numbers

    def merge(self, other: KeyIndex) -> np.ndarray:
        """Take in the keys of `other`; return the number here of each number there, int64, shape (len(other),)."""
        self.overflow_rows += other.overflow_rows
        return self.intern(other.keys)

    def _intern(self, words: np.ndarray, numbers: np.ndarray) -> int:
        done, self._count = intern(words, self._seed, self.limit, self._keys, self._table, self._count, numbers)
        return done

    def _grow(self) -> None:
        keys = self.keys
        self._keys = np.empty((2 * len(self._keys), keys.shape[1]), np.uint64)
        self._table = np.full(2 * len(self._table), -1, np.int32)
        self._count = 0
        self._intern(keys, np.empty(len(keys), np.int64))  # in order, so each keeps its number


class Tally:
    """Counts by (group, tick, column): sparse, sorted, 16 bytes for each distinct triple.

    Exact at the ticks, whatever the step (see `ticks_of`). The step is the finest of the ladder `first_step_ns` times
    1, 10, 100, ... at which no more than `limit` distinct triples exist: it depends on everything that was fed and on
    nothing else, because a coarser grid never has more triples, nor a part more than the whole.

    Args:
        first_step_ns: the finest step, nanoseconds (1 where cells are not times).
        limit: most triples kept; a grid with more is made ten times coarser.
    """

    _COARSER = 10
    _COARSENINGS = 6

    def __init__(self, first_step_ns: int, limit: int = 1 << 22) -> None:
        self._step_ns = first_step_ns
        self.limit = limit
        self._last_step_ns = first_step_ns * self._COARSER**self._COARSENINGS
        self._keys = np.empty(0, np.uint64)
        self._counts = np.empty(0, np.int64)
        self._new_keys: list[np.ndarray] = []
        self._new_counts: list[np.ndarray | None] = []
        self._new = 0

    @property
    def step_ns(self) -> int:
        """The step that what was fed so far calls for, nanoseconds."""
        self._settle()
        return self._step_ns

    @property
    def feed_step_ns(self) -> int:
        """The step that `add_keys` takes now, nanoseconds; what is there may call for a coarser one."""
        return self._step_ns

    def add(self, groups: np.ndarray, times_ns: np.ndarray, column: int, counts: np.ndarray | None = None) -> None:
        """Count rows.

        Args:
            groups: int64, shape (n,), numbers of a KeyIndex (none negative).
            times_ns: int64 or uint64, shape (n,); before 1970 or past the last tick count at the first or last tick.
            column: 0 to 15, what is counted.
            counts: int64, shape (n,), how much each row counts; 1 each when omitted.
        """
        if len(groups) == 0:
            return
        keys = np.clip(ticks_of(times_ns, self._step_ns), 0, _MAX_TICK).astype(np.uint64)
        keys <<= _TICK_SHIFT
        keys |= groups.view(np.uint64) << _GROUP_SHIFT
        keys |= np.uint64(column)
        self.add_keys(keys, counts)

    def add_keys(self, keys: np.ndarray, counts: np.ndarray | None = None) -> None:
        """Count keys that the core has packed (uint64, shape (n,)) at `feed_step_ns`; for the rest see `add`."""
        self._push(keys, counts)
        if self._new > max(_NEW, len(self._keys)):
            self._settle()

    def merge(self, other: Tally, groups: np.ndarray) -> None:
        """Take in what `other` counted; `groups` turns its groups into ours (NO_GROUP drops them)."""
        other._settle()
        keys, counts = other._keys, other._counts
        mine = groups[(keys >> _GROUP_SHIFT).astype(np.int64)] if len(keys) else np.empty(0, np.int64)
        kept = mine >= 0
        keys = (keys[kept] & ~(~np.uint64(0) << _GROUP_SHIFT)) | (mine[kept].astype(np.uint64) << _GROUP_SHIFT)
        counts = counts[kept]
        while self._step_ns < other._step_ns:
            self._coarsen()
        if self._step_ns > other._step_ns:
            keys = _coarser(keys, self._step_ns // other.step_ns)
        self._push(keys, counts)
        self._settle()

    def table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return (groups, ticks, columns, counts), int64 each, sorted by group, then tick, then column."""
        self._settle()
        groups = (self._keys >> _GROUP_SHIFT).astype(np.int64)
        ticks = ((self._keys >> _TICK_SHIFT) & _TICK_MASK).astype(np.int64)
        return groups, ticks, (self._keys & _COLUMN_MASK).astype(np.int64), self._counts

    def totals(self, columns: int, groups: int) -> np.ndarray:
        """Return the sum over time by column and group, int64, shape (columns, groups)."""
        self._settle()
        sums = np.zeros((columns, groups), np.int64)
        for start in range(0, len(self._keys), _NEW):
            keys = self._keys[start : start + _NEW]
            cells = (keys & _COLUMN_MASK) * np.uint64(groups) + (keys >> _GROUP_SHIFT)
            np.add.at(sums.reshape(-1), cells.view(np.int64), self._counts[start : start + _NEW])
        return sums

    def series_of(self, group: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (ticks, columns, counts) of one group, int64 each, in order of tick."""
        self._settle()
        first, last = np.searchsorted(self._keys, np.array([group, group + 1], np.uint64) << _GROUP_SHIFT)
        keys = self._keys[first:last]
        ticks = ((keys >> _TICK_SHIFT) & _TICK_MASK).astype(np.int64)
        return ticks, (keys & _COLUMN_MASK).astype(np.int64), self._counts[first:last]

    def _push(self, keys: np.ndarray, counts: np.ndarray | None) -> None:
        if len(keys):
            self._new_keys.append(keys)
            self._new_counts.append(counts)
            self._new += len(keys)

    def _settle(self) -> None:
        """Fold what is new into the sorted arrays, and make the grid coarser while it is over its limit."""
        if self._new:
            ones = [keys for keys, counts in zip(self._new_keys, self._new_counts, strict=True) if counts is None]
            parts = [(self._keys, self._counts)]
            if ones:
                keys = np.concatenate(ones)
                keys.sort()
                starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
                parts.append((keys[starts], np.diff(starts, append=len(keys))))
            for keys, counts in zip(self._new_keys, self._new_counts, strict=True):
                if counts is not None:
                    parts.append((keys, counts))
            self._new_keys, self._new_counts, self._new = [], [], 0
            self._keys, self._counts = _sum_by_key(
                np.concatenate([keys for keys, _ in parts]), np.concatenate([counts for _, counts in parts])
            )
        while len(self._keys) > self.limit and self._step_ns < self._last_step_ns:
            self._coarsen()

    def _coarsen(self) -> None:
        self._keys, self._counts = _sum_by_key(_coarser(self._keys, self._COARSER), self._counts)
        self._new_keys = [_coarser(keys, self._COARSER) for keys in self._new_keys]
        self._step_ns *= self._COARSER


def _coarser(keys: np.ndarray, factor: int) -> np.ndarray:
    ticks = ((keys >> _TICK_SHIFT) & _TICK_MASK).astype(np.int64)
    return (keys & ~(_TICK_MASK << _TICK_SHIFT)) | (ticks_of(ticks, factor).astype(np.uint64) << _TICK_SHIFT)


def _sum_by_key(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(keys) == 0:
        return keys, counts
    order = np.argsort(keys, kind="stable")  # merges sorted runs in linear time
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return keys[starts], np.add.reduceat(counts[order], starts)


class LowestPerGroup:
    """Keeps the `most` smallest distinct values of each group: exact, at most 16 * `most` bytes a group.

    Fed hashes instead of values it counts distinct things: `distinct` is exact up to `most`, and beyond that the K
    minimum values estimate (Bar-Yossef et al. 2002; relative error 1 / sqrt(most)).
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._groups = np.empty(0, np.int64)
        self._values = np.empty(0, np.uint64)
        self._new: list[tuple[np.ndarray, np.ndarray]] = []
        self._new_rows = 0

    def add(self, groups: np.ndarray, values: np.ndarray) -> None:
        """Take in values (uint64, shape (n,)) of groups (int64, shape (n,))."""
        if len(groups) == 0:
            return
        self._new.append((groups.copy(), values.astype(np.uint64)))
        self._new_rows += len(groups)
        if self._new_rows > max(1 << 16, len(self._groups)):
            self._settle()

    def merge(self, other: LowestPerGroup, groups: np.ndarray) -> None:
        """Take in what `other` kept; `groups` turns its groups into ours (NO_GROUP drops them)."""
        other._settle()
        if len(other._groups):
            mine = groups[other._groups]
            self.add(mine[mine >= 0], other._values[mine >= 0])

    def of(self, group: int) -> np.ndarray:
        """Return the smallest values of a group, ascending, uint64."""
        self._settle()
        first, last = np.searchsorted(self._groups, [group, group + 1])
        return self._values[first:last]

    def distinct(self, group: int) -> int:
        """Return how many distinct values a group had, taking the values for hashes."""
        values = self.of(group)
        if len(values) < self.most:
            return len(values)
        return round((self.most - 1) / ((int(values[-1]) + 1) / 2.0**64))

    def _settle(self) -> None:
        if not self._new:
            return
        groups = np.concatenate([self._groups, *(groups for groups, _ in self._new)])
        values = np.concatenate([self._values, *(values for _, values in self._new)])
        self._new, self._new_rows = [], 0
        order = np.lexsort((values, groups))
        groups, values = groups[order], values[order]
        new_group = np.concatenate(([True], groups[1:] != groups[:-1]))
        distinct = new_group.copy()
        distinct[1:] |= values[1:] != values[:-1]
        groups, values, new_group = groups[distinct], values[distinct], new_group[distinct]
        starts = np.flatnonzero(new_group)
        rank = np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
        kept = rank < self.most
        self._groups, self._values = groups[kept], values[kept]
