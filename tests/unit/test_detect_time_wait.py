"""time_wait_buildup from rows made by hand."""

from __future__ import annotations

import detected
import numpy as np
import pytest
from flow_rows import T0, T0_NS, at, completed, flow, flows, many

from conntrack.core.survey import WaitColumn
from conntrack.detect import Detection
from conntrack.detect.batch import WAIT_GRID_NS
from conntrack.detect.occupancy import Occupancy
from conntrack.detect.time_wait import TimeWaitBuildup
from conntrack.states import FlowFlag, TcpState

END = at(600)


def found(rows, end=END, **options):
    return detected.found(TimeWaitBuildup, rows, end, **options)


def spans(row, side):
    """From when to when one end was in TIME_WAIT: on a grid of 0.1 s, the first instants that are not before."""
    page = Detection([])._look(row)
    waits = page.server_waits if side == "server" else page.client_waits
    spans = Occupancy(WAIT_GRID_NS)
    spans.add_packed(waits[WaitColumn.KEY], waits[WaitColumn.WHEN])
    ticks = [(first, last) for _, _, *of_key, _ in spans.busiest(1) for first, last in zip(*of_key, strict=True)]
    return [(round(first / 10 - T0, 6), round(last / 10 - T0, 6)) for first, last in ticks]


def test_time_wait_is_at_the_end_that_closes_first():
    by_client, by_server = completed(0, 1, 0.02, by="client"), completed(0, 1, 0.02, by="server")
    assert spans(by_client, "client") == spans(by_server, "server") == [(1.1, 61.1)]
    assert spans(by_client, "server") == spans(by_server, "client") == []


def test_crossing_fins_leave_time_wait_at_both_ends():
    both = flow(
        client_fin_ts=1.0, server_fin_ts=1.001, client_fin_received_ts=1.02, server_fin_received_ts=1.03,
        client_fin_acked_ts=1.02, server_fin_acked_ts=1.03, client_state=TcpState.TIME_WAIT,
        server_state=TcpState.TIME_WAIT, client_since_ts=1.03, server_since_ts=1.03,
    )  # fmt: skip
    assert spans(both, "client") == [(1.1, 61.1)]
    assert spans(both, "server") == [(1.1, 61.1)]


def test_a_reset_or_a_new_connection_ends_time_wait_early():
    cut = completed(0, 1, 0.02, client_since_ts=5.0, closed_ts=5.0)
    assert spans(cut, "client") == [(1.1, 5.0)]
    live = completed(0, 1, 0.02, client_since_ts=1.05, closed_ts=None, client_state=TcpState.TIME_WAIT)
    assert spans(live, "client") == [(1.1, 61.1)]
    replaced = completed(0, 1, 0.02, client_since_ts=1.05, closed_ts=9.0, client_state=TcpState.TIME_WAIT)
    assert spans(replaced, "client") == [(1.1, 9.0)]


@pytest.mark.parametrize(
    ("per_s", "severity"), [(100, None), (230, None), (240, "warning"), (370, "warning"), (380, "critical")]
)
def test_a_steady_rate_fills_the_ports_as_arithmetic_says(per_s, severity):
    """470.5 a second fill all of 28,232 ports: 50 % is 235.3 a second, 80 % is 376.4."""
    rows = many(completed(0, 0.01, 0.001), np.arange(0, 200, 1 / per_s))
    findings = found(rows)
    assert [finding.severity for finding in findings] == ([severity] if severity else [])
    for finding in findings:
        assert finding.subject == "10.0.0.1"
        assert finding.evidence["service"] == "10.0.0.2:80"
        assert finding.peak == pytest.approx(60 * per_s, abs=per_s * 0.1)
        assert finding.evidence["rate_before_peak_per_s"] == pytest.approx(per_s, rel=0.01)
        assert finding.count == len(rows)
        assert list(finding.flow_ids) == sorted(finding.flow_ids)
        assert len(finding.flow_ids) == 100
        assert T0_NS + 29e9 < finding.first_ts_ns < T0_NS + 61e9
        assert T0_NS + 200e9 < finding.last_ts_ns < T0_NS + 245e9


def test_the_peak_is_that_of_event_sorting_at_the_grid():
    rng = np.random.default_rng(1)
    shifts = np.sort(rng.uniform(0, 300, 5000))
    findings = found(many(completed(0, 0.01, 0.001), shifts), ephemeral_ports=1000)
    starts = np.round(shifts * 1e6) / 1e6 + 0.0125
    instants = np.arange(0, 400, 0.1)
    held = np.searchsorted(starts, instants, "right") - np.searchsorted(starts + 60, instants, "right")
    assert findings[0].peak == held.max()
    assert findings[0].severity == "critical"


def test_many_clients_of_one_service_share_no_budget():
    """A NAT-less crowd: 20,000 TIME_WAITs at 1,000 clients are 20 at each."""
    rows = many(completed(0, 0.01, 0.001), np.arange(20_000) / 1000, client_ips=np.arange(20_000) % 1000 + 0x0B000000)
    assert found(rows) == []


def test_one_client_of_many_services_shares_no_budget_either():
    rows = many(completed(0, 0.01, 0.001), np.arange(20_000) / 1000)
    rows["server_port"] = 1000 + np.arange(20_000) % 100
    assert found(rows) == []


def test_at_the_server_it_is_only_told():
    rows = many(completed(0, 0.01, 0.001, by="server"), np.arange(30_000) / 1000)
    (finding,) = found(rows)
    assert (finding.subject, finding.severity, finding.peak) == ("10.0.0.2:80", "info", 30_000)
    assert finding.evidence["side"] == "server"
    assert found(rows[:900]) == []


def test_reuse_is_counted_and_whether_it_was_allowed():
    rows = many(completed(0, 0.01, 0.001), np.arange(2000) / 100)
    rows["flags"][:30] |= np.uint32(FlowFlag.REUSED_TIME_WAIT)
    rows["flags"][:20] |= np.uint32(FlowFlag.REUSED_BY_RFC6191)
    rows["client_syns"][20:30] = 2
    (finding,) = found(rows, ephemeral_ports=2000)
    assert [finding.evidence[name] for name in ("reused", "reused_by_rfc6191", "reused_after_retry")] == [30, 20, 10]


def test_what_comes_after_the_end_of_the_capture_is_not_reported():
    rows = many(completed(0, 0.01, 0.001), np.arange(2000) / 100)
    assert found(rows, end=at(5), ephemeral_ports=2000) == []
    (finding,) = found(rows, end=at(15), ephemeral_ports=2000)
    assert finding.peak == pytest.approx(1500, abs=15)
    assert finding.last_ts_ns <= at(15)


def test_an_ipv6_pair_reads_as_ipv6():
    row = completed(0, 0.01, 0.001, client="[2001:db8::5]:40000", server="[2001:db8::1]:443")
    (finding,) = found(many(row, np.arange(300) / 100), ephemeral_ports=400)
    assert finding.subject == "2001:db8::5"
    assert finding.evidence["service"] == "[2001:db8::1]:443"


def test_nothing_fed_is_nothing_found():
    assert found(flows()) == []
    assert found(flows(), END) == []
