"""port_scan at its limits: how many pairs are kept and named, what a tie is, who repeats too much, both IP versions."""

from __future__ import annotations

from types import SimpleNamespace

import detected
import numpy as np
import pytest
from flow_rows import at, flows, many, refused

from conntrack.core.counts import TRY_DTYPE
from conntrack.detect import DetectOptions, PortScan
from conntrack.detect.limits import Limits

END = at(600)


def to_ports(rows, first=1):
    rows["server_port"] = first + np.arange(len(rows))
    return rows


def one(rows, **options):
    (finding,) = detected.found(PortScan, rows, END, **options)
    return finding


def scan(count, **fields):
    return to_ports(many(refused(**fields), np.arange(count) / 100))


def test_ten_ports_and_a_hundred_connections_are_named():
    finding = one(scan(150))
    assert finding.evidence["most_tried_ports"] == list(range(1, 11))
    assert finding.flow_ids == tuple(range(1, 101))
    assert (finding.first_ts_ns, finding.last_ts_ns) == (at(0), at(1.49))


def test_the_port_most_tried_comes_first():
    rows = flows(scan(40), many(refused(server="10.0.0.3:33"), [5.0]), many(refused(server="10.0.0.4:33"), [6.0]))
    finding = one(rows)
    assert finding.evidence["most_tried_ports"][:2] == [33, 1]
    assert (finding.evidence["most_tried_host"], finding.evidence["hosts"]) == ("10.0.0.2", 3)


def test_as_many_ports_as_hosts_are_ports_of_a_host():
    rows = many(refused(), np.arange(25) / 100)
    rows["server_port"] = 1 + np.arange(25) % 5
    rows["server_ip"][:, 15] = 1 + np.arange(25) // 5
    finding = one(rows, scan_targets_min=5)
    assert (finding.evidence["direction"], finding.peak, finding.count) == ("ports of a host", 5, 25)
    assert detected.found(PortScan, rows, END, scan_targets_min=6) == []


def test_a_pair_is_one_target_however_often_it_is_tried():
    """As it was first: the later tries change nothing."""
    first, again = scan(40), scan(40)
    again["first_ts_ns"] += 10**9
    again["flow_id"] += 1000
    finding = one(flows(first, again))
    assert finding == one(first)


@pytest.mark.parametrize(("limit", "by"), [(64, "exact"), (63, "one in 2, by hash")])
def test_at_the_limit_every_pair_is_still_kept(limit, by):
    finding = one(scan(64), limits=Limits(pairs=limit), scan_targets_min=16)
    assert finding.evidence["targets_by"] == by
    assert (finding.count == 64) == (by == "exact")
    assert finding.count % (1 if by == "exact" else 2) == 0


def test_what_waits_to_be_counted_is_bounded():
    """No more than the limit waits, and it is not sorted anew with each batch."""
    detector = PortScan(DetectOptions(), Limits(pairs=100))
    waiting = []
    for start in range(0, 500, 50):
        pairs = np.zeros(50, TRY_DTYPE)
        pairs["flow_id"] = pairs["hash"] = start + np.arange(50)
        detector._push(pairs)
        waiting.append(sum(map(len, detector._new)))
        assert len(detector._pairs) <= 100
    assert waiting == [50, 100, 0, 50, 100, 0, 50, 100, 0, 50]


@pytest.mark.parametrize(("kept", "found"), [(7, 0), (8, 1)])
def test_of_a_sample_eight_pairs_tell_something(kept, found):
    """One that was kept of a forged address, or a few, would stand for many."""
    detector = PortScan(DetectOptions(scan_targets_min=10), Limits(pairs=63))
    pairs = np.zeros(64, TRY_DTYPE)
    pairs["flow_id"], pairs["hash"] = 1 + np.arange(64), np.arange(64)  # every other one is kept
    pairs["port"], pairs["version"], pairs["ts_ns"] = 1 + np.arange(64), 4, at(1)
    pairs["host"][:, 0] = 1 + np.arange(64)  # each of another host, but
    pairs["host"][: 2 * kept, 0] = 1000
    detector._push(pairs)
    assert len(detector.findings(SimpleNamespace(end_ts_ns=END))) == found


@pytest.mark.parametrize(
    ("client", "server", "rule"),
    [
        ("192.0.2.7:40000", "10.0.0.2:80", "ip saddr 192.0.2.7"),
        ("[2001:db8::7]:40000", "[2001:db8::2]:80", "ip6 saddr 2001:db8::7"),
    ],
)
def test_the_rule_against_it_is_of_its_version(client, server, rule):
    finding = one(scan(40, client=client, server=server))
    assert finding.next_steps[2] == f"If it is not welcome: nft add rule inet filter input {rule} drop"
    assert finding.subject == rule.split()[-1]
