"""Files by which tasks hand segments on to each other: one a chunk of the capture, with the blocks of every part.

Owns the form of such a file, its names, and that it is whole or not there: it is written under another name and then
renamed, so that a task may run twice, or be killed. A part reads only its own blocks. The directory must be one that
all tasks see: any on one machine, a shared one on several. Blocks have a checksum: files may lie for days
(checkpoint.py), and on disks of others.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from conntrack.cluster.buckets import BLOCK_SEGMENTS, Buckets, Unpacker
from conntrack.core.abi import FLOW_DTYPE, SEGMENT_DTYPE
from conntrack.errors import ConntrackError

try:
    from isal.isal_zlib import crc32  # 5.7 GB/s; zlib's own 0.9
except ImportError:
    from zlib import crc32

__all__ = [
    "Exchange",
    "Piece",
    "PieceWriter",
    "open_piece",
    "open_whole",
    "part_blocks",
    "put_rows",
    "read_rows",
    "write_whole",
]

Rows = np.ndarray[Any, Any]

_INDEX = np.dtype([("offset", "<u8"), ("settled_ns", "<i8"), ("bytes", "<u4"), ("part", "<u4"), ("check", "<u4")])
_TAIL = np.dtype([("begins", "<u8"), ("blocks", "<u4"), ("check", "<u4")])  # of the index
_ROWS_HEAD = np.dtype([("rows", "<u4"), ("check", "<u4")])
_MOST_ROWS = 1 << 20
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


@contextmanager
def open_whole(path: str) -> Iterator[IO[bytes]]:
    """Open a file to write: it is there with all of its bytes once this was left without an error, or not at all."""
    temporary = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        with Path(temporary).open("wb") as file:
            yield file
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_whole(path: str, data: bytes) -> None:
    """Write a file so that it is there with all of its bytes, or not at all."""
    with open_whole(path) as file:
        file.write(data)


@contextmanager
def open_piece(path: str, parts: int, key: Rows) -> Iterator[PieceWriter]:
    """Open a file of blocks to write; it is there once this was left without an error.

    Args:
        path: of the file.
        parts: how many there are.
        key: of core.shards.
    """
    with open_whole(path) as file:
        writer = PieceWriter(file, parts, key)
        yield writer
        writer.finish()


class PieceWriter:
    """Sorts segments into the blocks of a file.

    Attributes:
        settled_ns: Clock.settled_ns after the segments so far, which is kept with every block.
        segments: taken in so far.
        packed_bytes: of them, before compression.
        bytes: of them, in the file.
    """

    def __init__(self, file: IO[bytes], parts: int, key: Rows) -> None:
        self._file = file
        self._index: list[tuple[int, int, int, int, int]] = []
        self._buckets = Buckets(parts, key, self._put)
        self.bytes = 0

    @property
    def settled_ns(self) -> int:
        return self._buckets.settled_ns

    @settled_ns.setter
    def settled_ns(self, settled_ns: int) -> None:
        self._buckets.settled_ns = settled_ns

    @property
    def segments(self) -> int:
        return self._buckets.segments

    @property
    def packed_bytes(self) -> int:
        return self._buckets.packed_bytes

    def add(self, segments: Rows) -> None:
        """Take in segments (SEGMENT_DTYPE, shape (n,)), in order."""
        self._buckets.add(segments)

    def finish(self) -> None:
        """Write what is left, and where everything is."""
        self._buckets.flush()
        index = np.array(self._index, _INDEX).tobytes()
        self._file.write(index)
        self._file.write(np.array([(self.bytes, len(self._index), crc32(index))], _TAIL).tobytes())

    def _put(self, part: int, block: bytes, settled_ns: int) -> None:
        self._file.write(block)
        self._index.append((self.bytes, settled_ns, len(block), part, crc32(block)))
        self.bytes += len(block)


def part_blocks(exchange: Exchange, pieces: Sequence[Piece], part: int) -> Iterator[tuple[Rows, int]]:
    """Yield the segments of a part, in order: SEGMENT_DTYPE, valid until the next, and the time that it was then.

    Args:
        exchange: where the files are.
        pieces: in order.
        part: its number.

    Raises:
        OSError: a file cannot be read.
        ConntrackError: a file is damaged.
    """
    unpacker = Unpacker()
    rows: Rows = np.empty(_STEP_SEGMENTS, SEGMENT_DTYPE)
    filled, settled_ns = 0, 0
    for piece in pieces:
        for block, settled_ns in _blocks(exchange.path(piece.name), part):
            try:
                added = rows[filled : filled + unpacker.unpack(block, rows[filled:])]
            except (RuntimeError, ValueError):  # LZ4's error, and the packer's
                raise _damaged(exchange.path(piece.name), 0) from None
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
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _TAIL.itemsize, 0))
        tail = file.read()
        begins, count, check = np.frombuffer(tail, _TAIL)[0].tolist() if len(tail) == _TAIL.itemsize else (0, 1, 0)
        if begins + count * _INDEX.itemsize + len(tail) != size:
            raise _damaged(path, 0)
        file.seek(begins)
        data = file.read(count * _INDEX.itemsize)
        if crc32(data) != check:
            raise _damaged(path, begins)
        index = np.frombuffer(data, _INDEX)
        for offset, settled_ns, length, _, check in index[index["part"] == part].tolist():
            file.seek(offset)
            block = file.read(length)
            if crc32(block) != check:
                raise _damaged(path, offset)
            yield block, settled_ns


def put_rows(file: IO[bytes], rows: Rows) -> None:
    """Write connections (FLOW_DTYPE, shape (n,)), for `read_rows`."""
    for at in range(0, len(rows), _STEP_SEGMENTS):
        data = rows[at : at + _STEP_SEGMENTS].tobytes()
        file.write(np.array([(len(data) // FLOW_DTYPE.itemsize, crc32(data))], _ROWS_HEAD).tobytes())
        file.write(data)


def read_rows(path: str) -> Iterator[Rows]:
    """Yield the connections in a file, as they were put there.

    Raises:
        OSError: it cannot be read.
        ConntrackError: it is damaged.
    """
    offset = 0
    with Path(path).open("rb") as file:
        while head := file.read(_ROWS_HEAD.itemsize):
            rows, check = np.frombuffer(head, _ROWS_HEAD)[0].tolist() if len(head) == _ROWS_HEAD.itemsize else (0, 1)
            data = file.read(min(rows, _MOST_ROWS) * FLOW_DTYPE.itemsize)
            if crc32(data) != check or len(data) != rows * FLOW_DTYPE.itemsize:
                raise _damaged(path, offset)
            offset += len(head) + len(data)
            yield np.frombuffer(data, FLOW_DTYPE)


def _damaged(path: str, offset: int) -> ConntrackError:
    return ConntrackError(f"{path}: is damaged (offset {offset}); begin anew, on another disk")
