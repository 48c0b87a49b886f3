"""unanswered_syn, connection_refused, accept_queue_overflow and port_scan, from rows made by hand."""

from __future__ import annotations

import detected
import numpy as np
import pytest
from flow_rows import at, completed, flows, half_open, many, queue_full, refused, unanswered

from conntrack.detect import AcceptQueueOverflow, ConnectionRefused, PortScan, UnansweredSyn
from conntrack.detect.limits import Limits
from conntrack.states import EndReason

END = at(600)


def found(detector, rows, end=END, **options):
    return detected.found(detector, rows, end, **options)


def one(detector, rows, end=END, **options):
    (finding,) = found(detector, rows, end, **options)
    return finding


def to_ports(rows, ports):
    rows["server_port"] = ports
    return rows


# unanswered_syn


def test_a_service_that_is_down_is_told_with_who_tried_and_how_often():
    finding = one(UnansweredSyn, many(unanswered(syns=6), np.arange(20) * 2.0, 0x0A010000 + np.arange(20) % 4))
    assert (finding.kind, finding.subject, finding.severity) == ("unanswered_syn", "10.0.0.2:80", "info")
    assert (finding.count, finding.peak) == (20, 20)
    assert finding.evidence["syns"] == 120
    assert finding.evidence["repeated"] == 20
    assert finding.evidence["distinct_clients"] == 4
    assert finding.evidence["answered_before"] == 0
    assert finding.flow_ids == tuple(range(1, 21))
    assert finding.first_ts_ns == pytest.approx(at(0), abs=1.1e8)


def test_a_service_that_stops_answering_is_told_from_then_on():
    rows = flows(many(completed(), np.arange(100)), many(unanswered(syns=4), 200.0 + np.arange(5)))
    finding = one(UnansweredSyn, rows)
    assert finding.evidence["answered_before"] == 100
    assert finding.evidence["unanswered_ratio"] == 1.0
    assert finding.first_ts_ns == pytest.approx(at(200), abs=1.1e8)


def test_one_client_that_repeats_its_syn_is_enough_and_one_that_does_not_is_not():
    assert one(UnansweredSyn, unanswered(syns=3)).count == 1
    assert found(UnansweredSyn, unanswered(syns=1)) == []
    assert found(UnansweredSyn, many(unanswered(), np.arange(50))) == []  # one client, each time from a new port
    few = one(UnansweredSyn, many(unanswered(), np.arange(3), 0x0A010000 + np.arange(3)))
    assert any("scanner" in caveat for caveat in few.caveats)


def test_lost_syns_of_a_busy_service_are_silent():
    rows = flows(many(completed(), np.arange(1000) / 10), many(unanswered(syns=3), np.arange(10) * 9.0))
    assert found(UnansweredSyn, rows) == []


def test_a_syn_as_the_capture_ends_is_silent():
    rows = many(unanswered(), 599.0 + np.arange(10) / 20, 0x0A010000 + np.arange(10))
    assert found(UnansweredSyn, rows) == []


def test_a_flood_of_syns_tried_once_is_not_a_service_that_is_down():
    rows = many(unanswered(), np.arange(5000) / 100, 0x0B000000 + np.arange(5000))
    assert found(UnansweredSyn, rows) == []


def test_a_host_that_answers_on_no_port_is_told_once():
    rows = to_ports(many(unanswered(syns=3), np.arange(12)), 1000 + np.arange(12) % 6)
    finding = one(UnansweredSyn, rows)
    assert finding.subject == "10.0.0.2"
    assert (finding.count, finding.peak, finding.evidence["services"]) == (12, 12, 6)
    assert finding.evidence["ports"] == [1000, 1001, 1002, 1003, 1004, 1005]
    assert finding.flow_ids == tuple(range(1, 13))


# connection_refused


def test_a_closed_port_is_told():
    finding = one(ConnectionRefused, many(refused(), np.arange(5)))
    assert (finding.kind, finding.subject, finding.severity) == ("connection_refused", "10.0.0.2:80", "info")
    assert (finding.count, finding.peak) == (5, 1)
    assert finding.evidence["refused_ratio"] == 1.0


def test_a_few_refusals_among_many_connections_are_silent():
    assert found(ConnectionRefused, flows(many(completed(), np.arange(100)), many(refused(), np.arange(4) * 30))) == []


def test_single_refusals_of_many_hosts_are_a_scan_and_not_as_many_faults():
    rows = many(refused(), np.arange(40))
    rows["server_ip"][:, 15] = np.arange(40)
    assert found(ConnectionRefused, rows) == []
    assert len(found(ConnectionRefused, rows[:9])) == 9


# accept_queue_overflow


def test_a_full_accept_queue_is_a_warning_and_for_many_critical():
    finding = one(AcceptQueueOverflow, flows(many(queue_full(), np.arange(20) / 10), many(completed(), [0.1, 0.2])))
    assert (finding.kind, finding.subject, finding.severity) == ("accept_queue_overflow", "10.0.0.2:80", "warning")
    assert finding.count == 20
    assert finding.evidence["synack_repeats_after_ack"] == 40
    assert finding.evidence["never_served"] == 20
    assert finding.last_ts_ns == pytest.approx(at(1.9 + 3), abs=2e8)  # the second repetition comes after 1 + 2 s
    assert one(AcceptQueueOverflow, many(queue_full(), np.arange(100) / 10)).severity == "critical"


def test_lost_acks_are_no_full_queue():
    rows = flows(many(queue_full(repeats=1), np.arange(100)), many(completed(), np.arange(900) / 9))
    assert found(AcceptQueueOverflow, rows) == []
    assert found(AcceptQueueOverflow, many(queue_full(), [0, 1])) == []


# port_scan


@pytest.mark.parametrize(
    "row", [refused(), unanswered(), half_open(synacks=1, reset_ts=0.02, closed_ts=0.02, end_reason=EndReason.RESET)]
)
def test_many_ports_of_a_host_are_a_scan_whatever_the_answer(row):
    finding = one(PortScan, to_ports(many(row, np.arange(1000) / 10), 1 + np.arange(1000)))
    assert (finding.kind, finding.subject, finding.severity) == ("port_scan", "10.0.0.1", "info")
    assert finding.count == finding.evidence["targets"] == finding.evidence["ports"] == 1000
    assert finding.evidence["hosts"] == 1
    assert finding.evidence["direction"] == "ports of a host"


def test_many_hosts_on_a_port_are_a_scan():
    rows = many(unanswered(), np.arange(200))
    rows["server_ip"][:, 15] = np.arange(200)
    finding = one(PortScan, rows)
    assert (finding.evidence["direction"], finding.evidence["hosts"]) == ("hosts on a port", 200)
    assert finding.evidence["unanswered"] == 200


def test_what_is_no_scan():
    ports = 1 + np.arange(1000) % 24
    assert found(PortScan, to_ports(many(refused(), np.arange(1000)), ports)) == []  # too few ports
    assert found(PortScan, to_ports(many(unanswered(syns=4), np.arange(100)), 1 + np.arange(100))) == []  # a dead host
    swarm = many(unanswered(), np.arange(200))
    swarm["server_ip"][:, 15], swarm["server_port"] = np.arange(200), 10_000 + np.arange(200)
    assert found(PortScan, swarm) == []  # every peer on its own port
    slow = to_ports(many(refused(), np.arange(100) * 60.0), 1 + np.arange(100))
    assert found(PortScan, slow, at(10_000)) == []
    assert found(PortScan, many(refused(), np.arange(500))) == []  # one port


def test_past_the_limit_of_pairs_a_scan_is_estimated_the_same_in_any_split():
    limits = Limits(pairs=2000)
    rows = flows(
        to_ports(many(refused(), np.arange(5000) / 100), 1 + np.arange(5000)),
        many(unanswered(), np.arange(20_000) / 400, 0x0B000000 + np.arange(20_000)),
    )
    finding = one(PortScan, rows, limits=limits)
    assert finding.evidence["targets_by"] == "one in 16, by hash"
    assert finding.count == pytest.approx(5000, rel=0.2)
    parts = [detected.everything(part, limits=limits) for part in np.array_split(rows, 5)]
    for part in parts[1:]:
        parts[0].merge(part)
    assert [told for told in parts[0].findings(END) if told.kind == "port_scan"] == [finding]


def test_forged_addresses_that_come_once_are_no_scanners_however_small_the_sample():
    """A sample of every 64th made each address that was in it, once, stand for 64 targets."""
    rows = many(half_open(), np.arange(20_000) / 1000, client_ips=np.arange(20_000) + 0x0B000000)
    assert detected.found(PortScan, rows, at(100), limits=Limits(pairs=200)) == []


def test_a_service_that_is_down_is_told_though_its_clients_wait_for_less_than_a_second():
    """Each tries again from another port before its SYN would be repeated: 300 connections of 20 clients."""
    rows = many(unanswered(), np.arange(300) / 5, 0x0B000000 + np.arange(300) % 20)
    (finding,) = detected.found(UnansweredSyn, rows, at(600))
    assert (finding.subject, finding.count, finding.evidence["distinct_clients"]) == ("10.0.0.2:80", 300, 20)
    assert "timeout" in finding.caveats[-1]


@pytest.mark.parametrize(("per_s", "sources"), [(100, 300), (100, 5000), (2000, 1)])
def test_a_flood_of_syns_is_not_told_as_a_service_that_is_down(per_s, sources):
    rows = many(
        unanswered(),
        np.arange(15_000 if sources == 1 else 300) / per_s,
        0x0B000000 + np.arange(15_000 if sources == 1 else 300) % sources,
    )
    assert detected.found(UnansweredSyn, rows, at(600)) == []
