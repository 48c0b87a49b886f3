"""The capture read by many workers, and what they read stitched together: pieces in one order, for parts to be tracked.

Owns the stitching: that what workers took for granted is so, and what is done again where it is not (capture/chunks.py
for records, order.py for their order in time). Captures that overlap, pipes, and parts of a capture are read in one,
here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from conntrack.capture import open_capture
from conntrack.capture.chunks import Chunk, Place, chunk_offsets, follow, look
from conntrack.capture.filter import Filter
from conntrack.capture.paths import MOST_PATHS, OTHER_PATHS, path_text
from conntrack.cluster.crew import Crew
from conntrack.cluster.exchange import Exchange, Piece, PieceWriter
from conntrack.cluster.order import NOTHING, Held, Ordering, after_head, join, same
from conntrack.cluster.tasks import ChunkDone, ChunkJob, read_chunk
from conntrack.core.clock import Clock
from conntrack.core.decode import Outcome
from conntrack.core.walk import N_OUTCOMES, NO_TIME_NS

__all__ = ["Shuffle"]

Rows = np.ndarray[Any, Any]

_PIECE_SEGMENTS = 1 << 20
"""In a file that is written here."""
_IN_CHUNKS = {"recursive", "filter", "reader"}


class _InOne(Exception):
    """The captures cannot be read in chunks."""


class Shuffle:
    """Reads captures into pieces.

    Args:
        exchange: where pieces go.
        crew: who reads.
        chunk_bytes: of a capture that one task reads.

    Attributes:
        pieces: what was read, in order.
        info: the account of the captures.
        clock: the time at the end.
        again: chunks that had to be read again, because something taken for granted was not so.
        segments, packed_bytes, bytes: exchanged; before and after compression.
    """

    def __init__(self, exchange: Exchange, crew: Crew, chunk_bytes: int) -> None:
        self._exchange = exchange
        self._crew = crew
        self._chunk_bytes = chunk_bytes
        self._begin()

    def _begin(self) -> None:
        self.pieces: list[Piece] = []
        self.clock = Clock()
        self.again = self.segments = self.packed_bytes = self.bytes = 0
        self._held = NOTHING
        self._frames = 0
        self._paths: dict[bytes, int] = {b"": 0}
        self._counts = np.zeros(N_OUTCOMES, np.uint64)
        self._times: list[int] = []

    def read(self, paths: tuple[str, ...], part: dict[str, Any]) -> None:
        """Read all of `paths`.

        Args:
            paths: captures.
            part: what of them: arguments of open_capture.

        Raises:
            InputError: an input cannot be read.
            OSError: a piece cannot be written.
        """
        with open_capture(paths, **part) as capture:  # which looks at all of them, and finds their order
            self.info = capture.info
            starts = capture.starts
        asked = {name for name, value in part.items() if value not in (None, False)} - {"reader"}
        native = part.get("reader", "native") == "native"
        try:
            if not native or not asked <= _IN_CHUNKS or self.info.bytes_total is None:
                raise _InOne
            self._read_in_chunks(starts, part.get("filter"))
        except _InOne:
            self._begin()
            self._read_here(paths, part)

    # --- In one -------------------------------------------------------------------------------------------------------

    def _read_here(self, paths: tuple[str, ...], part: dict[str, Any]) -> None:
        with open_capture(paths, **part) as capture:
            batches = iter(capture)
            rows = next(batches, None)
            while rows is not None:
                with self._writer(f"here-{len(self.pieces):06}") as writer:
                    while rows is not None and writer.segments < _PIECE_SEGMENTS:
                        writer.add(rows)
                        self.clock.advance(rows)
                        writer.settled_ns = self.clock.settled_ns
                        rows = next(batches, None)
                self._count(writer)
            self.info = capture.info

    def _writer(self, name: str) -> PieceWriter:
        self.pieces.append(Piece(name))
        return PieceWriter(self._exchange.path(name), self._exchange.parts, self._exchange.key)

    def _count(self, written: PieceWriter | ChunkDone) -> None:
        self.segments += written.segments
        self.packed_bytes += written.packed_bytes
        self.bytes += written.bytes

    # --- In chunks ----------------------------------------------------------------------------------------------------

    def _read_in_chunks(self, starts: tuple[int | None, ...], expression: str | None) -> None:
        jobs = list(self._jobs(expression))
        done = self._crew.run(read_chunk, ((self._exchange, job) for job, _ in jobs))
        file = -1
        place = Place(0)
        latest_ts_ns = NO_TIME_NS
        ended = False
        for (job, number), chunk in zip(jobs, done, strict=True):
            if number != file:
                self._end_file(place)
                file, ended = number, False
                place = job.head.place if job.head is not None else Place(0)
                begins = starts[number]
                if begins is not None and begins <= latest_ts_ns:
                    raise _InOne  # they overlap
            if ended or (job.head is not None and place.offset >= job.stop):
                continue
            place, taken = self._take(job, chunk, place)
            latest_ts_ns = max(latest_ts_ns, taken.latest_ts_ns)
            ended = taken.chunk is not None and taken.chunk.fault is not None
        self._end_file(place)
        self.clock.state = self._held.clock
        self._account()

    def _jobs(self, expression: str | None) -> Iterator[tuple[ChunkJob, int]]:
        filter = Filter(expression) if expression else None
        for number, path in enumerate(self.info.files):
            head = look(path, filter)
            if head is None:
                yield ChunkJob(path, f"chunk-{number:05}", None, Place(0), 0, expression=expression), number
                continue
            for i, (start, stop) in enumerate(chunk_offsets(head, self._chunk_bytes)):
                begin: Place | int = start if i else head.place
                yield ChunkJob(path, f"chunk-{number:05}-{i:06}", head, begin, stop, expression=expression), number

    def _take(self, job: ChunkJob, done: ChunkDone, place: Place) -> tuple[Place, ChunkDone]:
        # What is true of the chunk; read again if it is not what the worker took for granted.
        if done.chunk is not None:
            known = isinstance(job.start, Place)
            chunk = replace(done.chunk, start=place) if known else done.chunk
            following = follow(place, chunk)
            base = self._frames + place.frames - done.chunk.start.frames
            if following is not None and self._join(job.name, done, base):
                self._tally(chunk, 0 if known else place.previous_ts_ns)
                return following, done
        self.again += 1
        held = Held(_moved(self._held.rows, -self._frames, None), self._held.clock)
        job = replace(job, name=f"{job.name}-again", start=place, held=held, trails=tuple(self._paths))
        done = self._crew.one(read_chunk, self._exchange, job)
        assert done.chunk is not None
        self._add(job.name, done, self._frames)
        self._tally(done.chunk, NO_TIME_NS)
        return done.chunk.end, done

    def _join(self, name: str, done: ChunkDone, base: int) -> bool:
        # The first segments of a chunk behind what was held back; False if the rest of it is then not right.
        first = _moved(done.first, base, self._numbers(done))
        rows, held = join(self._held, first)
        if done.more and not same(held, after_head(first)):
            return False
        self._edge(f"{name}-edge", rows)
        if done.more:
            self._add(name, done, base)
        else:
            self._held = held
        return True

    def _add(self, name: str, done: ChunkDone, base: int) -> None:
        numbers = self._numbers(done)
        self.pieces.append(Piece(name, base, None if (numbers == _SAME_NUMBERS).all() else numbers))
        self._held = Held(_moved(done.held.rows, base, numbers), done.held.clock)
        self._count(done)

    def _numbers(self, done: ChunkDone) -> Rows:
        # The numbers of paths are given in order of first appearance, as in one reading.
        assert done.chunk is not None
        if done.chunk.unnumbered:
            raise _InOne
        numbers = _SAME_NUMBERS.copy()
        for number, trail in enumerate(done.chunk.trails):
            if trail not in self._paths and len(self._paths) < MOST_PATHS:
                self._paths[trail] = len(self._paths)
            numbers[number] = self._paths.get(trail, OTHER_PATHS)
        return numbers

    def _edge(self, name: str, rows: Rows) -> None:
        if len(rows):
            with self._writer(name) as writer:
                clock = Clock()
                clock.state = self._held.clock
                writer.settled_ns = clock.settled_ns
                writer.add(rows)
            self._count(writer)

    def _end_file(self, place: Place) -> None:
        ordering = Ordering(self._held)
        for rows in ordering.finish():
            self._edge(f"end-{len(self.pieces):06}", rows)
        self._held = Held(NOTHING.rows, ordering.clock.state)
        self._frames += place.frames
        self.info.incomplete += len(place.waiting[0]) if place.waiting is not None else 0

    def _tally(self, chunk: Chunk, previous_ts_ns: int) -> None:
        info = self.info
        self._counts += chunk.counts
        info.time_inversions += chunk.inversions + (NO_TIME_NS < chunk.first_ts_ns < previous_ts_ns)
        info.incomplete += chunk.lost
        self._times += [ts for ts in (chunk.earliest_ts_ns, chunk.latest_ts_ns) if ts is not None]
        if chunk.fault is not None:
            info.faults.append(chunk.fault)

    def _account(self) -> None:
        info, counts = self.info, self._counts.tolist()
        info.bytes = info.bytes_total or 0
        info.packets = sum(counts)
        info.skipped = {Outcome(i).name.lower(): n for i, n in enumerate(counts) if n and i != Outcome.TCP}
        info.tcp_segments = counts[Outcome.TCP]
        info.first_ts_ns, info.last_ts_ns = min(self._times, default=None), max(self._times, default=None)
        info.paths = [path_text(trail) for trail in self._paths]


_SAME_NUMBERS = np.arange(OTHER_PATHS + 1, dtype=np.uint16)


def _moved(rows: Rows, frames: int, numbers: Rows | None) -> Rows:
    rows = rows.copy()
    rows["frame"] += np.uint64(frames % (1 << 64))
    if numbers is not None:
        rows["path"] = numbers[rows["path"]]
    return rows
