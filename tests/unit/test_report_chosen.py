"""Which connections a report shows: the same whatever the order, all of few, and of many the ones worth looking at."""

from __future__ import annotations

import numpy as np
import pytest
from flow_rows import flow, flows, many

from conntrack.report import chosen
from conntrack.report.chosen import SIGNS, Chosen, choose, put_first, signs_of
from conntrack.states import EndReason, FlowFlag, TcpState


def lasting(seconds: np.ndarray) -> np.ndarray:
    rows = many(flow(first_ts=0, last_ts=0), np.zeros(len(seconds)))
    rows["last_ts_ns"] += (np.asarray(seconds) * 1e9).astype(np.int64)
    return flows(rows)


@pytest.mark.parametrize(
    ("sign", "fields"),
    [
        ("unanswered", {"client_syns": 1}),
        ("refused", {"end_reason": EndReason.REFUSED, "server_packets": 1}),
        ("half open", {"synack_ts": 1}),
        ("reset", {"end_reason": EndReason.RESET}),
        ("timed out", {"end_reason": EndReason.TIMEOUT}),
        ("close wait", {"server_state": TcpState.CLOSE_WAIT}),
        ("close wait", {"client_state": TcpState.CLOSE_WAIT}),
        ("retransmits", {"server_retransmits": 1}),
        ("zero window", {"client_zero_windows": 2}),
        ("accept queue", {"flags": FlowFlag.ACCEPT_QUEUE}),
        ("capture loss", {"flags": FlowFlag.CAPTURE_LOSS}),
    ],
)
def test_each_sign(sign: str, fields: dict[str, int]) -> None:
    assert signs_of(flow(**fields)).tolist() == [1 << SIGNS.index(sign)]


def test_a_good_connection_has_no_sign() -> None:
    row = flow(client_syns=1, server_syns=1, server_packets=3, synack_ts=0.1, established_ts=0.2)
    assert signs_of(row).tolist() == [0]
    assert signs_of(row[:0]).tolist() == []


def test_of_few_connections_all_are_there() -> None:
    rows = lasting(np.arange(50))
    assert sorted(choose(rows)["flow_id"]) == list(range(1, 51))
    assert len(choose(rows[:0])) == 0


def test_of_many_the_earliest_of_each_trouble_then_the_longest() -> None:
    rows = lasting(np.arange(30_000) % 10_007)
    rows["server_zero_windows"][1_000:] = 1  # 29,000 of one kind
    rows["end_reason"][20_000:20_010] = EndReason.RESET  # ten of two signs
    got = choose(rows)
    assert len(got) == chosen.MOST_ROWS
    ids = got["flow_id"].astype(int)
    assert ids[:10].tolist() == list(range(20_001, 20_011)), "more signs first"
    assert ids[10:110].tolist() == list(range(1_001, 1_101)), "then the earliest of each kind"
    length = (got["last_ts_ns"] - got["first_ts_ns"])[110:]
    assert (np.diff(length) <= 0).all(), "then the longest"
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("seed", range(5))
def test_neither_order_nor_batches_change_the_choice(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = lasting(random.integers(0, 40, 5_000))
    rows["client_retransmits"] = random.integers(0, 2, 5_000)
    rows["server_zero_windows"] = random.integers(0, 50, 5_000) == 0
    whole = Chosen(300)
    whole.feed(rows)
    pieces = Chosen(300)
    mixed = rows[random.permutation(5_000)]
    for part in np.array_split(mixed, random.integers(2, 40)):
        pieces.feed(part)
    assert pieces.result()["flow_id"].tolist() == whole.result()["flow_id"].tolist()
    assert len(whole.result()) == 300


def test_memory_is_bounded_however_many_come() -> None:
    kept = Chosen(100)
    for number in range(50):
        rows = lasting(np.full(1_000, number))
        rows["flow_id"] += 1_000 * number
        rows["flags"] = FlowFlag.CAPTURE_LOSS
        kept.feed(rows)
        assert kept._kept <= 2 * 100
        assert sum(map(len, kept._kinds.values())) <= chosen.EACH_KIND


def test_those_behind_findings_come_first_in_their_order() -> None:
    rows = lasting(np.arange(10))
    got = put_first(choose(rows), [7, 3, 7, 99])["flow_id"].tolist()
    assert got[:2] == [7, 3]
    assert sorted(got) == list(range(1, 11))


def test_those_that_were_not_kept_are_found_among_others() -> None:
    rows = lasting(np.arange(10))
    got = put_first(rows[:3], [9, 1], rows[5:])["flow_id"].tolist()
    assert got == [9, 1, 2, 3]
    assert len(put_first(rows[:0], [1])) == 0
