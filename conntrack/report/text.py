"""The report for a person at 3 a.m.: the verdict in one sentence, then the findings, then the counts behind them.

Plain text that fits its width and needs no colour. Knows the shape of a Report and no detector: what each kind of
finding is called is in verdict.py; how it is laid out, in sheet.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conntrack.report.finding_text import add_findings
from conntrack.report.format import bytes_text, clock, count, duration, path_text, span
from conntrack.report.model import CaptureSummary, ConnectionCounts, GroupSeries, Report, StateSeries
from conntrack.report.sheet import LEAST_WIDTH, Chart, Sheet
from conntrack.report.verdict import verdict

__all__ = ["render_text"]

_SERVICES_SHOWN = 10
_GROUPS_SHOWN = 3
_DAY_NS = 86_400 * 10**9
_CHART_WIDTHS = (len("client SYN_RECEIVED"), len("999,999"))
"""So that all charts begin in the same column, as long as the numbers allow."""
_SERVICE_COUNTS = ("connections", "established", "refused", "reset", "unanswered")


def render_text(
    report: Report, *, width: int = 80, color: bool = False, ascii_only: bool = False, epoch: bool = False
) -> str:
    """Return `report` as text.

    Args:
        report: what was found.
        width: columns at most; below 60 is taken as 60. Paragraphs take 100 of them, tables and charts all.
        color: with ANSI colours.
        ascii_only: charts in ASCII, for terminals that show nothing else.
        epoch: times in unix seconds instead of RFC 3339.
    """
    return _Page(Sheet(max(width, LEAST_WIDTH), color=color), ascii_only, epoch).render(report)


class _Page:
    """Every method adds its section to the sheet."""

    def __init__(self, sheet: Sheet, ascii_only: bool, epoch: bool) -> None:
        self._sheet = sheet
        self._ascii = ascii_only
        self._epoch = epoch

    def render(self, report: Report) -> str:
        worst = report.findings[0].severity if report.findings else "good"
        self._sheet.wrap(verdict(report, epoch=self._epoch), style=worst)
        nothing_against = "Nothing in the capture speaks against it."
        add_findings(self._sheet, report.findings, epoch=self._epoch, unweakened=nothing_against)
        self._connections(report.connections, report.summarised)
        self._services(report.services)
        self._series(report.series)
        self._groups(report.group_series)
        self._capture(report.capture)
        return self._sheet.text()

    def _connections(self, connections: ConnectionCounts, summarised: tuple[str, ...]) -> None:
        self._sheet.heading(f"Connections: {count(connections.total)}")
        if connections.evicted:
            self._sheet.wrap(
                f"{count(connections.evicted)} of them were given up to stay within the memory budget (--max-memory), "
                "those that had been idle for longest, in the state that they had then.",
                front="  ",
                style="warning",
            )
        for sentence in summarised:
            self._sheet.wrap(sentence, front="  ", style="warning")
        both = [
            (state, clients, connections.server_states[state]) for state, clients in connections.client_states.items()
        ]
        rows = [[state, count(clients), count(servers)] for state, clients, servers in both if clients or servers]
        if rows:
            self._sheet.table(["state at the end", "clients", "servers"], rows)

    def _services(self, services: tuple[dict[str, Any], ...]) -> None:
        if not services:
            return
        shown = services[:_SERVICES_SHOWN]
        busiest = f": the {len(shown)} busiest of {count(len(services))}" if len(services) > len(shown) else ""
        self._sheet.heading(f"Services{busiest}")
        rows = [[row["service"], *(count(row[key]) for key in _SERVICE_COUNTS), _handshake(row)] for row in shown]
        self._sheet.table(["service", *_SERVICE_COUNTS, "handshake"], rows)
        left = [[row["service"], states] for row in shown if (states := _states_at_end(row["server_states"]))]
        if left:
            self._sheet.add()
            self._sheet.table(["service", "at the end, but for CLOSED"], left, numbers=False)

    def _series(self, series: StateSeries | None) -> None:
        """One line for each end and state that ever occurred: its peak, when, and how it went."""
        if series is None:
            return
        charts = {
            f"{end} {state}": counts
            for end, states in (("client", series.client), ("server", series.server))
            for state, counts in states.items()
            if any(counts)
        }
        if not charts:
            return
        steps = len(next(iter(charts.values())))
        self._sheet.heading("States over time")
        last_ns = series.first_ts_ns + series.step_ns * (steps - 1)
        self._sheet.wrap(span(series.first_ts_ns, last_ns, epoch=self._epoch), front="  ")
        self._charts(charts, series, ["", "peak", "at", ""])

    def _groups(self, series: GroupSeries | None) -> None:
        """The services with the most ends at once, where there are several: the peak of each state, and how it went."""
        if series is None or series.services_total < 2 or not series.services:
            return
        shown = list(series.services.items())[:_GROUPS_SHOWN]
        self._sheet.heading(f"States over time, by service: {len(shown)} of {count(series.services_total)}")
        for name, states in shown:
            self._sheet.wrap(name, front="  ")
            self._charts({f"  {state}": counts for state, counts in states.items()}, series, [""] * 4)

    def _charts(self, charts: dict[str, list[int]], series: StateSeries | GroupSeries, headings: Sequence[str]) -> None:
        rows: list[list[str | Chart]] = []
        for label, counts in charts.items():
            peak = max(counts)
            first_ns, last_ns = series.first_ts_ns, series.first_ts_ns + series.step_ns * (len(counts) - 1)
            several_days = first_ns // _DAY_NS != last_ns // _DAY_NS
            at = clock(first_ns + series.step_ns * counts.index(peak), epoch=self._epoch, day=several_days)
            rows.append([label, count(peak), at, Chart(counts, self._ascii)])
        self._sheet.table(headings, rows, widths=_CHART_WIDTHS)

    def _capture(self, capture: CaptureSummary) -> None:
        self._sheet.heading("Capture")
        for name in capture.files:
            self._sheet.wrap("standard input" if name == "-" else path_text(name), front="  ")
        self._sheet.wrap(
            f"{count(capture.packets, 'packet')} ({bytes_text(capture.bytes)}), "
            f"{count(capture.tcp_segments, 'TCP segment')}",
            front="  ",
        )
        if capture.first_ts_ns is not None and capture.last_ts_ns is not None:
            self._sheet.wrap(span(capture.first_ts_ns, capture.last_ts_ns, epoch=self._epoch), front="  ")
        if capture.skipped:
            by_count = sorted(capture.skipped.items(), key=lambda item: (-item[1], item[0]))
            reasons = ", ".join(f"{reason.replace('_', ' ')} {count(number)}" for reason, number in by_count)
            self._sheet.wrap(f"{count(sum(capture.skipped.values()), 'packet')} not used: {reasons}", front="  ")
        if capture.time_inversions:
            self._sheet.wrap(f"{count(capture.time_inversions, 'packet')} with a time before the last one", front="  ")
        for fault in capture.faults:
            self._sheet.wrap(f"damaged: {fault}", front="  ", style="warning")


def _states_at_end(states: dict[str, int]) -> str:
    """Return in which states but CLOSED a service's ends are as the capture ends, the most first; "" where in none."""
    left = [(number, state) for state, number in states.items() if state != "CLOSED"]
    return ", ".join(f"{state} {count(number)}" for number, state in sorted(left, key=lambda item: -item[0]))


def _handshake(service: dict[str, Any]) -> str:
    median_s = service["handshake_p50_s"]
    return "" if median_s is None else duration(round(median_s * 1e9))
