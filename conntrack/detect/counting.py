"""Counting that can be split, shuffled and merged: what every detector is built on. Knows no connection and no state.

Three containers, all plain numpy arrays inside (no Python object per key), all exact in the sense written on each:
`KeyIndex` numbers keys densely, `Tally` counts by (group, tick of time, column), `LowestPerGroup` keeps the smallest
values of each group. (`distinct.py` counts distinct values, `occupancy.py` spans of keys that cannot be numbered.)
Feeding the same things in any order, in any split, or to two containers that are then merged, gives the same answer:
sums and minima commute, and the one thing that adapts (the step of a Tally) depends on the union alone.

Read `Tally` first: why instants on a grid stay exact when the grid is made coarser is what the detectors rest on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from conntrack.core.keys import intern
from conntrack.core.tally import add_ones

__all__ = ["NO_GROUP", "KeyIndex", "LowestPerGroup", "Tally", "ticks_of"]

NO_GROUP = -1
"""What `KeyIndex.intern` answers for a key that it had no room for."""

_COLUMN_BITS, _TICK_BITS, _GROUP_BITS = 4, 36, 24
_COLUMN_MASK = np.uint64((1 << _COLUMN_BITS) - 1)
_TICK_MASK = np.uint64((1 << _TICK_BITS) - 1)
_GROUP_SHIFT = np.uint64(_COLUMN_BITS + _TICK_BITS)
_TICK_SHIFT = np.uint64(_COLUMN_BITS)
_MAX_TICK = (1 << _TICK_BITS) - 1
_PIECE = 1 << 18
_WAITING = 1 << 16  # values that wait before the lowest are chosen, or as many as are kept

_Counts = tuple[np.ndarray, np.ndarray]  # keys (uint64) and how many of each (int64)


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
    def room(self) -> int:
        """How many keys there is room for as it is."""
        return len(self._keys)

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

    def lend(self, kernel: Callable[..., tuple[Any, ...]], rows: int) -> tuple[Any, ...]:
        """Let `kernel(seed, limit, keys, table, count)` number keys itself; it returns (done, count, ...).

        What it returns is returned without the count. If fewer than `rows` were done there is more room now.
        """
        done, self._count, *rest = kernel(self._seed, self.limit, self._keys, self._table, self._count)
        if done < rows:
            self._grow()
        return done, *rest

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
    """Counts by (group, tick, column): 16 bytes for each distinct triple, and as much again for what waits.

    Exact at the ticks, whatever the step (see `ticks_of`). The step is the finest of the ladder
    at which no more than `limit` distinct triples exist: it depends on everything that was fed and on
    nothing else, because a coarser grid never has more triples, nor a part more than the whole.

    Args:
        ladder_ns: the steps, nanoseconds, each a multiple of the one before; one number stands for it times 1, 10, 100,
            ... 10**6. With a single one, triples are kept without limit (where ticks are not times).
        limit: most triples kept; a grid with more is made coarser. Half as many may wait to be counted.
    """

    _COARSER = 10
    _LEVELS = 7

    def __init__(self, ladder_ns: int | tuple[int, ...], limit: int = 1 << 21) -> None:
        self.limit = limit
        if isinstance(ladder_ns, int):
            ladder_ns = tuple(ladder_ns * self._COARSER**level for level in range(self._LEVELS))
        self._ladder_ns = ladder_ns
        self._step_ns = ladder_ns[0]
        self._folded: _Counts = (np.empty(0, np.uint64), np.empty(0, np.int64))  # each key once, in order
        self._more: list[_Counts] = []  # in no order
        self._new: list[np.ndarray] = []  # keys that count one each
        self._waiting = 0  # keys of the last two

    @property
    def step_ns(self) -> int:
        """The step that what was fed so far calls for, nanoseconds."""
        self._fold()
        return self._step_ns

    @property
    def feed_step_ns(self) -> int:
        """The step of the keys that `add_keys` takes now, nanoseconds; what waits may call for a coarser one."""
        return self._step_ns

    def add(
        self, groups: np.ndarray, times_ns: np.ndarray, column: int | np.ndarray, counts: np.ndarray | None = None
    ) -> None:
        """Count rows.

        Args:
            groups: int64, shape (n,), numbers of a KeyIndex (none negative).
            times_ns: int64 or uint64, shape (n,); before 1970 or past the last tick count at the first or last tick.
            column: 0 to 15, what is counted; one for all, or uint64 of shape (n,).
            counts: int64, shape (n,), how much each row counts; 1 each when omitted.
        """
        if len(groups) == 0:
            return
        ticks = ticks_of(times_ns, self._step_ns)
        keys = np.minimum(np.maximum(ticks, 0), _MAX_TICK).astype(np.uint64)
        keys <<= _TICK_SHIFT
        keys |= groups.view(np.uint64) << _GROUP_SHIFT
        keys |= np.uint64(column) if isinstance(column, int) else column
        self.add_keys(keys, counts)

    def add_keys(self, keys: np.ndarray, counts: np.ndarray | None = None, step_ns: int | None = None) -> None:
        """Count keys that the core has packed (uint64, shape (n,)) at `step_ns`, ours by default; see `add`.

        The grid is no finer than `step_ns`, one of the ladder, from then on.
        """
        if step_ns is not None:
            while self._step_ns < step_ns:
                self._coarsen()
            keys = _coarser(keys, self._step_ns // step_ns)
        self._wait(keys, counts)

    def merge(self, other: Tally, groups: np.ndarray) -> None:
        """Take in what `other` counted; `groups` turns its groups into ours (NO_GROUP drops them)."""
        keys, counts = other._fold()  # once, and not at each look of ctrack live, which merges its slices every time
        while self._step_ns < other._step_ns:
            self._coarsen()
        if not len(keys):
            return
        mine = groups[(keys >> _GROUP_SHIFT).astype(np.int64)]
        kept = mine >= 0
        keys = (keys[kept] & ~(~np.uint64(0) << _GROUP_SHIFT)) | (mine[kept].astype(np.uint64) << _GROUP_SHIFT)
        self._wait(_coarser(keys, self._step_ns // other._step_ns), counts[kept])

    def table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return (groups, ticks, columns, counts), int64 each, sorted by group, then tick, then column."""
        keys, counts = self._fold()
        groups = (keys >> _GROUP_SHIFT).astype(np.int64)
        ticks = ((keys >> _TICK_SHIFT) & _TICK_MASK).astype(np.int64)
        return groups, ticks, (keys & _COLUMN_MASK).astype(np.int64), counts

    def totals(self, columns: int, groups: int) -> np.ndarray:
        """Return the sum over time by column and group, int64, shape (columns, groups)."""
        sums = np.zeros((columns, groups), np.int64)
        for keys in self._new:  # as they wait: most tallies are asked for their totals and nothing else
            cells = (keys & _COLUMN_MASK) * np.uint64(groups) + (keys >> _GROUP_SHIFT)
            np.add.at(sums.reshape(-1), cells.view(np.int64), 1)
        for keys, counts in [self._folded, *self._more]:
            for start in range(0, len(keys), _PIECE):
                part = keys[start : start + _PIECE]
                cells = (part & _COLUMN_MASK) * np.uint64(groups) + (part >> _GROUP_SHIFT)
                np.add.at(sums.reshape(-1), cells.view(np.int64), counts[start : start + _PIECE])
        return sums

    def _wait(self, keys: np.ndarray, counts: np.ndarray | None) -> None:
        if not len(keys):
            return
        if counts is None:
            self._new.append(keys)
        else:
            self._more.append((keys, counts))
        self._waiting += len(keys)
        if self._waiting > max(self.limit // 2, len(self._folded[0])):
            self._fold()

    def series_of(self, group: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (ticks, columns, counts) of one group, int64 each, in order of tick."""
        sorted_keys, counts = self._fold()
        first, last = np.searchsorted(sorted_keys, np.array([group, group + 1], np.uint64) << _GROUP_SHIFT)
        keys = sorted_keys[first:last]
        ticks = ((keys >> _TICK_SHIFT) & _TICK_MASK).astype(np.int64)
        return ticks, (keys & _COLUMN_MASK).astype(np.int64), counts[first:last]

    def between(self, groups: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Return the sum over columns of groups from tick `first` to tick `last`, both included: int64, shape (n,)."""
        keys, counts = self._fold()
        upto = np.concatenate(([0], np.cumsum(counts)))
        low, high = (
            np.searchsorted(keys, groups.astype(np.uint64) << _GROUP_SHIFT | ticks.astype(np.uint64) << _TICK_SHIFT)
            for ticks in (first, last + 1)
        )
        sums: np.ndarray = upto[high] - upto[low]
        return sums

    def _fold(self) -> _Counts:
        """Sum up what waits, as coarsely as the limit calls for; return all there is, each key once, in order."""
        if self._waiting:
            if self._more:
                self._folded = _summed([self._folded, *self._more])
            if self._new:
                self._folded = _with_ones(self._folded, np.sort(np.concatenate(self._new)))
            self._new, self._more, self._waiting = [], [], 0
            while len(self._folded[0]) > self.limit and self._step_ns < self._ladder_ns[-1]:
                self._coarsen()
        return self._folded

    def _coarsen(self) -> None:
        """Go one step up the ladder."""
        step_ns = self._ladder_ns[self._ladder_ns.index(self._step_ns) + 1]
        factor, self._step_ns = step_ns // self._step_ns, step_ns
        self._new = [_coarser(keys, factor) for keys in self._new]
        self._more = [(_coarser(keys, factor), counts) for keys, counts in self._more]
        keys, counts = self._folded
        if len(keys):
            self._folded = _summed([(_coarser(keys, factor), counts)])


def _with_ones(folded: _Counts, ones: np.ndarray) -> _Counts:
    """Return `folded` with each of `ones` (in order, perhaps many times) counted once more."""
    keys, counts = np.empty(len(folded[0]) + len(ones), np.uint64), np.empty(len(folded[0]) + len(ones), np.int64)
    written = add_ones(ones, *folded, keys, counts)
    return keys[:written].copy(), counts[:written].copy()


def _summed(parts: list[_Counts]) -> _Counts:
    """Return each key of `parts` once, in order, and the sum of its counts."""
    keys, counts = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(keys)
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return keys[starts], np.add.reduceat(counts[order], starts)


def _coarser(keys: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return keys
    ticks = ((keys >> _TICK_SHIFT) & _TICK_MASK).astype(np.int64)
    return (keys & ~(_TICK_MASK << _TICK_SHIFT)) | (ticks_of(ticks, factor).astype(np.uint64) << _TICK_SHIFT)


class LowestPerGroup:
    """Keeps the `most` smallest distinct values of each group, each with `width` words of its own.

    Exact; past `limit` values in all, half as many of each group are kept, and so on down to one: how many depends on
    everything that was fed and on nothing else. A value must always come with the same words.

    Args:
        most: values kept of each group.
        width: words of 64 bits that come with each value.
        limit: values kept of all groups, or one of each.
    """

    def __init__(self, most: int, width: int = 0, limit: int = 1 << 20) -> None:
        self.most = most
        self.limit = limit
        self._groups = np.empty(0, np.int64)
        self._values = np.empty(0, np.uint64)
        self._words = np.empty((0, width), np.uint64)
        self._new: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._new_rows = 0
        self._bars = np.empty(0, np.uint64)  # by group: what is as high as this is not kept

    def add(self, groups: np.ndarray, values: np.ndarray, words: np.ndarray | None = None) -> None:
        """Take in values (uint64, shape (n,)) of groups (int64, shape (n,)) with words (uint64, shape (n, width))."""
        if len(groups) == 0:
            return
        if len(self._bars):
            low = np.flatnonzero(values < self._bars[np.minimum(groups, len(self._bars) - 1)])
            if len(low) < len(groups):
                groups, values, words = groups[low], values[low], None if words is None else words[low]
        words = np.empty((len(groups), 0), np.uint64) if words is None else words
        self._new.append((groups.copy(), values.astype(np.uint64), words))
        self._new_rows += len(groups)
        if self._new_rows > max(min(_WAITING, self.limit), len(self._groups)):
            self._settle()

    def merge(self, other: LowestPerGroup, groups: np.ndarray) -> None:
        """Take in what `other` kept; `groups` turns its groups into ours (NO_GROUP drops them)."""
        self.most = min(self.most, other.most)
        for theirs, values, words in [(other._groups, other._values, other._words), *other._new]:
            if len(theirs):
                mine = groups[theirs]
                kept = mine >= 0
                self.add(mine[kept], values[kept], words[kept])

    def of(self, group: int) -> np.ndarray:
        """Return the smallest values of a group, ascending, uint64."""
        chosen = self._range(group)
        return self._values[chosen]

    def words_of(self, group: int) -> np.ndarray:
        """Return the words that came with them, uint64, shape (n, width)."""
        chosen = self._range(group)
        return self._words[chosen]

    def _range(self, group: int) -> slice:
        self._settle()
        first, last = np.searchsorted(self._groups, [group, group + 1])
        return slice(first, last)

    def _settle(self) -> None:
        if not self._new:
            return
        groups = np.concatenate([self._groups, *(part[0] for part in self._new)])
        values = np.concatenate([self._values, *(part[1] for part in self._new)])
        words = np.concatenate([self._words, *(part[2] for part in self._new)])
        self._new, self._new_rows = [], 0
        order = np.lexsort((values, groups))
        groups, values = groups[order], values[order]
        new_group = np.concatenate(([True], groups[1:] != groups[:-1]))
        distinct = new_group.copy()
        distinct[1:] |= values[1:] != values[:-1]
        groups, values, new_group, order = groups[distinct], values[distinct], new_group[distinct], order[distinct]
        starts = np.flatnonzero(new_group)
        rank = np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
        kept = rank < self.most
        while np.count_nonzero(kept) > self.limit and self.most > 1:
            self.most //= 2
            kept = rank < self.most
        self._groups, self._values, self._words = groups[kept], values[kept], words[order[kept]]
        self._bars = np.full(int(self._groups[-1]) + 2, ~np.uint64(0))  # the last one stands for all groups beyond
        full = rank[kept] == self.most - 1
        self._bars[self._groups[full]] = self._values[full]
