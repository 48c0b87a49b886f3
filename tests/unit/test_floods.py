"""Floods of state, bounded: half-open connections beyond a budget, and 4-tuples chosen to meet in the index.

The benches that these functions are of (benches/half_open.py, benches/flooding.py) run them at any size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from frames import eth_ipv4_tcp, interface, packet, section

from benches.flooding import KNOWN, colliding, endpoints, measure, syns
from benches.half_open import run
from conntrack.capture import open_capture
from conntrack.tracker import Tracker
from conntrack.upkeep import LEAST_BUDGET


def test_a_flood_beyond_the_budget_ends_and_names_every_eviction() -> None:
    done = run(1_200_000, LEAST_BUDGET, 2)
    endings = done["endings"]
    assert sum(endings.values()) == 1_200_000, "every connection has a row"
    assert endings["EVICTED"] == done["evicted"] > 500_000
    assert [subject for kind, subject, *_ in done["findings"] if kind == "syn_flood"] == ["10.0.0.1:80"]


def test_chosen_4_tuples_meet_only_under_the_key_they_were_chosen_for() -> None:
    """All in one home, each behind those before it; under a key that nobody knows as near to home as any others."""
    chosen = colliding(KNOWN, 800, 10)
    known, unknown = measure(chosen, KNOWN), [measure(chosen, None) for _ in range(3)]
    assert known["probes_max"] > 400
    others = measure(endpoints(7, 800), None)
    assert max(one["probes_max"] for one in [*unknown, others]) < 100
    assert {one["rows_sha256"] for one in [known, *unknown]} == {known["rows_sha256"]}


def test_the_key_is_another_each_time() -> None:
    clients = endpoints(3, 5_000)
    rows = {measure(clients, None)["rows_sha256"] for _ in range(2)}
    assert len(rows) == 1
    assert len({measure(clients, None)["probes_mean"] for _ in range(6)}) > 1
    assert np.array_equal(KNOWN, [1, 2, 3, 4])


RST_ACK, ACK = 20, 16


def test_generations_of_one_4_tuple() -> None:
    """Each has its row; one is in the table; the number stays at its largest."""
    count = 70_000
    segments = np.repeat(syns(endpoints(1, 1)), 2 * count)
    segments["frame"] = np.arange(1, 2 * count + 1)
    segments["ts_ns"] += np.arange(2 * count) * 1_000_000
    segments["seq"][::2] = np.arange(count) * 7919
    answers = segments[1::2]
    answers["flags"] = RST_ACK
    answers["ack"] = segments["seq"][::2] + 1
    for one, other in (("src_ip", "dst_ip"), ("src_port", "dst_port")):
        answers[one], answers[other] = answers[other].copy(), answers[one].copy()
    tracker = Tracker()
    tracker.process(segments)
    assert len(tracker) == 1
    generations = np.concatenate([rows["generation"].copy() for rows in tracker.finish()])
    assert len(generations) == count
    assert generations.max() == 65_535 == np.sort(generations)[-(count - 65_534)]


def test_out_of_order_ranges() -> None:
    """A hole before each of 100,000 segments: they are counted, and take what four of them take."""
    count = 100_000
    segments = np.repeat(syns(endpoints(1, 1)), count)
    segments["frame"] = np.arange(1, count + 1)
    segments["ts_ns"] += np.arange(count) * 1_000
    segments["flags"] = ACK
    segments["seq"] = 1 + np.arange(count) * 200
    segments["payload_bytes"], segments["wire_bytes"] = 100, 154
    tracker = Tracker()
    tracker.process(segments[:20])
    before = tracker.bytes_used
    tracker.process(segments[20:])
    assert tracker.bytes_used == before
    (rows,) = list(tracker.finish())
    assert rows["client_out_of_order"][0] + rows["server_out_of_order"][0] >= count - 1


def test_sections_of_a_pcapng_file(tmp_path: Path) -> None:
    """Each has its packet; what is remembered of interfaces does not grow with them."""
    path = tmp_path / "sections.pcapng"
    frame = eth_ipv4_tcp(payload=b"abc")
    path.write_bytes(b"".join([section(), interface(), packet(frame, 10**15)]) * 30_000)
    with open_capture([path]) as capture:
        assert sum(len(batch) for batch in capture) == 30_000
    (described,) = capture.info.described
    assert len(described.interfaces) == 1024
    assert capture.info.faults == []
