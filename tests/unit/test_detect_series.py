"""The series of states against counting end by end, instant by instant."""

from __future__ import annotations

import numpy as np
import pytest
from detected import everything
from flow_rows import T0_NS, at, completed, flow, flows, half_open, many, stuck_in_close_wait, unanswered

from conntrack.detect.breakdown import _peaks
from conntrack.detect.series import COUNTED_STATES
from conntrack.states import EndReason, FlowFlag, TcpState


def series(rows):
    return everything(rows).series()


def states_at(rows, side, seconds):
    """Return {state: count} of one side at an instant, from the series."""
    result = series(rows)
    point = round((at(seconds) - result["first_ts_ns"]) / 1e9 / result["step_s"])
    return {state: counts[point] for state, counts in result[side].items() if counts[point]}


def test_a_connection_from_syn_to_the_end_of_time_wait():
    row = flow(
        syn_ts=0.5, synack_ts=2.5, established_ts=4.5, client_fin_ts=10.5, client_fin_received_ts=12.5,
        client_fin_acked_ts=12.5, server_fin_ts=20.5, server_fin_received_ts=22.5, server_fin_acked_ts=22.5,
        client_state=TcpState.CLOSED, server_state=TcpState.CLOSED, client_since_ts=82.5, server_since_ts=22.5,
        closed_ts=82.5, end_reason=EndReason.FIN, last_ts=100.0,
    )  # fmt: skip
    result = series(row)
    assert result["step_s"] == 1.0
    assert result["first_ts_ns"] == T0_NS
    seen = {
        side: {name: [k for k, count in enumerate(counts) if count] for name, counts in result[side].items()}
        for side in ("client", "server")
    }
    expected = {
        "client": {"SYN_SENT": range(1, 5), "ESTABLISHED": range(5, 11), "FIN_WAIT_1": range(11, 13),
                   "FIN_WAIT_2": range(13, 23), "TIME_WAIT": range(23, 83)},
        "server": {"SYN_RECEIVED": range(3, 5), "ESTABLISHED": range(5, 13), "CLOSE_WAIT": range(13, 21),
                   "LAST_ACK": range(21, 23)},
    }  # fmt: skip
    for side, states in expected.items():
        assert {name: instants for name, instants in seen[side].items() if instants} == {
            name: list(instants) for name, instants in states.items()
        }


def test_crossing_fins_are_closing_and_then_time_wait():
    row = flow(
        syn_ts=0.0, synack_ts=0.1, established_ts=0.2, client_fin_ts=5.0, server_fin_ts=5.1, server_fin_received_ts=7.0,
        client_fin_received_ts=7.0, client_fin_acked_ts=9.0, server_fin_acked_ts=9.0, client_state=TcpState.TIME_WAIT,
        server_state=TcpState.TIME_WAIT, client_since_ts=9.0, server_since_ts=9.0, last_ts=60.0,
    )  # fmt: skip
    assert states_at(row, "client", 6) == states_at(row, "server", 6) == {"FIN_WAIT_1": 1}
    assert states_at(row, "client", 8) == states_at(row, "server", 8) == {"CLOSING": 1}
    assert states_at(row, "client", 59) == {"TIME_WAIT": 1}


def test_a_flood_shows_at_both_ends():
    rows = flows(many(half_open(), np.arange(100)), unanswered(300.0))
    assert states_at(rows, "server", 99) == {"SYN_RECEIVED": 63}
    assert states_at(rows, "client", 99) == {"SYN_SENT": 100}
    assert states_at(rows, "client", 300) == {"SYN_SENT": 1}
    assert states_at(rows, "server", 300) == {}


def test_what_is_open_stays_to_the_end():
    rows = flows(stuck_in_close_wait(), flow(syn_ts=0.0, synack_ts=0.1, established_ts=0.2, last_ts=500.0))
    assert states_at(rows, "server", 500) == {"ESTABLISHED": 1, "CLOSE_WAIT": 1}
    assert states_at(rows, "client", 500) == {"ESTABLISHED": 1}


def test_a_connection_from_before_the_capture_is_established_from_its_first_segment():
    row = flow(first_ts=3.5, last_ts=50.0, flags=FlowFlag.MIDSTREAM)
    assert states_at(row, "client", 3) == {}
    assert states_at(row, "client", 4) == states_at(row, "server", 50) == {"ESTABLISHED": 1}


def test_the_last_state_has_the_last_word():
    reset = flow(
        syn_ts=0.0, synack_ts=0.1, established_ts=0.2, reset_ts=9.0, closed_ts=9.0, client_state=TcpState.CLOSED,
        server_state=TcpState.CLOSED, client_since_ts=9.0, server_since_ts=9.0, end_reason=EndReason.RESET,
        last_ts=30.0,
    )  # fmt: skip
    assert states_at(reset, "client", 8) == {"ESTABLISHED": 1}
    assert states_at(reset, "client", 9) == states_at(reset, "server", 9) == {}
    evicted = flow(syn_ts=0.0, synack_ts=0.1, established_ts=0.2, client_since_ts=0.2, server_since_ts=0.2,
                   end_reason=EndReason.EVICTED, last_ts=20.0)  # fmt: skip
    assert states_at(flows(evicted, flow(first_ts=40.0)), "client", 30) == {}


@pytest.mark.parametrize(
    ("length_s", "step_s"),
    [(0, 0.01), (1.5, 0.01), (2.1, 0.1), (20, 0.1), (21, 1), (2000, 1), (2001, 2), (4001, 5), (19_999, 10),
     (20_001, 30), (10**5, 60), (10**6, 600), (10**9, 864_000)],
)  # fmt: skip
def test_the_step_follows_the_length(length_s, step_s):
    result = series(flows(completed(0, 0), completed(max(0, length_s - 0.05), 0)))
    assert result["step_s"] == step_s
    points = {len(counts) for side in ("client", "server") for counts in result[side].values()}
    assert len(points) == 1
    assert points.pop() <= 2002


def test_without_connections_there_are_no_points():
    result = everything().series()
    assert result["first_ts_ns"] is None
    assert result["client"] == {state.name: [] for state in COUNTED_STATES}


@pytest.mark.parametrize(
    ("events", "groups", "width"), [(0, 3, 5), (1, 1, 1), (400, 3, 9), (400, 40, 100), (90, 1000, 50)]
)
def test_the_most_at_once_of_each_group_is_that_of_a_count_by_hand(events, groups, width):
    """With a place for each instant of each group, where there are few of them, and in order, where there are many."""
    random = np.random.default_rng(events)
    group, instant = random.integers(0, groups, events), random.integers(0, width, events)
    change = random.integers(-2, 4, events)
    expected = [0] * (int(group.max(initial=-1)) + 1)
    for number in range(len(expected)):
        level = 0
        for tick in range(width):
            level += int(change[(group == number) & (instant == tick)].sum())
            expected[number] = max(expected[number], level)
    assert _peaks(group, instant, change, width).tolist() == expected
