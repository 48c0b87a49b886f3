"""The report for a person at 3 a.m.: the verdict in one sentence, then the findings, then the counts behind them.

Plain text that fits its width and needs no colour; colour, where it is asked for, repeats what the words say. Knows the
shape of a Report and no detector: what each kind of finding is called is in verdict.py.

Drawn here and not by rich, which draws what moves (cli/progress.py): the same bytes must stand in a terminal, a file
and a test; a page is drawn in milliseconds, and rich takes 0.1 s to be imported.
"""

from __future__ import annotations

from typing import Any

from conntrack.report.format import (
    bytes_text,
    clock,
    count,
    duration,
    path_text,
    sparkline,
)
from conntrack.report.model import CaptureSummary, ConnectionCounts, GroupSeries, Report, StateSeries
from conntrack.report.sheet import Sheet
from conntrack.report.verdict import verdict

__all__ = ["render_text"]

_SERVICES_SHOWN = 10
_GROUPS_SHOWN = 3
_DAY_NS = 86_400 * 10**9
_SERVICE_COUNTS = ("connections", "established", "refused", "reset", "unanswered")


def render_text(
    report: Report, *, width: int = 80, color: bool = False, ascii_only: bool = False, epoch: bool = False
) -> str:
    """Return `report` as text.

    Args:
        report: what was found.
        width: columns at most; below 60 is taken as 60.
        color: with ANSI colours.
        ascii_only: charts in ASCII, for terminals that show nothing else.
        epoch: times in unix seconds instead of RFC 3339.
    """
    return _Page(width, color, ascii_only, epoch).render(report)


class _Page(Sheet):
    """Every method appends its section."""

    def __init__(self, width: int, color: bool, ascii_only: bool, epoch: bool) -> None:
        super().__init__(width, color=color, epoch=epoch, unweakened="Nothing in the capture speaks against it.")
        self._ascii = ascii_only

    def render(self, report: Report) -> str:
        worst = report.findings[0].severity if report.findings else "good"
        self.wrap(verdict(report, epoch=self.epoch), style=worst)
        self.findings(report.findings)
        self._connections(report.connections, report.summarised)
        self._services(report.services)
        self._series(report.series)
        self._groups(report.group_series)
        self._capture(report.capture)
        return self.text()

    def _connections(self, connections: ConnectionCounts, summarised: tuple[str, ...]) -> None:
        self.heading(f"Connections: {count(connections.total)}")
        if connections.evicted:
            self.wrap(
                f"{count(connections.evicted)} of them were given up to stay within the memory budget (--max-memory), "
                "those that had been idle for longest, in the state that they had then.",
                indent=2,
                style="warning",
            )
        for sentence in summarised:
            self.wrap(sentence, indent=2, style="warning")
        if connections.total:
            self.add(f"  {'state at the end':18}{'clients':>13}{'servers':>13}")
        for state, clients in connections.client_states.items():
            servers = connections.server_states[state]
            if clients or servers:
                self.add(f"  {state:18}{count(clients):>13}{count(servers):>13}")

    def _services(self, services: tuple[dict[str, Any], ...]) -> None:
        if not services:
            return
        shown = services[:_SERVICES_SHOWN]
        self.heading("Services" + (f": the {len(shown)} busiest" if len(services) > len(shown) else ""))
        rows = [[row["service"], *(count(row[key]) for key in _SERVICE_COUNTS), _handshake(row)] for row in shown]
        notes = [_states_at_end(row["server_states"]) for row in shown]
        self.table(["service", *_SERVICE_COUNTS, "handshake"], rows, notes)

    def _series(self, series: StateSeries | None) -> None:
        """One line for each end and state that ever occurred: its peak, when, and how it went."""
        if series is None:
            return
        charts = [
            (end, state, counts)
            for end, states in (("client", series.client), ("server", series.server))
            for state, counts in states.items()
            if any(counts)
        ]
        if not charts:
            return
        steps = len(charts[0][2])
        last_ns = series.first_ts_ns + series.step_ns * (steps - 1)
        self.heading("States over time")
        self.span(series.first_ts_ns, last_ns)
        for end, state, counts in charts:
            self._chart(f"  {end} {state:12}", counts, series.first_ts_ns, series.step_ns)

    def _groups(self, series: GroupSeries | None) -> None:
        """The services with the most ends at once, where there are several: the peak of each state, and how it went."""
        if series is None or series.services_total < 2 or not series.services:
            return
        shown = list(series.services.items())[:_GROUPS_SHOWN]
        self.heading(f"States over time, by service: {len(shown)} of {count(series.services_total)}")
        for name, states in shown:
            self.add(f"  {name}")
            for state, counts in states.items():
                self._chart(f"    {state:15}", counts, series.first_ts_ns, series.step_ns)

    def _chart(self, label: str, counts: list[int], first_ts_ns: int, step_ns: int) -> None:
        peak = max(counts)
        several_days = first_ts_ns // _DAY_NS != (first_ts_ns + step_ns * (len(counts) - 1)) // _DAY_NS
        at = clock(first_ts_ns + step_ns * counts.index(peak), epoch=self.epoch, day=several_days)
        label = f"{label} {count(peak):>9} at {at}  "
        room = self.width - len(label) - 1
        self.add(f"{label}{sparkline(counts, room, ascii_only=self._ascii)}".rstrip())

    def _capture(self, capture: CaptureSummary) -> None:
        self.heading("Capture")
        for name in capture.files:
            self.wrap("standard input" if name == "-" else path_text(name), indent=2)
        self.wrap(
            f"{count(capture.packets, 'packet')} ({bytes_text(capture.bytes)}), "
            f"{count(capture.tcp_segments, 'TCP segment')}",
            indent=2,
        )
        if capture.first_ts_ns is not None and capture.last_ts_ns is not None:
            self.span(capture.first_ts_ns, capture.last_ts_ns)
        if capture.skipped:
            by_count = sorted(capture.skipped.items(), key=lambda item: (-item[1], item[0]))
            reasons = ", ".join(f"{reason.replace('_', ' ')} {count(number)}" for reason, number in by_count)
            self.wrap(f"{count(sum(capture.skipped.values()), 'packet')} not used: {reasons}", indent=2)
        if capture.time_inversions:
            self.wrap(f"{count(capture.time_inversions, 'packet')} with a time before the last one", indent=2)
        for fault in capture.faults:
            self.wrap(f"damaged: {fault}", indent=2, style="warning")


def _states_at_end(states: dict[str, int]) -> str:
    """Return in which states a service's ends are as the capture ends, the most first; CLOSED is told only alone."""
    left = [(number, state) for state, number in states.items() if state != "CLOSED"]
    told = ", ".join(f"{state} {count(number)}" for number, state in sorted(left, key=lambda item: -item[0]))
    return f"at the end {told or 'all CLOSED'}"


def _handshake(service: dict[str, Any]) -> str:
    median_s = service["handshake_p50_s"]
    return "" if median_s is None else duration(round(median_s * 1e9))
