"""What a worker does: read a chunk of a capture into a file of parts, track one part, put findings together.

Each task reads files and writes one, under another name until it is whole (exchange.py): it may run twice, or be
killed, or come in any order. Tasks take and return small things only. Knows no executor.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from conntrack.capture.batch import Batch
from conntrack.capture.chunks import Chunk, ChunkReader, Head, Place
from conntrack.capture.filter import Filter
from conntrack.capture.source import open_reader
from conntrack.capture.stream import Stream
from conntrack.cluster.buckets import follow_part
from conntrack.cluster.exchange import Exchange, Piece, open_piece, open_whole, part_blocks, put_rows, write_whole
from conntrack.cluster.order import HEAD_SEGMENTS, NOTHING, Held, Ordering, after_head
from conntrack.core.walk import NO_TIME_NS
from conntrack.detect import DetectOptions
from conntrack.errors import CaptureError
from conntrack.export import make_exporter
from conntrack.pipeline import Analysis

__all__ = [
    "ChunkDone",
    "ChunkJob",
    "PartDone",
    "PartJob",
    "join_findings",
    "joined_findings",
    "read_chunk",
    "rows_name",
    "track_part",
]

Rows = np.ndarray[Any, Any]

_BATCH_SEGMENTS = 8192


@dataclass(frozen=True, slots=True)
class ChunkJob:
    """A chunk to read.

    Attributes:
        path: the file.
        name: of the file to write.
        head: of the capture; None where it has no chunks and is read whole.
        start: an offset from which a record is to be looked for; or a place that is known.
        stop: an offset.
        held: what ordering remembers at a place that is known; None: the first segments are to be handed over.
        trails: descriptions of the paths that have numbers, with `held`.
        expression: of the filter.
    """

    path: str
    name: str
    head: Head | None
    start: Place | int
    stop: int
    held: Held | None = None
    trails: tuple[bytes, ...] = ()
    expression: str | None = None


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """A chunk that was read.

    Attributes:
        chunk: the account of it; None if no record was found.
        first: its first segments, in the order of the file, HEAD_SEGMENTS at most; none if `held` was given.
        held: what ordering remembers after it; if there were no more segments, nothing was put into order yet.
        more: whether there were more segments than the first.
        latest_ts_ns: the latest time of a segment.
        segments, packed_bytes, bytes: in the file that was written.
    """

    chunk: Chunk | None
    first: Rows
    held: Held
    more: bool
    latest_ts_ns: int
    segments: int
    packed_bytes: int
    bytes: int


@lru_cache(maxsize=4)
def _filter(expression: str) -> Filter:
    return Filter(expression)


def read_chunk(exchange: Exchange, job: ChunkJob) -> ChunkDone:
    """Read a chunk; put its segments, but for the first and those held back at the end, into a file of parts.

    Raises:
        InputError: the capture cannot be read.
        OSError: the file cannot be written.
    """
    filter = _filter(job.expression) if job.expression else None
    reader: ChunkReader | _WholeReader
    if job.head is None:
        reader = _WholeReader(job.path, filter, job.trails)
    else:
        reader = ChunkReader(job.head, job.start, job.stop, filter, job.trails)
    with reader:
        if not reader.found:
            return ChunkDone(None, NOTHING.rows, NOTHING, False, NO_TIME_NS, 0, 0, 0)
        return _sorted(exchange, job, reader)


def _sorted(exchange: Exchange, job: ChunkJob, reader: ChunkReader | _WholeReader) -> ChunkDone:
    first: list[Rows] = []
    missing = HEAD_SEGMENTS if job.held is None else 0
    ordering = Ordering(job.held) if job.held is not None else None
    latest_ts_ns = NO_TIME_NS
    with open_piece(exchange.path(job.name), exchange.parts, exchange.key) as writer:
        for rows in reader:
            latest_ts_ns = max(latest_ts_ns, int(rows["ts_ns"].max()))
            if missing:
                first.append(rows[:missing].copy())
                rows = rows[missing:]
                missing -= len(first[-1])
            if len(rows):
                if ordering is None:
                    ordering = Ordering(after_head(np.concatenate(first)))
                for ordered in ordering.push(rows):
                    writer.add(ordered)
                    writer.settled_ns = ordering.clock.settled_ns
        held = NOTHING
        if ordering is not None:
            rows, held = ordering.settle()
            writer.add(rows)
            writer.settled_ns = ordering.clock.settled_ns
    return ChunkDone(
        chunk=reader.account(),
        first=np.concatenate(first) if first else NOTHING.rows,
        held=held,
        more=ordering is not None,
        latest_ts_ns=latest_ts_ns,
        segments=writer.segments,
        packed_bytes=writer.packed_bytes,
        bytes=writer.bytes,
    )


class _WholeReader:
    """A capture that has no chunks, read as the only one it has."""

    found = True

    def __init__(self, path: str, filter: Filter | None, trails: Sequence[bytes]) -> None:
        self._stream = Stream(path)
        self._batch = Batch(_BATCH_SEGMENTS, filter)
        self._batch.paths.load(trails)
        self._fault: CaptureError | None = None

    def __enter__(self) -> _WholeReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Rows]:
        batch, stream = self._batch, self._stream
        try:
            reader = open_reader(stream, batch)
            while True:
                if reader.walk(batch):
                    yield batch.segments[: batch.rows]
                    batch.rows = 0
                elif not stream.more(reader.needed):
                    reader.finish(batch)
                    break
        except CaptureError as fault:
            self._fault = fault.with_traceback(None)
        if batch.rows:
            yield batch.segments[: batch.rows]
            batch.rows = 0

    def account(self) -> Chunk:
        return Chunk.of(self._batch, Place(0), Place(self._stream.offset), fault=self._fault)


@dataclass(frozen=True, slots=True)
class PartJob:
    """A part to track.

    Attributes:
        part: its number.
        pieces: the file with the list of pieces (a pickle, of our own).
        end_ns: Clock.now_ns at the end of the capture.
        profile: whose timers.
        tag_in_key: as for Tracker.
        options: thresholds of the detectors; None: no findings are asked for.
        choose: keep connections that are worth showing.
        rows: write the connections for `read_rows`.
        parquet: a directory to write them to, one Parquet file a part.
    """

    part: int
    pieces: str
    end_ns: int
    profile: str
    tag_in_key: bool
    options: DetectOptions | None
    choose: bool
    rows: bool
    parquet: str | None = None


@dataclass(frozen=True, slots=True)
class PartDone:
    """A part that was tracked: the files that were written, and how many connections they are of."""

    findings: str | None
    rows: str | None
    connections: int


def rows_name(part: int) -> str:
    """Return the name of the file with the connections of a part."""
    return f"rows-{part:05}"


def track_part(exchange: Exchange, job: PartJob) -> PartDone:
    """Follow the connections of a part, one file after the other.

    Raises:
        OSError: a file cannot be read or written.
        ConntrackError: one is damaged.
    """
    pieces: list[Piece] = pickle.loads(Path(exchange.path(job.pieces)).read_bytes())
    analysis = Analysis(job.options, choose=job.choose) if job.options is not None else None
    connections = 0
    name = rows_name(job.part) if job.rows else None
    with ExitStack() as whole:
        rows = whole.enter_context(open_whole(exchange.path(name))) if name is not None else None
        table = exporter = None
        if job.parquet is not None:
            table = whole.enter_context(open_whole(str(Path(job.parquet, f"part-{job.part:05}.parquet"))))
            exporter = make_exporter("parquet")
            table.write(exporter.header())
        blocks = part_blocks(exchange, pieces, job.part)
        for flows in follow_part(blocks, job.end_ns, profile=job.profile, tag_in_key=job.tag_in_key):
            connections += len(flows)
            if analysis is not None:
                analysis.feed(flows)
            if rows is not None:
                put_rows(rows, flows)
            if table is not None and exporter is not None:
                table.write(exporter.rows(flows))
        if table is not None and exporter is not None:
            table.write(exporter.finish())
    findings_name = None
    if analysis is not None:
        findings_name = f"findings-{job.part:05}"
        write_whole(exchange.path(findings_name), pickle.dumps(analysis))
    return PartDone(findings_name, name, connections)


def join_findings(exchange: Exchange, names: Sequence[str], name: str) -> str:
    """Put the findings of several files into one; the name of that.

    Raises:
        OSError: a file cannot be read or written.
    """
    write_whole(exchange.path(name), pickle.dumps(joined_findings(exchange, names)))
    return name


def joined_findings(exchange: Exchange, names: Sequence[str]) -> Analysis:
    """Return the findings of several files, at least one, put together.

    Raises:
        OSError: a file cannot be read.
    """
    analysis: Analysis | None = None
    for name in names:
        other: Analysis = pickle.loads(Path(exchange.path(name)).read_bytes())
        if analysis is None:
            analysis = other
        else:
            analysis.merge(other)
    assert analysis is not None
    return analysis
