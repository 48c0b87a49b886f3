"""The report for a person at 3 a.m.: the verdict in one sentence, then the findings, then the counts behind them.

Plain text that fits its width and needs no colour; colour, where it is asked for, repeats what the words say. Knows the
shape of a Report and no detector: what each kind of finding is called is in verdict.py.

Drawn here and not by rich, which draws what moves (cli/progress.py): the same bytes must stand in a terminal, a file
and a test; a page is drawn in milliseconds, and rich takes 0.1 s to be imported.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from conntrack.detect.finding import Finding
from conntrack.report.format import (
    bytes_text,
    clock,
    count,
    duration,
    evidence_text,
    instant,
    path_text,
    printable,
    sparkline,
)
from conntrack.report.model import CaptureSummary, ConnectionCounts, GroupSeries, Report, StateSeries
from conntrack.report.verdict import verdict

__all__ = ["render_text"]

_SGR = {"critical": "1;31", "warning": "1;33", "info": "1;36", "heading": "1", "good": "1;32"}
_FINDINGS_SHOWN = 10
_SERVICES_SHOWN = 10
_GROUPS_SHOWN = 3
_FLOW_IDS_SHOWN = 10
_SERVICE_COUNTS = ("connections", "established", "refused", "reset", "unanswered")
_LABEL = 26
"""Columns for the names of evidence."""


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
    return _Page(min(max(width, 60), 100), color, ascii_only, epoch).render(report)


class _Page:
    """Collects lines; every method appends its section."""

    def __init__(self, width: int, color: bool, ascii_only: bool, epoch: bool) -> None:
        self._width = width
        self._color = color
        self._ascii = ascii_only
        self._epoch = epoch
        self._lines: list[str] = []

    def render(self, report: Report) -> str:
        worst = report.findings[0].severity if report.findings else "good"
        self._wrap(verdict(report, epoch=self._epoch), style=worst)
        for number, finding in enumerate(report.findings[:_FINDINGS_SHOWN], 1):
            self._finding(number, finding)
        if len(report.findings) > _FINDINGS_SHOWN:
            left = count(len(report.findings) - _FINDINGS_SHOWN, "more finding")
            self._heading(f"{left}, none worse: --format json has them", style="")
        self._connections(report.connections)
        self._services(report.services)
        self._series(report.series)
        self._groups(report.group_series)
        self._capture(report.capture)
        return "\n".join(self._lines) + "\n"

    def _finding(self, number: int, finding: Finding) -> None:
        kind = finding.kind.replace("_", " ")
        self._heading(f"{number}. {finding.severity.upper()}  {kind}  {finding.subject}", style=finding.severity)
        length = duration(finding.last_ts_ns - finding.first_ts_ns)
        since, until = (instant(ts_ns, epoch=self._epoch) for ts_ns in (finding.first_ts_ns, finding.last_ts_ns))
        self._wrap(f"since {since}", indent=2)
        self._wrap(f"until {until} ({length})", indent=2)
        at_once = f", {count(finding.peak)} at the peak" if finding.peak > 1 else ""
        self._wrap(f"{count(finding.count, 'connection')}{at_once}", indent=2)
        for key, value in _told(finding.evidence):
            label, text = evidence_text(key, value, epoch=self._epoch)
            self._wrap(text, indent=4, label=label)
        self._bullets("How sure:", finding.caveats or ("Nothing in the capture speaks against it.",))
        self._bullets("Next:", finding.next_steps)
        if finding.flow_ids:
            shown = ", ".join(str(flow_id) for flow_id in finding.flow_ids[:_FLOW_IDS_SHOWN])
            more = finding.count - min(len(finding.flow_ids), _FLOW_IDS_SHOWN)
            rest = f" and {count(more)} more" if more > 0 else ""
            self._wrap(f"flow_id {shown}{rest}", indent=2)

    def _bullets(self, title: str, sentences: tuple[str, ...]) -> None:
        if sentences:
            self._add(f"  {title}")
        for sentence in sentences:
            self._wrap(sentence, indent=4, label="-", label_width=2)

    def _connections(self, connections: ConnectionCounts) -> None:
        self._heading(f"Connections: {count(connections.total)}")
        if connections.evicted:
            self._wrap(
                f"{count(connections.evicted)} of them were given up to stay within the memory budget (--max-memory), "
                "those that had been idle for longest, in the state that they had then.",
                indent=2,
                style="warning",
            )
        if connections.total:
            self._add(f"  {'state at the end':18}{'clients':>13}{'servers':>13}")
        for state, clients in connections.client_states.items():
            servers = connections.server_states[state]
            if clients or servers:
                self._add(f"  {state:18}{count(clients):>13}{count(servers):>13}")

    def _services(self, services: tuple[dict[str, Any], ...]) -> None:
        if not services:
            return
        shown = services[:_SERVICES_SHOWN]
        self._heading("Services" + (f": the {len(shown)} busiest" if len(services) > len(shown) else ""))
        rows = [[row["service"], *(count(row[key]) for key in _SERVICE_COUNTS), _handshake(row)] for row in shown]
        notes = [_states_at_end(row["server_states"]) for row in shown]
        self._table(["service", *_SERVICE_COUNTS, "handshake"], rows, notes)

    def _table(self, headings: list[str], rows: list[list[str]], notes: list[str]) -> None:
        """Align numbers below their headings; give up columns from the right until the lines fit; a note after each."""
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        while len(widths) > 1 and 2 * len(widths) + sum(widths) > self._width:
            widths.pop()
        for row, note in zip((headings, *rows), ("", *notes), strict=True):
            name, *numbers = (cell.rjust(width) for cell, width in zip(row, widths, strict=False))
            self._add("  ".join(["", name.strip().ljust(widths[0]), *numbers]))
            if note:
                self._wrap(note, indent=4)

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
        self._heading("States over time")
        self._span(series.first_ts_ns, last_ns)
        for end, state, counts in charts:
            self._chart(f"  {end} {state:12}", counts, series.first_ts_ns, series.step_ns)

    def _groups(self, series: GroupSeries | None) -> None:
        """The services with the most ends at once, where there are several: the peak of each state, and how it went."""
        if series is None or series.services_total < 2:
            return
        shown = list(series.services.items())[:_GROUPS_SHOWN]
        self._heading(f"States over time, by service: {len(shown)} of {count(series.services_total)}")
        for name, states in shown:
            self._add(f"  {name}")
            for state, counts in states.items():
                self._chart(f"    {state:15}", counts, series.first_ts_ns, series.step_ns)

    def _chart(self, label: str, counts: list[int], first_ts_ns: int, step_ns: int) -> None:
        peak = max(counts)
        at = clock(first_ts_ns + step_ns * counts.index(peak), epoch=self._epoch)
        label = f"{label} {count(peak):>9} at {at}  "
        room = self._width - len(label) - 1
        self._add(f"{label}{sparkline(counts, room, ascii_only=self._ascii)}".rstrip())

    def _capture(self, capture: CaptureSummary) -> None:
        self._heading("Capture")
        for name in capture.files:
            self._wrap("standard input" if name == "-" else path_text(name), indent=2)
        self._wrap(
            f"{count(capture.packets, 'packet')} ({bytes_text(capture.bytes)}), "
            f"{count(capture.tcp_segments, 'TCP segment')}",
            indent=2,
        )
        if capture.first_ts_ns is not None and capture.last_ts_ns is not None:
            self._span(capture.first_ts_ns, capture.last_ts_ns)
        if capture.skipped:
            by_count = sorted(capture.skipped.items(), key=lambda item: (-item[1], item[0]))
            reasons = ", ".join(f"{reason.replace('_', ' ')} {count(number)}" for reason, number in by_count)
            self._wrap(f"{count(sum(capture.skipped.values()), 'packet')} not used: {reasons}", indent=2)
        if capture.time_inversions:
            self._wrap(f"{count(capture.time_inversions, 'packet')} with a time before the last one", indent=2)
        for fault in capture.faults:
            self._wrap(f"damaged: {fault}", indent=2, style="warning")

    def _span(self, first_ns: int, last_ns: int) -> None:
        first, last = (instant(ts_ns, epoch=self._epoch) for ts_ns in (first_ns, last_ns))
        self._wrap(f"{first} to {last} ({duration(last_ns - first_ns)})", indent=2)

    def _heading(self, text: str, *, style: str = "heading") -> None:
        self._add("")
        self._wrap(text, style=style)

    def _wrap(self, text: str, *, indent: int = 0, label: str = "", label_width: int = _LABEL, style: str = "") -> None:
        """Add a paragraph, indented, with `label` in front of its first line, or above it where it is too long."""
        label = printable(label)
        left = indent + (label_width if label else 0)
        if len(label) >= label_width:
            self._wrap(label, indent=indent)
            label = ""
        front = " " * indent + label
        for line in textwrap.wrap(printable(text), self._width - left, break_on_hyphens=False) or [""]:
            self._add(f"{front:{left}}{self._paint(line, style)}".rstrip())
            front = ""

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{_SGR[style]}m{text}\x1b[0m" if self._color and style else text

    def _add(self, line: str) -> None:
        self._lines.append(line)


def _states_at_end(states: dict[str, int]) -> str:
    """Return in which states a service's ends are as the capture ends, the most first; CLOSED is told only alone."""
    left = [(number, state) for state, number in states.items() if state != "CLOSED"]
    told = ", ".join(f"{state} {count(number)}" for number, state in sorted(left, key=lambda item: -item[0]))
    return f"at the end {told or 'all CLOSED'}"


def _told(evidence: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the evidence that a person reads: no zero counts, and how a number was counted beside it."""
    for key, value in evidence.items():
        if value is None or (value == 0 and type(value) is int) or key.removesuffix("_by") != key:
            continue
        how = evidence.get(f"{key}_by")
        yield key, value if how is None else f"{count(value)} ({how})"


def _handshake(service: dict[str, Any]) -> str:
    median_s = service["handshake_p50_s"]
    return "" if median_s is None else duration(round(median_s * 1e9))
