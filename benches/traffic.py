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
    "KINDS",
    "SEED",
    "CaptureFile",
    "capture_file",
    "capture_of_kind",
    "connection_hashes",
    "given_file",
    "segment_batches",
    "tracked",
]

Array = NDArray[Any]

SEED = 20
BATCH_SEGMENTS = 8192
"""As many as conntrack.capture hands out at a time."""

KINDS: dict[str, dict[str, Any]] = {
    "ipv6": {"ip_version": 6},
    "whole-payloads": {"snaplen": 65_535},
    "nanoseconds": {"nanosecond": True},
    "reordered": {},
    "flood": {"scenario": "syn-flood"},
}
"""Captures that are not plain, and the arguments of generate() that make them; reordering is done here."""

PCAP_HEADER = 24
RECORD_HEADER = 16


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


def _reordered(plain: bytes) -> bytes:
    """Put every tenth packet behind the three that came after it; times stay where they were, so that they go on."""
    starts, ends, at = [], [], PCAP_HEADER
    while at < len(plain):
        starts.append(at)
        at += RECORD_HEADER + int.from_bytes(plain[at + 8 : at + 12], "little")
        ends.append(at)
    order = np.arange(len(starts), dtype="f8")
    order[::10] += 3.5
    places = np.argsort(order, kind="stable").tolist()
    heads = [plain[start : start + 8] for start in starts]
    records = (heads[n] + plain[starts[place] + 8 : ends[place]] for n, place in enumerate(places))
    return plain[:PCAP_HEADER] + b"".join(records)


def capture_of_kind(path: Path, kind: str, *, connections: int) -> CaptureFile:
    """Generate a capture of one of KINDS at `path`."""
    with path.open("wb") as out:
        truth = generate(out, **{"scenario": "mixed", **KINDS[kind]}, connections=connections, seed=SEED)
    if kind == "reordered":
        path.write_bytes(_reordered(path.read_bytes()))
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
