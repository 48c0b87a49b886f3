"""Segments set aside in parts: sorted by connection, packed, compressed, handed on block by block; and read back.

Owns the form of a block (core/pack.pyx packs, LZ4 compresses) and the buffers it is filled in. Where blocks go is for
whoever makes the `Buckets`: one file here (spill.py), a file for each chunk of a capture on a cluster (exchange.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.core.pack import SLACK_BYTES, Packer
from conntrack.core.shards import scatter
from conntrack.crew import Crew
from conntrack.memory import Reservation
from conntrack.tracker import Tracker
from conntrack.upkeep import ROWS, SWEEP_NS, in_batches

__all__ = ["BLOCK_SEGMENTS", "Buckets", "Unpacker", "follow_part", "gathered"]

Rows = np.ndarray[Any, Any]

BLOCK_SEGMENTS = 1024
"""In a block at most. 256 buckets of them are 25 MB, and a block packs to about 45 kB."""
_SPARE_BLOCKS = 8
"""Besides one a bucket, for each lane: filled and waiting to be packed, before whoever fills them packs."""
_STEP_SEGMENTS = 16_384
_RESERVE = 1 << 20  # connections: a part has few


class Buckets:
    """Sorts segments into buckets by connection; each block that is full is packed and handed on.

    Args:
        count: of buckets.
        key: of core.shards, uint64, shape (4,): the same wherever parts of one capture are sorted.
        put: takes a block of a bucket: its number, the bytes, and `settled_ns` when it was full. Those of one bucket
            come in order; with a crew, those of several at once.
        crew: who packs, beside whoever calls `add`; by default nobody.

    Attributes:
        settled_ns: Clock.settled_ns after the segments so far; for whoever calls `add` to set.
        segments: taken in so far.
    """

    def __init__(
        self,
        count: int,
        key: np.ndarray[Any, Any],
        put: Callable[[int, bytes, int], None],
        crew: Crew | None = None,
    ) -> None:
        self._key = key
        self._crew = crew
        self._packing = [_Packing(put) for _ in range(crew.lanes if crew is not None else 1)]
        places = count + (_SPARE_BLOCKS * crew.lanes if crew is not None else 0)
        room = Reservation(places * BLOCK_SEGMENTS, SEGMENT_DTYPE, places * BLOCK_SEGMENTS, huge_from_bytes=0)
        self._parts: Rows = room.records.reshape(places, BLOCK_SEGMENTS)
        self._places = np.arange(count, dtype=np.uint32)
        self._free = deque(range(count, places))
        self._filled = np.zeros(count, np.uint32)
        self.settled_ns = 0
        self.segments = 0

    @property
    def packed_bytes(self) -> int:
        """Of blocks handed on, before compression."""
        return sum(packing.packed_bytes for packing in self._packing)

    @property
    def bytes(self) -> int:
        """Of blocks handed on."""
        return sum(packing.bytes for packing in self._packing)

    def add(self, segments: Rows) -> None:
        """Take in segments (SEGMENT_DTYPE, shape (n,)); those of one connection come out in the same order."""
        begin = 0
        while begin < len(segments):
            taken, full = scatter(segments[begin:], self._parts, self._filled, self._key, self._places)
            begin += taken
            if full < len(self._filled):
                self._hand_on(full)
        self.segments += len(segments)

    def flush(self) -> None:
        """Hand on what is left, in order of the buckets; all is handed on after this."""
        for bucket in np.flatnonzero(self._filled).tolist():
            self._hand_on(bucket)
        if self._crew is not None:
            self._crew.work_until(self._crew.is_idle)

    def _hand_on(self, bucket: int) -> None:
        count, place, lane = int(self._filled[bucket]), int(self._places[bucket]), bucket % len(self._packing)
        self._filled[bucket] = 0
        pack = partial(self._pack, lane, bucket, place, count, self.settled_ns)
        if self._crew is None:
            pack()
        else:
            self._crew.put(lane, pack)
            self._crew.work_until(partial(len, self._free))
        self._places[bucket] = self._free.popleft()

    def _pack(self, lane: int, bucket: int, place: int, count: int, settled_ns: int) -> None:
        self._packing[lane].put(bucket, self._parts[place, :count], settled_ns)
        self._free.append(place)


class _Packing:
    """What one lane packs with."""

    def __init__(self, put: Callable[[int, bytes, int], None]) -> None:
        from lz4.block import compress

        self._compress = compress
        self._packer = Packer(BLOCK_SEGMENTS)
        self._put = put
        self.packed_bytes = 0
        self.bytes = 0

    def put(self, bucket: int, segments: Rows, settled_ns: int) -> None:
        packed = self._packer.pack(segments)
        block = self._compress(packed.data, mode="fast", acceleration=8)
        self.packed_bytes += len(packed) - SLACK_BYTES
        self.bytes += len(block)
        self._put(bucket, block, settled_ns)


class Unpacker:
    """Turns blocks into segments again."""

    def __init__(self) -> None:
        from lz4.block import decompress

        self._decompress = decompress
        self._packer = Packer(BLOCK_SEGMENTS)

    def unpack(self, block: bytes, segments: Rows) -> int:
        """Write the segments of a block to the start of `segments` (SEGMENT_DTYPE); return how many they are.

        Raises:
            ValueError: it is no block, or there is no room.
        """
        return self._packer.unpack(np.frombuffer(self._decompress(block), np.uint8), segments)


def follow_part(
    blocks: Iterable[tuple[Rows, int]],
    end_ns: int,
    *,
    profile: str = "linux",
    tag_in_key: bool = False,
    deliver: Callable[[Rows], None] | None = None,
) -> Iterator[Rows]:
    """Yield the connections of one bucket, each once: FLOW_DTYPE, shape (1..n,).

    Args:
        blocks: its segments in order (SEGMENT_DTYPE, shape (n,)), each with Clock.settled_ns at that point of the
            capture.
        end_ns: Clock.now_ns at the end of the capture.
        profile: whose timers the hosts keep.
        tag_in_key: as for Tracker.
        deliver: takes them instead, as with Tracker.deliver_to; none is yielded then.
    """
    tracker = Tracker(profile=profile, tag_in_key=tag_in_key, reserve=_RESERVE)
    if deliver is not None:
        tracker.deliver_to([deliver])
    swept_ns, since = None, 0
    for segments, settled_ns in blocks:
        tracker.step(segments)
        since += len(segments)
        swept_ns = settled_ns if swept_ns is None else swept_ns
        if abs(settled_ns - swept_ns) >= SWEEP_NS and since >= len(tracker):
            tracker.retire_forgotten(settled_ns)
            swept_ns, since = settled_ns, 0
        if tracker.waiting_rows >= ROWS:
            yield from in_batches(tracker.take_rows())
    if deliver is not None:
        tracker.deliver_rest(end_ns)
        return
    yield from in_batches(tracker.take_rows())
    yield from tracker.empty(end_ns)


def gathered(blocks: Iterable[tuple[bytes, int]]) -> Iterator[tuple[Rows, int]]:
    """Yield the segments of blocks, several at a time: SEGMENT_DTYPE, valid until the next, and the last one's time.

    Args:
        blocks: each with Clock.settled_ns.
    """
    unpacker = Unpacker()
    rows: Rows = np.empty(_STEP_SEGMENTS, SEGMENT_DTYPE)
    filled = 0
    settled_ns = 0
    for block, settled_ns in blocks:
        filled += unpacker.unpack(block, rows[filled:])
        if filled > _STEP_SEGMENTS - BLOCK_SEGMENTS:
            yield rows[:filled], settled_ns
            filled = 0
    if filled:
        yield rows[:filled], settled_ns
