"""How many things of a key go on at once, for keys so many that none can be numbered. Knows spans of time, not TCP.

Only keys with many spans matter, and there are few of those. So a span is kept as it is, in 16 bytes: the hash of its
key, and when it was. Nothing is sorted before somebody asks which keys had many, and then only what a coarse count by
hash leaves over. Fed in any order, in any split, or merged, the answer is the same.

Past `limit` spans equal ones are counted together; if that is not enough the grid of instants becomes coarser (as in
`counting.Tally`), to a hundredth; and if that is not enough the keys with the fewest spans are dropped, which is where
order begins to matter and `dropped` says how much went.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conntrack.core.keys import hash_words
from conntrack.detect.counting import ticks_of

__all__ = ["Occupancy"]

# When a span was: its first tick, what kind it is of, and how many ticks it lasted.
_TICK_BITS, _KIND_BITS, _LENGTH_BITS = 36, 2, 26
_TICK_SHIFT, _KIND_SHIFT = np.uint64(_KIND_BITS + _LENGTH_BITS), np.uint64(_LENGTH_BITS)
_MAX_TICK, _MAX_LENGTH = (1 << _TICK_BITS) - 1, np.uint64((1 << _LENGTH_BITS) - 1)
_MAX_KIND = np.uint64((1 << _KIND_BITS) - 1)
_BUCKET_SHIFT = np.uint64(48)  # the coarse count: 2**16 cells, 512 KB
_BUCKETS = 1 << 16

_Spans = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # keys, whens, how many of each (1 where None)


class Occupancy:
    """Spans of time by key and kind (0 to 3), on a grid: exact at its instants, see `counting.ticks_of`.

    Args:
        first_step_ns: the finest step, nanoseconds.
        limit: most spans kept.
        waiting: most that wait to be counted together with equal ones, `limit` by default: each takes its place until
            then, and its time at every question.
    """

    _COARSER = 10
    _COARSENINGS = 2

    def __init__(self, first_step_ns: int, limit: int = 1 << 22, waiting: int | None = None) -> None:
        self.limit = limit
        self._waiting = limit if waiting is None else waiting
        self.dropped = 0
        self.finest_step_ns = first_step_ns
        self._step_ns = first_step_ns
        self._last_step_ns = first_step_ns * self._COARSER**self._COARSENINGS
        self._parts: list[_Spans] = []
        self._rows = 0
        self._settled = 0  # rows left by the last folding

    @property
    def step_ns(self) -> int:
        """The step that what was fed so far calls for, nanoseconds."""
        self._settle()
        return self._step_ns

    def add(self, keys: np.ndarray, starts: np.ndarray, ends: np.ndarray, kind: int = 0) -> None:
        """Take in spans.

        Args:
            keys: uint64 hashes, shape (n,), the same for the same key in every process.
            starts, ends: uint64 nanoseconds, shape (n,), no end before its start.
            kind: 0 to 3.
        """
        if len(keys) == 0:
            return
        first, last = (np.minimum(ticks_of(times, self._step_ns), np.uint64(_MAX_TICK)) for times in (starts, ends))
        self._take(keys, _packed(first, last, np.uint64(kind)))

    def add_packed(self, keys: np.ndarray, whens: np.ndarray) -> None:
        """Take in spans of kind 0 as the core packs them, on the finest grid (core.survey.WaitColumn), shape (n,)."""
        self._take(keys, _coarser(whens, self._step_ns // self.finest_step_ns))

    def merge(self, other: Occupancy) -> None:
        """Take in what `other` was fed."""
        self.dropped += other.dropped
        while self._step_ns < other._step_ns:
            self._coarsen()
        for keys, whens, counts in other._parts:
            self._push(keys, _coarser(whens, self._step_ns // other._step_ns), counts)
        self._settle()

    def busiest(self, least: int) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield (key, kinds, first ticks, last ticks, counts) of each key with `least` spans of kind 0 or more.

        Arrays are int64, shape (m,), in no order.
        """
        self._settle()
        totals = self._totals()
        chosen = []
        for keys, whens, counts in self._parts:
            many = totals[_buckets(keys)] >= least
            chosen.append((keys[many], whens[many], np.ones(many.sum(), np.int64) if counts is None else counts[many]))
        if not chosen:
            return
        keys, whens, numbers = (np.concatenate(columns) for columns in zip(*chosen, strict=True))
        order = np.argsort(keys)
        keys, whens, numbers = keys[order], whens[order], numbers[order]
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))[: len(keys)])
        spans_of = np.add.reduceat(np.where(_kinds(whens) == 0, numbers, 0), starts) if len(starts) else starts
        for at in np.flatnonzero(spans_of >= least):
            part = slice(starts[at], starts[at + 1] if at + 1 < len(starts) else None)
            first, last, kinds = (column.astype(np.int64) for column in _unpacked(whens[part]))
            yield int(keys[starts[at]]), kinds, first, last, numbers[part]

    def likely(self, keys: np.ndarray) -> np.ndarray:
        """Return how many spans of kind 0 each of `keys` (uint64, shape (n,)) has at most: int64, shape (n,).

        It is what it has together with some others: what is very busy stands out.
        """
        self._settle()
        likely: np.ndarray = self._totals()[_buckets(keys)]
        return likely

    def _totals(self) -> np.ndarray:
        totals = np.zeros(_BUCKETS, np.int64)
        for keys, whens, counts in self._parts:
            spans = _kinds(whens) == 0
            np.add.at(totals, _buckets(keys[spans]), 1 if counts is None else counts[spans])
        return totals

    def _take(self, keys: np.ndarray, whens: np.ndarray) -> None:
        self._push(keys, whens, None)
        if self._rows > self._settled + self._waiting:
            self._fold()
            self._shrink()

    def _push(self, keys: np.ndarray, whens: np.ndarray, counts: np.ndarray | None) -> None:
        self._parts.append((keys, whens, counts))
        self._rows += len(keys)

    def _settle(self) -> None:
        """Get below the limit, if over it: by counting equal spans together, a coarser grid, dropping."""
        if self._rows > self.limit:
            self._fold()
            self._shrink()

    def _shrink(self) -> None:
        while self._rows > self.limit and self._step_ns < self._last_step_ns:
            self._coarsen()
            self._fold()
        if self._rows > self.limit:
            self._drop()
        self._settled = self._rows

    def _fold(self) -> None:
        keys = np.concatenate([part[0] for part in self._parts])
        whens = np.concatenate([part[1] for part in self._parts])
        counts = np.concatenate([np.ones(len(k), np.int64) if c is None else c for k, _, c in self._parts])
        order = np.argsort(hash_words(np.stack([keys, whens], axis=1)))  # equal ones come together: one sort, not two
        keys, whens = keys[order], whens[order]
        new = np.concatenate(([True], (keys[1:] != keys[:-1]) | (whens[1:] != whens[:-1])))
        starts = np.flatnonzero(new)
        self._parts = [(keys[starts], whens[starts], np.add.reduceat(counts[order], starts))]
        self._rows = len(starts)

    def _coarsen(self) -> None:
        self._parts = [(keys, _coarser(whens, self._COARSER), counts) for keys, whens, counts in self._parts]
        self._step_ns *= self._COARSER

    def _drop(self) -> None:
        """Keep half of `limit`: the buckets of keys with the most spans."""
        ((keys, whens, counts),) = self._parts
        assert counts is not None
        buckets = _buckets(keys)
        totals = np.bincount(buckets, counts, _BUCKETS)
        heaviest = np.argsort(-totals, kind="stable")
        rows = np.bincount(buckets, minlength=_BUCKETS)[heaviest]
        kept = np.zeros(_BUCKETS, bool)
        kept[heaviest[np.cumsum(rows) <= self.limit // 2]] = True
        kept = kept[buckets]
        self.dropped += int(counts[~kept].sum())
        self._parts = [(keys[kept], whens[kept], counts[kept])]
        self._rows = len(self._parts[0][0])


def _packed(first: np.ndarray, last: np.ndarray, kind: np.uint64 | np.ndarray) -> np.ndarray:
    whens: np.ndarray = first << _TICK_SHIFT | kind << _KIND_SHIFT | np.minimum(last - first, _MAX_LENGTH)
    return whens


def _kinds(whens: np.ndarray) -> np.ndarray:
    kinds: np.ndarray = (whens >> _KIND_SHIFT) & _MAX_KIND
    return kinds


def _unpacked(whens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (first ticks, last ticks, kinds), uint64."""
    first = whens >> _TICK_SHIFT
    return first, first + (whens & _MAX_LENGTH), _kinds(whens)


def _coarser(whens: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return whens
    first, last, kinds = _unpacked(whens)
    return _packed(ticks_of(first, factor), ticks_of(last, factor), kinds)


def _buckets(keys: np.ndarray) -> np.ndarray:
    return (keys >> _BUCKET_SHIFT).view(np.int64)
