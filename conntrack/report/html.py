"""The report as one HTML page that needs nothing else: no network, no other file, and most of it no JavaScript.

Here are the numbers and words for page/page.html, which has the markup; jinja2 escapes every one of them, after
`printable` has made visible what a terminal or a browser would obey (both in `_environment`, nowhere else). The page's
policy allows its own scripts and styles by their hashes and nothing besides. What JavaScript adds (charts that zoom, a
table that sorts) reads the data block, packed.py; page/*.js says how.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from conntrack.addresses import endpoint_text
from conntrack.core.abi import FLOW_DTYPE
from conntrack.detect.finding import Finding
from conntrack.report import glossary
from conntrack.report.chosen import MOST_ROWS, ORDER, SIGNS, choose, put_first, signs_of
from conntrack.report.format import bytes_text, clock, count, duration, evidence_text, path_text, printable, told, words
from conntrack.report.model import GroupSeries, Report, StateSeries
from conntrack.report.packed import pack, pack_rows, reduced
from conntrack.report.rungs import ladder
from conntrack.report.verdict import verdict
from conntrack.states import ClosedBy, EndReason, Evidence, FlowFlag, TcpState
from conntrack.times import rfc3339, unix_seconds

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_frame", "render_html"]

Rows = np.ndarray[Any, Any]
Counts = dict[str, list[int]]

_SCRIPTS = ("uplot/uPlot.iife.min.js", "data.js", "charts.js", "table.js", "page.js")
_STYLES = ("uplot/uPlot.min.css", "page.css")
_STATIC_ROWS = 100
"""Rows of the table that are there without JavaScript."""
_FINDING_ROWS = 3
"""Rows under a finding; all of them are in the table."""
_FINDINGS = 100
_POINTS = 1_600
"""Of the series of all connections: one for each pixel of a wide screen, or two for a zoom."""
_GROUP_POINTS = 200
"""Of the series of a service or a host."""
_SPARK_POINTS, _GROUP_SPARK_POINTS = 240, 60
_SPARK_SERVICES = 5
_SPARK_WIDTH, _SPARK_HEIGHT = 240, 24
_FRAME_HEIGHT = 720
_SECOND_NS = 10**9
_SPELLINGS = {state.name.lower().replace("_", " "): state.name for state in TcpState if "_" in state.name}
_SPELLINGS |= {"synack": "SYN+ACK", "syn": "SYN", "rst": "RST", "fin": "FIN", "rfc6191": "RFC 6191"}
_SPELLED = re.compile(r"\b(" + "|".join(sorted(_SPELLINGS, key=len, reverse=True)) + r")\b")


def render_html(report: Report, *, epoch: bool = False) -> str:
    """Return `report` as a page, about 100 kB and 100 bytes for each connection in its table, 10,000 at most.

    Args:
        report: what was found. Its connections are `report.chosen`, else chosen from `report.flows`, else there are
            none; its ladders are `report.stories`.
        epoch: times in unix seconds instead of dates.

    Raises:
        ModuleNotFoundError: jinja2 is not installed.
    """
    scripts, styles = ([_asset(name) for name in names] for names in (_SCRIPTS, _STYLES))
    scripts[0] = f"/*!\n{_asset('uplot/LICENSE')}*/\n{scripts[0]}"  # goes with every copy, and the page is one
    page = _Page(report, epoch)
    return (
        _environment()
        .get_template("page.html")
        .render(scripts=scripts, styles=styles, policy=_policy(scripts, styles), **page.values())
        .strip()
        + "\n"
    )


def render_frame(report: Report) -> str:
    """Return the page in a frame for a notebook: its scripts run there, out of reach of the notebook's own."""
    frame = '<iframe sandbox="allow-scripts" width="100%" height="{{ height }}" srcdoc="{{ page }}"></iframe>'
    # As it is: its text was made visible when the page was.
    template = _environment().overlay(finalize=lambda value: value).from_string(frame)
    return template.render(page=render_html(report), height=_FRAME_HEIGHT)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("conntrack.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,  # Markup is a subclass, and ours
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment


@cache
def _asset(name: str) -> str:
    return files("conntrack.report").joinpath("page", name).read_text("utf-8")


def _policy(scripts: list[str], styles: list[str]) -> str:
    """Return the Content-Security-Policy (CSP level 3): our own scripts and styles by their hashes, nothing else."""

    def hashes(texts: list[str]) -> str:
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes(scripts)}; style-src {hashes(styles)}; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


class _Page:
    """Collects what the template shows."""

    def __init__(self, report: Report, epoch: bool) -> None:
        self._report = report
        self._epoch = epoch
        self._findings = report.findings[:_FINDINGS]
        self._rows = self._chosen()
        self._by_id = {int(flow_id): at for at, flow_id in enumerate(self._rows["flow_id"])}
        self._origin_s = (report.capture.first_ts_ns or 0) // _SECOND_NS
        self._signs = signs_of(self._rows)
        self._tagged = bool(self._rows["tag"].any())
        self._stories = {story.flow_id: story for story in report.stories}
        self._told: set[int] = set()  # those that an earlier finding has

    def _chosen(self) -> Rows:
        behind = [flow_id for finding in self._findings for flow_id in finding.flow_ids]
        if self._report.chosen is not None:
            return put_first(self._report.chosen, behind)
        if self._report.flows is not None:
            flows = self._report.flows
            return put_first(choose(flows), behind, flows[np.isin(flows["flow_id"], np.array(behind, np.uint64))])
        return np.empty(0, FLOW_DTYPE)

    def values(self) -> dict[str, Any]:
        report = self._report
        findings = [self._finding(number, finding) for number, finding in enumerate(self._findings, 1)]
        return {
            "title": verdict(report, epoch=self._epoch),
            "severity": report.findings[0].severity if report.findings else "good",
            "capture": self._capture(),
            "findings": findings,
            "findings_left": len(report.findings) - len(findings),
            "sparks": self._sparks(),
            "service_sparks": self._service_sparks(),
            "services_over_time": self._services_over_time(),
            "step": None if report.series is None else f"{report.series.step_ns / _SECOND_NS:g}",
            "hosts_left_out": self._hosts_left_out(),
            "states": self._states(),
            "services": self._services(),
            "total": report.connections.total,
            "in_table": len(self._rows),
            "tagged": self._tagged,
            "aggregated": max(report.connections.total - len(self._rows), 0),
            "most_rows": MOST_ROWS,
            "order": ORDER,
            "static_rows": [self._row(at) for at in range(min(len(self._rows), _STATIC_ROWS))],
            "ladders_told": bool(report.stories),
            "help": self._help(),
            "data": self._data(),
        }

    # --- Findings -----------------------------------------------------------------------------------------------------

    def _finding(self, number: int, finding: Finding) -> dict[str, Any]:
        known = [self._by_id[flow_id] for flow_id in finding.flow_ids if flow_id in self._by_id]
        laddered = [flow_id for flow_id in finding.flow_ids if flow_id in self._stories]
        evidence = []
        for key, value in told(finding.evidence):
            label, text = evidence_text(key, value, epoch=self._epoch)
            if key.endswith("_ts_ns") and isinstance(value, int):
                text = self._moment(value)[1]
            evidence.append((_label(label), text, glossary.EVIDENCE.get(key)))
        values = {
            "number": number,
            "severity": finding.severity,
            "kind": _label(words(finding.kind)),
            "subject": finding.subject,
            "since": self._moment(finding.first_ts_ns),
            "until": self._moment(finding.last_ts_ns),
            "length": duration(finding.last_ts_ns - finding.first_ts_ns),
            "count": finding.count,
            "peak": finding.peak,
            "evidence": evidence,
            "caveats": finding.caveats,
            "next_steps": [(step, step[:1].islower()) for step in finding.next_steps],
            "in_table": len(known),
            "rows": [self._row(at) for at in known[:_FINDING_ROWS]],
            "unknown": [flow_id for flow_id in finding.flow_ids if flow_id not in self._by_id],
            "ladders": [ladder(self._stories[flow_id]) for flow_id in laddered if flow_id not in self._told],
            "told_above": [flow_id for flow_id in laddered if flow_id in self._told],
        }
        self._told.update(laddered)
        return values

    # --- Counts -------------------------------------------------------------------------------------------------------

    def _capture(self) -> dict[str, Any]:
        capture = self._report.capture
        span = None
        if capture.first_ts_ns is not None and capture.last_ts_ns is not None:
            first, last = self._moment(capture.first_ts_ns), self._moment(capture.last_ts_ns)
            span = (first, last, duration(capture.last_ts_ns - capture.first_ts_ns))
        skipped = sorted(capture.skipped.items(), key=lambda item: (-item[1], item[0]))
        return {
            "files": ["standard input" if name == "-" else path_text(name) for name in capture.files],
            "packets": count(capture.packets, "packet"),
            "bytes": bytes_text(capture.bytes),
            "segments": count(capture.tcp_segments, "TCP segment"),
            "span": span,
            "skipped": [(words(reason), number) for reason, number in skipped],
            "skipped_total": sum(capture.skipped.values()),
            "inversions": capture.time_inversions,
            "evicted": self._report.connections.evicted,
            "faults": capture.faults,
            "interrupted": capture.interrupted,
        }

    def _states(self) -> list[tuple[str, int, int]]:
        counts = self._report.connections
        rows = ((state, clients, counts.server_states[state]) for state, clients in counts.client_states.items())
        return [row for row in rows if row[1] or row[2]]

    def _services(self) -> list[dict[str, Any]]:
        ends = zip(self._rows["server_ip"], self._rows["ip_version"], self._rows["server_port"], strict=True)
        shown = Counter(endpoint_text(ip.tobytes(), int(version), int(port)) for ip, version, port in ends)
        return [
            {
                **row,
                "handshake": _handshake(row["handshake_p50_s"]),
                "handshake_worst": _handshake(row["handshake_p99_s"]),
                "states": sorted(row["server_states"].items(), key=lambda item: -item[1]),
                "in_table": shown[row["service"]],
            }
            for row in self._report.services
        ]

    def _hosts_left_out(self) -> str:
        groups = self._report.group_series
        if groups is None or (groups.clients_counted and groups.unproven_clients_counted):
            return ""
        which = "Hosts" if not groups.clients_counted else "Hosts that never got past a handshake"
        return f"{which} are not among them as clients: there are too many."

    def _sparks(self) -> list[dict[str, Any]]:
        """Return a line for each end and state that ever occurred."""
        series = self._report.series
        if series is None:
            return []
        ends = (("client", series.client), ("server", series.server))
        return [line for end, states in ends for line in self._lines(end, states, series, _SPARK_POINTS)]

    def _service_sparks(self) -> list[dict[str, Any]]:
        """Return the same for the ends of each of the busiest services, where there are several."""
        groups = self._report.group_series
        if groups is None or groups.services_total < 2:
            return []
        named = list(groups.services.items())[:_SPARK_SERVICES]
        return [line for name, states in named for line in self._lines(name, states, groups, _GROUP_SPARK_POINTS)]

    def _services_over_time(self) -> str:
        groups = self._report.group_series
        shown = 0 if groups is None else min(len(groups.services), _SPARK_SERVICES)
        if groups is None or shown == groups.services_total:
            return "all of them"
        return f"the {shown} of {count(groups.services_total)} with the most ends at once"

    def _lines(
        self, whose: str, states: Counts, grid: StateSeries | GroupSeries, points: int
    ) -> Iterator[dict[str, Any]]:
        """Yield the peak of each state, when that was, and the points of a small chart."""
        for state, counts in states.items():
            if peak := max(counts, default=0):
                at_ns = grid.first_ts_ns + grid.step_ns * counts.index(peak)
                when = (self._moment(at_ns), clock(at_ns, epoch=self._epoch))
                yield {"whose": whose, "state": state, "peak": peak, "when": when, "last": counts[-1]} | {
                    "points": _polyline(counts, peak, points),
                    "width": _SPARK_WIDTH,
                    "height": _SPARK_HEIGHT,
                }

    # --- Connections --------------------------------------------------------------------------------------------------

    def _row(self, at: int) -> dict[str, Any]:
        row = self._rows[at]
        version = int(row["ip_version"])
        signs = int(self._signs[at])
        first_ns = int(row["first_ts_ns"])
        return {
            "id": int(row["flow_id"]),
            **{
                side: endpoint_text(row[f"{side}_ip"].tobytes(), version, int(row[f"{side}_port"]))
                for side in ("client", "server")
            },
            "tag": int(row["tag"]),
            "client_state": TcpState(row["client_state"]).name,
            "server_state": TcpState(row["server_state"]).name,
            "start": (self._moment(first_ns), clock(first_ns, epoch=self._epoch)),
            "duration": duration(int(row["last_ts_ns"]) - first_ns),
            "client_bytes": bytes_text(int(row["client_payload_bytes"])),
            "server_bytes": bytes_text(int(row["server_payload_bytes"])),
            "segments": int(row["client_packets"]) + int(row["server_packets"]),
            "retransmits": int(row["client_retransmits"]) + int(row["server_retransmits"]),
            "ended": words(EndReason(row["end_reason"]).name.lower()),
            "signs": ", ".join(sign for bit, sign in enumerate(SIGNS) if signs >> bit & 1),
        }

    def _help(self) -> list[tuple[str, list[glossary.Term]]]:
        used = dict.fromkeys(key for finding in self._findings for key in finding.evidence)
        evidence = [glossary.EVIDENCE[key] for key in sorted(used) if key in glossary.EVIDENCE]
        sections = [
            ("In general", list(glossary.GENERAL)),
            ("Evidence of these findings", [term._replace(name=_label(term.name)) for term in evidence]),
            ("States", list(glossary.STATES)),
            ("Services", list(glossary.SERVICES)),
            ("The table of connections", [term for term in glossary.TABLE if self._tagged or term.name != "tag"]),
            ("Signs of trouble", [glossary.Term(sign, glossary.SIGNS[sign] + ".") for sign in SIGNS]),
        ]
        return [section for section in sections if section[1]]

    # --- For JavaScript -----------------------------------------------------------------------------------------------

    def _data(self) -> dict[str, Any]:
        report = self._report
        return {
            "origin": self._origin_s,
            "epoch": self._epoch,
            "files": [printable(path_text(name)) for name in report.capture.files],
            "states": [state.name for state in TcpState],
            "evidence": [word.name.lower() for word in Evidence],
            "ends": [words(reason.name.lower()) for reason in EndReason],
            "closed_by": [word.name.lower() for word in ClosedBy],
            "signs": SIGNS,
            "flags": [words((flag.name or "").lower()) for flag in FlowFlag],
            "findings": [
                {
                    "name": printable(f"{number} {_label(words(finding.kind))} {finding.subject}"),
                    "subject": printable(finding.subject),
                    "severity": finding.severity,
                    "first": (finding.first_ts_ns - self._origin_s * _SECOND_NS) / _SECOND_NS,
                    "last": (finding.last_ts_ns - self._origin_s * _SECOND_NS) / _SECOND_NS,
                    "ids": list(finding.flow_ids),
                }
                for number, finding in enumerate(self._findings, 1)
            ],
            "ladders": [story.flow_id for story in report.stories],
            "table": pack_rows(self._rows, self._origin_s),
            "series": self._series(),
        }

    def _series(self) -> list[dict[str, Any]]:
        """Return what the charts choose from: all connections first, then services, then hosts."""
        series, groups = self._report.series, self._report.group_series
        if series is None:
            return []
        both = [("Clients", series.client), ("Servers", series.server)]
        found = [self._chart("", "all connections", series, both, _POINTS)]
        if groups is not None:
            services = dict(groups.services)
            others = groups.services_total - len(services)
            if groups.services_rest and others:
                services[count(others, "other service")] = groups.services_rest
            for kind, named, title in (
                ("Services", services, "The server's ends"),
                ("Hosts", groups.hosts, "All ends of the host"),
            ):
                for name, states in named.items():
                    found.append(self._chart(kind, name, groups, [(title, states)], _GROUP_POINTS))
        return found

    def _chart(
        self, kind: str, name: str, grid: StateSeries | GroupSeries, ends: list[tuple[str, Counts]], points: int
    ) -> dict[str, Any]:
        return {
            "kind": kind,
            "name": printable(name),
            "first": (grid.first_ts_ns - self._origin_s * _SECOND_NS) / _SECOND_NS,
            "step": grid.step_ns / _SECOND_NS,
            "steps": max((len(counts) for _, states in ends for counts in states.values()), default=0),
            "ends": [
                {
                    "title": title,
                    "states": {state: pack(np.array(reduced(counts, points))) for state, counts in states.items()},
                }
                for title, states in ends
            ],
        }

    def _moment(self, ts_ns: int) -> tuple[str, str]:
        """Return an instant in full, and as it is shown: to the microsecond, in UTC."""
        if self._epoch:
            return unix_seconds(ts_ns), unix_seconds(ts_ns)[:-3]
        full = rfc3339(ts_ns)
        return full, f"{full[:10]} {full[11:26].rstrip('0').rstrip('.')}"


def _label(text: str) -> str:
    """Return words of ours with the states and flags in them spelled as everywhere: "CLOSE_WAIT leak"."""
    return _SPELLED.sub(lambda found: _SPELLINGS[found[0]], text)


def _handshake(seconds: float | None) -> str:
    return "" if seconds is None else duration(round(seconds * 1e9))


def _polyline(counts: list[int], peak: int, points: int) -> str:
    """Return `counts` as the points of an SVG polyline, the highest of each group of steps."""
    values = reduced(counts, points)
    wide = max(len(values) - 1, 1)
    tall = _SPARK_HEIGHT - 2
    corners = (
        f"{at * _SPARK_WIDTH / wide:.3g},{_SPARK_HEIGHT - 1 - value * tall / peak:.3g}"
        for at, value in enumerate(values)
    )
    return " ".join(corners)
