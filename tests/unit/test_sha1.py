"""SHA-1 of rows is SHA-1."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from conntrack.core.sha1 import sha1_rows


@pytest.mark.parametrize("size", [1, 3, 4, 16, 40, 52, 54, 55])
def test_it_is_what_hashlib_says(size: int) -> None:
    messages = np.random.default_rng(size).integers(0, 256, (300, size), np.uint8)
    digests = sha1_rows(messages)
    assert digests.shape == (300, 20)
    assert [bytes(row) for row in digests] == [hashlib.sha1(bytes(row)).digest() for row in messages]


def test_rows_with_gaps_and_no_rows() -> None:
    wide = np.arange(600, dtype=np.uint16).astype(np.uint8).reshape(10, 60)
    assert bytes(sha1_rows(wide[:, ::2])[3]) == hashlib.sha1(bytes(wide[3, ::2])).digest()
    assert sha1_rows(np.zeros((0, 16), np.uint8)).shape == (0, 20)


@pytest.mark.parametrize("messages", [np.zeros((2, 56), np.uint8), np.zeros((2, 0), np.uint8), np.zeros(5, np.uint8)])
def test_what_it_cannot_sum_is_refused(messages: np.ndarray) -> None:
    with pytest.raises(ValueError, match="rows of 1 to 55 bytes"):
        sha1_rows(messages)
