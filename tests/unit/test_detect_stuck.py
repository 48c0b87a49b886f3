"""fin_wait_2_stuck, last_ack_stuck, reset_storm, zero_window_stall and the findings about the capture, from rows."""

from __future__ import annotations

import detected
import numpy as np
import pytest
from flow_rows import at, completed, cut, flow, flows, many, stuck_in_close_wait, unanswered, vanished

from conntrack.detect import (
    CaptureLoss,
    DuplicateFrames,
    FinWait2Stuck,
    LastAckStuck,
    OneSidedCapture,
    ResetStorm,
    ZeroWindowStall,
)
from conntrack.states import ClosedBy, FlowFlag, TcpState

END = at(600)


def found(detector, rows, end=END, **options):
    return detected.found(detector, rows, end, **options)


def one(detector, rows, end=END, **options):
    (finding,) = found(detector, rows, end, **options)
    return finding


# fin_wait_2_stuck


def test_clients_whose_server_never_closes_wait_for_it():
    finding = one(FinWait2Stuck, many(stuck_in_close_wait(), np.arange(12)))
    assert (finding.kind, finding.subject, finding.severity) == ("fin_wait_2_stuck", "10.0.0.1", "info")
    assert (finding.count, finding.peak) == (12, 12)
    assert finding.evidence["side"] == "client"
    assert finding.last_ts_ns == pytest.approx(at(11 + 61.01), abs=2e8)


def test_a_server_whose_clients_never_close_is_named_as_a_service():
    finding = one(FinWait2Stuck, many(stuck_in_close_wait(side="client"), np.arange(12)))
    assert (finding.subject, finding.evidence["side"]) == ("10.0.0.2:80", "server")
    assert finding.evidence["service_connections"] == 12
    assert (
        one(FinWait2Stuck, many(stuck_in_close_wait(side="client"), np.zeros(12)), orphans_max=24).severity == "warning"
    )


def test_few_or_short_waits_are_silent():
    assert found(FinWait2Stuck, many(stuck_in_close_wait(), np.arange(9))) == []
    assert found(FinWait2Stuck, many(completed(), np.arange(100))) == []
    late = many(stuck_in_close_wait(client_state=TcpState.FIN_WAIT_2, client_since_ts=1.01), 550.0 + np.arange(20))
    assert found(FinWait2Stuck, late) == []  # nobody knows yet


# last_ack_stuck


def test_peers_that_vanish_leave_last_ack():
    finding = one(LastAckStuck, many(vanished(), np.arange(15)))
    assert (finding.kind, finding.subject, finding.severity) == ("last_ack_stuck", "10.0.0.2:80", "info")
    assert (finding.count, finding.peak, finding.evidence["fins"]) == (15, 15, 90)
    assert finding.last_ts_ns == pytest.approx(at(114), abs=2e8)


def test_an_ack_that_the_capture_lost_is_silent():
    assert found(LastAckStuck, many(vanished(fins=2), np.arange(100))) == []
    assert found(LastAckStuck, many(vanished(server_fin_acked_ts=1.04), np.arange(100))) == []


# reset_storm


def test_a_server_that_cuts_all_its_connections_is_a_warning():
    finding = one(ResetStorm, flows(many(cut(), np.arange(300) / 100), many(completed(), np.arange(50))))
    assert (finding.kind, finding.subject, finding.severity) == ("reset_storm", "10.0.0.2:80", "warning")
    assert (finding.count, finding.peak) == (300, 300)
    assert (finding.evidence["reset_by_server"], finding.evidence["reset_by_client"]) == (300, 0)
    assert finding.first_ts_ns == pytest.approx(at(5), abs=2e8)
    assert finding.last_ts_ns == pytest.approx(at(8), abs=2e8)
    assert one(ResetStorm, many(cut(ClosedBy.CLIENT), np.arange(300) / 100)).severity == "info"


def test_what_is_no_storm():
    assert found(ResetStorm, many(cut(), np.arange(99) / 100)) == []
    assert found(ResetStorm, many(cut(), np.arange(300))) == []  # one a second
    assert found(ResetStorm, flows(many(cut(), np.arange(300) / 100), many(completed(), np.arange(301)))) == []
    after_fin = cut(client_fin_ts=4.0, client_fin_received_ts=4.0, client_fins=1)
    assert found(ResetStorm, many(after_fin, np.arange(300) / 100)) == []


# zero_window_stall


def test_a_service_that_does_not_read_is_a_warning():
    stalled = completed(server_zero_windows=5)
    finding = one(ZeroWindowStall, flows(many(stalled, np.arange(12)), many(completed(), np.arange(12))))
    assert (finding.kind, finding.subject, finding.severity) == ("zero_window_stall", "10.0.0.2:80", "warning")
    assert (finding.count, finding.evidence["zero_window_segments"], finding.evidence["stalled_ratio"]) == (12, 60, 0.5)
    mostly_fine = flows(many(stalled, np.arange(12)), many(completed(), np.arange(13)))
    assert one(ZeroWindowStall, mostly_fine).severity == "info"


def test_a_client_that_does_not_read_is_named_as_a_host():
    finding = one(ZeroWindowStall, many(completed(client_zero_windows=3), np.arange(12)))
    assert (finding.subject, finding.severity) == ("10.0.0.1", "info")
    assert found(ZeroWindowStall, many(completed(client_zero_windows=2), np.arange(12))) == []


# The capture itself


def test_one_direction_is_told_with_which():
    server_only = flow(synack_ts=0.0, client_packets=0, server_packets=4, flags=FlowFlag.ONE_SIDED)
    client_only = flow(syn_ts=0.0, client_packets=4, server_packets=0, flags=FlowFlag.ONE_SIDED)
    rows = flows(many(server_only, np.arange(3)), client_only, many(completed(), np.arange(6)))
    finding = one(OneSidedCapture, rows)
    assert (finding.kind, finding.subject, finding.severity, finding.count) == (
        "one_sided_capture",
        "capture",
        "info",
        4,
    )
    assert (finding.evidence["only_from_server"], finding.evidence["only_from_client"]) == (3, 1)
    assert finding.evidence["top_services"] == {"10.0.0.2:80": 4}
    assert found(OneSidedCapture, flows(client_only, many(completed(), np.arange(10)))) == []
    assert found(OneSidedCapture, many(unanswered(syns=6, flags=0), np.arange(10))) == []


def test_gaps_are_told_from_a_thousandth_on():
    lossy = completed(flags=FlowFlag.CAPTURE_LOSS, client_gap_bytes=1460, client_unique_bytes=5000)
    finding = one(CaptureLoss, flows(many(lossy, np.arange(2)), many(completed(), np.arange(98))))
    assert (finding.kind, finding.subject, finding.severity, finding.count) == ("capture_loss", "capture", "info", 2)
    assert finding.evidence["gap_bytes"] == 2920
    assert finding.evidence["gap_ratio"] == pytest.approx(2920 / 12_920, rel=1e-3)
    huge = completed(client_unique_bytes=10**9)
    assert found(CaptureLoss, flows(lossy, huge, many(completed(), np.arange(1000)))) == []


def test_a_keep_alive_of_an_old_connection_is_no_loss():
    assert (
        found(CaptureLoss, many(flow(flags=FlowFlag.CAPTURE_LOSS, client_gap_bytes=1, server_gap_bytes=1), [0, 1]))
        == []
    )


def test_copies_are_told_from_a_hundredth_on():
    finding = one(DuplicateFrames, many(completed(client_duplicates=5, server_duplicates=4), np.arange(10)))
    assert (finding.kind, finding.subject, finding.severity) == ("duplicate_frames", "capture", "info")
    assert (finding.evidence["copies"], finding.evidence["copies_ratio"]) == (90, 0.5)
    rare = completed(client_duplicates=1, client_packets=400)
    assert found(DuplicateFrames, many(rare, np.arange(10))) == []
