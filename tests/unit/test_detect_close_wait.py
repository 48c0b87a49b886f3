"""close_wait_leak from rows made by hand."""

from __future__ import annotations

import detected
import numpy as np
import pytest
from flow_rows import at, completed, flows, many, stuck_in_close_wait

from conntrack.detect import Detection
from conntrack.detect.close_wait import CloseWaitLeak
from conntrack.detect.limits import Limits
from conntrack.states import EndReason, FlowFlag, TcpState

END = at(600)


def found(rows, end=END, **options):
    return detected.found(CloseWaitLeak, rows, end, **options)


def one(rows, end=END, **options):
    (finding,) = found(rows, end, **options)
    return finding


# What is a leak.


def test_a_service_that_never_closes_leaks():
    rows = flows(many(stuck_in_close_wait(), np.arange(150) * 2.0), many(completed(), np.arange(150) * 2.0 + 1))
    finding = one(rows)
    assert (finding.kind, finding.subject, finding.severity) == ("close_wait_leak", "10.0.0.2:80", "critical")
    assert (finding.count, finding.peak) == (150, 150)
    evidence = finding.evidence
    assert evidence["cause"] == "application_leak"
    assert evidence["growth_per_min"] == pytest.approx(150 / ((600 - 1.01) / 60), rel=1e-3)
    assert evidence["oldest_s"] == pytest.approx(600 - 1.01)
    assert evidence["median_age_s"] == pytest.approx(600 - 1.01 - 149, abs=0.01)
    assert evidence["ratio_of_service"] == 0.5
    assert finding.first_ts_ns == at(1.01)
    assert finding.last_ts_ns == END
    assert finding.flow_ids == tuple(range(1, 101))
    assert any("sport = :80" in step for step in finding.next_steps)


@pytest.mark.parametrize(
    ("leaking", "normal", "severity"),
    [
        (1, 0, "info"),
        (2, 1, "info"),
        (3, 57, "warning"),
        (3, 58, "info"),
        (10, 5000, "warning"),
        (100, 5000, "critical"),
    ],
)
def test_severity_follows_count_and_share(leaking, normal, severity):
    rows = flows(many(stuck_in_close_wait(), np.arange(leaking)), many(completed(), np.arange(normal) / 100))
    assert one(rows).severity == severity


def test_ends_that_never_sent_a_byte_were_never_accepted():
    finding = one(many(stuck_in_close_wait(server_payload_bytes=0), np.arange(20)))
    assert finding.evidence["cause"] == "accept_starvation"
    assert any("ListenOverflows" in step for step in finding.next_steps)


def test_the_client_can_leak_too_and_is_named_by_its_host():
    rows = many(stuck_in_close_wait(side="client"), np.arange(12))
    rows["server_port"] = 80 + np.arange(12) % 2
    finding = one(rows)
    assert (finding.subject, finding.evidence["side"], finding.count) == ("10.0.0.1", "client", 12)
    assert finding.evidence["top_peers"] == {"10.0.0.2": 12}
    assert any("state close-wait" in step for step in finding.next_steps)


def test_peers_are_named_commonest_first():
    rows = many(stuck_in_close_wait(), np.arange(12), client_ips=np.where(np.arange(12) < 9, 0x0A000009, 0x0A000007))
    evidence = one(rows).evidence
    assert list(evidence["top_peers"].items()) == [("10.0.0.9", 9), ("10.0.0.7", 3)]
    assert evidence["distinct_peers"] == 2


def test_answering_after_the_fin_and_then_silence_is_a_leak_with_a_caveat():
    finding = one(many(stuck_in_close_wait(half_close_payload_ts=1.5, half_close_payload_bytes=10), np.arange(20)))
    assert finding.evidence["spoke_after_fin"] == 20
    assert any("half-close" in caveat for caveat in finding.caveats)


def test_a_syn_onto_the_stale_tuple_is_counted():
    rows = many(stuck_in_close_wait(flags=FlowFlag.PENDING_SYN), np.arange(4))
    assert one(rows).evidence["syn_onto_stale"] == 4


def test_a_restart_that_closes_all_at_once_does_not_hide_the_leak():
    rows = many(
        stuck_in_close_wait(server_fin_ts=None, reset_ts=400.0, closed_ts=400.0, server_state=TcpState.CLOSED,
                            server_since_ts=400.0, end_reason=EndReason.RESET),
        np.zeros(30),
    )  # fmt: skip
    finding = one(rows)
    assert (finding.severity, finding.count, finding.peak) == ("warning", 30, 30)
    assert (finding.evidence["leaking"], finding.evidence["closed_late"]) == (0, 30)
    assert finding.last_ts_ns == at(400)
    assert "closed in the end" in finding.caveats[0]
    assert found(rows[:9]) == []


# What is not.


def test_a_normal_close_is_silent():
    assert found(many(completed(), np.arange(1000) / 10)) == []


def test_a_capture_that_ends_too_soon_after_shows_no_leak():
    rows = many(stuck_in_close_wait(), np.arange(50) / 50)
    assert found(rows, end=at(60)) == []
    assert one(rows, end=at(61.5)).count < 50
    assert one(rows, end=at(62)).count == 50


def test_a_half_close_that_still_streams_is_silent():
    assert found(many(stuck_in_close_wait(half_close_payload_ts=570.0), np.zeros(500))) == []


def test_a_connection_open_from_before_counts_only_if_its_fin_was_seen():
    unseen = stuck_in_close_wait(
        client_fin_ts=None, client_fin_received_ts=None, client_fin_acked_ts=None, flags=FlowFlag.MIDSTREAM
    )
    assert found(many(unseen, np.zeros(50))) == []
    seen = stuck_in_close_wait(syn_ts=None, synack_ts=None, established_ts=None, flags=FlowFlag.MIDSTREAM)
    finding = one(many(seen, np.zeros(50)))
    assert any("before the capture" in caveat for caveat in finding.caveats)


def test_a_late_close_of_a_few_is_silent():
    rows = many(completed(0, 1, server_fin_ts=120.0, server_state=TcpState.CLOSED, server_since_ts=120.1), np.zeros(5))
    assert found(rows) == []


def test_idle_connections_are_silent():
    from flow_rows import flow

    rows = many(
        flow(syn_ts=0.0, synack_ts=0.01, established_ts=0.02, client_packets=2, server_packets=1), np.zeros(1000)
    )
    assert found(rows) == []
    assert found(flows()) == []


def test_an_end_that_let_a_new_connection_in_had_closed_unseen():
    """A SYN onto a CLOSE_WAIT is answered by an ACK (RFC 5961 section 4); a SYN+ACK shows that none was left."""
    replaced = stuck_in_close_wait(flags=FlowFlag.PENDING_SYN, end_reason=EndReason.REPLACED, last_ts=20.0)
    assert found(many(replaced, np.zeros(50))) == []


@pytest.mark.parametrize("side", ["server", "client"])
def test_an_end_of_which_the_capture_lost_something_may_have_sent_its_fin(side: str) -> None:
    rows = many(stuck_in_close_wait(side=side), np.arange(150))
    rows[f"{side}_gap_bytes"][:140] = 1  # its FIN takes one number, which the peer acknowledged
    finding = one(rows)
    assert (finding.count, finding.severity) == (10, "warning"), "only those of which everything is there"
    rows[f"{side}_gap_bytes"] = 0
    rows[f"{'client' if side == 'server' else 'server'}_gap_bytes"] = 1448
    assert one(rows).count == 150, "what the peer sent does not matter"


def lossy_captures_rows(leaking: int, side: str = "server") -> np.ndarray:
    """Return so many ends in CLOSE_WAIT of 1,000 connections, in a capture that lost a tenth of the payload."""
    rows = flows(
        many(stuck_in_close_wait(side=side), np.arange(leaking) / 10),
        many(completed(), np.arange(1000 - leaking) / 100),
    )
    rows["client_unique_bytes"], rows["server_unique_bytes"] = 300, 600
    rows["flags"][-100:] = FlowFlag.CAPTURE_LOSS
    rows["client_gap_bytes"][-100:] = 1000
    return rows


@pytest.mark.parametrize("side", ["server", "client"])
def test_as_many_as_the_capture_may_have_lost_are_no_warning(side: str) -> None:
    finding = one(lossy_captures_rows(25, side))
    assert (finding.count, finding.severity) == (25, "info")
    assert finding.caveats[0].startswith("The capture lost 10.0% of the payload")
    finding = one(lossy_captures_rows(26, side))
    assert (finding.count, finding.severity) == (26, "warning")
    assert not any("lost" in caveat for caveat in finding.caveats)


def test_the_loss_is_known_however_the_rows_come() -> None:
    rows = lossy_captures_rows(25)
    halves = [Detection([CloseWaitLeak]) for _ in range(2)]
    halves[0].feed(rows[:500])
    halves[1].feed(rows[500:])
    halves[0].merge(halves[1])
    assert halves[0].findings(END) == found(rows)


# Memory.


def test_past_the_limit_a_share_is_kept_and_the_finding_says_so() -> None:
    rows = many(stuck_in_close_wait(), np.arange(6000) / 100)
    finding = one(rows, limits=Limits(ends=1000))
    assert 6000 * 0.9 < finding.count < 6000 * 1.1
    assert finding.evidence["leaking"] == finding.count == finding.peak
    assert finding.evidence["top_peers"] == {"10.0.0.1": finding.count}
    assert any("one in 8" in caveat for caveat in finding.caveats)
    assert finding.severity == "critical"


def test_what_is_kept_is_bounded_and_depends_on_nothing_but_the_connections() -> None:
    limits = Limits(ends=500)
    rows = flows(many(stuck_in_close_wait(), np.arange(3000) / 10), many(stuck_in_close_wait(side="client"), [1, 2, 3]))
    whole = found(rows, limits=limits)
    assert [finding.subject for finding in whole] == ["10.0.0.2:80"], "three of which one or none was kept tell nothing"
    mixed = rows[np.random.default_rng(3).permutation(len(rows))]
    halves = Detection([CloseWaitLeak], limits=limits), Detection([CloseWaitLeak], limits=limits)
    for number, part in enumerate(np.array_split(mixed, 13)):
        halves[number % 2].feed(part)
    halves[0].merge(halves[1])
    assert halves[0].findings(END) == whole
    assert sum(map(len, halves[0]._detectors[0]._kept)) <= 500


def test_at_the_limit_everything_is_exact() -> None:
    finding = one(many(stuck_in_close_wait(), np.arange(1000) / 100), limits=Limits(ends=1000))
    assert finding.count == 1000
    assert not any("too many" in caveat for caveat in finding.caveats)
