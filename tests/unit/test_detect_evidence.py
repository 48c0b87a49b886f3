"""What a finding says, field by field, of one small scene for each detector; every number can be worked out by hand.

Times are seconds after T0, on the detectors' grid of 0.1 s: what begins at 0 is said to begin in the step before.
"""

from __future__ import annotations

from typing import Any

import detected
import numpy as np
import pytest
from flow_rows import (
    T0_NS,
    at,
    completed,
    cut,
    flow,
    flows,
    half_open,
    many,
    queue_full,
    refused,
    stuck_in_close_wait,
    unanswered,
    vanished,
)  # fmt: skip

from conntrack import detect
from conntrack.detect import Finding
from conntrack.states import ClosedBy, EndReason, FlowFlag, TcpState

A, B, C = 0x0A010001, 0x0A010002, 0x0A010003
"""Clients."""


def one(detector: Any, *rows: np.ndarray, end_s: float = 600.0, **options: Any) -> Finding:
    (finding,) = detected.found(detector, flows(*rows), at(end_s), **options)
    return finding


def outline(finding: Finding) -> tuple[Any, ...]:
    """Return (subject, severity, begin, end, count, peak, how many flow_ids)."""
    times = ((ts_ns - T0_NS) / 1e9 for ts_ns in (finding.first_ts_ns, finding.last_ts_ns))
    return (finding.subject, finding.severity, *times, finding.count, finding.peak, len(finding.flow_ids))


def late(start: float) -> np.ndarray:
    """Return a connection whose handshake took two seconds."""
    return completed(start, 1.0, 2.0)


def test_accept_queue_overflow() -> None:
    finding = one(
        detect.AcceptQueueOverflow,
        many(queue_full(), np.arange(3.0)),
        many(queue_full(server_payload_bytes=10), [3.0, 4.0]),
        queue_full(2.5, repeats=7, last_ts=102.5),  # repeated after 1, 2, 4, ... 32 s, as far as one can know
        many(completed(), [0.5, 1.5, 2.5]),
        late(1.0),
        half_open(2.0),
        many(half_open(), [70.0, 80.0]),  # after it was over
    )
    assert outline(finding) == ("10.0.0.2:80", "warning", -0.1, 65.5, 6, 4, 6)
    assert finding.evidence == {
        "attempts": 11,
        "affected_ratio": 0.5455,
        "synack_repeats_after_ack": 17,
        "never_served": 4,
        "waiting_before": 0,
        "failed_meanwhile": 1,
        "late_meanwhile": 1,
    }
    assert finding.caveats == (
        "ACKs that were lost between the point of capture and the server look the same, but hardly so many.",
    )


def test_accept_queue_overflow_of_which_only_unanswered_syns_are_seen() -> None:
    waiting = flow(
        first_ts=0.0, syn_ts=0.0, synack_ts=0.01, established_ts=0.02, client_packets=3, server_packets=2,
        client_syns=1, server_syns=1, client_payload_bytes=100,
    )  # fmt: skip
    vain = many(unanswered(syns=4), 10.0 + np.arange(8))
    finding = one(detect.AcceptQueueOverflow, many(waiting, np.arange(5.0)), vain, late(12.0), waiting)
    assert outline(finding) == ("10.0.0.2:80", "warning", 9.9, 24.0, 8, 7, 8)
    assert finding.evidence == {
        "attempts": 9,
        "affected_ratio": 0.8889,
        "synack_repeats_after_ack": 0,
        "never_served": 8,
        "waiting_before": 6,
        "failed_meanwhile": 8,
        "late_meanwhile": 1,
    }
    assert "whose host or firewall lets no new ones in" in finding.caveats[0]
    assert detected.found(detect.AcceptQueueOverflow, flows(many(waiting, [0.0, 1.0]), vain), at(600)) == []
    once = many(unanswered(), 10.0 + np.arange(8))  # nobody knows whether the client waited for an answer
    assert detected.found(detect.AcceptQueueOverflow, flows(many(waiting, np.arange(5.0)), once), at(600)) == []


def test_what_counts_for_an_accept_queue() -> None:
    once = many(queue_full(server_syns=1, server_payload_bytes=1), np.arange(3.0))  # its repetition is lost
    finding = one(detect.AcceptQueueOverflow, once, many(queue_full(repeats=1), [3.0]))
    assert (finding.evidence["synack_repeats_after_ack"], finding.evidence["never_served"]) == (4, 1)
    assert "sport = :80" in finding.next_steps[0]
    waiting = flow(
        first_ts=0.0, syn_ts=0.0, synack_ts=0.01, established_ts=0.02, client_packets=3, server_packets=2,
        client_syns=1, server_syns=1, client_payload_bytes=100,
    )  # fmt: skip
    finding = one(detect.AcceptQueueOverflow, many(waiting, np.arange(3.0)), many(unanswered(syns=2), [9.0] * 3))
    assert (finding.count, finding.evidence["waiting_before"]) == (3, 3)


def test_which_syns_are_repeated() -> None:
    """Those that come again after half of the wait for a handshake; one SYN is none, whatever else the client sent."""
    rows = many(unanswered(last_ts=2.0), np.zeros(3), A + np.arange(3)), unanswered(syns=2, last_ts=0.7)
    assert one(detect.UnansweredSyn, *rows).evidence["repeated"] == 1


def test_unanswered_syn() -> None:
    finding = one(
        detect.UnansweredSyn,
        many(completed(), np.arange(40.0)),
        late(39.0),
        many(unanswered(syns=3), [100.0, 101.0, 102.0], [A, B, A]),
        many(unanswered(), [103.0, 104.0], C),
        unanswered(104.0, syns=2, last_ts=104.4),  # at once, as no TCP does that waits
        completed(102.5),
        completed(200.0),
    )
    assert outline(finding) == ("10.0.0.2:80", "info", 99.9, 231.0, 6, 6, 6)
    assert finding.evidence == {
        "attempts": 7,
        "unanswered_ratio": 0.8571,
        "syns": 13,
        "repeated": 3,
        "answered_before": 41,
        "distinct_clients": 4,
        "distinct_clients_by": "exact",
    }
    assert len(finding.caveats) == 2
    assert [step.count("80") for step in finding.next_steps] == [1, 1, 1]


def test_connection_refused() -> None:
    finding = one(
        detect.ConnectionRefused,
        many(completed(), np.arange(10.0)),
        late(9.0),
        many(refused(), [50.0, 51.0, 52.0, 53.0], [A, B, A, A]),
        many(completed(), [50.5, 52.5, 60.0]),
    )
    assert outline(finding) == ("10.0.0.2:80", "info", 49.9, 53.1, 4, 1, 4)
    assert finding.evidence == {
        "attempts": 6,
        "refused_ratio": 0.6667,
        "answered_before": 11,
        "distinct_clients": 2,
        "distinct_clients_by": "exact",
    }
    assert [step.count("80") for step in finding.next_steps] == [1, 1]


@pytest.mark.parametrize("detector", [detect.ConnectionRefused, detect.UnansweredSyn])
def test_a_host_of_which_many_services_fail(detector: Any) -> None:
    failing = refused() if detector is detect.ConnectionRefused else unanswered(syns=2)
    rows = flows(
        many(completed(), [0.0, 1.0]), many(failing, 10.0 + np.arange(9), [A] * 9), many(completed(), [10.5] * 2)
    )
    rows["server_port"] = [101, 104, 101, 101, 101, 102, 103, 104, 104, 105, 106, 101, 101]
    (finding,) = detected.found(detector, rows, at(600))
    end = 18.1 if detector is detect.ConnectionRefused else 145.0
    peak = 1 if detector is detect.ConnectionRefused else 9
    assert outline(finding) == ("10.0.0.2", "info", 9.9, end, 9, peak, 9)
    ratio = "refused_ratio" if detector is detect.ConnectionRefused else "unanswered_ratio"
    assert finding.evidence == {
        "attempts": 11,
        ratio: 0.8182,
        "services": 6,
        "ports": [101, 104, 102, 103, 105, 106],
        "answered_before": 2,
    }


def test_fin_wait_2_stuck() -> None:
    rows = many(stuck_in_close_wait(side="client"), np.arange(12.0))
    rows["half_close_payload_ts_ns"][11] = at(12.2)  # the end that waits, waits from then on
    rows["client_since_ts_ns"][11] = rows["server_since_ts_ns"][11] = rows["closed_ts_ns"][11] = at(80.0)
    finding = one(detect.FinWait2Stuck, rows, many(completed(), np.arange(3.0)))
    assert outline(finding) == ("10.0.0.2:80", "info", 1.0, 80.0, 12, 12, 12)
    assert finding.evidence == {
        "side": "server",
        "waited_at_least_s": 60.0,
        "orphans_max": 65_536,
        "orphans_ratio": 0.0002,
        "service_connections": 15,
    }
    assert finding.next_steps[0] == "On 10.0.0.2: ss -tanop state fin-wait-2 '( sport = :80 )' | wc -l"
    client = one(detect.FinWait2Stuck, many(stuck_in_close_wait(), np.arange(12.0)))
    assert client.evidence["service_connections"] is None
    assert client.next_steps[0] == "On 10.0.0.1: ss -tanop state fin-wait-2 | wc -l"


def test_who_waits_in_fin_wait_2_and_who_is_not_told() -> None:
    def found(*rows: np.ndarray, end_s: float = 600.0, **options: Any) -> list[tuple[str, int]]:
        findings = detected.found(detect.FinWait2Stuck, flows(*rows), at(end_s), **options)
        return [(finding.subject, finding.count) for finding in findings]

    clients = many(stuck_in_close_wait(), np.arange(24.0), A + np.arange(24) % 2)
    server = many(stuck_in_close_wait(side="client"), np.arange(12.0))
    assert found(clients, server, lone_subjects_max=1) == [("10.0.0.2:80", 12)]
    told = [("10.1.0.1", 12), ("10.1.0.2", 12)]
    assert found(clients, lone_subjects_max=1, orphans_max=20) == told  # a warning is told however many there are
    assert found(server, end_s=75.0) == [("10.0.0.2:80", 12)]  # they began long enough before the end
    assert found(server, end_s=72.9) == [("10.0.0.2:80", 12)]
    assert found(server, end_s=69.9) == []
    assert found(many(stuck_in_close_wait(half_close_payload_ts=30.0), np.arange(12.0))) == []  # it still sends


def test_last_ack_stuck() -> None:
    at_client = flow(
        syn_ts=0.0, synack_ts=0.01, established_ts=0.02, server_fin_ts=1.0, server_fin_received_ts=1.01,
        server_fin_acked_ts=1.01, client_fin_ts=1.02, client_state=TcpState.LAST_ACK, client_since_ts=1.02,
        server_fins=1, client_fins=4, closed_ts=61.02,
    )  # fmt: skip
    reset = many(at_client, [20.0])
    reset["reset_ts_ns"] = at(50.0)
    finding = one(detect.LastAckStuck, many(at_client, np.arange(11.0)), reset, many(completed(), np.arange(3.0)))
    assert outline(finding) == ("10.0.0.1", "info", 1.0, 71.1, 12, 12, 12)
    assert finding.evidence == {
        "side": "client",
        "fins": 48,
        "orphans_max": 65_536,
        "orphans_ratio": 0.0002,
        "service_connections": None,
    }
    server = one(detect.LastAckStuck, many(vanished(), np.arange(12.0)), many(completed(), np.arange(3.0)))
    assert (server.evidence["side"], server.evidence["service_connections"]) == ("server", 15)
    for other_end in (
        {"client_fin_received_ts": 1.02},  # its FIN came as the server sent its own
        {"server_fin_received_ts": 1.5, "client_fins": 6},  # it closed first
        {"client_fin_ts": 1.02, "client_fin_received_ts": 1.02, "server_fin_received_ts": 1.02, "client_fins": 3},
    ):
        finding = one(detect.LastAckStuck, many(vanished(client_fin_acked_ts=None, **other_end), np.zeros(12)))
        assert (finding.subject, finding.count) == ("10.0.0.2:80", 12)
    first = many(vanished(client_fin_received_ts=1.03), np.zeros(12))  # the server closed first
    assert detected.found(detect.LastAckStuck, first, at(600)) == []


def test_reset_storm() -> None:
    finding = one(
        detect.ResetStorm,
        many(cut(), np.arange(40) / 20),
        many(cut(ClosedBy.CLIENT), 2 + np.arange(20) / 20),
        many(cut(), 100 + np.arange(10.0)),
        many(completed(), np.arange(29.0)),
        reset_storm_count=50,
    )
    assert outline(finding) == ("10.0.0.2:80", "warning", 4.9, 8.0, 60, 60, 70)
    assert finding.evidence == {
        "reset_by_server": 50,
        "reset_by_client": 20,
        "window_s": 10.0,
        "service_connections": 99,
        "reset_ratio": 0.7071,
    }
    assert finding.next_steps[0].startswith("On the server")
    half = flows(many(cut(), np.zeros(50)), many(cut(ClosedBy.CLIENT), np.zeros(50)))
    assert one(detect.ResetStorm, half).severity == "warning"
    less = flows(many(cut(), np.zeros(49)), many(cut(ClosedBy.CLIENT), np.zeros(51)))
    assert one(detect.ResetStorm, less).severity == "info"
    cut_short = one(detect.ResetStorm, many(cut(), np.zeros(100)), end_s=5.05)
    assert outline(cut_short)[3] == 5.0


def test_zero_window_stall() -> None:
    finding = one(
        detect.ZeroWindowStall,
        many(completed(server_zero_windows=5), np.arange(4.0)),
        completed(3.5, server_zero_windows=4),
        many(completed(server_zero_windows=2), np.arange(7.0)),
    )
    assert outline(finding) == ("10.0.0.2:80", "info", -0.1, 4.6, 5, 2, 5)
    assert finding.evidence == {
        "side": "server",
        "zero_window_segments": 24,
        "service_connections": 12,
        "stalled_ratio": 0.4167,
    }
    assert finding.next_steps[0].startswith("On 10.0.0.2: ss -tinp '( sport = :80 )'")
    assert one(detect.ZeroWindowStall, completed(server_zero_windows=3)).count == 1
    client = one(detect.ZeroWindowStall, many(completed(client_zero_windows=3), np.arange(4.0)))
    assert client.evidence == {
        "side": "client",
        "zero_window_segments": 12,
        "service_connections": None,
        "stalled_ratio": None,
    }
    assert client.next_steps[0].startswith("On 10.0.0.1: ss -tinp src 10.0.0.1")


def test_the_capture_itself() -> None:
    from_server = flow(synack_ts=0.0, last_ts=2.0, server_packets=4, flags=FlowFlag.ONE_SIDED)
    from_client = flow(syn_ts=0.0, last_ts=2.0, client_packets=4, flags=FlowFlag.ONE_SIDED, server="10.0.0.3:81")
    rows = flows(many(from_server, np.arange(3.0)), many(from_client, [1.0]), many(completed(), np.arange(3.0)))
    stray = flow(synack_ts=0.0, server_packets=2, flags=FlowFlag.ONE_SIDED)
    finding = one(detect.OneSidedCapture, rows, many(stray, [0.0, 1.0]))
    assert outline(finding) == ("capture", "info", -0.1, 4.0, 4, 3, 4)
    assert finding.evidence == {
        "connections": 9,
        "one_sided_ratio": 0.4444,
        "only_from_client": 1,
        "only_from_server": 3,
        "top_services": {"10.0.0.2:80": 3, "10.0.0.3:81": 1},
    }
    gap = completed(flags=FlowFlag.CAPTURE_LOSS, client_gap_bytes=100, server_gap_bytes=50, server_unique_bytes=853)
    small = completed(flags=FlowFlag.CAPTURE_LOSS, client_gap_bytes=1, server_gap_bytes=1)  # keep-alives
    finding = one(
        detect.CaptureLoss, many(gap, np.arange(2.0)), many(small, np.arange(2.0)), many(completed(), [0.0, 1.0])
    )
    assert finding.evidence == {
        "connections": 6,
        "affected_ratio": 0.3333,
        "gap_bytes": 300,
        "gap_ratio": 0.149551,
        "top_services": {"10.0.0.2:80": 2},
    }
    three = completed(flags=FlowFlag.CAPTURE_LOSS, client_gap_bytes=3)
    assert one(detect.CaptureLoss, three).evidence["gap_ratio"] == 1.0
    twice = completed(client_duplicates=5, server_duplicates=1)
    finding = one(detect.DuplicateFrames, many(twice, np.arange(2.0)), many(completed(), np.arange(4.0)))
    assert finding.evidence == {
        "copies": 12,
        "copies_ratio": 0.1818,
        "connections": 6,
        "affected_ratio": 0.3333,
        "top_services": {"10.0.0.2:80": 2},
    }


def test_services_with_most_are_named() -> None:
    rows = many(completed(client_duplicates=9), np.arange(28) / 10)
    rows["server_port"] = np.repeat(np.arange(1, 8), np.arange(1, 8))
    finding = one(detect.DuplicateFrames, rows)
    assert list(finding.evidence["top_services"].items()) == [(f"10.0.0.2:{n}", n) for n in (7, 6, 5, 4, 3)]


def test_port_scan() -> None:
    given_up = half_open(synacks=1, reset_ts=0.02, closed_ts=0.02, end_reason=EndReason.RESET)
    rows = flows(
        many(refused(), np.arange(12.0)),
        many(unanswered(), 12 + np.arange(10.0)),
        many(given_up, 22 + np.arange(8.0)),
        many(unanswered(syns=2), 30 + np.arange(3.0)),
        many(refused(), 40 + np.arange(2.0)),
    )
    rows["server_port"] = [*range(1, 34), 5, 6]
    rows["server_ip"][33:, 15] = 3
    finding = one(detect.PortScan, rows, many(refused(), [50.0, 50.0]))
    assert outline(finding) == ("10.0.0.1", "info", 0.0, 50.0, 36, 34, 36)
    assert finding.evidence == {
        "direction": "ports of a host",
        "targets": 36,
        "targets_by": "exact",
        "hosts": 2,
        "ports": 34,
        "refused": 15,
        "unanswered": 13,
        "given_up": 8,
        "most_tried_host": "10.0.0.2",
        "most_tried_ports": [5, 6, 1, 2, 3, 4, 7, 8, 9, 10],
    }
    assert finding.flow_ids == tuple(range(1, 37))  # of one target tried twice, the first
    cut_short = one(detect.PortScan, rows, end_s=30.0)
    assert (cut_short.count, cut_short.peak) == (31, 31)


def test_half_of_the_tries_of_a_scanner_may_be_repeated() -> None:
    rows = flows(many(unanswered(), np.arange(20.0)), many(unanswered(syns=3), np.arange(20.0)))
    rows["server_port"] = np.arange(1, 41)
    assert one(detect.PortScan, rows).count == 40
    assert detected.found(detect.PortScan, rows[1:], at(600)) == []
    repeated = many(refused(client_syns=3), np.arange(40.0))  # a refusal is an answer, however late
    repeated["server_port"] = np.arange(1, 41)
    assert one(detect.PortScan, repeated).count == 40


def test_close_wait_leak() -> None:
    leak = stuck_in_close_wait(fin=1.012346, flags=FlowFlag.PENDING_SYN)
    spoke = stuck_in_close_wait(
        fin=1.012346, server_payload_bytes=0, half_close_payload_ts=2.0, half_close_payload_bytes=5
    )
    rows = flows(
        many(leak, np.arange(4.0), [A, B, A, A]),
        many(spoke, [40.0, 41.0]),
        many(completed(), np.arange(5.0)),
    )
    finding = one(detect.CloseWaitLeak, rows)
    assert outline(finding) == ("10.0.0.2:80", "warning", 1.022346, 600.0, 6, 6, 6)
    assert finding.evidence == {
        "side": "server",
        "cause": "application_leak",
        "leaking": 6,
        "closed_late": 0,
        "oldest_s": 598.978,
        "median_age_s": 596.478,
        "growth_per_min": 0.601,
        "never_sent_ratio": 0.3333,
        "spoke_after_fin": 2,
        "syn_onto_stale": 4,
        "perhaps_lost": 0,
        "distinct_peers": 3,
        "top_peers": {"10.1.0.1": 3, "10.0.0.1": 2, "10.1.0.2": 1},
        "service_connections": 11,
        "ratio_of_service": 0.5455,
    }


def test_time_wait_buildup() -> None:
    rows = flows(many(completed(0, 0.01, 0.001), np.zeros(100)), many(completed(0, 0.01, 0.001), [30.0] * 51))
    rows["flags"][:7] = FlowFlag.REUSED_TIME_WAIT
    finding = one(detect.TimeWaitBuildup, rows, ephemeral_ports=260)
    assert outline(finding) == ("10.0.0.1", "warning", 30.1, 60.1, 151, 151, 100)
    assert finding.evidence == {
        "side": "client",
        "service": "10.0.0.2:80",
        "occupancy_ratio": 0.5808,
        "ephemeral_ports": 260,
        "sustainable_per_s": 4.3,
        "rate_before_peak_per_s": 2.5,
        "peak_ts_ns": at(30.1),
        "reused": 7,
        "reused_by_rfc6191": 0,
        "reused_after_retry": 0,
        "counted_every_s": 0.1,
    }
    server = one(detect.TimeWaitBuildup, many(completed(0, 0.01, 0.001, by="server"), np.zeros(91)),
                 time_wait_server_min=80)  # fmt: skip
    assert outline(server) == ("10.0.0.2:80", "info", 0.1, 60.1, 91, 91, 91)
    assert server.evidence == {
        "side": "server",
        "service": "10.0.0.2:80",
        "kernel_memory_bytes": 15_288,
        "rate_before_peak_per_s": 1.5,
        "peak_ts_ns": at(0.1),
        "reused": 0,
        "reused_by_rfc6191": 0,
        "reused_after_retry": 0,
        "counted_every_s": 0.1,
    }


def test_syn_flood() -> None:
    finding = one(
        detect.SynFlood,
        many(half_open(synacks=6), np.arange(60) / 10, 0x0B000000 + np.arange(60)),
        many(half_open(synacks=1, client_syns=2), np.arange(41) / 10, 0x0B001000 + np.arange(41)),
        many(completed(), [1.0, 2.0, 2.1, 5.1]),
        late(3.0),
        refused(4.0),
        many(unanswered(), [2.0, 3.0, 4.0], C),
        unanswered(4.0, syns=2),
    )
    assert outline(finding) == ("10.0.0.2:80", "warning", 0.1, 7.0, 104, 101, 100)
    assert finding.evidence == {
        "shape": "slow",
        "attempts": 111,
        "completion_ratio": 0.045,
        "honest_delayed_or_refused_ratio": 0.3333,
        "syn_rate_peak_per_s": 23.0,
        "half_open_peak": 101,
        "half_open_peak_ts_ns": at(6.0),
        "backlog": 4096,
        "backlog_ratio": 0.0247,
        "abandoned": 101,
        "answered_once_ratio": 0.4059,
        "synack_retransmissions": 300,
        "unanswered": 4,
        "unanswered_once": 3,
        "distinct_sources": 102,
        "distinct_sources_by": "exact",
        "alike_ratio": None,
    }
