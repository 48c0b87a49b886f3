"""Which sockets were open at given instants of a capture, all instants answered in one pass over its segments.

Owns where a batch is cut so that an instant sees what came before it and nothing else. What an end's state is, is the
tracker's business; knows no file and no output. `ctrack sockets` is made from this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from conntrack.tracker import Tracker

__all__ = ["sockets_at"]

Array = np.ndarray[Any, Any]


def sockets_at(
    segment_batches: Iterable[Array],
    tracker: Tracker,
    instants: Iterable[int],
    *,
    host: tuple[bytes, int] | None = None,
) -> Iterator[tuple[int, Array]]:
    """Yield (instant, its open sockets as SOCKET_DTYPE rows) for each of `instants`, the earliest first.

    An instant sees the segments in front of the first one that is later than it, and the timers that had run out by
    then. Nothing more is read once the last instant was answered; those behind the end are answered there.

    Args:
        segment_batches: SEGMENT_DTYPE, shape (n,) each.
        tracker: one that has seen nothing yet. What is over leaves it as the pass goes on.
        instants: nanoseconds since 1970, in any order; each is answered once.
        host: only sockets of this address (Tracker.sockets); both ends of each connection without.
    """
    waiting = sorted(set(instants), reverse=True)

    def answer() -> tuple[int, Array]:
        at_ns = waiting.pop()
        return at_ns, tracker.sockets(at_ns, host=host)

    if not waiting:
        return
    for segments in segment_batches:
        begin = 0
        if waiting[-1] < (latest_ns := int(segments["ts_ns"].max())):
            reached_ns = np.maximum.accumulate(segments["ts_ns"])
            while waiting and waiting[-1] < latest_ns:
                end = int(np.searchsorted(reached_ns, waiting[-1], side="right"))
                tracker.process(segments[begin:end])
                begin = end
                yield answer()
            if not waiting:
                return
        tracker.process(segments[begin:])
        for _ in tracker.retired():
            pass  # over: no socket
    while waiting:
        yield answer()
