"""Upkeep of the table: when it is swept, when rows come out, and who is evicted to stay within a budget of memory.

Owns these rules and touches no record. All of them depend on the segments alone: looks happen at fixed counts of
segments, and a look weighs all tables together, so that one table, or many (sharded.py), give the same rows in the same
order. The rule of eviction: when the connections take more than the budget, those that have been idle for longest leave
(by the time of their last segment; of equal times the one that began first), until they take 31/32 of it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any, Protocol

import numpy as np

__all__ = ["LEAST_BUDGET", "LOOK_SEGMENTS", "ROWS", "Table", "Upkeep", "in_batches", "joined", "plain"]

Array = np.ndarray[Any, Any]

LOOK_SEGMENTS = 65_536
"""Looks happen only at multiples of this many segments, so that they do not depend on batches."""
SWEEP_NS = 5_000_000_000
"""Sweeps happen no more often than this, in time of the capture: a twelfth of the shortest common timer (60 s)."""
ROWS = 16_384
"""Rows in a batch that comes out."""
MOST_WAITING_ROWS = 131_072
"""Rows that wait for the next sweep; more are let out at the next look (450 bytes each)."""
LEAST_BUDGET = 64 << 20
"""Connections begun between two looks go beyond the budget, by at most 36 MB."""
EVICTED_SHARE = 32
"""One in so many bytes is freed at once: choosing is a pass over the table, and the rows that leave take memory too."""


class Table(Protocol):
    """A table of connections, or a part of one: what tracker.Tracker is to its upkeep."""

    def __len__(self) -> int: ...
    @property
    def waiting_rows(self) -> int: ...
    @property
    def bytes_used(self) -> int: ...
    def take_rows(self) -> list[Array]: ...
    def retire_forgotten(self, settled_ns: int) -> None: ...
    def last_times(self) -> Array: ...
    def last_seen_at(self, last_ts_ns: int) -> Array: ...
    def evict(self, now_ns: int, last_ts_ns: int, flow_id: int) -> int: ...


Ask = Callable[[Any], Any]
"""What is asked of every table; the answers come back as a list."""
Look = Generator[Ask, list[Any], list[Array]]


class Upkeep:
    """Decides at each look; the same for one table and for many.

    Args:
        budget_bytes: what connections may take together, None for no limit.
        most_bytes_each: what one of them can take.

    Attributes:
        evicted: how many connections were given up.

    Raises:
        ValueError: the budget is less than LEAST_BUDGET.
    """

    def __init__(self, budget_bytes: int | None, most_bytes_each: int) -> None:
        if budget_bytes is not None and budget_bytes < LEAST_BUDGET:
            raise ValueError(f"a limit of {budget_bytes} bytes is less than {LEAST_BUDGET}")
        self.evicted = 0
        self._budget = budget_bytes
        self._most_each = most_bytes_each
        self._swept_ns: int | None = None
        self._swept_segments = 0
        self._room_until = 0

    def is_due(self, segments: int, settled_ns: int) -> bool:
        """Return whether a look could do anything after `segments`, all looks before having been made."""
        if self._swept_ns is None:
            self._swept_ns = settled_ns
        if abs(settled_ns - self._swept_ns) >= SWEEP_NS:
            return True
        return segments >= self._room_until

    def run_on(self, table: Table, segments: int, settled_ns: int) -> list[Array]:
        """Look at the only table; return the batches of rows that come out."""
        look = self.look(segments, settled_ns)
        ask = next(look)
        while True:
            try:
                ask = look.send([ask(table)])
            except StopIteration as end:
                batches: list[Array] = end.value
                return batches

    def look(self, segments: int, settled_ns: int) -> Look:
        """Yield what is to be asked of every table, to be sent all answers; return the batches of rows that come out.

        Args:
            segments: how many were stepped; a multiple of LOOK_SEGMENTS.
            settled_ns: the time that no segment will be much before (core/clock.pxd).
        """
        counts = yield _count
        swept = False
        assert self._swept_ns is not None
        if abs(settled_ns - self._swept_ns) >= SWEEP_NS and segments - self._swept_segments >= sum(counts):
            self._swept_ns, self._swept_segments = settled_ns, segments
            yield lambda table: table.retire_forgotten(settled_ns)
            swept = True
        evicting, room = yield from self._evict(settled_ns)
        waiting = sum((yield _waiting))
        batches: list[Array] = []
        if swept or evicting or waiting >= MOST_WAITING_ROWS:
            batches = list(in_batches(chain.from_iterable((yield _take))))
            waiting = 0
        # A segment begins at most one connection, and retires at most one.
        self._room_until = segments + min(MOST_WAITING_ROWS - waiting, room)
        return batches

    def _evict(self, now_ns: int) -> Generator[Ask, list[Any], tuple[bool, int]]:
        # Whether anybody was, and how many more connections there is room for.
        if self._budget is None:
            return False, MOST_WAITING_ROWS
        used = sum((yield _used))
        evicting = used > self._budget
        while used > self._budget:
            free = used - self._budget + self._budget // EVICTED_SHARE
            times = _joined((yield _times))
            if not len(times):
                break
            # By the average connection; the next turn does what is missing.
            count = max(1, min(len(times), len(times) * free // used))
            times.partition(count - 1)
            last_ts_ns = times[count - 1]
            more = count - int(np.count_nonzero(times[:count] < last_ts_ns))
            ids = _joined((yield partial(_seen_at, last_ts_ns)))
            ids.partition(more - 1)
            limits = int(last_ts_ns), int(ids[more - 1])
            self.evicted += sum((yield partial(_evict, now_ns, *limits)))
            used = sum((yield _used))
        return evicting, max(self._budget - used, 0) // self._most_each


def in_batches(parts: Iterable[Array]) -> Iterator[Array]:
    """Yield the rows of `parts` (FLOW_DTYPE, none of them empty) by flow_id, in batches of ROWS."""
    pieces = list(parts)
    if not pieces:
        return
    order = np.argsort(_joined([piece["flow_id"] for piece in pieces]), kind="stable")
    ends = np.cumsum([len(piece) for piece in pieces])
    octets = [plain(piece) for piece in pieces]
    for at in range(0, len(order), ROWS):
        wanted = order[at : at + ROWS]
        of = np.searchsorted(ends, wanted, "right")
        rows = np.empty(len(wanted), octets[0].dtype)
        for number in np.flatnonzero(np.bincount(of)).tolist():
            places = np.flatnonzero(of == number)
            rows[places] = octets[number][wanted[places] - (ends[number] - len(octets[number]))]
        yield rows.view(pieces[0].dtype)


def plain(rows: Array) -> Array:
    """Return `rows` seen as octets: numpy copies structs field by field, 60 of them a row, and octets at once."""
    return rows.view(f"V{rows.itemsize}")


def joined(parts: list[Array]) -> Array:
    """Return the rows of `parts`, one at least, as one array."""
    return parts[0] if len(parts) == 1 else np.concatenate([plain(part) for part in parts]).view(parts[0].dtype)


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _count(table: Table) -> int:
    return len(table)


def _used(table: Table) -> int:
    return table.bytes_used


def _waiting(table: Table) -> int:
    return table.waiting_rows


def _times(table: Table) -> Array:
    return table.last_times()


def _seen_at(last_ts_ns: int, table: Table) -> Array:
    return table.last_seen_at(last_ts_ns)


def _evict(now_ns: int, last_ts_ns: int, flow_id: int, table: Table) -> int:
    return table.evict(now_ns, last_ts_ns, flow_id)


def _take(table: Table) -> list[Array]:
    return table.take_rows()
