"""A capture whose connections do not fit into memory: segments are set aside on disk by connection, then followed.

One pass sorts the segments into buckets of whole connections (buckets.py); then the buckets are tracked, in order of
time, one by each thread, and only their connections are in memory. The rows are those of one pass in memory. What is
global to all connections is settled before the segments are sorted: their order in time, their frame numbers, and the
clock, which is kept with every block. While one thread reads and sorts, others pack and write (crew.py).

The file has no name: it is gone when the process is, however that ends.
"""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import IO, Any

import numpy as np

from conntrack.cluster.buckets import Buckets, follow_part, gathered
from conntrack.core.clock import Clock
from conntrack.crew import Crew
from conntrack.errors import ConntrackError
from conntrack.sharded import BATCHES_AHEAD, default_threads

__all__ = ["BUCKETS", "SpillTracker"]

Rows = np.ndarray[Any, Any]

BUCKETS = 256
"""A bucket has a 256th of the connections: in 2 GB fit some 10 million at a time, so 2.5 billion in all with one
thread, half of that with two."""

_AHEAD = 32
"""Blocks of a bucket that the kernel is asked for while so many others are followed, 1 MB: they lie anywhere in it."""


class _SpillFile:
    """Blocks of buckets in a file without a name."""

    def __init__(self, directory: str, buckets: int) -> None:
        self._directory = directory
        self._offsets = [array("Q") for _ in range(buckets)]
        self._sizes = [array("L") for _ in range(buckets)]
        self._times = [array("q") for _ in range(buckets)]
        self._end = threading.Lock()
        self.bytes = 0
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115  (close)
        except OSError as error:
            raise self._cannot(error) from error

    def close(self) -> None:
        self._file.close()

    def put(self, bucket: int, block: bytes, settled_ns: int) -> None:
        """Write a block behind those of its bucket; for several threads, each with buckets of its own."""
        with self._end:
            offset = self.bytes
            self.bytes += len(block)
        written = 0
        while written < len(block):
            try:
                written += os.pwrite(self._file.fileno(), block[written:], offset + written)
            except OSError as error:
                raise self._cannot(error) from error
        self._offsets[bucket].append(offset)
        self._sizes[bucket].append(len(block))
        self._times[bucket].append(settled_ns)

    def blocks(self, bucket: int) -> Iterator[tuple[bytes, int]]:
        offsets, sizes, file = self._offsets[bucket], self._sizes[bucket], self._file.fileno()
        for n, settled_ns in enumerate(self._times[bucket]):
            if n % _AHEAD == 0 and hasattr(os, "posix_fadvise"):
                for ahead in range(n + _AHEAD if n else 0, min(n + 2 * _AHEAD, len(sizes))):
                    os.posix_fadvise(file, offsets[ahead], sizes[ahead], os.POSIX_FADV_WILLNEED)
            try:
                block = os.pread(file, sizes[n], offsets[n])
            except OSError as error:
                raise self._cannot(error) from error
            yield block, settled_ns

    def _cannot(self, error: OSError) -> ConntrackError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            size = f"{self.bytes / 1e6:,.0f} MB of segments were set aside"
            return ConntrackError(f"{self._directory}: no room for more, {size}; give --spill a directory with more")
        what = (error.strerror or str(error)).lower()
        return ConntrackError(f"{self._directory}: {what}; give --spill a directory that can be written to")


class SpillTracker:
    """What Tracker is to those who hand it segments and take rows, with the segments on disk. Close it in the end.

    Memory follows the connections of one bucket for each thread, and those that are alive at one time of these. On disk
    a segment takes 30 to 40 bytes.

    Args:
        directory: where there is room; nothing is left there.
        threads: how many work, the one that calls included; sharded.default_threads() if there is no number. Rows do
            not depend on it.
        profile: whose timers the hosts keep (timeouts.PROFILES).
        tag_in_key: as for Tracker.
        buckets: how many.
        followed: is told how many of them are done, and how many there are; by one thread at a time.

    Attributes:
        evicted: 0; nobody has to leave.

    Raises:
        ConntrackError: the directory cannot be written to; in `process` and `finish` also, or its disk is full.
    """

    evicted = 0

    def __init__(
        self,
        directory: str,
        *,
        threads: int | None = None,
        profile: str = "linux",
        tag_in_key: bool = False,
        buckets: int = BUCKETS,
        followed: Callable[[int, int], None] = lambda *_: None,
    ) -> None:
        self._threads = default_threads() if threads is None else threads
        self._how: dict[str, Any] = {"profile": profile, "tag_in_key": tag_in_key}
        self._buckets = buckets
        self._followed = followed
        self._done = 0
        self._in_turn = threading.Lock()
        self._feed: Callable[[Rows], None] | None = None
        self._clock = Clock()
        self._closed = False
        self._file = _SpillFile(directory, buckets)
        self._crew = Crew(self._threads, self._threads)
        key = np.frombuffer(secrets.token_bytes(32), np.uint64)
        self._sorter: Buckets | None = Buckets(buckets, key, self._file.put, self._crew)

    feeds = 1
    """How many feeds deliver_to() takes: what one of them keeps may be all the memory that there is for it."""

    def deliver_to(self, feeds: Sequence[Callable[[Rows], None]]) -> None:
        """Have rows handed to the only one of `feeds` instead of yielded: in turn by several threads."""
        (self._feed,) = feeds

    def close(self) -> None:
        """End the threads; the file is gone then."""
        self._closed = True
        self._crew.close()
        self._file.close()

    def process(self, segments: Rows) -> None:
        """Set aside segments (SEGMENT_DTYPE, shape (n,)), in order of time.

        Raises:
            TypeError: they are of another dtype.
            RuntimeError: the tracker has been finished.
        """
        if self._sorter is None:
            raise RuntimeError("the tracker has been finished")
        self._sorter.add(segments)
        self._clock.advance(segments)
        self._sorter.settled_ns = self._clock.settled_ns

    def retired(self) -> Iterator[Rows]:
        """Yield nothing: everything comes at the end."""
        return iter(())

    def finish(self, *, ordered: bool = True) -> Iterator[Rows]:
        """Yield every connection once, in batches of FLOW_DTYPE, in no particular order, whatever `ordered` says.

        Raises:
            RuntimeError: the tracker has been finished before.
        """
        if self._sorter is None:
            raise RuntimeError("the tracker has been finished")
        self._sorter.flush()
        self._sorter = None
        self._followed(0, self._buckets)
        if self._feed is None:
            yield from self._crew.in_turn([self._rows(lane) for lane in range(self._threads)], BATCHES_AHEAD)
            return
        for bucket in range(self._buckets):
            self._crew.put(bucket % self._threads, partial(self._deliver, bucket))
        self._crew.work_until(self._crew.is_idle)

    def _rows(self, lane: int) -> Iterator[Rows]:
        for bucket in range(lane, self._buckets, self._threads):
            yield from follow_part(self._segments(bucket), self._clock.now_ns, **self._how)
            self._count()

    def _deliver(self, bucket: int) -> None:
        def deliver(rows: Rows) -> None:
            assert self._feed is not None
            with self._in_turn:
                self._feed(rows)

        for _ in follow_part(self._segments(bucket), self._clock.now_ns, **self._how, deliver=deliver):
            raise AssertionError("rows are delivered")
        self._count()

    def _segments(self, bucket: int) -> Iterator[tuple[Rows, int]]:
        for block in gathered(self._file.blocks(bucket)):
            if self._closed:  # nobody wants the rest
                return
            yield block

    def _count(self) -> None:
        with self._in_turn:
            self._done += 1
            self._followed(self._done, self._buckets)
