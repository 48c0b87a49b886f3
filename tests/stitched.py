"""A capture read in chunks and stitched, in one process: what tests hold against one reading from the start."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from conntrack.capture.chunks import Chunk, ChunkReader, Head, Place, chunk_offsets, follow, look
from conntrack.capture.filter import Filter
from conntrack.core.walk import N_OUTCOMES, NO_TIME_NS


@dataclass
class Stitched:
    """What came of it; `again` counts chunks whose guess was wrong."""

    head: Head
    rows: np.ndarray
    place: Place
    counts: np.ndarray
    inversions: int
    lost: int
    again: int
    chunks: int
    faults: list[str] = field(default_factory=list)


def read(head: Head, start: Place | int, stop: int, filter: Filter | None) -> tuple[list[np.ndarray], Chunk | None]:
    with ChunkReader(head, start, stop, filter) as reader:
        rows = [rows.copy() for rows in reader] if reader.found else []
        return rows, reader.account() if reader.found else None


def stitch(path: str, chunk_bytes: int, expression: str | None = None) -> Stitched:
    filter = Filter(expression) if expression else None
    head = look(path, filter)
    assert head is not None
    place = head.place
    done = Stitched(head, np.empty(0), place, np.zeros(N_OUTCOMES, np.uint64), 0, 0, 0, 0)
    parts: list[np.ndarray] = []
    paths: dict[bytes, int] = {b"": 0}
    for start, stop in chunk_offsets(head, chunk_bytes):
        if place.offset >= stop:
            continue
        rows, chunk = read(head, place if start == head.first else start, stop, filter)
        following = follow(place, chunk) if chunk is not None else None
        if following is None:
            done.again += 1
            rows, chunk = read(head, place, stop, filter)
            assert chunk is not None
            following = follow(place, chunk)
            assert following is not None
        assert chunk is not None
        numbers = np.array([paths.setdefault(trail, len(paths)) for trail in chunk.trails], np.uint16)
        for part in rows:
            part["frame"] += place.frames - chunk.start.frames
            part["path"] = numbers[part["path"]]
        parts += rows
        done.counts = done.counts + chunk.counts
        done.inversions += chunk.inversions
        if chunk.start is not place and chunk.first_ts_ns != NO_TIME_NS:
            done.inversions += chunk.first_ts_ns < place.previous_ts_ns
        done.lost += chunk.lost
        done.chunks += 1
        place = following
        done.place = place
        if chunk.fault is not None:
            done.faults.append(str(chunk.fault))
            break
    done.rows = np.concatenate(parts) if parts else np.empty(0)
    return done
