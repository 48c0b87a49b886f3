"""The index alone, against a dict: what goes in is found, and what comes out leaves the others to be found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrack.core.index import hash_pairs, insert, lookup, probe_lengths, refill, remove

SLOTS = 64
EDGES = st.sampled_from([0, 1, 2**31, 2**32 - 2, 2**32 - 1])
"""Homes in the first slots and in the last: runs of them wrap around."""
HASHES = st.lists(EDGES | st.integers(0, 2**32 - 1), unique=True, max_size=SLOTS - 1)


def words(numbers: list[int]) -> np.ndarray:
    return np.array(numbers, dtype=np.uint32)


def filled(hashes: list[int]) -> np.ndarray:
    slots = np.zeros(SLOTS, dtype=np.uint64)
    insert(slots, words(hashes), words(list(range(1, len(hashes) + 1))))
    return slots


def hold(slots: np.ndarray, expected: dict[int, int]) -> None:
    hashes = sorted(expected)
    assert lookup(slots, words(hashes)).tolist() == [expected[one] for one in hashes]
    assert np.count_nonzero(slots) == len(probe_lengths(slots)) == len(expected)


@given(hashes=HASHES, out=st.sets(st.integers(0, SLOTS - 2)))
def test_what_is_in_is_found_and_nothing_else(hashes: list[int], out: set[int]) -> None:
    slots = filled(hashes)
    expected = {one: record for record, one in enumerate(hashes, 1)}
    hold(slots, expected)
    gone = [hashes[at] for at in out if at < len(hashes)]
    records = words([expected.pop(one) for one in gone])
    assert remove(slots, words(gone), records) == len(gone)
    hold(slots, expected)
    assert lookup(slots, words(gone)).tolist() == [0] * len(gone)
    assert remove(slots, words(gone), records) == 0


@given(hashes=HASHES, size=st.sampled_from([SLOTS, 2 * SLOTS, 16 * SLOTS]))
def test_growing_keeps_all(hashes: list[int], size: int) -> None:
    larger = np.zeros(size, dtype=np.uint64)
    refill(filled(hashes), larger)
    hold(larger, {one: record for record, one in enumerate(hashes, 1)})


def test_of_equal_hashes_the_first_is_found_and_each_can_leave() -> None:
    """The core compares the keys of both; here the record tells them apart."""
    slots = np.zeros(SLOTS, dtype=np.uint64)
    insert(slots, words([7, 7, 7]), words([1, 2, 3]))
    assert lookup(slots, words([7])).tolist() == [1]
    assert probe_lengths(slots).tolist() == [0, 1, 2]
    assert remove(slots, words([7, 7]), words([1, 9])) == 1
    assert lookup(slots, words([7])).tolist() == [2]
    assert probe_lengths(slots).tolist() == [0, 1]


def test_the_hash_is_of_the_pair_and_the_key() -> None:
    first, second = np.arange(1000, dtype=np.uint64), np.arange(1000, dtype=np.uint64)[::-1].copy()
    keys = np.random.default_rng(3).integers(0, 2**64, (2, 4), dtype=np.uint64)
    made = [hash_pairs(first, second, key) for key in keys]
    assert (made[0] == hash_pairs(first, second, keys[0])).all()
    assert np.count_nonzero(made[0] == made[1]) < 10
    assert len(np.unique(made[0])) > 990


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lookup(np.zeros(6, dtype=np.uint64), words([])), "expected a power of two of slots, got 6"),
        (lambda: refill(filled([]), np.zeros(SLOTS // 2, dtype=np.uint64)), "32 slots are fewer than 64"),
        (lambda: insert(filled([]), words([1, 2]), words([1])), "as many hashes as records"),
        (
            lambda: insert(filled([1]), words(list(range(SLOTS))), words(list(range(SLOTS)))),
            "fewer than there are empty",
        ),
        (lambda: remove(filled([]), words([1, 2]), words([1])), "as many hashes as records"),
        (lambda: hash_pairs(*(np.zeros(n, dtype=np.uint64) for n in (3, 2, 4))), "as many first words as second"),
        (lambda: hash_pairs(*(np.zeros(n, dtype=np.uint64) for n in (3, 3, 5))), "a key of four words"),
    ],
)
def test_what_does_not_fit_is_refused(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()


def test_slots_are_of_one_type() -> None:
    with pytest.raises(TypeError, match="old: expected uint64, got int64"):
        refill(np.zeros(SLOTS, dtype=np.int64), filled([]))
