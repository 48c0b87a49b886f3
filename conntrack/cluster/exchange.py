"""Files by which tasks hand segments on to each other: one a chunk of the capture, with the blocks of every part.

Owns the form of such a file, its names, and that it is whole or not there: it is written under another name and then
renamed, so that a task may run twice, or be killed. A part reads only its own blocks. The directory must be one that
all tasks see: any on one machine, a shared one on several.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conntrack.cluster.buckets import BLOCK_SEGMENTS, Buckets, Unpacker
from conntrack.core.abi import SEGMENT_DTYPE

__all__ = ["Exchange", "Piece", "PieceWriter", "part_blocks", "write_whole"]

Rows = np.ndarray[Any, Any]

_INDEX = np.dtype([("offset", "<u8"), ("settled_ns", "<i8"), ("bytes", "<u4"), ("part", "<u4")])
_TAIL_BYTES = 16  # where the index begins, and how many blocks there are
_STEP_SEGMENTS = 16_384


@dataclass(frozen=True, slots=True)
class Exchange:
    """Where segments are exchanged, and how they are sorted.

    Attributes:
        directory: that all workers see.
        parts: how many.
        key: of core.shards, uint64, shape (4,).
    """

    directory: str
    parts: int
    key: Rows

    def path(self, name: str) -> str:
        """Return where the file of that name is."""
        return str(Path(self.directory, name))


@dataclass(frozen=True, slots=True)
class Piece:
    """A file of blocks, and what its segments still lack.

    Attributes:
        name: of the file.
        frames_before: to be added to the numbers of frames.
        paths: SEGMENT_DTYPE.path in the capture by that in the file (uint16); None where they are the same.
    """

    name: str
    frames_before: int = 0
    paths: Rows | None = None


def write_whole(path: str, data: bytes) -> None:
    """Write a file so that it is there with all of its bytes, or not at all."""
    temporary = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        Path(temporary).write_bytes(data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class PieceWriter:
    """Sorts segments into the blocks of a file. A context manager; the file is there when it was left without an error.

    Args:
        path: of the file.
        parts: how many there are.
        key: of core.shards.

    Attributes:
        settled_ns: Clock.settled_ns after the segments so far, which is kept with every block.
        segments: taken in so far.
        packed_bytes: of them, before compression.
        bytes: of them, in the file.
    """

    def __init__(self, path: str, parts: int, key: Rows) -> None:
        self._path = path
        self._temporary = f"{path}.{secrets.token_hex(4)}.tmp"
        self._file = Path(self._temporary).open("wb")  # noqa: SIM115  (closed by __exit__)
        self._index: list[tuple[int, int, int, int]] = []
        self._buckets = Buckets(parts, key, self._put)
        self.settled_ns = 0
        self.bytes = 0

    @property
    def segments(self) -> int:
        return self._buckets.segments

    @property
    def packed_bytes(self) -> int:
        return self._buckets.packed_bytes

    def add(self, segments: Rows) -> None:
        """Take in segments (SEGMENT_DTYPE, shape (n,)), in order."""
        self._buckets.add(segments)

    def _put(self, part: int, block: bytes, _: int) -> None:
        self._file.write(block)
        self._index.append((self.bytes, self.settled_ns, len(block), part))
        self.bytes += len(block)

    def __enter__(self) -> PieceWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._buckets.flush()
                self._file.write(np.array(self._index, _INDEX).tobytes())
                self._file.write(np.array([self.bytes, len(self._index)], "<u8").tobytes())
            self._file.close()
            if kind is None:
                Path(self._temporary).replace(self._path)
        finally:
            self._close()

    def _close(self) -> None:
        with suppress(OSError):  # the disk is full, which was said before
            self._file.close()
        Path(self._temporary).unlink(missing_ok=True)


def part_blocks(exchange: Exchange, pieces: Sequence[Piece], part: int) -> Iterator[tuple[Rows, int]]:
    """Yield the segments of a part, in order: SEGMENT_DTYPE, valid until the next, and the time that it was then.

    Args:
        exchange: where the files are.
        pieces: in order.
        part: its number.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is none of ours.
    """
    unpacker = Unpacker()
    rows: Rows = np.empty(_STEP_SEGMENTS, SEGMENT_DTYPE)
    filled, settled_ns = 0, 0
    for piece in pieces:
        for block, settled_ns in _blocks(exchange.path(piece.name), part):
            added = rows[filled : filled + unpacker.unpack(block, rows[filled:])]
            added["frame"] += np.uint64(piece.frames_before)
            if piece.paths is not None:
                added["path"] = piece.paths[added["path"]]
            filled += len(added)
            if filled > _STEP_SEGMENTS - BLOCK_SEGMENTS:
                yield rows[:filled], settled_ns
                filled = 0
    if filled:
        yield rows[:filled], settled_ns


def _blocks(path: str, part: int) -> Iterator[tuple[bytes, int]]:
    with Path(path).open("rb") as file:
        file.seek(-_TAIL_BYTES, os.SEEK_END)
        begins, count = np.frombuffer(file.read(_TAIL_BYTES), "<u8").tolist()
        file.seek(begins)
        index = np.frombuffer(file.read(count * _INDEX.itemsize), _INDEX)
        for offset, settled_ns, size, _ in index[index["part"] == part].tolist():
            file.seek(offset)
            yield file.read(size), settled_ns
