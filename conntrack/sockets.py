"""Which sockets were open at given instants of a capture, all instants answered in one pass over its segments.

Owns where a batch is cut so that an instant sees what came before it and nothing else, and which segments matter to
one host. What an end's state is, is the tracker's business; knows no file and no output. `ctrack sockets` is made from
this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.tracker import Tracker

__all__ = ["has_host", "segments_of_host", "sockets_at"]

Array = np.ndarray[Any, Any]
Host = tuple[bytes, int]

_FIELDS: Any = SEGMENT_DTYPE.fields
_LAYOUT: Any = {
    "names": ["src", "dst", "ip_version"],
    "formats": ["2u8", "2u8", "u1"],
    "offsets": [_FIELDS[name][1] for name in ("src_ip", "dst_ip", "ip_version")],
    "itemsize": SEGMENT_DTYPE.itemsize,
}
_WORDS = np.dtype(_LAYOUT)
"""A segment with its addresses as two words each: numbers compare several times faster than bytes."""


def sockets_at(
    segment_batches: Iterable[Array], tracker: Tracker, instants: Iterable[int], *, host: Host | None = None
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
    if host is not None:
        segment_batches = segments_of_host(segment_batches, host)
    for segments in segment_batches:
        begin = 0
        times = segments["ts_ns"]
        latest_ns = int(times.max(initial=waiting[-1]))
        if waiting[-1] < latest_ns:
            reached_ns = np.maximum.accumulate(times)
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


def segments_of_host(segment_batches: Iterable[Array], host: Host) -> Iterator[Array]:
    """Yield of each batch the segments that the sockets of `host` depend on: its own, and those that tell the time.

    A connection depends on no other, but its timers, and where an instant cuts, depend on the latest time of any
    segment. So where a segment of the host is older than that, the one that was latest comes along, and so does the
    latest one of each batch.

    Args:
        segment_batches: SEGMENT_DTYPE, shape (n,) each.
        host: its address, as addresses.parse_ip returns it.
    """
    for segments in segment_batches:
        wanted = _are_of(segments, host)
        times = segments["ts_ns"]
        reached_ns = np.maximum.accumulate(times)
        late = np.flatnonzero(wanted & (times < reached_ns))
        wanted[np.searchsorted(reached_ns, reached_ns[late])] = True
        if len(segments):
            wanted[times.argmax()] = True
        yield segments[wanted]


def has_host(segments: Array, host: Host) -> bool:
    """Return whether any of `segments` (SEGMENT_DTYPE, shape (n,)) is of `host` (as addresses.parse_ip returns it)."""
    return bool(_are_of(segments, host).any())


def _are_of(segments: Array, host: Host) -> Array:
    address, version = np.frombuffer(host[0], np.uint64), host[1]
    words = segments.view(_WORDS)
    of: Array = (words["src"] == address).all(axis=1) | (words["dst"] == address).all(axis=1)
    of &= words["ip_version"] == version
    return of
