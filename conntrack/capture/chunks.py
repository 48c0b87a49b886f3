"""One large capture read in chunks, each on its own, with exactly the segments of one reading from the start.

Classic pcap has no index, so a chunk begins at a guess (core/boundaries.pyx). What makes the guess exact is stitching:
a chunk says where its last record ended, and what reading has to remember there (`Place`). The first chunk begins where
the file header ends, which is known; `follow` takes the next one only if what it had assumed is what the one before
says, else it is to be read again from there. So every boundary follows from the first, by induction, whatever the
packets contain.

What reading has to remember: the section's interfaces (pcapng), the time of the frame before, IP packets in pieces. The
guess is that interfaces are those at the head of the file and that nothing else carries over; where that is wrong the
chunk is read again too. Compressed and converted captures cannot be read in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from conntrack.capture.batch import Batch
from conntrack.capture.filter import Filter
from conntrack.capture.kinds import MAGIC_BYTES, kind_of
from conntrack.capture.paths import Waiting
from conntrack.capture.pcap import PcapReader
from conntrack.capture.pcapng import PcapngReader, Section
from conntrack.capture.ranges import RandomFile, Range, open_random, read_at
from conntrack.capture.stream import Stream
from conntrack.core.boundaries import first_block, first_record
from conntrack.core.walk import NO_TIME_NS
from conntrack.errors import CaptureError

__all__ = ["Chunk", "ChunkReader", "Head", "Place", "chunk_offsets", "follow", "look"]

Rows = npt.NDArray[np.void]

CHUNK_SEGMENTS = 8192
"""Segments handed out at once."""
LOOKED_BYTES = 1 << 20
"""Looked at for the first record, or four times the longest record that the file may have, whichever is more; no more
than MOST_LOOKED_BYTES."""
MOST_LOOKED_BYTES = 4 << 20
_INTERFACE_FIELDS = (
    "factor",
    "most_ticks",
    "offset_ns",
    "link_type",
    "snap_bytes",
    "fcs_bytes",
    "time_family",
    "shift",
)


@dataclass(frozen=True, slots=True)
class Head:
    """What every chunk of a file needs to know of it.

    Attributes:
        path: its name.
        size: in bytes.
        first: where the first record is.
        near_s: the time of the first packet, seconds since 1970.
        layout: of pcap records (PCAP_LAYOUT_DTYPE, shape (1,)); None for pcapng.
        section: the interfaces at the head of a pcapng file.
    """

    path: str
    size: int
    first: int
    near_s: int
    layout: npt.NDArray[np.void] | None = None
    section: Section | None = None

    @property
    def place(self) -> Place:
        """Where reading begins."""
        return Place(self.first)


@dataclass(frozen=True, slots=True)
class Place:
    """Where reading stands between two records, and all that it remembers there.

    Attributes:
        offset: of the next record in the file.
        frames: how many came before in the file.
        previous_ts_ns: time of the frame before, NO_TIME_NS without.
        section: the section of a pcapng file; None at its start, and in pcap.
        waiting: IP packets of which pieces are missing.
    """

    offset: int
    frames: int = 0
    previous_ts_ns: int = NO_TIME_NS
    section: Section | None = None
    waiting: Waiting | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """The account of a chunk that was read.

    Attributes:
        start: what it assumed; frames are numbered from there on.
        end: where it ended.
        first_ts_ns: time of its first frame; NO_TIME_NS if that frame has none of its own, or there is no frame.
        untimed: its first frame takes its time from the frame before.
        met_fragments: IP packets in pieces were met.
        counts: frames by core.decode.Outcome.
        inversions: frames with a time before that of the frame before.
        earliest_ts_ns, latest_ts_ns: of all frames; None without any.
        trails: descriptions of the outer paths by number (Paths.trails).
        unnumbered: segments for whose path there was no number.
        lost: IP packets of which pieces never came.
        subframes: frames behind the first of an 802.11 aggregate, which are not read.
        fault: the damage at which it ended.
    """

    start: Place
    end: Place
    first_ts_ns: int
    untimed: bool
    met_fragments: bool
    counts: npt.NDArray[np.uint64]
    inversions: int
    earliest_ts_ns: int | None
    latest_ts_ns: int | None
    trails: list[bytes]
    unnumbered: int
    lost: int
    subframes: int
    fault: CaptureError | None

    @staticmethod
    def of(
        batch: Batch, start: Place, end: Place, first_ts_ns: int = NO_TIME_NS, fault: CaptureError | None = None
    ) -> Chunk:
        """Return the account of what `batch` was filled with."""
        paths = batch.paths
        return Chunk(
            start=start,
            end=replace(end, frames=batch.frames, waiting=paths.waiting()),
            first_ts_ns=first_ts_ns,
            untimed=batch.frames > start.frames and first_ts_ns == NO_TIME_NS,
            met_fragments=paths.met_fragments,
            counts=batch.counts,
            inversions=batch.inversions,
            earliest_ts_ns=batch.first_ts_ns,
            latest_ts_ns=batch.last_ts_ns,
            trails=paths.trails,
            unnumbered=paths.unnumbered,
            lost=paths.lost,
            subframes=paths.subframes,
            fault=fault,
        )


def look(path: str, filter: Filter | None = None) -> Head | None:
    """Return what chunks of the file at `path` need to know of it, or None if it cannot be read in chunks.

    Raises:
        InputError: it cannot be opened, or not be read with the filter.
    """
    file = open_random(path)
    with Stream(path, source=Range(file, 0, file.size)) as stream:
        batch = Batch(CHUNK_SEGMENTS, filter)
        try:
            kind = kind_of(stream.peek(MAGIC_BYTES))
            if kind == "pcap":
                pcap = PcapReader(stream, batch)
                return Head(path, file.size, stream.offset, _seconds(pcap, batch), layout=pcap.layout)
        except CaptureError:
            return None  # not even the file header is whole
        if kind == "pcapng":
            pcapng = PcapngReader(stream, batch)
            return Head(path, file.size, 0, _seconds(pcapng, batch), section=pcapng.section)
    return None


def _seconds(reader: PcapReader | PcapngReader, batch: Batch) -> int:
    # The time of the first packets. Damage among them is told when they are read.
    with suppress(CaptureError):
        reader.walk(batch)
    return (batch.first_ts_ns or 0) // 10**9


def chunk_offsets(head: Head, chunk_bytes: int) -> list[tuple[int, int]]:
    """Return from where to where chunks of about `chunk_bytes` reach: a record belongs to where its first byte is."""
    starts = [head.first, *range(-(-(head.first + 1) // chunk_bytes) * chunk_bytes, head.size, chunk_bytes)]
    return list(zip(starts, [*starts[1:], head.size], strict=True))


class ChunkReader:
    """Reads one chunk: the records that begin at `start` or behind it, and before `stop`. A context manager.

    Args:
        head: of the file.
        start: a place that is known; or an offset, from which on the first record is looked for.
        stop: an offset.
        filter: only frames that pass are decoded.
        trails: descriptions of paths that have a number already (Chunk.trails).

    Attributes:
        found: False if no record was found from the offset on; then there is nothing to read.
    """

    def __init__(
        self,
        head: Head,
        start: Place | int,
        stop: int,
        filter: Filter | None = None,
        trails: Sequence[bytes] = (),
    ) -> None:
        file = open_random(head.path)
        place = start if isinstance(start, Place) else _guess(head, file, start)
        self.found = place is not None
        self.start = place or Place(stop)
        self._head = head
        self._stop = stop
        self._range = Range(file, self.start.offset, self.start.offset)
        self._stream = Stream(head.path, source=self._range)
        self._stream.read_bytes = self.start.offset
        self._batch = batch = Batch(CHUNK_SEGMENTS, filter)
        batch.paths.resume(self.start.waiting)
        batch.paths.load(trails)
        if head.layout is not None:
            self._reader: PcapReader | PcapngReader = PcapReader(self._stream, batch, head.layout)
        else:
            self._reader = PcapngReader(self._stream, batch, self.start.section)
        batch.tally["frames"] = self.start.frames
        batch.tally["previous_ts_ns"] = self.start.previous_ts_ns
        self._first_ts_ns = NO_TIME_NS
        self._fault: CaptureError | None = None

    def __enter__(self) -> ChunkReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Rows]:
        """Yield its segments in the order of the file: SEGMENT_DTYPE, frames numbered from `start.frames` + 1 on.

        Each array is valid until the next is asked for.

        Raises:
            InputError: the filter cannot be made for a link type in it.
        """
        batch, stream, reader, limits = self._batch, self._stream, self._reader, self._range
        first = True
        while True:
            try:
                full = reader.walk(batch)
                if first and batch.frames > self.start.frames:  # the first frame alone
                    self._first_ts_ns = int(batch.tally["previous_ts_ns"][0])
                    first, limits.limit = False, max(limits.limit, self._stop)
                more = full or stream.more(reader.needed)
                if not more and limits.at_end:
                    reader.finish(batch)
            except CaptureError as fault:
                self._fault = fault.with_traceback(None)
                break
            if full:
                yield batch.segments[: batch.rows]
                batch.rows = 0
            if more:
                continue
            if limits.at_end or (stream.offset >= self._stop and not stream.available):
                break
            # The rest of the record that has begun, and no more: or one byte, for a record to begin.
            limits.limit = min(stream.offset + (reader.needed if stream.available else 1), self._head.size)
        if batch.rows:
            yield batch.segments[: batch.rows]
            batch.rows = 0

    def account(self) -> Chunk:
        """Return what is to be said of the chunk once all of it was read."""
        section = self._reader.section if isinstance(self._reader, PcapngReader) else None
        previous_ts_ns = int(self._batch.tally["previous_ts_ns"][0])
        end = Place(self._stream.offset, previous_ts_ns=previous_ts_ns, section=section)
        return Chunk.of(self._batch, self.start, end, self._first_ts_ns, self._fault)


def follow(place: Place, chunk: Chunk) -> Place | None:
    """Return where reading stands after `chunk`, if it began at `place` and all that it assumed is so; else None.

    Args:
        place: where reading stands in truth. A chunk that was read from it always follows.
        chunk: its `start` is a guess, or `place`.
    """
    start, end = chunk.start, chunk.end
    if start is place:
        return end
    if chunk.fault is not None:  # which is to say how many packets came before it
        return None
    if start.offset != place.offset or not _same(start.section, place.section):
        return None
    if chunk.untimed and place.previous_ts_ns != NO_TIME_NS:
        return None
    if chunk.met_fragments and place.waiting is not None:
        return None
    return replace(
        end,
        frames=place.frames + end.frames - start.frames,
        previous_ts_ns=place.previous_ts_ns if end.previous_ts_ns == NO_TIME_NS else end.previous_ts_ns,
        waiting=end.waiting if chunk.met_fragments else place.waiting,
    )


def _same(one: Section | None, other: Section | None) -> bool:
    if one is None or other is None:
        return one is other
    return one[0] == other[0] and all(np.array_equal(one[1][name], other[1][name]) for name in _INTERFACE_FIELDS)


def _guess(head: Head, file: RandomFile, offset: int) -> Place | None:
    # The first place from `offset` on at which a record seems to begin.
    if head.layout is not None:
        longest = int(head.layout["most_captured"][0] + head.layout["header_bytes"][0])
    else:
        longest = LOOKED_BYTES // 4
    offset += -offset % 4 if head.layout is None else 0
    data = read_at(head.path, file, offset, min(max(4 * longest, LOOKED_BYTES), MOST_LOOKED_BYTES))
    leads = np.empty(len(data), np.uint8)
    at_end = offset + len(data) >= file.size
    if head.layout is not None:
        at = first_record(data, longest, at_end, head.layout, head.near_s, leads)
        return None if at < 0 else Place(offset + at)
    if head.section is None:
        return None
    at = first_block(data, longest, at_end, head.section[0], leads)
    return None if at < 0 else Place(offset + at, section=head.section)
