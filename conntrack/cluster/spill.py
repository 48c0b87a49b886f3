"""A capture whose connections do not fit into memory: segments are set aside on disk by connection, then followed.

One pass sorts the segments into buckets of whole connections (buckets.py); then one bucket after the other is tracked,
in order of time, and only its connections are in memory. The rows are those of one pass in memory. What is global to
all connections is settled before the segments are sorted: their order in time, their frame numbers, and the clock,
which is kept with every block.

The file has no name: it is gone when the process is, however that ends.
"""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import numpy as np

from conntrack.cluster.buckets import Buckets, follow_part, gathered
from conntrack.core.clock import Clock
from conntrack.errors import ConntrackError

__all__ = ["BUCKETS", "spilled_flows"]

Rows = np.ndarray[Any, Any]

BUCKETS = 256
"""A bucket has a 256th of the connections: in 2 GB fit some 10 million at a time, so 2.5 billion in all."""


class _SpillFile:
    """Blocks of buckets in a file without a name. A context manager."""

    def __init__(self, directory: str, buckets: int) -> None:
        self._directory = directory
        self._offsets = [array("Q") for _ in range(buckets)]
        self._sizes = [array("L") for _ in range(buckets)]
        self._times = [array("q") for _ in range(buckets)]
        self.bytes = 0
        self.settled_ns = 0
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115  (closed by __exit__)
        except OSError as error:
            raise self._cannot(error) from error

    def __enter__(self) -> _SpillFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, bucket: int, block: bytes, _: int) -> None:
        written = 0
        while written < len(block):
            try:
                written += self._file.write(block[written:])
            except OSError as error:
                raise self._cannot(error) from error
        self._offsets[bucket].append(self.bytes)
        self._sizes[bucket].append(len(block))
        self._times[bucket].append(self.settled_ns)
        self.bytes += len(block)

    def blocks(self, bucket: int) -> Iterator[tuple[bytes, int]]:
        places = zip(self._offsets[bucket], self._sizes[bucket], self._times[bucket], strict=True)
        for offset, size, settled_ns in places:
            try:
                block = os.pread(self._file.fileno(), size, offset)
            except OSError as error:
                raise self._cannot(error) from error
            yield block, settled_ns

    def _cannot(self, error: OSError) -> ConntrackError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            size = f"{self.bytes / 1e6:,.0f} MB of segments were set aside"
            return ConntrackError(f"{self._directory}: no room for more, {size}; give --spill a directory with more")
        what = (error.strerror or str(error)).lower()
        return ConntrackError(f"{self._directory}: {what}; give --spill a directory that can be written to")


def spilled_flows(
    segment_batches: Iterable[Rows],
    directory: str,
    *,
    profile: str = "linux",
    tag_in_key: bool = False,
    buckets: int = BUCKETS,
    followed: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[Rows]:
    """Yield every connection of `segment_batches` once, in batches of FLOW_DTYPE; in no particular order.

    Memory follows the connections of one bucket, and those that are alive at one time of these. On disk a segment takes
    30 to 40 bytes.

    Args:
        segment_batches: SEGMENT_DTYPE, shape (n,) each, in order of time.
        directory: where there is room; nothing is left there.
        profile: whose timers the hosts keep (timeouts.PROFILES).
        tag_in_key: as for Tracker.
        buckets: how many.
        followed: is told how many of them are done, and how many there are.

    Raises:
        ConntrackError: the directory cannot be written to, or its disk is full.
    """
    key = np.frombuffer(secrets.token_bytes(32), np.uint64)
    clock = Clock()
    with _SpillFile(directory, buckets) as file:
        sorter = Buckets(buckets, key, file.put)
        for segments in segment_batches:
            sorter.add(segments)
            clock.advance(segments)
            file.settled_ns = clock.settled_ns
        sorter.flush()
        del sorter
        for bucket in range(buckets):
            followed(bucket, buckets)
            blocks = gathered(file.blocks(bucket))
            yield from follow_part(blocks, clock.now_ns, profile=profile, tag_in_key=tag_in_key)
