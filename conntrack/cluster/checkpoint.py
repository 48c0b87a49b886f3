"""What a run has to remember so that another process goes on from there: a file, and a directory of segments beside it.

Owns the form of the file: a zip of .npy arrays and one JSON document, all numbers and text, no pickle; zip has a
checksum of each. It is written beside and renamed, after every chunk that was read and every part that was followed, so
that at any instant it is whole and speaks of files that are whole. What it says of the captures (sizes, times, first
bytes) must be so when the run goes on. File and directory are gone when the run has come to its end.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from conntrack.capture.chunks import Place
from conntrack.capture.ranges import open_random, read_at
from conntrack.capture.remote import is_remote
from conntrack.cluster.exchange import Exchange, Piece
from conntrack.cluster.order import NOTHING, Held
from conntrack.core.abi import FLOW_DTYPE, SEGMENT_DTYPE
from conntrack.core.walk import N_OUTCOMES, NO_TIME_NS
from conntrack.errors import CaptureError, ConntrackError
from conntrack.version import VERSION
from conntrack.whole import WholeFile

__all__ = ["Checkpoint", "Standing", "open_checkpoint"]

_FORM = "ctrack checkpoint 1"
_DOCUMENT = "checkpoint"
_HEAD_BYTES = 1 << 16
_NAME = re.compile(r"[a-z]+[-a-z0-9]*")
_Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(slots=True)
class Standing:
    """Where reading stands between two chunks, and all that stitching remembers there (shuffle.py).

    Attributes:
        jobs: chunks that are done with.
        file: number of the file that was read last, -1 before the first.
        place: in that file.
        ended: nothing more of it counts: it is damaged.
        whole: all files were read.
        latest_ts_ns: the latest time of a segment.
        frames: in the files before.
        held: what ordering remembers.
        trails: descriptions of the outer paths by number (Paths.trails).
        counts: frames by core.decode.Outcome, uint64.
        earliest_ts_ns, latest_frame_ns: of all frames; None without any.
        inversions, incomplete, subframes, faults: as in CaptureInfo.
        pieces: what was written, in order.
        again: chunks that had to be read again, because something taken for granted was not so.
        segments, packed_bytes, bytes: written; before and after compression.
    """

    jobs: int = 0
    file: int = -1
    place: Place = field(default_factory=lambda: Place(0))
    ended: bool = False
    whole: bool = False
    latest_ts_ns: int = NO_TIME_NS
    frames: int = 0
    held: Held = NOTHING
    trails: list[bytes] = field(default_factory=lambda: [b""])
    counts: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(N_OUTCOMES, np.uint64))
    earliest_ts_ns: int | None = None
    latest_frame_ns: int | None = None
    inversions: int = 0
    incomplete: int = 0
    subframes: int = 0
    faults: list[CaptureError] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    again: int = 0
    segments: int = 0
    packed_bytes: int = 0
    bytes: int = 0


class Checkpoint:
    """A run that can go on; `open_checkpoint` makes one.

    Attributes:
        exchange: where its files are, and how segments are sorted.
        chunk_bytes: of a capture that one task reads.
        standing: how far reading has come.
        parts_done: parts that were followed, from the first on; their connections are in files.
    """

    def __init__(self, path: str, exchange: Exchange, chunk_bytes: int, settings: dict[str, Any]) -> None:
        self.exchange = exchange
        self.chunk_bytes = chunk_bytes
        self.standing = Standing()
        self.parts_done = 0
        self._path = path
        self._settings = settings
        self._captures: list[Any] | None = None

    def begin(self, captures: Sequence[str]) -> None:
        """Hold the captures, in their order, to what is known of them.

        Raises:
            ConntrackError: they are others, or have changed.
            InputError: one cannot be opened.
        """
        found = [_look_of(path) for path in captures]
        if self._captures is None:
            self._captures = found
            self.save()
        elif [look[0] for look in self._captures] != [look[0] for look in found]:
            raise ConntrackError(f"{self._path}: is of other captures; name the same, or another checkpoint")
        for before, now in zip(self._captures, found, strict=True):
            if before != now:
                raise ConntrackError(f"{now[0]}: has changed since {self._path}; remove that to begin anew")

    def save(self) -> None:
        """Write what is known now.

        Raises:
            OSError: it cannot be written.
        """
        arrays: _Arrays = {}
        document = {
            "form": _FORM,
            "version": _VERSION,
            "settings": self._settings,
            "captures": self._captures,
            "parts": self.exchange.parts,
            "key": self.exchange.key.tolist(),
            "chunk_bytes": self.chunk_bytes,
            "parts_done": self.parts_done,
            "standing": _plain(self.standing, arrays),
        }
        text = np.frombuffer(json.dumps(document).encode(), np.uint8)
        members: dict[str, Any] = {_DOCUMENT: text, **arrays}
        file = WholeFile(self._path)
        try:
            np.savez(file.stream, **members)
        except BaseException:
            file.discard()
            raise
        file.finish()

    def load(self) -> None:
        """Read what was known.

        Raises:
            ConntrackError: it is damaged, no checkpoint, or of another run.
        """
        path = self._path
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                document = json.loads(arrays[_DOCUMENT].tobytes())
                if document["form"] != _FORM:
                    raise ValueError(document["form"])
                if document["version"] != _VERSION:
                    raise ConntrackError(f"{path}: was begun by another version of ctrack; end it with that")
                if document["settings"] != self._settings:
                    raise ConntrackError(f"{path}: was begun with other options; give the same, or another checkpoint")
                standing = _value(document["standing"], arrays)
            key = np.array(document["key"], np.uint64)
            self.exchange = Exchange(self.exchange.directory, int(document["parts"]), key)
            self.chunk_bytes, self.parts_done = int(document["chunk_bytes"]), int(document["parts_done"])
            self._captures = [list(look) for look in document["captures"]]
            self.standing = _checked(standing)
            if key.shape != (4,) or not 1 <= self.exchange.parts <= _MOST_PARTS or self.chunk_bytes < 1:
                raise ValueError("sizes")
        except OSError as error:
            raise ConntrackError(f"{path}: {(error.strerror or str(error)).lower()}; check the name") from None
        except _DAMAGE:
            raise ConntrackError(f"{path}: is damaged, or no checkpoint; give another name, or remove it") from None
        for name in [piece.name for piece in self.standing.pieces]:
            if not Path(self.exchange.path(name)).is_file():
                raise ConntrackError(f"{self.exchange.path(name)}: is missing; remove {path} to begin anew")


_MOST_PARTS = 1 << 16
_DAMAGE = (
    *(ValueError, KeyError, TypeError, AttributeError, EOFError, OverflowError, RecursionError, MemoryError),
    *(zipfile.BadZipFile, NotImplementedError),
)
"""What reading bytes that another wrote can end with; the last is zipfile's word for a compression it does not know."""
_VERSION = f"{VERSION} {crc32(repr((SEGMENT_DTYPE.descr, FLOW_DTYPE.descr)).encode()):08x}"


@contextmanager
def open_checkpoint(
    path: str, settings: dict[str, Any], key: np.ndarray[Any, Any], parts: int, chunk_bytes: int
) -> Iterator[Checkpoint]:
    """Begin a run that can go on, or go on with it.

    Its files are removed where this is left without an error, or before anything was done.

    Args:
        path: of the file. The directory beside it has ".parts" at the end of its name.
        settings: what must be the same in both, for JSON.
        key, parts, chunk_bytes: of a run that begins.

    Raises:
        ConntrackError: the file is damaged, none of ours or of another run, or a run is at work with it.
        OSError: it cannot be written.
    """
    directory = f"{path}.parts"
    checkpoint = Checkpoint(path, Exchange(directory, parts, key), chunk_bytes, settings)
    begun = os.path.lexists(path)
    if begun:
        checkpoint.load()
    elif os.path.lexists(directory):
        raise ConntrackError(f"{directory}: is there, without {path}; give another name, or remove it")
    if not begun:
        checkpoint.save()
    Path(directory).mkdir(mode=0o700, exist_ok=True)
    with Path(directory, "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConntrackError(f"{path}: another run is at work with it; wait for that") from None
        for left in Path(directory).glob("*.tmp"):
            left.unlink(missing_ok=True)
        try:
            yield checkpoint
        except BaseException:
            if not checkpoint.standing.jobs:
                _remove(path, directory)
            raise
        _remove(path, directory)


def _remove(path: str, directory: str) -> None:
    Path(path).unlink()
    shutil.rmtree(directory, ignore_errors=True)


def _look_of(path: str) -> list[Any]:
    # What tells a capture from another of that name, or from itself once it has grown.
    changed_ns = 0 if is_remote(path) else os.stat(path).st_mtime_ns  # noqa: PTH116  (a path may be undecodable bytes)
    file = open_random(path)
    try:
        return [path, file.size, changed_ns, crc32(read_at(path, file, 0, _HEAD_BYTES).tobytes())]
    finally:
        file.close()


def _plain(value: Any, arrays: _Arrays) -> Any:
    # As JSON has it: {kind: content} for what JSON does not know; arrays go into `arrays`.
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.ndarray):
        arrays[f"array{len(arrays)}"] = value
        return {"array": f"array{len(arrays) - 1}"}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, CaptureError):
        return {"fault": list(value.__reduce__()[1])}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_plain(part, arrays) for part in value]}
    if is_dataclass(value) and type(value) in _KINDS.values():
        parts = {part.name: _plain(getattr(value, part.name), arrays) for part in fields(value)}
        return {type(value).__name__: parts}
    raise TypeError(f"a checkpoint has no form for {type(value).__name__}")


_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Standing, Place, Held, Piece)}


def _value(plain: Any, arrays: Any) -> Any:
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    match kind:
        case "array":
            return arrays[content]
        case "bytes":
            return bytes.fromhex(content)
        case "fault":
            path, offset, message = content
            return CaptureError(str(path), int(offset), str(message))
        case "list":
            return [_value(part, arrays) for part in content]
        case "tuple":
            return tuple(_value(part, arrays) for part in content)
    return _KINDS[kind](**{name: _value(part, arrays) for name, part in content.items()})


def _checked(standing: Any) -> Standing:
    # Checksums keep damage out; this, what was never written by us.
    if not isinstance(standing, Standing):
        raise TypeError("standing")
    good = (
        isinstance(standing.held, Held)
        and isinstance(standing.place, Place)
        and standing.held.rows.dtype == SEGMENT_DTYPE
        and standing.held.rows.ndim == 1
        and standing.counts.shape == (N_OUTCOMES,)
        and all(isinstance(trail, bytes) for trail in standing.trails)
        and all(isinstance(piece, Piece) and _NAME.fullmatch(piece.name) for piece in standing.pieces)
    )
    if not good:
        raise ValueError("fields")
    return standing
