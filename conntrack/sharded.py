"""Several trackers side by side in threads, each with its part of the connections: the same rows as from one.

What is global stays in one place, in order: the time (core/clock.pxd), which segment goes to which part (by a hash that
is the same for both directions of a connection, core/shards.pyx), and the looks at all tables together, at fixed counts
of segments (upkeep.py). Everything else concerns one connection alone. The thread that reads and hands out segments
works too, when there is enough waiting for the others (crew.py).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from .core.abi import FLOW_DTYPE, SEGMENT_DTYPE
from .core.clock import Clock
from .core.shards import scatter
from .crew import Crew
from .memory import half_of_memory
from .tracker import MOST_BYTES_EACH, Tracker
from .upkeep import LOOK_SEGMENTS, ROWS, Upkeep, in_batches

__all__ = ["MOST_THREADS", "ShardedTracker", "default_threads", "make_tracker"]

Array = np.ndarray[Any, Any]

BLOCK_SEGMENTS = 8_192
"""Segments handed to a part at a time, at most: a millisecond of work."""
BLOCKS_AHEAD = 4
"""Blocks waiting for one part before whoever reads stops reading and works."""
BATCHES_AHEAD = 3
"""Batches of rows that are made before they are asked for."""
MOST_THREADS = 256


def default_threads() -> int:
    """Return how many cores this process may use, at most 8: one thread reads no faster than so many can track."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)


def make_tracker(
    profile: str = "linux", *, threads: int | None = None, max_memory: int | None = None, tag_in_key: bool = False
) -> Tracker | ShardedTracker:
    """Return what tracks on so many threads, which must be closed.

    Args:
        profile: timers of which kind of host, as for Tracker.
        threads: 1 to MOST_THREADS; default_threads() if there is no number. Results do not depend on it.
        max_memory: bytes for the connections alive at one time, at least upkeep.LEAST_BUDGET; half of the memory that
            there is (memory.half_of_memory) if there is no number.
        tag_in_key: as for Tracker.

    Raises:
        ValueError: something is outside of its range.
    """
    threads = default_threads() if threads is None else threads
    max_memory = half_of_memory() if max_memory is None else max_memory
    if threads == 1:
        return Tracker(profile, max_memory=max_memory, tag_in_key=tag_in_key)
    return ShardedTracker(threads, profile, max_memory=max_memory, tag_in_key=tag_in_key)


class _Block:
    """Segments on their way, by part; used again when all of its parts are done."""

    def __init__(self, parts: int) -> None:
        self.parts = np.empty((parts, BLOCK_SEGMENTS), SEGMENT_DTYPE)
        self.filled = np.zeros(parts, np.uint32)
        self.left: list[int] = []


class _Look:
    """Rows that come out at a look, once it is over."""

    def __init__(self) -> None:
        self.batches: list[Array] | None = None

    def over(self, batches: list[Array]) -> None:
        self.batches = batches


class ShardedTracker:
    """What Tracker is to those who hand it segments and take rows, on several threads. Close it in the end.

    Args:
        threads: how many work, the one that calls included; 2 to MOST_THREADS.
        profile: timers of which kind of host, as for Tracker.
        max_memory: bytes for all connections together, as for Tracker.
        tag_in_key: as for Tracker.

    Attributes:
        segments: how many were taken in.

    Raises:
        ValueError: something is outside of its range.
    """

    def __init__(
        self, threads: int, profile: str = "linux", *, max_memory: int | None = None, tag_in_key: bool = False
    ) -> None:
        if not 2 <= threads <= MOST_THREADS:
            raise ValueError(f"2 to {MOST_THREADS} threads, not {threads}")
        self.segments = 0
        self._upkeep = Upkeep(max_memory, MOST_BYTES_EACH)
        self._trackers = [Tracker(profile, tag_in_key=tag_in_key) for _ in range(threads)]
        self._key = np.frombuffer(os.urandom(32), np.uint64)
        self._clock = Clock()
        self._looks: deque[_Look] = deque()
        self._spare: list[_Block] = []
        self._block = _Block(threads)
        self._finished = False
        self._delivers = False
        self._crew = Crew(threads, threads)

    @property
    def feeds(self) -> int:
        """How many feeds deliver_to() takes: one for each thread."""
        return len(self._trackers)

    @property
    def evicted(self) -> int:
        """How many connections were given up to stay within `max_memory`."""
        return self._upkeep.evicted

    def deliver_to(self, feeds: Sequence[Callable[[Array], None]]) -> None:
        """Have rows handed to `feeds` from now on, as Tracker.deliver_to: each part of the connections to one of them.

        There are as many as threads, and they are called at the same time, each by one thread at a time.
        """
        self._delivers = True
        for tracker, feed in zip(self._trackers, feeds, strict=True):
            tracker.deliver_to([feed])

    def close(self) -> None:
        """End the threads."""
        self._crew.close()

    def process(self, segments: Array) -> None:
        """Take in `segments` (SEGMENT_DTYPE, shape (n,)) in order; they are copied.

        Raises:
            TypeError: they are of another dtype.
            RuntimeError: the tracker has been finished.
        """
        if self._finished:
            raise RuntimeError("the tracker has been finished")
        begin = 0
        while begin < len(segments):
            end = min(begin + LOOK_SEGMENTS - self.segments % LOOK_SEGMENTS, len(segments))
            block = self._block
            taken, full = scatter(segments[begin:end], block.parts, block.filled, self._key, clock=self._clock)
            self.segments += taken
            begin += taken
            look = self.segments % LOOK_SEGMENTS == 0 and self._is_look_due()
            if look or full < len(self._trackers):
                self._hand_out()
            if look:
                self._look()

    def retired(self) -> Iterator[Array]:
        """Yield connections that are over for good, as Tracker.retired: the same batches, perhaps later."""
        while self._looks and self._looks[0].batches is not None:
            yield from self._looks.popleft().batches or ()

    def finish(self, *, ordered: bool = True) -> Iterator[Array]:
        """Yield all that is left, as Tracker.finish. It can be done once.

        Raises:
            RuntimeError: the tracker has been finished before.
        """
        if self._finished:
            raise RuntimeError("the tracker has been finished")
        self._finished = True
        self._hand_out()
        self._crew.work_until(self._crew.is_idle)
        yield from self.retired()
        if self._delivers:
            for lane, tracker in enumerate(self._trackers):
                self._crew.put(lane, partial(tracker.deliver_rest, self._clock.now_ns))
            self._crew.work_until(self._crew.is_idle)
            return
        yield from in_batches(rows for tracker in self._trackers for rows in tracker.take_rows())
        if ordered:
            yield from self._in_order()
        else:
            live = [tracker.empty(self._clock.now_ns) for tracker in self._trackers]
            yield from self._crew.in_turn(live, BATCHES_AHEAD)

    def _hand_out(self) -> None:
        block, self._block = self._block, self._spare.pop() if self._spare else _Block(len(self._trackers))
        counts = block.filled.tolist()
        block.filled[:] = 0
        block.left = list(range(len(counts)))
        for lane, count in enumerate(counts):
            self._crew.put(lane, partial(self._step, block, lane, count))
        self._crew.work_until(self._is_room)

    def _is_room(self) -> bool:
        return self._crew.most_waiting() <= BLOCKS_AHEAD

    def _step(self, block: _Block, lane: int, count: int) -> None:
        if count:
            self._trackers[lane].step(block.parts[lane, :count])
        if block.left.pop() == 0:  # whoever takes the last is the last
            self._spare.append(block)

    def _is_look_due(self) -> bool:
        # While a look is under way nobody knows what it will find, so that the next one has to see for itself.
        pending = bool(self._looks) and self._looks[-1].batches is None
        return pending or self._upkeep.is_due(self.segments, self._clock.settled_ns)

    def _look(self) -> None:
        self._looks.append(_Look())
        look = self._upkeep.look(self.segments, self._clock.settled_ns)
        self._crew.ask(self._trackers, look, self._looks[-1].over)

    def _in_order(self) -> Iterator[Array]:
        numbers: list[tuple[Array, Array]] = [(_NONE, _NONE)] * len(self._trackers)

        def number(lane: int) -> None:
            numbers[lane] = self._trackers[lane].live_by_id()

        for lane in range(len(numbers)):
            self._crew.put(lane, partial(number, lane))
        self._crew.work_until(self._crew.is_idle)
        order = np.argsort(np.concatenate([ids for ids, _ in numbers]), kind="stable")
        records = np.concatenate([each for _, each in numbers])[order]
        lanes = np.repeat(np.arange(len(numbers), dtype=np.uint16), [len(ids) for ids, _ in numbers])[order]
        made: deque[tuple[Array, list[int]]] = deque()
        for at in range(0, len(records) + ROWS * BATCHES_AHEAD, ROWS):
            if at < len(records):
                made.append(self._make(records[at : at + ROWS], lanes[at : at + ROWS]))
            if len(made) > BATCHES_AHEAD or (at >= len(records) and made):
                rows, missing = made.popleft()
                self._crew.work_until(partial(_is_empty, missing))
                yield rows

    def _make(self, records: Array, lanes: Array) -> tuple[Array, list[int]]:
        rows = np.empty(len(records), FLOW_DTYPE)
        missing = list(range(len(self._trackers)))

        def put_rows(lane: int, places: Array) -> None:
            self._trackers[lane].put_rows(records[places], self._clock.now_ns, rows, places)
            missing.remove(lane)

        for lane in range(len(self._trackers)):
            self._crew.put(lane, partial(put_rows, lane, np.flatnonzero(lanes == lane).astype(np.uint32)))
        return rows, missing


def _is_empty(missing: list[int]) -> bool:
    return not missing


_NONE = np.empty(0, np.uint64)
