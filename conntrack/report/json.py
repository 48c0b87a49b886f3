"""The report as one JSON document, schema version 1: always all of its keys, in this order. Types are in jsonschema.py.

For programs, so nothing is rounded, renamed or left out when empty. A change that takes a key away, or changes what one
means, raises SCHEMA; a new key does not.
"""

from __future__ import annotations

import json
import re
from typing import Any

from conntrack.detect.finding import Finding
from conntrack.report.format import path_text
from conntrack.report.model import CaptureSummary, GroupSeries, Report, StateSeries
from conntrack.times import rfc3339

__all__ = ["SCHEMA", "finding_as_json", "render_json"]

SCHEMA = 1

_NUMBERS = re.compile(r"\[\n *(-?\d+(?:,\n *-?\d+)*)\n *\]")
"""A list of integers as indented by json; a string cannot match, for it holds no line feed."""


def render_json(report: Report, *, epoch: bool = False) -> str:
    """Return `report` as a JSON document with a line feed at its end.

    Args:
        report: what was found.
        epoch: times as unix seconds, to the 0.2 us that a JSON number holds, instead of RFC 3339 strings.
    """
    writer = _Writer(epoch)
    document = {
        "schema": SCHEMA,
        "capture": writer.capture(report.capture),
        "connections": {
            "total": report.connections.total,
            "evicted": report.connections.evicted,
            "client_states": report.connections.client_states,
            "server_states": report.connections.server_states,
            **({"summarised": list(report.summarised)} if report.summarised else {}),
        },
        "findings": [writer.finding(finding) for finding in report.findings],
        "services": list(report.services),
        "series": {**writer.series(report.series), "groups": writer.groups(report.group_series)},
    }
    text = json.dumps(document, indent=2, allow_nan=False)
    return _NUMBERS.sub(_on_one_line, text) + "\n"


def finding_as_json(finding: Finding, *, epoch: bool = False) -> dict[str, Any]:
    """Return a finding as it stands in the document."""
    return _Writer(epoch).finding(finding)


def _on_one_line(numbers: re.Match[str]) -> str:
    return "[" + re.sub(r",\n *", ", ", numbers[1]) + "]"


class _Writer:
    def __init__(self, epoch: bool) -> None:
        self._epoch = epoch

    def capture(self, capture: CaptureSummary) -> dict[str, Any]:
        return {
            "files": [path_text(name) for name in capture.files],
            "bytes": capture.bytes,
            "packets": capture.packets,
            "tcp_segments": capture.tcp_segments,
            "first_ts": self._time(capture.first_ts_ns),
            "last_ts": self._time(capture.last_ts_ns),
            "skipped": dict(sorted(capture.skipped.items())),
            "time_inversions": capture.time_inversions,
            "faults": [path_text(fault) for fault in capture.faults],
            "interrupted": capture.interrupted,
        }

    def finding(self, finding: Finding) -> dict[str, Any]:
        return {
            "kind": finding.kind,
            "subject": finding.subject,
            "severity": finding.severity,
            "first_ts": self._time(finding.first_ts_ns),
            "last_ts": self._time(finding.last_ts_ns),
            "count": finding.count,
            "peak": finding.peak,
            "evidence": self._times_in(finding.evidence),
            "caveats": list(finding.caveats),
            "next_steps": list(finding.next_steps),
            "flow_ids": list(finding.flow_ids),
        }

    def series(self, series: StateSeries | None) -> dict[str, Any]:
        if series is None:
            return {"first_ts": None, "step_s": None, "client": {}, "server": {}}
        return {
            "first_ts": self._time(series.first_ts_ns),
            "step_s": series.step_ns / 1e9,
            "client": series.client,
            "server": series.server,
        }

    def groups(self, series: GroupSeries | None) -> dict[str, Any]:
        if series is None:
            return {
                "first_ts": None,
                "step_s": None,
                "services": {},
                "services_rest": {},
                "services_total": 0,
                "hosts": {},
                "clients_counted": True,
                "unproven_clients_counted": True,
            }
        return {
            "first_ts": self._time(series.first_ts_ns),
            "step_s": series.step_ns / 1e9,
            "services": series.services,
            "services_rest": series.services_rest,
            "services_total": series.services_total,
            "hosts": series.hosts,
            "clients_counted": series.clients_counted,
            "unproven_clients_counted": series.unproven_clients_counted,
        }

    def _time(self, ts_ns: int | None) -> str | float | None:
        if ts_ns is None:
            return None
        return ts_ns / 1e9 if self._epoch else rfc3339(ts_ns)

    def _times_in(self, evidence: dict[str, Any]) -> dict[str, Any]:
        """Instants leave as all others do: `peak_ts_ns` as `peak_ts`."""
        return {
            (key.removesuffix("_ns") if key.endswith("_ts_ns") else key): (
                self._time(value) if key.endswith("_ts_ns") else value
            )
            for key, value in evidence.items()
        }
