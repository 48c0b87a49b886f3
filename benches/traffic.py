"""Seeded traffic for benches: segments in memory for single stages, capture files for the way from end to end.

Owns which traffic a bench sees by default, so that numbers of different days can be compared. Knows no bench.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conntrack.capture import open_capture
from conntrack.core.index import hash_pairs
from conntrack.generate import generate, segments
from conntrack.tracker import Tracker

__all__ = [
    "BATCH_SEGMENTS",
    "SEED",
    "CaptureFile",
    "capture_file",
    "connection_hashes",
    "given_file",
    "segment_batches",
    "tracked",
]

Array = NDArray[Any]

SEED = 20
BATCH_SEGMENTS = 8192
"""As many as conntrack.capture hands out at a time."""


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """A capture and what is in it."""

    path: Path
    bytes: int
    packets: int
    connections: int


def capture_file(path: Path, *, scenario: str = "mixed", connections: int) -> CaptureFile:
    """Generate a capture at `path`."""
    with path.open("wb") as out:
        truth = generate(out, scenario=scenario, connections=connections, seed=SEED)
    return CaptureFile(path, path.stat().st_size, truth["packets"], truth["connections"])


def given_file(path: Path) -> CaptureFile:
    """Take a capture that is there; it is read once to count what is in it."""
    tracker = Tracker()
    retired = 0
    with open_capture([path]) as capture:
        for batch in capture:
            tracker.process(batch)
            retired += sum(len(rows) for rows in tracker.retired())
        packets = capture.info.packets
    return CaptureFile(path, path.stat().st_size, packets, retired + sum(len(rows) for rows in tracker.finish()))


def segment_batches(*, scenario: str = "mixed", connections: int) -> list[Array]:
    """Return the segments of a scenario in batches (SEGMENT_DTYPE) as the reader hands them out, all in memory."""
    batches = []
    for made in segments(scenario=scenario, connections=connections, seed=SEED):
        batches += [made[low : low + BATCH_SEGMENTS] for low in range(0, len(made), BATCH_SEGMENTS)]
    return batches


def tracked(batches: list[Array]) -> tuple[Tracker, list[Array]]:
    """Track all of `batches`; return the tracker as it is then, and what it has retired (FLOW_DTYPE)."""
    tracker = Tracker()
    retired: list[Array] = []
    for batch in batches:
        tracker.process(batch)
        retired += tracker.retired()
    return tracker, retired


def connection_hashes(n: int) -> tuple[Array, Array]:
    """Return `n` hashes of 4-tuples under a random key, and record numbers for them: uint32, shape (n,)."""
    rng = np.random.default_rng(SEED)
    words = rng.integers(0, 2**64, (2, n), dtype="u8")
    key = np.frombuffer(secrets.token_bytes(32), "u8")
    return hash_pairs(words[0], words[1], key), np.arange(1, n + 1, dtype="u4")
