"""How many endpoints were in each state at each instant of the capture, clients and servers apart. Knows no detector.

Every value is exact: the number of ends in that state at that very instant (states as in `spans`). CLOSED and LISTEN are
not counted: they are the states of what is not there. Memory is 4 MB at most, whatever the capture: times are kept as ticks
of a grid that grows coarser with the span, in steps that divide each other (see `ticks_of` for why nothing is lost).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.detect.columns import FAR_NS, Side, ns_of
from conntrack.detect.counting import ticks_of
from conntrack.detect.options import DetectOptions
from conntrack.detect.spans import last_state_end, steps_of
from conntrack.states import TcpState

__all__ = ["COUNTED_STATES", "StateSeries"]

COUNTED_STATES = tuple(state for state in TcpState if state not in (TcpState.CLOSED, TcpState.LISTEN))
"""The states that a series has, in the order of RFC 9293."""

_SIDES: tuple[Side, ...] = ("client", "server")
_SECOND_NS = 10**9
_GRID_NS = [10**7 * n for n in (1, 10, 100, 1000, 6000, 60_000, 360_000, 8_640_000, 86_400_000, 864_000_000)]
_MOST_TICKS = 20_000
_MOST_POINTS = 2000
_STEPS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400, 864_000, 8_640_000)
_SHORT_S = ((2, 10**7), (20, 10**8))  # up to 2 s: every 10 ms; up to 20 s: every 100 ms
_OPENING = {"client": TcpState.SYN_SENT, "server": TcpState.SYN_RECEIVED}


class StateSeries:
    """Counts ends by state over time; incremental and mergeable like a detector.

    The result depends on the connections alone: not on their order, nor on how they were split. Its step is 1 s; 0.1 s or
    0.01 s for captures up to 20 s or 2 s; and for long captures the first of 2, 5, 10, 30, 60, ... s that makes no more
    than 2,000 points.
    """

    def __init__(self, options: DetectOptions | None = None) -> None:
        self._time_wait_ns = ns_of((options or DetectOptions()).time_wait_s)
        self._level = 0  # which of _GRID_NS
        self._first_tick = 0
        self._changes = np.zeros((len(_SIDES), len(TcpState), 0), np.int64)  # at each tick, against the one before
        self._first_ts_ns = FAR_NS
        self._last_ts_ns = -FAR_NS

    def feed(self, flows: np.ndarray) -> None:
        """Take in connections (FLOW_DTYPE, shape (n,)), each once, when it is final."""
        if len(flows) == 0:
            return
        self._first_ts_ns = min(self._first_ts_ns, int(flows["first_ts_ns"].min()))
        self._last_ts_ns = max(self._last_ts_ns, int(flows["last_ts_ns"].max()))
        for number, side in enumerate(_SIDES):
            self._feed_side(flows, number, side)

    def merge(self, other: StateSeries) -> None:
        """Take in what `other` was fed."""
        self._first_ts_ns = min(self._first_ts_ns, other._first_ts_ns)
        self._last_ts_ns = max(self._last_ts_ns, other._last_ts_ns)
        side, states, ticks = np.nonzero(other._changes)
        ticks += other._first_tick
        while self._level < other._level:
            self._coarsen()
        ticks = ticks_of(ticks, _GRID_NS[self._level] // _GRID_NS[other._level])
        self._add(side, states, ticks, other._changes[np.nonzero(other._changes)])

    def result(self) -> dict[str, Any]:
        """Return {"step_s", "first_ts_ns", "client": {state: [count, ...]}, "server": {...}}.

        The k-th count is that of the instant first_ts_ns + k * step_s. The last instant is the first multiple of the step
        that is not before the last segment. Without connections `first_ts_ns` is None and the lists are empty.
        """
        if self._last_ts_ns < self._first_ts_ns:
            empty: dict[str, list[int]] = {state.name: [] for state in COUNTED_STATES}
            return {"step_s": 1.0, "first_ts_ns": None, "client": empty, "server": dict(empty)}
        step_ns = _step_ns(self._last_ts_ns - self._first_ts_ns)
        first, last = self._first_ts_ns // step_ns, -(-self._last_ts_ns // step_ns)
        factor = step_ns // _GRID_NS[self._level]
        counts = np.cumsum(self._changes, axis=2)
        ticks = np.arange(first, last + 1) * factor - self._first_tick
        values = np.zeros((*counts.shape[:2], len(ticks)), np.int64)
        if counts.shape[2]:
            values = np.where(ticks >= 0, counts[:, :, np.clip(ticks, 0, counts.shape[2] - 1)], 0)
        named: dict[str, Any] = {
            side: {state.name: values[number, state].tolist() for state in COUNTED_STATES}
            for number, side in enumerate(_SIDES)
        }
        return {"step_s": step_ns / 1e9, "first_ts_ns": first * step_ns, **named}

    def _feed_side(self, flows: np.ndarray, number: int, side: Side) -> None:
        steps = steps_of(flows, side)
        step_ns = _GRID_NS[self._level]
        opening, established, first_close, second_close, closed, last = (ticks_of(t, step_ns) for t in steps[:6])
        time_wait_over = np.minimum(last, ticks_of(steps.closed + self._time_wait_ns, step_ns))
        last_over = ticks_of(last_state_end(flows, side, self._time_wait_ns), step_ns)
        before_close = np.minimum(first_close, last)
        active = steps.active
        second_active = np.where(steps.crossed, TcpState.CLOSING, TcpState.FIN_WAIT_2)
        spans = (
            (opening, np.minimum(established, before_close), _OPENING[side]),
            (established, before_close, TcpState.ESTABLISHED),
            (first_close, np.minimum(second_close, last), np.where(active, TcpState.FIN_WAIT_1, TcpState.CLOSE_WAIT)),
            (second_close, np.minimum(closed, last), np.where(active, second_active, TcpState.LAST_ACK)),
            (closed, np.where(active, time_wait_over, closed), TcpState.TIME_WAIT),
            (last, last_over, flows[f"{side}_state"]),
        )
        states, ticks, changes = [], [], []
        for begun, over, state in spans:
            rows = np.flatnonzero(begun < over)  # most states of a short connection hold no instant of the grid
            if rows.size:
                named = np.full(rows.size, state) if isinstance(state, TcpState) else state[rows]
                states += [named, named]
                ticks += [begun[rows], over[rows]]
                changes += [np.ones(rows.size, np.int64), np.full(rows.size, -1)]
        if ticks:
            sides = np.full(sum(map(len, ticks)), number)
            self._add(sides, *(np.concatenate(part).astype(np.int64) for part in (states, ticks, changes)))

    def _add(self, sides: np.ndarray, states: np.ndarray, ticks: np.ndarray, changes: np.ndarray) -> None:
        """Count changes at ticks of the present grid; those that have not happened (FAR_NS) are left out."""
        happened = ticks < FAR_NS // _GRID_NS[self._level]
        sides, states, ticks, changes = sides[happened], states[happened], ticks[happened], changes[happened]
        if len(ticks) == 0:
            return
        ticks = ticks_of(ticks, self._cover(int(ticks.min()), int(ticks.max())))
        np.add.at(self._changes, (sides, states, ticks - self._first_tick), changes)

    def _cover(self, low: int, high: int) -> int:
        """Make room for ticks `low` to `high`; return by how much the grid had to become coarser for it."""
        before = _GRID_NS[self._level]
        width = self._changes.shape[2]
        first = min(low, self._first_tick) if width else low
        end = max(high + 1, self._first_tick + width) if width else high + 1
        while end - first > _MOST_TICKS and self._level + 1 < len(_GRID_NS):
            factor = self._coarsen()
            first, end = -(-first // factor), -(-(end - 1) // factor) + 1
        width = self._changes.shape[2]
        if not width:
            self._first_tick = first
        if width < end - first:
            wider = np.zeros((*self._changes.shape[:2], end - first), np.int64)
            wider[:, :, self._first_tick - first : self._first_tick - first + width] = self._changes
            self._changes, self._first_tick = wider, first
        return _GRID_NS[self._level] // before

    def _coarsen(self) -> int:
        """Go one level up the ladder; return the factor."""
        factor = _GRID_NS[self._level + 1] // _GRID_NS[self._level]
        self._level += 1
        width = self._changes.shape[2]
        if width:
            ticks = ticks_of(self._first_tick + np.arange(width), factor)
            starts = np.flatnonzero(np.diff(ticks, prepend=ticks[0] - 1))
            self._changes = np.add.reduceat(self._changes, starts, axis=2)
            self._first_tick = int(ticks[0])
        return factor


def _step_ns(span_ns: int) -> int:
    for most_s, step_ns in _SHORT_S:
        if span_ns <= most_s * _SECOND_NS:
            return step_ns
    return next((s for s in _STEPS_S if span_ns <= s * _MOST_POINTS * _SECOND_NS), _STEPS_S[-1]) * _SECOND_NS
