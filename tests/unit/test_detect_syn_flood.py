"""syn_flood from rows made by hand: the shapes that must be found, and the crowds that must not."""

from __future__ import annotations

import detected
import numpy as np
import pytest
from flow_rows import at, completed, flow, flows, half_open, many, refused, unanswered

from conntrack.detect.syn_flood import SynFlood
from conntrack.states import Evidence, FlowFlag, TcpState

END = at(300)
RNG = np.random.default_rng(7)


def found(rows, end=END, **options):
    return detected.found(SynFlood, rows, end, **options)


def one(rows, end=END, **options):
    (finding,) = found(rows, end, **options)
    return finding


def forged(count):
    """Return `count` random IPv4 addresses."""
    return RNG.integers(0x0B000000, 0xDF000000, count)


def spread(count, seconds, start=0.0):
    return start + np.arange(count) * (seconds / count)


def honest(per_s, seconds, start=0.0, **fields):
    count = int(per_s * seconds)
    return many(completed(**fields), spread(count, seconds, start), client_ips=0x0A010000 + np.arange(count) % 5000)


# What is a flood.


def test_fast_flood():
    rows = flows(many(half_open(), spread(50_000, 10, 100.0), forged(50_000)), honest(20, 300))
    finding = one(rows)
    assert (finding.kind, finding.subject, finding.severity) == ("syn_flood", "10.0.0.2:80", "critical")
    evidence = finding.evidence
    assert evidence["shape"] == "fast"
    assert evidence["syn_rate_peak_per_s"] == pytest.approx(5020, rel=0.01)
    assert evidence["half_open_peak"] == finding.peak == 50_000
    assert evidence["backlog_ratio"] == pytest.approx(50_000 / 4096, rel=0.001)
    assert evidence["completion_ratio"] < 0.01
    assert evidence["synack_retransmissions"] == 250_000
    assert evidence["distinct_sources"] == len(np.unique(rows["client_ip"][:50_000], axis=0))
    assert evidence["distinct_sources_by"] == "exact"
    assert finding.count == 50_000
    assert finding.first_ts_ns == pytest.approx(at(100), abs=0.3e9)
    assert finding.last_ts_ns == pytest.approx(at(111), abs=0.3e9)
    assert finding.flow_ids == tuple(range(1, 101))


def test_slow_flood_under_any_rate_alarm():
    rows = many(half_open(), np.arange(0, 290, 0.5), forged(580))
    finding = one(rows)
    assert (finding.severity, finding.evidence["shape"]) == ("warning", "slow")
    assert finding.evidence["half_open_peak"] == 126  # 2 a second for 63 s
    assert finding.evidence["distinct_sources"] == 580
    assert one(rows, syn_backlog=124).severity == "critical"
    assert any("tcp_synack_retries" in step for step in finding.next_steps)


def test_a_slow_flood_of_a_small_backlog_shows_through_honest_traffic():
    rows = flows(many(half_open(), np.arange(0, 290, 0.5), forged(580)), honest(100, 290))
    assert found(rows) == []  # 126 of 4096, and nearly all attempts complete
    assert one(rows, syn_backlog=128).evidence["completion_ratio"] > 0.9


def test_syn_cookies_absorb_the_flood():
    rows = flows(many(half_open(synacks=1), spread(30_000, 30, 10.0), forged(30_000)), honest(50, 300))
    finding = one(rows)
    assert (finding.severity, finding.evidence["shape"]) == ("warning", "syn_cookies")
    assert finding.evidence["answered_once_ratio"] == 1.0
    assert finding.evidence["synack_retransmissions"] == 0


def test_all_syn_from_many_sources():
    rows = many(unanswered(), spread(20_000, 20, 10.0), forged(20_000))
    finding = one(rows)
    assert (finding.severity, finding.evidence["shape"]) == ("warning", "all_syn")
    assert finding.evidence["half_open_peak"] == 0
    assert finding.peak == finding.count == 20_000
    assert finding.first_ts_ns == pytest.approx(at(10), abs=0.2e9)
    assert finding.last_ts_ns == pytest.approx(at(30), abs=0.2e9)
    assert any("one direction" in caveat for caveat in finding.caveats)
    assert one(many(unanswered(), spread(60_000, 20), forged(60_000))).severity == "critical"


def test_all_syn_from_one_source_needs_a_great_rate():
    assert found(many(unanswered(), spread(2000, 10))) == []
    finding = one(many(unanswered(), spread(20_000, 10)))
    assert finding.evidence["distinct_sources"] == 1
    assert any("Only 1 sources" in caveat for caveat in finding.caveats)


def test_a_flood_in_a_capture_of_a_second_is_told_with_its_doubt():
    finding = one(many(unanswered(), spread(5000, 1.0), forged(5000)), end=at(1.0))
    assert finding.evidence["shape"] == "all_syn"
    assert any("too short" in caveat for caveat in finding.caveats)


def test_a_server_that_drops_when_its_backlog_is_full_makes_one_finding():
    rows = flows(
        many(half_open(), spread(6000, 6, 10.0), forged(6000)),
        many(unanswered(), spread(50_000, 50, 16.0), forged(50_000)),
    )
    finding = one(rows)
    assert finding.evidence["shape"] == "fast"
    assert finding.evidence["half_open_peak"] == 6000


def test_honest_clients_that_suffer_are_counted():
    late = completed(0, 1, syn_ts=0.0, synack_ts=3.0, established_ts=3.02, client_syns=3)
    rows = flows(many(half_open(), spread(5000, 10), forged(5000)), many(late, spread(10, 5)), honest(3, 10))
    assert one(rows).evidence["honest_delayed_or_refused_ratio"] == pytest.approx(10 / 40, abs=0.02)


def test_each_service_has_its_own_finding_worst_first():
    big = many(half_open(server="[2001:db8::1]:443", client="[2001:db8::2]:1"), spread(9000, 9))
    big["client_ip"][:, 14:] = np.arange(9000).astype(">u2").view(np.uint8).reshape(-1, 2)
    findings = found(flows(many(half_open(), spread(3000, 9), forged(3000)), big))
    assert [finding.subject for finding in findings] == ["[2001:db8::1]:443", "10.0.0.2:80"]
    assert findings[0].evidence["distinct_sources"] == 9000


def test_clients_that_repeat_their_syn_weaken_the_finding():
    finding = one(many(half_open(client_syns=4), spread(3000, 30), forged(3000)))
    assert any("broken" in caveat for caveat in finding.caveats)


# What is not.


def test_a_flash_crowd_is_silent():
    assert found(honest(5000, 10)) == []


def test_a_flash_crowd_cut_by_the_end_of_the_capture_is_silent():
    crowd = many(
        half_open(synacks=1, client_state=TcpState.SYN_SENT, server_state=TcpState.SYN_RECEIVED, closed_ts=None,
                  client_since_ts=0.0, server_since_ts=0.01),
        spread(5000, 0.9, 299.1), forged(5000),
    )  # fmt: skip
    assert found(flows(crowd, honest(100, 299))) == []


def test_a_flash_crowd_on_a_slow_path_is_silent():
    assert found(honest(2000, 20, rtt=0.9)) == []


def test_a_nat_with_thousands_behind_it_is_silent():
    rows = many(completed(), spread(20_000, 10), client_ips=0x0A000001)
    assert found(rows) == []


def test_a_port_scan_is_silent():
    ports = 1 + np.arange(60_000)
    for row in (refused(), unanswered(), half_open(reset_ts=0.02, closed_ts=0.02)):
        rows = many(row, spread(60_000, 60))
        rows["server_port"] = ports
        assert found(rows) == []


def test_a_scan_of_many_hosts_is_silent():
    rows = many(half_open(), spread(60_000, 60))
    rows["server_ip"][:, 12:] = np.arange(60_000).astype(">u4").view(np.uint8).reshape(-1, 4)
    assert found(rows) == []


def test_a_service_that_is_down_is_silent():
    assert found(many(unanswered(syns=6), spread(5000, 100), forged(5000))) == []
    assert found(many(refused(), spread(50_000, 10), forged(50_000))) == []


def test_a_service_that_is_down_as_the_capture_ends_is_silent():
    rows = flows(
        many(unanswered(syns=3), spread(5000, 10, 285.0), forged(5000)),
        many(unanswered(), spread(700, 1.4, 298.6), forged(700)),
    )
    assert found(rows) == []


def test_impatient_clients_of_a_service_that_is_down_are_silent():
    """60 health checkers, each with a timeout of a second and a new port each time."""
    assert found(many(unanswered(), spread(6000, 100), 0x0A000000 + np.arange(6000) % 60)) == []


@pytest.mark.parametrize("loss", [0.1, 0.2])
def test_a_capture_that_loses_frames_is_silent(loss):
    """What is left of honest connections, and of a service that is down, when a share of the frames is missing."""
    kept = RNG.random((20_000, 8)) >= loss
    rows = many(completed(), spread(20_000, 20), client_ips=forged(20_000))
    no_synack, no_ack, nothing_more = ~kept[:, 1], ~kept[:, 2], ~kept[:, 3:6].any(axis=1)
    rows["synack_ts_ns"][no_synack] = -(2**63)
    lost = no_ack & nothing_more
    rows["established_ts_ns"][lost] = -(2**63)
    rows["client_packets"][lost] = rows["server_packets"][lost] = 1
    assert found(rows) == []
    repeats = (RNG.random((5000, 4)) >= loss).sum(axis=1)
    down = many(unanswered(), spread(5000, 50), forged(5000))
    down["client_syns"] = down["client_packets"] = np.maximum(repeats, 1)
    assert found(down) == []


def test_connections_open_before_the_capture_are_silent():
    row = flow(first_ts=0.0, last_ts=10.0, flags=FlowFlag.MIDSTREAM, client_state_evidence=Evidence.ASSUMED)
    assert found(many(row, spread(20_000, 10), forged(20_000))) == []


def test_one_direction_of_honest_traffic_is_silent():
    """From the server only: data proves the handshake. From the client only: its ACK does."""
    server_only = half_open(
        syn_ts=None, client_packets=0, client_syns=0, server_packets=4, server_syns=1, server_payload_bytes=999,
        server_state=TcpState.ESTABLISHED, flags=FlowFlag.ONE_SIDED,
    )  # fmt: skip
    client_only = unanswered(client_packets=4, client_payload_bytes=99, client_state=TcpState.ESTABLISHED)
    for row in (server_only, client_only):
        assert found(many(row, spread(20_000, 20), forged(20_000))) == []


def test_scattered_failures_of_a_big_service_are_silent():
    """20 a second of 2,000 give up after the SYN+ACK: 1,260 half-open, which no backlog of 4096 minds."""
    rows = flows(many(half_open(), spread(6000, 300), forged(6000)), honest(2000, 300))
    assert found(rows) == []


def test_nothing_fed_is_nothing_found():
    assert found(flows()) == []
    assert found(flows(), END) == []


@pytest.mark.parametrize("per_s", [2, 50])
def test_a_flood_behind_nineteen_honest_clients_of_twenty_is_found(per_s):
    """2 SYN/s hold 126 half-open connections, which is all that a backlog of 128 has room for."""
    seconds = 6000 // (20 * per_s) + 100
    forged = many(half_open(), np.arange(0, seconds, 1 / per_s), client_ips=np.arange(seconds * per_s) + 0x0B000000)
    assert [f.severity for f in found(flows(honest(19 * per_s, seconds), forged))] == ["warning"]
