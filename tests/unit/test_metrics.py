"""Numbers for Prometheus: each family with its labels and value, as the client library serves it."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conntrack
from conntrack.cli import host_metrics, live_metrics
from conntrack.cli.live_status import Status
from conntrack.errors import InputError
from conntrack.live import Session
from conntrack.metrics import serve
from conntrack.report.host import HostReport

INCIDENT = "tests/captures/incident.pcap"


def served(families: Iterable[Any]) -> dict[str, float]:
    """Return what is read over HTTP: {name with its labels: value}."""
    url, stop = serve("0", lambda: families)
    try:
        assert url.startswith("http://127.0.0.1:")
        text = urllib.request.urlopen(url).read().decode()
    finally:
        stop()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_live(root: Path) -> None:
    segments = np.concatenate([batch.copy() for batch in conntrack.read_segments(root / INCIDENT)])
    session = Session(clock=lambda: 0.0)
    session.feed(segments)
    look = session.look()
    status = Status(look, "eth0", 1.0, 300.0, 6057, 502_000, {"not_tcp": 3}, 7, 11)
    numbers = served(live_metrics.families(status))
    assert numbers["ctrack_capture_packets_total"] == 6057
    assert numbers["ctrack_capture_bytes_total"] == 502_000
    assert numbers["ctrack_capture_dropped_packets_total"] == 7
    assert numbers['ctrack_skipped_packets_total{reason="not_tcp"}'] == 3
    assert numbers["ctrack_waiting_segments"] == 11
    assert numbers["ctrack_segments_total"] == len(segments)
    assert numbers["ctrack_connections_total"] == 1057
    assert numbers['ctrack_ends{end="server",state="CLOSE_WAIT"}'] == 76
    labels = '{kind="close_wait_leak",subject="10.9.0.2:8080"}'
    assert numbers[f"ctrack_finding_severity{labels}"] == 2
    assert numbers[f"ctrack_finding_connections{labels}"] == 76
    assert numbers[f"ctrack_finding_last_seen_timestamp_seconds{labels}"] > 1.7e9
    assert numbers['ctrack_findings_opened_total{kind="syn_flood"}'] == 1


def test_what_is_not_known_has_no_number(root: Path) -> None:
    assert not any(name.startswith("ctrack") for name in served(live_metrics.families(None)))
    assert not any(name.startswith("ctrack") for name in served(host_metrics.families(None)))
    session = Session(clock=lambda: 0.0)
    names = served(live_metrics.families(Status(session.look(), "eth0", 1.0, 300.0)))
    assert "ctrack_capture_packets_total" in names and "ctrack_capture_dropped_packets_total" not in names


def test_host() -> None:
    services = tuple(
        {
            "service": f"0.0.0.0:{port}",
            "states": {"LISTEN": 1},
            "accept_queue": port,
            "backlog": 128 if port % 2 else None,
        }
        for port in range(1, 103)
    )
    counters: dict[str, tuple[int, int | None]] = {"ListenOverflows": (5, None)}
    report = HostReport("a", 10**18, 2 * 10**18, 3, "netlink", {"LISTEN": 102, "CLOSED": 0}, services, counters, ())
    numbers = served(host_metrics.families(report))
    assert numbers['ctrack_host_sockets{state="LISTEN"}'] == 102
    assert numbers['ctrack_host_service_sockets{service="0.0.0.0:1",state="LISTEN"}'] == 1
    assert numbers['ctrack_host_accept_queue{service="0.0.0.0:9"}'] == 9
    assert numbers['ctrack_host_accept_queue_limit{service="0.0.0.0:9"}'] == 128
    assert 'ctrack_host_accept_queue_limit{service="0.0.0.0:8"}' not in numbers
    assert 'ctrack_host_accept_queue{service="0.0.0.0:100"}' in numbers
    assert 'ctrack_host_accept_queue{service="0.0.0.0:101"}' not in numbers, "the hundred busiest"
    assert numbers['ctrack_host_kernel_events_total{name="ListenOverflows"}'] == 5
    assert numbers["ctrack_host_last_look_timestamp_seconds"] == 2e9


def test_a_port_that_is_taken() -> None:
    url, stop = serve("0", list)
    try:
        with pytest.raises(InputError, match="already in use; give another one"):
            serve(url.removeprefix("http://").removesuffix("/metrics"), list)
    finally:
        stop()
