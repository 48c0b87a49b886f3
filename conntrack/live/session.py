"""A capture being tracked: segments in, looks out, a report at the end.

Owns the clock: time is that of the segments, and where none comes it goes on with the machine's own, so that timers run
out and ages grow on a quiet line too. Looking changes nothing of what is tracked.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conntrack.detect import DetectOptions, Finding
from conntrack.live.changes import Change, Changes
from conntrack.live.window import Window
from conntrack.memory import half_of_memory
from conntrack.states import TcpState
from conntrack.tracker import Tracker

if TYPE_CHECKING:
    from conntrack.capture import CaptureInfo
    from conntrack.report.model import Report

__all__ = ["RATE_S", "Look", "Session"]

Rows = np.ndarray[Any, Any]

RATE_S = 10.0
"""Rates are of the last seconds, so many at most."""


@dataclass(frozen=True, slots=True)
class Look:
    """What holds at an instant.

    Attributes:
        ts_ns: the instant, in the time of the capture; None before the first segment.
        findings: of the window, the worst first.
        changes: since the look before.
        services: of the window, the busiest first (ServiceSummary.result).
        client_states, server_states: how many ends are in each state at the instant; CLOSED and LISTEN are left out.
        open_connections: those with an end in any other state.
        connections: begun since the start.
        segments: tracked since the start.
        segments_per_s, connections_per_s: of the last RATE_S seconds.
        opened: findings opened since the start, by kind.
        evicted: connections given up since the start, to stay within the limit of memory.
        cost_s: what it took to look.
    """

    ts_ns: int | None
    findings: tuple[Finding, ...]
    changes: tuple[Change, ...]
    services: tuple[dict[str, Any], ...]
    client_states: dict[str, int]
    server_states: dict[str, int]
    open_connections: int
    connections: int
    segments: int
    segments_per_s: float
    connections_per_s: float
    opened: dict[str, int]
    evicted: int
    cost_s: float


class Session:
    """Tracks segments as they come.

    Args:
        profile: as for Tracker.
        options: thresholds of the detectors.
        window_s: findings are of the connections of so many last seconds (Window), and were seen within them: the
            TIME_WAIT that is left of a leak does not keep its finding.
        choose: as in Analysis.
        tag_in_key: as for Tracker.
        max_memory: as for Tracker; half of the memory that there is by default.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        *,
        profile: str = "linux",
        options: DetectOptions | None = None,
        window_s: float = 300.0,
        choose: bool = False,
        tag_in_key: bool = False,
        max_memory: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        budget = half_of_memory() if max_memory is None else max_memory
        self._tracker = Tracker(profile, max_memory=budget, tag_in_key=tag_in_key)
        self._window_ns = round(window_s * 1e9)
        self._window = Window(self._window_ns, options, choose=choose)
        self._changes = Changes()
        self._clock = clock
        self._fed_s = self._begun_s = clock()
        self._retired = 0
        self._marks: deque[tuple[float, int, int]] = deque([(self._begun_s, 0, 0)])

    @property
    def now_ns(self) -> int | None:
        """The time of the capture, nanoseconds since 1970; None before the first segment."""
        reached_ns = self._tracker.now_ns
        if reached_ns is None:
            return None
        return reached_ns + round((self._clock() - self._fed_s) * 1e9)

    def feed(self, segments: Rows) -> None:
        """Track segments (SEGMENT_DTYPE, shape (n,))."""
        self._tracker.process(segments)
        self._fed_s = self._clock()
        self._take(self._tracker.retired())

    def look(self, between: Callable[[], None] | None = None) -> Look:
        """Return what holds now.

        Args:
            between: is called whenever a piece of the work is done, some milliseconds or, of millions, a few hundred;
                it may feed. The look is then at a table that moves on: no connection is in it twice, one that went on
                is as it has become, and one that began or retired meanwhile may be missing until the next.
        """
        begun_s = self._clock()
        now_ns = self.now_ns
        self._take(self._tracker.take_rows())  # at once, not when the table is swept
        connections = self._retired + len(self._tracker)
        segments = self._tracker.segments
        counts = np.zeros((2, len(TcpState)), np.int64)
        findings: tuple[Finding, ...] = ()
        services: tuple[dict[str, Any], ...] = ()
        open_connections = 0
        if now_ns is not None:
            table = _Counted(self._table())
            detection = self._window.look(now_ns, table, between)
            counts, open_connections = table.counts, table.open_connections
            oldest_ns = now_ns - self._window_ns
            findings = tuple(finding for finding in detection.findings(now_ns) if finding.last_ts_ns >= oldest_ns)
            services = tuple(detection.services())
        changes = tuple(self._changes.look(findings, now_ns)) if now_ns is not None else ()
        segments_per_s, connections_per_s = self._rates(begun_s, segments, connections)
        client_states, server_states = ({s.name: int(n[s]) for s in _OPEN} for n in counts)
        return Look(
            ts_ns=now_ns,
            findings=findings,
            changes=changes,
            services=services,
            client_states=client_states,
            server_states=server_states,
            open_connections=open_connections,
            connections=connections,
            segments=segments,
            segments_per_s=segments_per_s,
            connections_per_s=connections_per_s,
            opened=dict(self._changes.opened),
            evicted=self._tracker.evicted,
            cost_s=self._clock() - begun_s,
        )

    def report(self, info: CaptureInfo) -> Report:
        """Return the report of everything since the start, as of the last segment; it can be done once.

        `summarised` says what of the time before the window is kept less of than there was.
        """
        reduced = tuple(self._window.reduced())
        return replace(self._window.finish(self._last()).report(info), summarised=reduced)

    def _take(self, batches: Iterable[Rows]) -> None:
        for flows in batches:
            self._retired += len(flows)
            self._window.feed(flows)

    def _table(self) -> Iterator[Rows]:
        yield from self._tracker.snapshot_batches(self.now_ns)  # as it is when the first batch is asked for

    def _last(self) -> Iterator[Rows]:
        yield from self._tracker.finish(ordered=False)

    def _rates(self, now_s: float, segments: int, connections: int) -> tuple[float, float]:
        marks = self._marks
        while len(marks) > 1 and now_s - marks[1][0] >= RATE_S:
            marks.popleft()
        then_s, then_segments, then_connections = marks[0]
        marks.append((now_s, segments, connections))
        span_s = max(now_s - then_s, 1e-3)
        return (segments - then_segments) / span_s, (connections - then_connections) / span_s


_OPEN = [state for state in TcpState if state not in (TcpState.CLOSED, TcpState.LISTEN)]


class _Counted:
    """Batches of connections, counted by the states of their ends as they go by."""

    def __init__(self, batches: Iterator[Rows]) -> None:
        self.counts = np.zeros((2, len(TcpState)), np.int64)
        self.open_connections = 0
        self._batches = batches

    def __iter__(self) -> Iterator[Rows]:
        is_open = np.zeros(256, bool)
        is_open[_OPEN] = True
        for flows in self._batches:
            client, server = flows["client_state"], flows["server_state"]
            for counts, states in zip(self.counts, (client, server), strict=True):
                counts += np.bincount(states, minlength=len(TcpState))
            self.open_connections += int(np.count_nonzero(is_open[client] | is_open[server]))
            yield flows
