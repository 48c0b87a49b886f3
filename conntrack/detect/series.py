"""How many endpoints were in each state at each instant of the capture, clients and servers apart. Knows no detector.

Every value is exact: the number of ends in that state at that very instant (core/spans.pyx reads the states back).
CLOSED and LISTEN are not counted: they are the states of what is not there. Memory is 4 MB at most, whatever the
capture: times are kept as ticks of a grid that grows coarser with the span, in steps that divide each other (see
`ticks_of` for why nothing is lost).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.core.spans import SPAN_DTYPE
from conntrack.detect.batch import Page
from conntrack.detect.breakdown import Breakdown
from conntrack.detect.columns import FAR_NS, Side, ns_of
from conntrack.detect.counting import ticks_of
from conntrack.detect.limits import WHOLE, Limits
from conntrack.detect.options import DetectOptions
from conntrack.detect.spans import COUNTED_STATES, count_states
from conntrack.states import NO_TIME_NS, TcpState

__all__ = ["COUNTED_STATES", "StateSeries"]

_SIDES: tuple[Side, ...] = ("client", "server")
_SECOND_NS = 10**9
_GRID_NS = tuple(10**7 * n for n in (1, 10, 100, 1000, 6000, 60_000, 360_000, 8_640_000, 86_400_000, 864_000_000))
# Ticks kept at the finest step, and at the others: enough that a level lasts until the step of the result is a multiple
# of the next one. Timers run on for 127 s past a capture, at the finest step too.
_MOST_TICKS = (20_000, 14_000)
_MARGIN_NS = 128 * _SECOND_NS
_SPANS = 6  # of an end, at most
_MOST_POINTS = 2000
_GROUPS_NS = 10**9  # the finest step for services and hosts
_STEPS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400, 864_000, 8_640_000)
_SHORT_S = ((2, 10**7), (20, 10**8))  # up to 2 s: every 10 ms; up to 20 s: every 100 ms


class StateSeries:
    """Counts ends by state over time; incremental and mergeable like a detector.

    The result depends on the connections alone: not on their order, nor on how they were split. Its step is 1 s; 0.1 s
    or 0.01 s for captures up to 20 s or 2 s; and for long captures the first of 2, 5, 10, 30, 60, ... s that makes no
    more than 2,000 points.
    """

    def __init__(self, options: DetectOptions | None = None, limits: Limits = WHOLE) -> None:
        self._time_wait_ns = ns_of((options or DetectOptions()).time_wait_s)
        self._breakdown = Breakdown(_GRID_NS[_GRID_NS.index(_GROUPS_NS) :], limits)
        self._level = 0  # which of _GRID_NS
        self._first_tick = 0
        self._changes = np.zeros((len(_SIDES) * len(TcpState), 0), np.int64)  # at each tick, since the one before
        self._first_ts_ns = FAR_NS
        self._last_ts_ns = NO_TIME_NS
        self._forget_scratch()

    def _forget_scratch(self) -> None:
        """What a page is counted with, used again for the next: memory that is new each time costs more to get."""
        self._keys, self._clients = np.empty((2, 0), np.uint64), np.empty(0, SPAN_DTYPE)

    def __getstate__(self) -> dict[str, Any]:
        self._forget_scratch()
        return self.__dict__

    def count(self, page: Page) -> None:
        """Take in a page."""
        if len(page.rows) == 0:
            return
        self._first_ts_ns = min(self._first_ts_ns, page.first_ts_ns)
        self._last_ts_ns = max(self._last_ts_ns, page.last_ts_ns)
        self._follow_span()
        self._cover(*(-(-ts_ns // _GRID_NS[self._level]) for ts_ns in (page.first_ts_ns, page.last_ts_ns + _MARGIN_NS)))
        most = _SPANS * len(page.rows)
        if most > self._keys.shape[1]:
            self._keys, self._clients = np.empty((2, most), np.uint64), np.empty(most, SPAN_DTYPE)
        done = 0
        while done < len(page.rows):
            step_ns = _GRID_NS[self._level]
            factor = max(1, _GROUPS_NS // step_ns)
            counted, n_begun, n_over, n_clients, low, high = count_states(
                page.rows[done:], self._time_wait_ns, step_ns, self._changes, self._first_tick, factor,
                page.services[done:], page.traits[done:], *self._breakdown.wanted, self._keys,
                self._clients.view(np.uint8),
            )  # fmt: skip
            begun, over = self._keys[0, :n_begun].copy(), self._keys[1, :n_over].copy()
            self._breakdown.add(page, done, begun, over, self._clients[:n_clients], factor * step_ns)
            done += counted
            if done < len(page.rows):
                self._cover(low, high)

    def merge(self, other: StateSeries, services: np.ndarray) -> None:
        """Take in what `other` was fed; `services` turns its numbers of services into ours."""
        self._breakdown.merge(other._breakdown, services)
        self._first_ts_ns = min(self._first_ts_ns, other._first_ts_ns)
        self._last_ts_ns = max(self._last_ts_ns, other._last_ts_ns)
        self._follow_span()
        cells, ticks = np.nonzero(other._changes)
        changes = other._changes[cells, ticks]
        ticks += other._first_tick
        while self._level < other._level:
            self._coarsen()
        ticks = ticks_of(ticks, _GRID_NS[self._level] // _GRID_NS[other._level])
        if len(ticks):
            ticks = ticks_of(ticks, self._cover(int(ticks.min()), int(ticks.max())))
            np.add.at(self._changes, (cells, ticks - self._first_tick), changes)

    def result(self) -> dict[str, Any]:
        """Return {"step_s", "first_ts_ns", "client": {state: [count, ...]}, "server": {...}}.

        The k-th count is that of the instant first_ts_ns + k * step_s. The last instant is the first multiple of the
        step that is not before the last segment. Without connections `first_ts_ns` is None and the lists are empty.
        """
        if self._last_ts_ns < self._first_ts_ns:
            empty: dict[str, list[int]] = {state.name: [] for state in COUNTED_STATES}
            return {"step_s": 1.0, "first_ts_ns": None, "client": empty, "server": dict(empty)}
        step_ns = _step_ns(self._last_ts_ns - self._first_ts_ns)
        first, last = self._first_ts_ns // step_ns, -(-self._last_ts_ns // step_ns)
        values = self._values(np.arange(first, last + 1), step_ns)
        named: dict[str, Any] = {
            side: {state.name: values[number * len(TcpState) + state].tolist() for state in COUNTED_STATES}
            for number, side in enumerate(_SIDES)
        }
        return {"step_s": step_ns / 1e9, "first_ts_ns": first * step_ns, **named}

    def top(self, services: np.ndarray, most: int) -> dict[str, Any]:
        """Return the same for the services and the hosts with the most ends at once, `most` of each.

        {"step_s", "first_ts_ns", "services": [{"name", "states": {state: [count, ...]}}, ...], "hosts": [the same],
        "services_rest": {state: [count, ...]} of the servers' ends of all other services, "services_total", "clients",
        "unproven_clients"}: `services_total` is how many services there are; the last two say whether the hosts of
        clients that got past a handshake, and of those that never did, could be counted. The step may be coarser than
        that of `result`. `services` are endpoint words by number (uint64, shape (k, 3)).
        """
        told = {"services_total": len(services), **self._breakdown.told}
        if self._last_ts_ns < self._first_ts_ns:
            return {"step_s": 1.0, "first_ts_ns": None, "services": [], "services_rest": {}, "hosts": [], **told}
        natural_ns = _step_ns(self._last_ts_ns - self._first_ts_ns)
        least_ns = self._breakdown.step_ns(_GROUPS_NS)
        step_ns = next(s for s in _all_steps_ns() if s >= natural_ns and s % least_ns == 0)
        ticks = np.arange(self._first_ts_ns // step_ns, -(-self._last_ts_ns // step_ns) + 1)

        def states(values: np.ndarray) -> dict[str, list[int]]:
            return {state.name: values[state].tolist() for state in COUNTED_STATES if values[state].any()}

        top, hosts = self._breakdown.top(services, most, ticks, step_ns)
        rest = self._values(ticks, step_ns)[len(TcpState) :] - sum(values for _, values in top)
        return {
            "step_s": step_ns / 1e9,
            "first_ts_ns": int(ticks[0]) * step_ns,
            "services": [{"name": name, "states": states(values)} for name, values in top],
            "services_rest": states(rest),
            "hosts": [{"name": name, "states": states(values)} for name, values in hosts],
            **told,
        }

    def _values(self, ticks: np.ndarray, step_ns: int) -> np.ndarray:
        """Return the counts at `ticks` of `step_ns`, a multiple of the grid's: int64, shape (22, len(ticks))."""
        at = ticks * (step_ns // _GRID_NS[self._level]) - self._first_tick
        counts = np.cumsum(self._changes, axis=1)
        if not counts.shape[1]:
            return np.zeros((len(counts), len(ticks)), np.int64)
        return np.where(at >= 0, counts[:, np.clip(at, 0, counts.shape[1] - 1)], 0)

    def _follow_span(self) -> None:
        """Make the grid as coarse as the result will be: finer instants hold many more states that nobody will see."""
        if self._last_ts_ns >= self._first_ts_ns:
            natural_ns = _step_ns(self._last_ts_ns - self._first_ts_ns)
            while self._level + 1 < len(_GRID_NS) and natural_ns % _GRID_NS[self._level + 1] == 0:
                self._coarsen()

    def _cover(self, low: int, high: int) -> int:
        """Make room for ticks `low` to `high`; return by how much the grid had to become coarser for it."""
        before = _GRID_NS[self._level]
        width = self._changes.shape[1]
        first = min(low, self._first_tick) if width else low
        end = max(high + 1, self._first_tick + width) if width else high + 1
        while end - first > _MOST_TICKS[min(self._level, 1)] and self._level + 1 < len(_GRID_NS):
            factor = self._coarsen()
            first, end = -(-first // factor), -(-(end - 1) // factor) + 1
        width = self._changes.shape[1]
        if not width:
            self._first_tick = first
        if width < end - first:
            wider = np.zeros((len(self._changes), end - first), np.int64)
            wider[:, self._first_tick - first : self._first_tick - first + width] = self._changes
            self._changes, self._first_tick = wider, first
        return _GRID_NS[self._level] // before

    def _coarsen(self) -> int:
        """Go one level up the ladder; return the factor."""
        factor = _GRID_NS[self._level + 1] // _GRID_NS[self._level]
        self._level += 1
        width = self._changes.shape[1]
        if width:
            ticks = ticks_of(self._first_tick + np.arange(width), factor)
            starts = np.flatnonzero(np.diff(ticks, prepend=ticks[0] - 1))
            self._changes = np.add.reduceat(self._changes, starts, axis=1)
            self._first_tick = int(ticks[0])
        return factor


def _step_ns(span_ns: int) -> int:
    for most_s, step_ns in _SHORT_S:
        if span_ns <= most_s * _SECOND_NS:
            return step_ns
    return next((s for s in _STEPS_S if span_ns <= s * _MOST_POINTS * _SECOND_NS), _STEPS_S[-1]) * _SECOND_NS


def _all_steps_ns() -> list[int]:
    return [step_ns for _, step_ns in _SHORT_S] + [s * _SECOND_NS for s in _STEPS_S]
