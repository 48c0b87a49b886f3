"""The capture read by many workers, and what they read stitched together: pieces in one order, for parts to be tracked.

Owns the stitching: that what workers took for granted is so, and what is done again where it is not (capture/chunks.py
for records, order.py for their order in time). Captures that overlap, pipes, and parts of a capture are read in one,
here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np

from conntrack.capture import open_capture
from conntrack.capture.chunks import Chunk, Place, chunk_offsets, follow, look
from conntrack.capture.filter import Filter
from conntrack.capture.paths import MOST_PATHS, OTHER_PATHS, path_text
from conntrack.cluster.checkpoint import Checkpoint, Standing
from conntrack.cluster.crew import Crew
from conntrack.cluster.exchange import Exchange, Piece, PieceWriter, open_piece
from conntrack.cluster.order import NOTHING, Held, Ordering, after_head, join, same
from conntrack.cluster.tasks import ChunkDone, ChunkJob, read_chunk
from conntrack.core.clock import Clock
from conntrack.core.decode import Outcome
from conntrack.core.walk import NO_TIME_NS
from conntrack.errors import InputError

__all__ = ["Shuffle"]

Rows = np.ndarray[Any, Any]

_PIECE_SEGMENTS = 1 << 20
"""In a file that is written here."""
_IN_CHUNKS = {"recursive", "filter", "reader"}
_NO_CHUNKS = "overlap, or a part of them is read, which is done in one: there is no going on from a checkpoint"


class _InOne(Exception):
    """The captures cannot be read in chunks."""


class Shuffle:
    """Reads captures into pieces.

    Args:
        exchange: where pieces go.
        crew: who reads.
        chunk_bytes: of a capture that one task reads.
        checkpoint: is brought up to date after each chunk, and says where to go on.
        watch: is told how many bytes were read, of how many.

    Attributes:
        info: the account of the captures.
        clock: the time at the end.
        at: how far it has come; all that there is to say of what was read.
        checkpoint: None once the captures turned out to be read in one, where there is no going on.
    """

    def __init__(
        self,
        exchange: Exchange,
        crew: Crew,
        chunk_bytes: int,
        checkpoint: Checkpoint | None = None,
        watch: Callable[[int, int | None, int], None] = lambda *_: None,
    ) -> None:
        self._exchange = exchange
        self._crew = crew
        self._chunk_bytes = chunk_bytes
        self.checkpoint = checkpoint
        self._watch = watch
        self._begin(checkpoint.standing if checkpoint is not None else Standing())

    def _begin(self, at: Standing) -> None:
        self.at = at
        self.clock = Clock()
        self._paths = {trail: number for number, trail in enumerate(at.trails)}

    def read(self, paths: tuple[str, ...], part: dict[str, Any]) -> None:
        """Read all of `paths`.

        Args:
            paths: captures.
            part: what of them: arguments of open_capture.

        Raises:
            InputError: an input cannot be read, or not twice, with a checkpoint.
            OSError: a piece cannot be written.
            ConntrackError: the checkpoint is of other captures.
        """
        with open_capture(paths, **part) as capture:  # which looks at all of them, and finds their order
            self.info = capture.info
            starts = capture.starts
        asked = {name for name, value in part.items() if value not in (None, False)} - {"reader"}
        native = part.get("reader", "native") == "native"
        if self.checkpoint is not None:
            if self.info.bytes_total is None:
                raise InputError(f"{', '.join(paths)}: --checkpoint is for files: a pipe cannot be read again")
            self.checkpoint.begin(self.info.files)
        try:
            if not native or not asked <= _IN_CHUNKS or self.info.bytes_total is None:
                raise _InOne
            self._read_in_chunks(starts, part.get("filter"))
        except _InOne:
            self._begin(Standing())
            if self.checkpoint is not None:
                self.info.notes.append(f"{', '.join(paths)}: {_NO_CHUNKS}")
                self.checkpoint = None
            self._read_here(paths, part)

    # --- In one -------------------------------------------------------------------------------------------------------

    def _read_here(self, paths: tuple[str, ...], part: dict[str, Any]) -> None:
        at = self.at
        with open_capture(paths, **part) as capture:
            batches = iter(capture)
            rows = next(batches, None)
            while rows is not None:
                with self._writer(f"here-{len(at.pieces):06}") as writer:
                    while rows is not None and writer.segments < _PIECE_SEGMENTS:
                        writer.add(rows)
                        self.clock.advance(rows)
                        writer.settled_ns = self.clock.settled_ns
                        self._watch(capture.info.bytes, capture.info.bytes_total, capture.info.packets)
                        rows = next(batches, None)
                self._count(writer)
            capture.info.notes[:0] = [note for note in self.info.notes if note not in capture.info.notes]
            self.info = capture.info

    def _writer(self, name: str) -> AbstractContextManager[PieceWriter]:
        self.at.pieces.append(Piece(name))
        return open_piece(self._exchange.path(name), self._exchange.parts, self._exchange.key)

    def _count(self, written: PieceWriter | ChunkDone) -> None:
        self.at.segments += written.segments
        self.at.packed_bytes += written.packed_bytes
        self.at.bytes += written.bytes

    # --- In chunks ----------------------------------------------------------------------------------------------------

    def _read_in_chunks(self, starts: tuple[int | None, ...], expression: str | None) -> None:
        at = self.at
        jobs = list(self._jobs(expression))[at.jobs :] if not at.whole else []
        done = self._crew.run(read_chunk, ((self._exchange, job) for job, _ in jobs))
        for (job, number), chunk in zip(jobs, done, strict=True):
            if number != at.file:
                self._end_file()
                at.file, at.ended = number, False
                at.place = job.head.place if job.head is not None else Place(0)
                begins = starts[number]
                if begins is not None and begins <= at.latest_ts_ns:
                    raise _InOne  # they overlap
            at.jobs += 1
            if at.ended or (job.head is not None and at.place.offset >= job.stop):
                continue
            at.place, taken = self._take(job, chunk, at.place)
            at.latest_ts_ns = max(at.latest_ts_ns, taken.latest_ts_ns)
            at.ended = taken.chunk is not None and taken.chunk.fault is not None
            self._watch(self._bytes_before[number] + at.place.offset, self.info.bytes_total, int(at.counts.sum()))
            self._save()
        if not at.whole:
            self._end_file()
            at.whole = True
            self._save()
        self.clock.state = at.held.clock
        self._account()

    def _save(self) -> None:
        if self.checkpoint is not None:
            self.at.trails = list(self._paths)
            self.checkpoint.save()

    def _jobs(self, expression: str | None) -> Iterator[tuple[ChunkJob, int]]:
        filter = Filter(expression) if expression else None
        self._bytes_before = [0]
        for number, path in enumerate(self.info.files):
            head = look(path, filter)
            self._bytes_before.append(self._bytes_before[-1] + (head.size if head is not None else 0))
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
            base = self.at.frames + place.frames - done.chunk.start.frames
            if following is not None and self._join(job.name, done, base):
                self._tally(chunk, 0 if known else place.previous_ts_ns)
                return following, done
        self.at.again += 1
        held = Held(_moved(self.at.held.rows, -self.at.frames, None), self.at.held.clock)
        job = replace(job, name=f"{job.name}-again", start=place, held=held, trails=tuple(self._paths))
        done = self._crew.one(read_chunk, self._exchange, job)
        assert done.chunk is not None
        self._add(job.name, done, self.at.frames)
        self._tally(done.chunk, NO_TIME_NS)
        return done.chunk.end, done

    def _join(self, name: str, done: ChunkDone, base: int) -> bool:
        # The first segments of a chunk behind what was held back; False if the rest of it is then not right.
        first = _moved(done.first, base, self._numbers(done))
        rows, held = join(self.at.held, first)
        if done.more and not same(held, after_head(first)):
            return False
        self._edge(f"{name}-edge", rows)
        if done.more:
            self._add(name, done, base)
        else:
            self.at.held = held
        return True

    def _add(self, name: str, done: ChunkDone, base: int) -> None:
        numbers = self._numbers(done)
        self.at.pieces.append(Piece(name, base, None if (numbers == _SAME_NUMBERS).all() else numbers))
        self.at.held = Held(_moved(done.held.rows, base, numbers), done.held.clock)
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
                clock.state = self.at.held.clock
                writer.settled_ns = clock.settled_ns
                writer.add(rows)
            self._count(writer)

    def _end_file(self) -> None:
        at = self.at
        ordering = Ordering(at.held)
        for rows in ordering.finish():
            self._edge(f"end-{len(at.pieces):06}", rows)
        at.held = Held(NOTHING.rows, ordering.clock.state)
        at.frames += at.place.frames
        at.incomplete += len(at.place.waiting[0]) if at.place.waiting is not None else 0

    def _tally(self, chunk: Chunk, previous_ts_ns: int) -> None:
        at = self.at
        at.counts = at.counts + chunk.counts
        at.inversions += chunk.inversions + (NO_TIME_NS < chunk.first_ts_ns < previous_ts_ns)
        at.incomplete += chunk.lost
        at.subframes += chunk.subframes
        if chunk.earliest_ts_ns is not None and chunk.latest_ts_ns is not None:
            known = [ts for ts in (at.earliest_ts_ns, at.latest_frame_ns) if ts is not None]
            at.earliest_ts_ns = min([chunk.earliest_ts_ns, *known])
            at.latest_frame_ns = max([chunk.latest_ts_ns, *known])
        if chunk.fault is not None:
            at.faults.append(chunk.fault)

    def _account(self) -> None:
        info, at, counts = self.info, self.at, self.at.counts.tolist()
        info.bytes = info.bytes_total or 0
        info.packets = sum(counts)
        info.skipped = {Outcome(i).name.lower(): n for i, n in enumerate(counts) if n and i != Outcome.TCP}
        info.tcp_segments = counts[Outcome.TCP]
        info.first_ts_ns, info.last_ts_ns = at.earliest_ts_ns, at.latest_frame_ns
        info.time_inversions, info.incomplete, info.subframes = at.inversions, at.incomplete, at.subframes
        info.faults += at.faults
        info.paths = [path_text(trail) for trail in self._paths]


_SAME_NUMBERS = np.arange(OTHER_PATHS + 1, dtype=np.uint16)


def _moved(rows: Rows, frames: int, numbers: Rows | None) -> Rows:
    rows = rows.copy()
    rows["frame"] += np.uint64(frames % (1 << 64))
    if numbers is not None:
        rows["path"] = numbers[rows["path"]]
    return rows
