"""What `ctrack host --listen` tells Prometheus: names, labels and help of each number. README has the same table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from conntrack.cli.live_metrics import finding_families

if TYPE_CHECKING:
    from conntrack.report.host import HostReport

__all__ = ["families"]

_SERVICES_MOST = 100
"""A host may listen on thousands of ports; the busiest are told, so that no series of Prometheus come and go."""


def families(report: HostReport | None) -> Iterator[Any]:
    """Yield prometheus_client's metric families for the last look; nothing before the first one."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    if report is None:
        return
    sockets = GaugeMetricFamily("ctrack_host_sockets", "TCP sockets, by RFC 9293 state.", labels=["state"])
    for state, number in report.states.items():
        sockets.add_metric([state], number)
    yield sockets
    labels = ["service", "state"]
    states = GaugeMetricFamily("ctrack_host_service_sockets", "Sockets of a listening service.", labels=labels)
    queue = GaugeMetricFamily("ctrack_host_accept_queue", "Connections that wait for accept().", labels=["service"])
    backlog = GaugeMetricFamily("ctrack_host_accept_queue_limit", "How many may.", labels=["service"])
    for service in report.services[:_SERVICES_MOST]:
        for state, number in service["states"].items():
            states.add_metric([service["service"], state], number)
        queue.add_metric([service["service"]], service["accept_queue"])
        if service["backlog"] is not None:
            backlog.add_metric([service["service"]], service["backlog"])
    yield from (states, queue, backlog)
    counters = CounterMetricFamily(
        "ctrack_host_kernel_events", "Counters of the kernel (/proc/net/snmp, netstat, nf_conntrack).", labels=["name"]
    )
    for name, (total, _) in report.counters.items():
        counters.add_metric([name], total)
    yield counters
    yield from finding_families(report.findings)
    yield GaugeMetricFamily(
        "ctrack_host_last_look_timestamp_seconds", "When this was so, unix time.", report.last_ts_ns / 1e9
    )
