"""Which inputs there are: names and patterns as given, directories looked through, and the order in which files begin.

Owns the first look at each input: what is no capture is refused before anything is read, or, where it was found in a
directory, left out and told.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conntrack.capture.remote import is_remote
from conntrack.capture.source import OpenReader, Slot
from conntrack.capture.stream import STANDARD_INPUT, Stream, input_size
from conntrack.errors import CaptureError, InputError

__all__ = ["Inputs", "find_inputs"]

MOST_LOOKED_BYTES = 1 << 24
"""How far into a file its first packet is looked for, to order the files: as far as one pcapng block may reach."""
MOST_NAMED = 3
"""Files left out of a directory that are named; the others are counted."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is to be read.

    Attributes:
        names: the inputs; files in the order of their first packets, as soon as a pipe is among them as given.
        starts: time of each one's first packet in nanoseconds, None where it is not known.
        bytes_total: of all together, None when one of them is a pipe.
    """

    names: tuple[str, ...]
    starts: tuple[int | None, ...]
    bytes_total: int | None


def find_inputs(
    paths: Sequence[str | os.PathLike[str]],
    *,
    recursive: bool,
    slot: Slot,
    open_reader: OpenReader,
    note: Callable[[str], None],
) -> Inputs:
    """Look at every input once.

    Args:
        paths: files, patterns of their names (`ring_*`), "-" for standard input, and directories if `recursive`.
        recursive: read the captures in directories and below.
        slot: memory to look with; as it was afterwards.
        open_reader: finds the reader of an input.
        note: is told what was left out.

    Raises:
        InputError: an input does not exist, cannot be read, or is of no supported kind.
    """
    if not paths:
        raise InputError("no capture given; name at least one file, or - for standard input")
    given = [name for path in paths for name in _matching(os.fsdecode(path))]
    if given.count(STANDARD_INPUT) > 1:
        raise InputError("-: given twice; standard input can be read once")
    found: dict[str, list[str]] = {}
    sizes: dict[str, int | None] = {}
    for name in given:
        if recursive and name != STANDARD_INPUT and os.path.isdir(name):
            found[name] = _files_in(name)
        else:
            sizes[name] = input_size(name)
    pipes = None in sizes.values()
    several = len(sizes) + len(found) > 1 or any(len(files) > 1 for files in found.values())
    starts = {
        name: _look(name, slot, open_reader, for_order=several and not pipes)
        for name, size in sizes.items()
        if size is not None
    }
    for folder, files in found.items():
        left_out = []
        for name in files:
            if name in sizes:
                continue
            try:
                sizes[name] = input_size(name)
                starts[name] = _look(name, slot, open_reader, for_order=several and not pipes)
            except InputError as error:
                sizes.pop(name, None)
                left_out.append(f"{os.path.relpath(name, folder)} ({_reason(error, name)})")
        if left_out:
            more = f" and {len(left_out) - MOST_NAMED:,} more" if len(left_out) > MOST_NAMED else ""
            files_left = "1 file was" if len(left_out) == 1 else f"{len(left_out):,} files were"
            note(f"{folder}: {files_left} left out: {', '.join(left_out[:MOST_NAMED])}{more}")
    if not sizes:
        raise InputError(f"{', '.join(found)}: no capture in there; give a folder with pcap or pcapng files")
    if pipes:
        order = [name for given_name in given for name in found.get(given_name, [given_name]) if name in sizes]
        return Inputs(tuple(order), (None,) * len(order), None)
    order = sorted(sizes, key=lambda name: (starts[name] is not None, starts[name] or 0))
    total = sum(size for size in sizes.values() if size is not None)
    return Inputs(tuple(order), tuple(starts[name] for name in order), total)


def _matching(name: str) -> list[str]:
    # The shell puts in the names where it can: not in quotes, not from Python, and nowhere on Windows.
    if not glob.has_magic(name) or is_remote(name) or os.path.lexists(name):
        return [name]
    found = sorted(glob.glob(name))
    if not found:
        raise InputError(f"{name}: no file matches; check the name")
    return found


def _files_in(folder: str) -> list[str]:
    # Regular files, by name; links to directories are not followed, so that there is an end.
    found = []
    for where, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(where, name)
            try:
                if stat.S_ISREG(os.stat(path).st_mode):
                    found.append(path)
            except OSError:
                continue  # a link to nowhere
    return found


def _reason(error: InputError, name: str) -> str:
    return str(error).removeprefix(f"{name}: ").split(";")[0]


def _look(path: str, slot: Slot, open_reader: OpenReader, *, for_order: bool) -> int | None:
    # Refuse what is no capture. For the order of files: the earliest time in the first stretch that holds packets.
    batch = slot.batch
    batch.reset()
    with Stream(path, slot.take_buffer()) as stream:
        try:
            reader = open_reader(stream, batch)
            while for_order and not reader.walk(batch) and not batch.frames and stream.read_bytes < MOST_LOOKED_BYTES:
                if not stream.more(reader.needed):
                    break
        except CaptureError:
            return None  # told when the file is read
        finally:
            slot.give_back(stream.data)
    return batch.first_ts_ns
