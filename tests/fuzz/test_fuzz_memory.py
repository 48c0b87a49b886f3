"""Mutated captures of every format in memory, seeded and bounded; `python -m benches.fuzz` runs millions of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from corpus import BINARY, TEXTS
from mutate import BLOCK, mutated
from reading import read_memory

from conntrack.capture.batch import Batch

SEED = 7


@pytest.mark.parametrize("seeds", [BINARY, TEXTS], ids=["binary", "text"])
def test_mutated_captures(seeds: list[bytes]) -> None:
    batch = Batch(16)
    said: Counter[bool] = Counter()
    for block in range(3):
        said.update(bool(read_memory(content, batch)) for content in mutated(seeds, SEED, block))
    assert sum(said.values()) == 3 * BLOCK
    assert batch.frames > BLOCK
    assert int(batch.counts.sum()) == batch.frames
    assert 0 < int(batch.counts[0]) < batch.frames
    assert said[False] > 100
    if seeds is BINARY:
        assert said[True] > BLOCK


def test_the_seeds_themselves_are_whole() -> None:
    for content in [*BINARY, *TEXTS]:
        batch = Batch(64)
        assert read_memory(np.frombuffer(content, np.uint8), batch) == ""
        assert int(batch.counts[0]) > 0


def test_a_block_is_the_same_again() -> None:
    first, again = ([content.tobytes() for content in mutated(BINARY, SEED, 5)] for _ in range(2))
    assert first == again
    assert len(set(first)) > BLOCK * 0.9


ACKS = b"IP 10.0.0.1.1 > 10.0.0.2.2: Flags [.], ack 1, win 1, length 0\n"
REGRESSIONS = {
    "a month that does not exist": b"2024-93-02 12:00:00.000001 " + ACKS,
    "a year beyond 64 bits of ns": b"9924-01-02 12:00:00.000001 " + ACKS,
}
"""What the fuzzer found once -> the capture."""


@pytest.mark.parametrize("content", REGRESSIONS.values(), ids=REGRESSIONS)
def test_what_was_found_once(content: bytes) -> None:
    batch = Batch(64)
    assert read_memory(np.frombuffer(content, np.uint8), batch) == ""
    assert batch.frames == 1
