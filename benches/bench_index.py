"""The index alone: find, insert, remove and grow with random hashes, at two thirds full."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benches.traffic import connection_hashes
from conntrack.core.index import hash_pairs, insert, lookup, probe_lengths, refill, remove

SLOTS = 1 << 21
FILLED = SLOTS * 2 // 3


@pytest.fixture(scope="module")
def filled() -> tuple[Any, Any, Any]:
    hashes, records = connection_hashes(FILLED)
    slots = np.zeros(SLOTS, "u8")
    insert(slots, hashes, records)
    return slots, hashes, records


def test_hash(benchmark: Any, report: Any) -> None:
    words = np.random.default_rng(1).integers(0, 2**64, (2, FILLED), dtype="u8")
    benchmark(hash_pairs, words[0], words[1], np.arange(1, 5, dtype="u8"))
    report(keys=FILLED)


def test_lookup(benchmark: Any, report: Any, filled: tuple[Any, Any, Any]) -> None:
    slots, hashes, _ = filled
    found = benchmark(lookup, slots, np.random.default_rng(1).permutation(hashes))
    probes = probe_lengths(slots)
    report(keys=len(found), slots=SLOTS, probes_mean=round(float(probes.mean()), 2), probes_max=int(probes.max()))


def test_insert(benchmark: Any, report: Any, filled: tuple[Any, Any, Any]) -> None:
    _, hashes, records = filled
    benchmark.pedantic(insert, setup=lambda: ((np.zeros(SLOTS, "u8"), hashes, records), {}), rounds=5)
    report(keys=FILLED, slots=SLOTS)


def test_remove(benchmark: Any, report: Any, filled: tuple[Any, Any, Any]) -> None:
    slots, hashes, records = filled
    order = np.random.default_rng(1).permutation(FILLED)
    shuffled = hashes[order], records[order]
    benchmark.pedantic(remove, setup=lambda: ((slots.copy(), *shuffled), {}), rounds=5)
    report(keys=FILLED, slots=SLOTS)


def test_grow(benchmark: Any, report: Any, filled: tuple[Any, Any, Any]) -> None:
    slots = filled[0]
    benchmark.pedantic(refill, setup=lambda: ((slots, np.zeros(2 * SLOTS, "u8")), {}), rounds=5)
    report(keys=FILLED, slots=2 * SLOTS)
