"""Mutated captures by the thousand: bytes flipped, numbers forged, parts cut, moved, spliced.

Whole blocks of captures are mutated at once with numpy, about 10 us each; block number and seed give them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK", "mutated"]

BLOCK = 2048
"""Captures of one block."""

NUMBERS = np.array(
    [
        *(0, 1, 2, 3, 4, 6, 8, 12, 20, 24, 27, 28, 32, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x3FFFF),
        *(0x40001, 0xFFFFFF, 0x1000000, 0x1000001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF),
        *(0x0A0D0D0A, 0x1A2B3C4D),
    ],
    np.uint32,
)


def mutated(seeds: Sequence[bytes], seed: int, block: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the BLOCK captures of one block, each in memory of its own, so that a sanitizer sees its end."""
    chance = np.random.default_rng([seed, block])
    width = max(map(len, seeds)) + 64
    pool = np.zeros((len(seeds), width), np.uint8)
    sizes = np.array([len(each) for each in seeds])
    for row, each in zip(pool, seeds, strict=True):
        row[: len(each)] = np.frombuffer(each, np.uint8)
    chosen = chance.integers(len(seeds), size=BLOCK)
    out = pool[chosen]
    size = sizes[chosen]
    every = np.arange(BLOCK)

    def some(share: float) -> npt.NDArray[np.bool_]:
        return chance.random(BLOCK) < share

    # A part of another capture over a part of this one; or everything after a place moved back or forth.
    spliced = every[some(0.25)]
    other = chance.integers(len(seeds), size=len(spliced))
    begins, places = chance.integers(width, size=len(spliced)), chance.integers(width, size=len(spliced))
    lengths = np.minimum(chance.integers(4, 200, size=len(spliced)), width - np.maximum(begins, places))
    for row, source, begin, at, length in zip(*_lists(spliced, other, begins, places, lengths), strict=True):
        out[row, at : at + length] = pool[source, begin : begin + length]
    moved = every[some(0.15)]
    places, by = chance.integers(width - 40, size=len(moved)), chance.integers(1, 41, size=len(moved))
    for row, at, distance, back in zip(*_lists(moved, places, by, chance.random(len(moved)) < 0.5), strict=True):
        if back:
            out[row, at : width - distance] = out[row, at + distance :]
        else:
            out[row, at + distance :] = out[row, at : width - distance].copy()
    # Single bits and bytes; forged numbers of two and four bytes, in both byte orders.
    for _ in range(3):
        rows = every[some(0.5)]
        place = (chance.random(len(rows)) * size[rows]).astype(int)
        out[rows, place] ^= (1 << chance.integers(8, size=len(rows))).astype(np.uint8)
        rows = every[some(0.3)]
        out[rows, (chance.random(len(rows)) * size[rows]).astype(int)] = chance.integers(256, size=len(rows))
    for _ in range(2):
        rows = every[some(0.4)]
        place = (chance.random(len(rows)) * size[rows]).astype(int) & ~np.where(chance.random(len(rows)) < 0.8, 3, 0)
        numbers = chance.choice(NUMBERS, len(rows))
        forged = numbers.view(np.uint8).reshape(-1, 4)
        forged = np.where((chance.random(len(rows)) < 0.5)[:, None], forged, forged[:, ::-1])
        length = np.where(chance.random(len(rows)) < 0.3, 2, 4)
        for byte in range(4):
            here = byte < length
            out[rows[here], np.minimum(place[here] + byte, width - 1)] = forged[here, byte]
    size = np.where(some(0.2), (chance.random(BLOCK) * size).astype(int), size + chance.integers(-3, 20, size=BLOCK))
    for row, length in zip(out, np.clip(size, 1, width).tolist(), strict=True):
        yield row[:length].copy()


def _lists(*arrays: npt.NDArray[Any]) -> list[list[Any]]:
    return [array.tolist() for array in arrays]
