"""The report of `ctrack host`: what was found on the running host, as plain data, as text and as one JSON document.

Knows no kernel and no rule: everything in it is numbers and strings (conntrack/host/ finds them, cli/host.py fills it).
The JSON is schema version 1, as that of a capture's report: keys may be added, none is taken away or changes meaning.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from conntrack.detect.finding import SEVERITIES, Finding
from conntrack.report.finding_text import add_findings
from conntrack.report.format import count, span
from conntrack.report.host_glossary import HOST_EVIDENCE
from conntrack.report.json import SCHEMA, finding_as_json
from conntrack.report.sheet import LEAST_WIDTH, Sheet
from conntrack.report.verdict import sentence
from conntrack.times import rfc3339

__all__ = ["HostReport", "render_host_json", "render_host_text"]

_SERVICES_SHOWN = 10
_STATES = ("SYN_RECEIVED", "ESTABLISHED", "CLOSE_WAIT", "TIME_WAIT")
"""Those that say the most of a service, as columns."""


@dataclass(frozen=True, slots=True)
class HostReport:
    """What `ctrack host` says.

    Attributes:
        host: its name.
        first_ts_ns, last_ts_ns: the first look and the last one.
        looks: how many there were.
        source: where the sockets come from: "netlink" or "procfs".
        compared_with: the file of an earlier snapshot, None without one.
        states: state to how many sockets are in it at the last look; all 11, zeros included.
        services: the busiest first; service, processes, unit, accept_queue, backlog, states (state to how many).
        counters: name to its value at the last look and its growth between the looks (None where not known).
        findings: the worst first.
        notes: what could not be read, and what would help.
        interrupted: whether the watching was stopped before its end.
    """

    host: str
    first_ts_ns: int
    last_ts_ns: int
    looks: int
    source: str
    states: dict[str, int]
    services: tuple[dict[str, Any], ...]
    counters: dict[str, tuple[int, int | None]]
    findings: tuple[Finding, ...]
    compared_with: str | None = None
    notes: tuple[str, ...] = field(default=())
    interrupted: bool = False


def render_host_text(report: HostReport, *, width: int = 80, color: bool = False, epoch: bool = False) -> str:
    """Return `report` as text; arguments as those of report.text.render_text."""
    sheet = Sheet(max(width, LEAST_WIDTH), color=color)
    sheet.wrap(_verdict(report, epoch), style=report.findings[0].severity if report.findings else "good")
    nothing_against = "Nothing on this host speaks against it."
    add_findings(sheet, report.findings, epoch=epoch, unweakened=nothing_against, meanings=HOST_EVIDENCE)
    sheet.heading(f"Sockets: {count(sum(report.states.values()))}")
    sheet.table(["", ""], [[state, count(number)] for state, number in report.states.items() if number])
    _services(sheet, report.services)
    _counters(sheet, report.counters)
    sheet.heading("Host")
    sheet.wrap(f"{report.host}, {count(report.looks, 'look')}, sockets from {report.source}", front="  ")
    if report.compared_with:
        sheet.wrap(f"compared with {report.compared_with}", front="  ")
    sheet.wrap(span(report.first_ts_ns, report.last_ts_ns, epoch=epoch), front="  ")
    for note in report.notes:
        sheet.wrap(f"not seen: {note}", front="  ")
    return sheet.text()


def _counters(sheet: Sheet, counters: dict[str, tuple[int, int | None]]) -> None:
    told = [
        [name, count(total), "" if growth is None else count(growth)]
        for name, (total, growth) in counters.items()
        if total or growth
    ]
    if told:
        known = 3 if any(growth for _, _, growth in told) else 2  # of a single look there is no growth
        sheet.heading("Counters of the kernel")
        sheet.table(["", "since its start", "meanwhile"][:known], [row[:known] for row in told])


def _verdict(report: HostReport, epoch: bool) -> str:
    sockets = count(sum(report.states.values()), "socket")
    if not report.findings:
        told = f"No fault found on {report.host}: {sockets}."
    else:
        worst, *more = report.findings
        told = sentence(worst, epoch=epoch)
        told = (
            f"{told[:1].upper()}{told[1:]}"
            if worst.severity != "info"
            else (f"Nothing alarming in {sockets}. Worth knowing: {told}")
        )
        if more:
            severities = Counter(finding.severity for finding in more)
            listed = [f"{severities[name]} {name}" for name in reversed(SEVERITIES) if severities[name]]
            told += f" {count(len(more), 'more finding')} ({', '.join(listed)})."
    return f"{told} Interrupted: this is what was seen until then." if report.interrupted else told


def _services(sheet: Sheet, services: tuple[dict[str, Any], ...]) -> None:
    if not services:
        return
    shown = services[:_SERVICES_SHOWN]
    busiest = f": the {len(shown)} busiest of {count(len(services))}" if len(services) > len(shown) else ""
    sheet.heading(f"Services{busiest}")
    rows = [
        [
            service["service"],
            f"{count(service['accept_queue'])} of {'?' if service['backlog'] is None else count(service['backlog'])}",
            *(count(service["states"].get(state, 0)) for state in _STATES),
        ]
        for service in shown
    ]
    sheet.table(["service", "queue", *_STATES], rows)
    held = [
        [service["service"], ", ".join(filter(None, [*service["processes"], service["unit"]]))] for service in shown
    ]
    if any(holders for _, holders in held):
        sheet.add()
        sheet.table(["service", "held by"], held, numbers=False)


def render_host_json(report: HostReport, *, epoch: bool = False) -> str:
    """Return `report` as a JSON document with a line feed at its end; `epoch` as for report.json.render_json."""

    def time(ts_ns: int) -> str | float:
        return ts_ns / 1e9 if epoch else rfc3339(ts_ns)

    document = {
        "schema": SCHEMA,
        "host": {
            "name": report.host,
            "first_ts": time(report.first_ts_ns),
            "last_ts": time(report.last_ts_ns),
            "looks": report.looks,
            "source": report.source,
            "compared_with": report.compared_with,
            "notes": list(report.notes),
            "interrupted": report.interrupted,
        },
        "sockets": {"total": sum(report.states.values()), "states": report.states},
        "services": list(report.services),
        "counters": {name: {"total": total, "growth": growth} for name, (total, growth) in report.counters.items()},
        "findings": [finding_as_json(finding, epoch=epoch) for finding in report.findings],
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"
