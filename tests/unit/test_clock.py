"""A lone segment from the future or the past moves its own connection and no other (core/clock.pxd)."""

from __future__ import annotations

import numpy as np
import pytest
from segments import START_NS, Exchange, in_state, merge
from tracked import track

from conntrack.states import TcpState
from conntrack.tracker import Tracker

YEAR_NS = 365 * 86_400 * 10**9
OTHER = "10.9.9.9:999"


def now_after(*times_s: float) -> float:
    segments = np.repeat(Exchange().client("S").segments(), len(times_s))
    segments["ts_ns"] = [START_NS + round(second * 1e9) for second in times_s]
    tracker = Tracker()
    tracker.process(segments)
    assert tracker.now_ns is not None
    return (tracker.now_ns - START_NS) / 1e9


@pytest.mark.parametrize(
    ("times_s", "now_s"),
    [
        ((5,), 5),
        ((5, 300), 300),
        ((5, 4.5), 5),  # a little out of order
        ((5, 1e8, 6), 6),  # a lone one from the future
        ((5, 1e8, 1e8), 1e8),  # two are believed
        ((5, 1e8, 1e8, 6), 1e8),
        ((5, 1e8, 1e8, 6, 6.5), 6.5),  # the clock was set back
        ((5000, 1, 5001), 5001),  # a lone one from the past
        ((5000, 1), 5000),
        ((5000, 1, 2), 2),
        ((0, 500, 499.5, 3), 500),
    ],
)
def test_what_time_it_is(times_s: tuple[float, ...], now_s: float) -> None:
    assert now_after(*times_s) == pytest.approx(now_s)


@pytest.mark.parametrize("by_ns", [YEAR_NS, -YEAR_NS], ids=["future", "past"])
@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_a_lone_segment_from_another_time_changes_no_other_connection(by_ns: int, at: int) -> None:
    story = in_state(TcpState.ESTABLISHED, TcpState.ESTABLISHED).client("F.").server(".").server("F.").client(".")
    segments = story.segments()
    lone = Exchange(OTHER).client("S").segments()
    lone["ts_ns"] += by_ns
    mixed = np.concatenate([segments[:at], lone, segments[at:]])
    mixed["frame"] = [*range(1, at + 1), 99, *range(at + 1, len(segments) + 1)]
    rows = track(mixed)
    assert len(rows) == 2
    assert rows[rows["flow_id"] == 1].tobytes() == track(segments).tobytes()


def test_a_jump_inside_a_connection_runs_out_its_own_timers_only() -> None:
    one = Exchange().client("S").segments()
    other = Exchange(OTHER).client("S").wait(1000).server("S.").wait(-1000).segments()
    segments = merge(one, other)[[0, 1]]
    late = other[1:]
    rows = track(np.concatenate([segments, late, Exchange("10.0.0.3:1").client("S").segments()]))
    assert TcpState(rows["client_state"][0]) == TcpState.SYN_SENT


def test_timers_run_where_time_went_back_inside_a_connection() -> None:
    segments = Exchange().client("S").server("S.").segments()
    segments["ts_ns"][1] = segments["ts_ns"][0] - 10**9
    row = track(segments, at_ns=int(segments["ts_ns"][0]) + 64 * 10**9)[0]
    assert (row["client_state"], row["server_state"]) == (TcpState.SYN_SENT, TcpState.CLOSED)
    assert row["server_since_ts_ns"] >= row["first_ts_ns"]
