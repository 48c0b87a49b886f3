"""Several inputs read as one, in order of time, also where they overlap.

Owns which inputs are open at one time, and the numbers of frames over all of them. An input is opened when the time of
its first packet comes: of files that follow each other one is open, of files that overlap all that do. Where one is
alone its segments pass through as they are.

Frames are numbered as if the inputs had been merged into one file. Where inputs overlap, only the segments are laid
side by side: the frames that gave none count with the next segment of their input, at its end with the last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from conntrack.capture.source import Source

__all__ = ["MOST_OPEN", "Start", "in_sequence", "merged"]

Rows = npt.NDArray[np.void]
Batches = Generator[Rows, None, None]

MOST_OPEN = 200
"""Inputs open at one time: it bounds descriptors (a shell allows 1,024) and memory (about 1 MB each)."""

Start = tuple[int | None, Callable[[int], Source]]
"""When an input begins, in nanoseconds (None: it has no time), and how to open it: from the frames that came before."""


def in_sequence(openers: Iterator[Callable[[int], Source]], closed: Callable[[Source], None]) -> Batches:
    """Yield the segments of inputs one after the other, opened when the one before has ended.

    Args:
        openers: return the next input, given the frames that came before.
        closed: is told of each that has ended.
    """
    frames = 0
    for opener in openers:
        source = opener(frames)
        try:
            yield from source.blocks
            frames += source.packets
        finally:
            closed(source)


class _Open:
    """An open input, with those of its segments that have been read and not been handed out."""

    def __init__(self, source: Source, first_frame: int) -> None:
        self.source = source
        self.rows: Rows | None = None
        self.first_frame = self.frame = first_frame
        self._keys: npt.NDArray[np.int64] | None = None
        self._latest = np.iinfo(np.int64).min

    def fill(self) -> bool:
        """Have rows; False when the input has ended."""
        if self.rows is None or not len(self.rows):
            self.rows = next(self.source.blocks, None)
            self._keys = None
        return self.rows is not None

    @property
    def keys(self) -> npt.NDArray[np.int64]:
        """Times of the rows; what the window could not put into order goes right behind what came before it."""
        assert self.rows is not None
        if self._keys is None:
            self._keys = np.maximum(np.maximum.accumulate(self.rows["ts_ns"]), self._latest)
        return self._keys

    def until(self, begins: int) -> int:
        """Return how many of the rows come before an input that begins at the time `begins`; those of that time do."""
        assert self.rows is not None
        latest = max(self._latest, int(self.rows["ts_ns"].max()))
        if latest > begins:
            return int(self.keys.searchsorted(begins, "right"))
        self._latest = latest
        return len(self.rows)

    def take(self, stop: int) -> Rows:
        """Return the first `stop` rows, which are then gone from here."""
        assert self.rows is not None
        if self._keys is not None:
            self._latest = int(self._keys[stop - 1])
            self._keys = self._keys[stop:]
        rows, self.rows = self.rows[:stop], self.rows[stop:]
        return rows

    def weights(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return how many frames each of `rows`, taken from here, counts for: itself and those before it."""
        latest = np.maximum.accumulate(np.concatenate([[self.frame], rows["frame"].astype(np.int64)]))
        self.frame = int(latest[-1])
        return np.maximum(np.diff(latest), 1)


def merged(starts: Sequence[Start], closed: Callable[[Source], None], note: Callable[[str], None]) -> Batches:
    """Yield the segments of all inputs in order of time; of equal times those of the input that began first.

    Args:
        starts: the inputs, in order of their starts.
        closed: is told of each that has ended.
        note: is told when more inputs overlap than can be open.
    """
    merge = _Merge(starts, closed, note)
    try:
        yield from merge.run()
    finally:
        merge.close()


class _Merge:
    def __init__(self, starts: Sequence[Start], closed: Callable[[Source], None], note: Callable[[str], None]) -> None:
        self._waiting = deque(starts)
        self._closed = closed
        self._note = note
        self._open: list[_Open] = []
        self._frames = 0
        self._overlapped = False
        self._noted = False

    def close(self) -> None:
        for one in self._open:
            self._closed(one.source)

    def run(self) -> Batches:
        while self._waiting or self._open:
            if not self._open:
                self._overlapped = False
                self._open_next()
            for one in list(self._open):
                if not one.fill():
                    self._end(one)
            if len(self._open) == 1:
                yield from self._alone(self._open[0])
            elif self._open:
                yield from self._together()

    def _alone(self, one: _Open) -> Batches:
        begins = self._waiting[0][0] if self._waiting else None
        assert one.rows is not None
        stop = len(one.rows) if begins is None else one.until(begins)
        if stop:
            rows = one.take(stop)
            if begins is not None or self._overlapped:
                self._renumber(one, rows)
            yield rows
        if one.rows is not None and len(one.rows):
            self._overlapped = True
            self._open_next()

    def _renumber(self, one: _Open, rows: Rows) -> None:
        # Alone again after others: its own numbers, further on by what those had; alone from the start: as they are.
        last = max(one.frame, int(rows["frame"].max()))
        if self._overlapped and int(rows["frame"].min()) <= one.frame:  # late: this number may be another's by now
            rows["frame"] = self._number(one.weights(rows))
            return
        if self._frames != one.frame:
            rows["frame"] += np.uint64(self._frames - one.frame)
        one.frame, self._frames = last, self._frames + last - one.frame

    def _together(self) -> Batches:
        last = min(range(len(self._open)), key=lambda i: (self._open[i].keys[-1], i))
        limit = int(self._open[last].keys[-1])
        begins = self._waiting[0][0] if self._waiting else None
        if begins is not None and begins <= limit and self._open_next():
            return
        parts, weights, keys = [], [], []
        for i, one in enumerate(self._open):
            stop = int(one.keys.searchsorted(limit, "right" if i <= last else "left"))
            if stop:
                keys.append(one.keys[:stop])
                parts.append(one.take(stop))
                weights.append(one.weights(parts[-1]))
        order = np.concatenate(keys).argsort(kind="stable")
        rows = np.concatenate(parts)[order]
        rows["frame"] = self._number(np.concatenate(weights)[order])
        yield rows

    def _number(self, weights: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        numbers = self._frames + np.cumsum(weights)
        self._frames = int(numbers[-1])
        return numbers

    def _open_next(self) -> bool:
        if len(self._open) >= MOST_OPEN:
            if not self._noted:
                self._noted = True
                self._note(f"more than {MOST_OPEN} captures overlap in time; the rest are read as others end")
            return False
        _, opener = self._waiting.popleft()
        self._open.append(_Open(opener(self._frames), self._frames))
        return True

    def _end(self, one: _Open) -> None:
        frames = one.source.packets
        self._open.remove(one)
        self._closed(one.source)
        if self._overlapped:
            self._frames += max(one.first_frame + frames - one.frame, 0)
        else:
            self._frames = max(self._frames, one.first_frame + frames)
