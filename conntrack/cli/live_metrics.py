"""What `ctrack live --listen` tells Prometheus: names, labels and help of each number. README has the same table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from conntrack.detect.finding import SEVERITIES, Finding

if TYPE_CHECKING:
    from conntrack.cli.live_status import Status

__all__ = ["families", "finding_families"]


def families(status: Status | None) -> Iterator[Any]:
    """Yield prometheus_client's metric families for what was seen last; nothing before the first look."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    if status is None:
        return
    look = status.look
    yield CounterMetricFamily("ctrack_capture_packets", "Packets captured.", status.packets)
    yield CounterMetricFamily("ctrack_capture_bytes", "Bytes of capture read.", status.bytes)
    if status.dropped is not None:
        yield CounterMetricFamily(
            "ctrack_capture_dropped_packets", "Packets that the capturing program says were lost.", status.dropped
        )
    skipped = CounterMetricFamily("ctrack_skipped_packets", "Packets not tracked, by reason.", labels=["reason"])
    for reason, number in sorted(status.skipped.items()):
        skipped.add_metric([reason], number)
    yield skipped
    yield GaugeMetricFamily("ctrack_waiting_segments", "Segments captured and not tracked yet.", status.waiting)
    yield CounterMetricFamily("ctrack_segments", "TCP segments tracked.", look.segments)
    yield CounterMetricFamily("ctrack_connections", "Connections seen.", look.connections)
    yield CounterMetricFamily("ctrack_evicted_connections", "Connections given up for want of memory.", look.evicted)
    yield GaugeMetricFamily("ctrack_open_connections", "Connections with an end that is open.", look.open_connections)
    ends = GaugeMetricFamily("ctrack_ends", "Ends of connections, by RFC 9293 state.", labels=["end", "state"])
    for end, states in (("client", look.client_states), ("server", look.server_states)):
        for state, number in states.items():
            ends.add_metric([end, state], number)
    yield ends
    opened = CounterMetricFamily("ctrack_findings_opened", "Findings opened, by kind.", labels=["kind"])
    for kind, number in sorted(look.opened.items()):
        opened.add_metric([kind], number)
    yield opened
    yield from finding_families(look.findings)
    yield GaugeMetricFamily("ctrack_look_duration_seconds", "What the last look at all of this took.", look.cost_s)


def finding_families(findings: Iterable[Finding]) -> Iterator[Any]:
    """Yield the families that tell what is wrong now."""
    from prometheus_client.core import GaugeMetricFamily

    labels = ["kind", "subject"]
    severity = GaugeMetricFamily(
        "ctrack_finding_severity", "Findings that hold: 1 info, 2 warning, 3 critical.", labels=labels
    )
    count = GaugeMetricFamily("ctrack_finding_connections", "Connections concerned by a finding.", labels=labels)
    seen = GaugeMetricFamily(
        "ctrack_finding_last_seen_timestamp_seconds", "When a finding was seen last, unix time.", labels=labels
    )
    for finding in findings:
        values = [finding.kind, finding.subject]
        severity.add_metric(values, SEVERITIES.index(finding.severity) + 1)
        count.add_metric(values, finding.count)
        seen.add_metric(values, finding.last_ts_ns / 1e9)
    yield from (severity, count, seen)
