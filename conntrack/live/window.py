"""The connections of the last minutes: what is wrong with them, exactly; and all of them since the start, in the end.

A window holds every connection that was open at some instant of it. Those that are over are in slices, by when that
was, each an `Analysis` of its own, fed once; those that are still in the tracker's table are seen as they are now. What
holds now is what the detectors say of the slices of the window and the table, merged; a slice that leaves the window is
merged into the rest of the run, of which less is kept (detect/limits.py): as much after an hour as after a month.
A few rows at a time would still cost what a batch costs, in every detector, for good: they are gathered first.

A look is work for every connection of the table, so it is done in pieces, and whoever looks may feed between them. The
slices are merged before the table is passed: a connection that leaves it meanwhile is then not counted twice.

A handshake in flight is no failure: connections that are still opening, younger than `handshake_wait_s`, are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from conntrack.detect import DETECTORS, Detection, DetectOptions
from conntrack.detect.limits import RUNNING, WHOLE
from conntrack.pipeline import Analysis
from conntrack.states import NO_TIME_NS, TcpState

__all__ = ["SLICES", "Window"]

Rows = np.ndarray[Any, Any]

SLICES = 6
"""Of a window: its length is exact to a sixth."""
_GATHERED = 4096  # rows
_SLICE = replace(WHOLE, spans=1 << 18, waiting=1 << 16)
"""What a slice keeps: all of them fit into what a look merges, which would else make them less at each look anew."""


class _Gathering:
    """An analysis that is fed many rows at a time.

    Attributes:
        analysis: of the rows but those that wait.
    """

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self._waiting: list[Rows] = []
        self._count = 0

    def feed(self, flows: Rows) -> None:
        """Take in rows that nobody else will change."""
        self._waiting.append(flows)
        self._count += len(flows)
        if self._count >= _GATHERED:
            self.settled()

    def waiting(self) -> Rows | None:
        """Return the rows that wait: FLOW_DTYPE, shape (n,)."""
        if len(self._waiting) > 1:
            self._waiting = [np.concatenate(self._waiting)]
        return self._waiting[0] if self._waiting else None

    def settled(self) -> Analysis:
        """Return the analysis of all of them."""
        if (flows := self.waiting()) is not None:
            self.analysis.feed(flows)
        self._waiting, self._count = [], 0
        return self.analysis


class Window:
    """What the detectors are fed while a capture goes on.

    Args:
        window_ns: how far back it reaches: at least five sixths of this, at most all of it.
        options: thresholds of the detectors.
        choose: as in Analysis.
    """

    def __init__(self, window_ns: int, options: DetectOptions | None = None, *, choose: bool = False) -> None:
        self._slice_ns = max(1, window_ns // SLICES)
        self._options = options or DetectOptions()
        self._wait_ns = round(self._options.handshake_wait_s * 1e9)
        self._choose = choose
        self._rest = _Gathering(Analysis(options, choose=choose, limits=RUNNING))
        self._slices: dict[int, _Gathering] = {}
        self._first: int | None = None

    def feed(self, flows: Rows) -> None:
        """Take in connections that are over for good (FLOW_DTYPE, shape (n,)), each once."""
        self._rest.analysis.choose_from(flows)
        numbers = self._numbers(flows, flows["last_ts_ns"])
        for number in np.unique(numbers).tolist():
            self._slice(number).feed(flows[numbers == number])

    def look(self, now_ns: int, table: Iterable[Rows], between: Callable[[], None] | None = None) -> Detection:
        """Return what holds at `now_ns`, with the connections that the tracker has then (FLOW_DTYPE, shape (n,) each).

        `between` is called after each piece of the work, and may feed. The answer has no series. What has left the
        window does not come back into it, not even where a clock is set back.
        """
        between = between or _nothing
        self._move(now_ns)
        between()
        assert self._first is not None
        detection = Detection(DETECTORS, self._options, series=False)
        for number in sorted(self._slices):
            detection.merge(self._slices[number].analysis.detection)
            if (waiting := self._slices[number].waiting()) is not None:
                detection.feed(waiting)
            between()
        for flows in table:
            inside = self._numbers(flows, now_ns) >= self._first
            opening = (flows["client_state"] == TcpState.SYN_SENT) | (flows["server_state"] == TcpState.SYN_RECEIVED)
            inside &= ~opening | (flows["first_ts_ns"] <= now_ns - self._wait_ns)
            detection.feed(flows if inside.all() else flows[inside])
            between()
        return detection

    def reduced(self) -> list[str]:
        """Return what is kept less of than there was: a sentence each."""
        return self._rest.settled().detection.reduced()

    def finish(self, last: Iterable[Rows]) -> Analysis:
        """Return all that was fed since the start, together with the `last` connections; it can be done once."""
        whole = Analysis(self._options, choose=self._choose)  # what fits into it is not made less by the limits of then
        whole.merge(self._rest.settled())
        for number in sorted(self._slices):
            whole.merge(self._slices.pop(number).settled())
        for flows in last:
            whole.feed(flows)
        return whole

    def _numbers(self, flows: Rows, otherwise_ns: Any) -> Rows:
        # The slice in which each was over; `otherwise_ns` for those that are not known to be.
        closed = flows["closed_ts_ns"]
        over: Rows = np.where(closed == NO_TIME_NS, otherwise_ns, closed)
        return over // self._slice_ns

    def _slice(self, number: int) -> _Gathering:
        if self._first is not None and number < self._first:
            return self._rest
        if number not in self._slices:
            self._slices[number] = _Gathering(Analysis(self._options, limits=_SLICE))
        return self._slices[number]

    def _move(self, now_ns: int) -> None:
        last = now_ns // self._slice_ns
        self._first = last - SLICES + 1
        for number in sorted(self._slices):
            if not self._first <= number <= last + 1:  # behind the next one: a clock was set back
                self._rest.analysis.merge(self._slices.pop(number).settled())
                self._rest.analysis.narrow(now_ns)


def _nothing() -> None:
    pass
