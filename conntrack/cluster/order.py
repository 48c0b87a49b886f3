"""Segments put into order of time over the bounds of chunks, as in one reading.

The rule of order (core/order.pyx) holds back a window of segments, and the clock goes on with every segment that
leaves; what was in the window and what time it was when a chunk began is not known to whoever reads the chunk. So its
first segments are handed over as they are (`HEAD_SEGMENTS`), and the rest is put into order as if nothing had come
before.
`join` then does the first ones over again with what had come before in truth: if window and clock are in the end what
the chunk took them to be, then all that it did after that is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from conntrack.capture.source import WINDOW_SEGMENTS
from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.core.clock import Clock
from conntrack.core.order import Window

__all__ = ["HEAD_SEGMENTS", "NOTHING", "Held", "Ordering", "after_head", "join", "same"]

Rows = np.ndarray[Any, Any]

HEAD_SEGMENTS = 2 * WINDOW_SEGMENTS
"""Of a chunk, handed over as they are: a window full may leave for each that comes, and one more must settle."""
_ROOM = 8 * WINDOW_SEGMENTS


@dataclass(frozen=True, slots=True)
class Held:
    """What ordering has to remember between two segments.

    Attributes:
        rows: the segments that are held back, in order: SEGMENT_DTYPE, shape (0..WINDOW_SEGMENTS,).
        clock: Clock.state after all that have left.
    """

    rows: Rows
    clock: tuple[int, int, int]


NOTHING = Held(np.empty(0, SEGMENT_DTYPE), Clock().state)
"""Before the first segment."""


class Ordering:
    """Puts segments into order of time, and tells the time as they leave.

    Attributes:
        clock: goes on with every segment that leaves.
    """

    def __init__(self, held: Held = NOTHING) -> None:
        self._rows: Rows = np.empty(_ROOM, SEGMENT_DTYPE)
        self._plain = self._rows.view(f"V{SEGMENT_DTYPE.itemsize}")
        self._window = Window(self._rows, WINDOW_SEGMENTS)
        self._held = self._filled = len(held.rows)
        self._rows[: self._filled] = held.rows
        self.clock = Clock()
        self.clock.state = held.clock

    def push(self, segments: Rows) -> Iterator[Rows]:
        """Take in segments (SEGMENT_DTYPE, shape (n,)); yield those that leave, valid until the next."""
        while len(segments):
            taken = min(len(segments), _ROOM - self._filled)
            # As plain bytes: numpy copies records field by field.
            self._plain[self._filled : self._filled + taken] = segments[:taken].view(self._plain.dtype)
            self._filled += taken
            segments = segments[taken:]
            if self._filled == _ROOM:
                yield from self._leave(WINDOW_SEGMENTS)

    def finish(self) -> Iterator[Rows]:
        """Yield all that is left, in order."""
        yield from self._leave(0)

    def settle(self) -> tuple[Rows, Held]:
        """Return the segments that have left by now and were not handed out yet, and what is remembered then.

        The ordering is of no use afterwards.
        """
        left = max(self._filled - WINDOW_SEGMENTS, 0)
        self._window.arrange(self._held, self._filled)
        self.clock.advance(self._rows[:left])
        return self._rows[:left], Held(self._rows[left : self._filled].copy(), self.clock.state)

    def _leave(self, keep: int) -> Iterator[Rows]:
        self._window.arrange(self._held, self._filled)
        stop = self._filled - keep
        if stop:
            self.clock.advance(self._rows[:stop])
            yield self._rows[:stop]
        self._window.keep(stop, self._filled)
        self._held = self._filled = keep


def after_head(head: Rows) -> Held:
    """Return what a chunk that began with the segments `head` takes for granted when the rest of it comes."""
    return _settled(NOTHING, head)[1]


def join(held: Held, head: Rows) -> tuple[Rows, Held]:
    """Return the segments that leave while `head` comes, and what is remembered then.

    Args:
        held: what was remembered before, in truth.
        head: the first segments of a chunk, HEAD_SEGMENTS at most, in the order of the file.
    """
    return _settled(held, head)


def same(one: Held, other: Held) -> bool:
    """Whether ordering goes on in the same way."""
    return one.clock == other.clock and one.rows.tobytes() == other.rows.tobytes()


def _settled(held: Held, head: Rows) -> tuple[Rows, Held]:
    ordering = Ordering(held)
    left = [rows.copy() for rows in ordering.push(head)]
    rows, after = ordering.settle()
    return (np.concatenate([*left, rows]) if left else rows), after
