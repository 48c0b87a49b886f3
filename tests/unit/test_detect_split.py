"""Every detector, the series and the summary say the same in any order, any split, and when halves are merged."""

from __future__ import annotations

import json
import pickle
from collections import Counter

import numpy as np
from flow_rows import at, completed, flow, flows, half_open, refused, stuck_in_close_wait, unanswered
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrack.detect import DetectOptions, ServiceSummary, StateSeries, find_all, make_detectors, merge, run
from conntrack.states import NO_TIME_NS, EndReason, FlowFlag, TcpState

END = at(400)
SENSITIVE = DetectOptions(
    syn_half_open_min=2, syn_backlog=20, syn_window_syns=3, syn_sources_min=2, sources_exact=4,
    close_wait_warning_count=2, close_wait_critical_count=5, ephemeral_ports=10, time_wait_server_min=3,
)  # fmt: skip

seconds = st.integers(0, 300_000_000).map(lambda us: us / 1e6)
clients = st.integers(1, 4).map(lambda n: f"10.0.0.{n}:4000{n}")
servers = st.sampled_from(["10.1.0.1:80", "10.1.0.1:81", "10.1.0.2:80"])
ends = st.fixed_dictionaries({"client": clients, "server": servers})
short, side = st.floats(0.001, 3), st.sampled_from(["client", "server"])
stories = st.one_of(
    st.builds(lambda e, t, r, b: completed(t, 1, r, b, **e), ends, seconds, short, side),
    st.builds(lambda e, t, n: half_open(t, 0.02, n, **e), ends, seconds, st.integers(1, 6)),
    st.builds(lambda e, t, n: unanswered(t, n, **e), ends, seconds, st.integers(1, 4)),
    st.builds(lambda e, t: refused(t, **e), ends, seconds),
    st.builds(lambda e, t, s: stuck_in_close_wait(t, 1, s, **e), ends, seconds, side),
    st.builds(lambda e, t: flow(first_ts=t, last_ts=t + 5, flags=FlowFlag.MIDSTREAM, **e), ends, seconds),
)


def told(parts):
    detectors, series, services = parts[:-2], parts[-2], parts[-1]
    return find_all(detectors, END), series.result(), services.result()


def fresh():
    return [*make_detectors(SENSITIVE), StateSeries(SENSITIVE), ServiceSummary()]


def fed(rows):
    parts = fresh()
    run(parts, rows)
    return parts


@settings(max_examples=80, deadline=None)
@given(st.lists(stories, min_size=1, max_size=40), st.data())
def test_order_split_and_merge_change_nothing(rows, data):
    rows = flows(*rows)
    expected = told(fed(rows))
    json.dumps([[finding.evidence for finding in expected[0]], expected[1], expected[2]], allow_nan=False)
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    pieces = np.split(rows[order], cuts)
    parts = fresh()
    for piece in pieces:
        run(parts, piece)
    assert told(parts) == expected
    halves = [fed(piece) for piece in pieces]
    merged = pickle.loads(pickle.dumps(halves[-1]))  # as it comes from another process
    for half in halves[:-1]:
        merge(merged, half)
    assert told(merged) == expected


def state_of(row, side, now):
    """Return the state of one end at an instant, read from the row as RFC 9293 Figure 5 is; None if it has none."""
    peer = "server" if side == "client" else "client"

    def past(name):
        return row[f"{name}_ts_ns"] != NO_TIME_NS and row[f"{name}_ts_ns"] <= now

    if past(f"{side}_since"):
        state = TcpState(row[f"{side}_state"])
        gone = row["end_reason"] != EndReason.OPEN_AT_END and past("closed")
        return None if state in (TcpState.CLOSED, TcpState.LISTEN) or gone else state
    sent, taken, acked = past(f"{side}_fin"), past(f"{peer}_fin_received"), past(f"{side}_fin_acked")
    if sent and taken:
        if row[f"{side}_fin_ts_ns"] < row[f"{peer}_fin_received_ts_ns"]:
            return TcpState.TIME_WAIT if acked else TcpState.CLOSING
        return None if acked else TcpState.LAST_ACK
    if sent:
        return TcpState.FIN_WAIT_2 if acked else TcpState.FIN_WAIT_1
    if taken:
        return TcpState.CLOSE_WAIT
    if past("established") or (row["flags"] & FlowFlag.MIDSTREAM and past("first")):
        return TcpState.ESTABLISHED
    if past("syn" if side == "client" else "synack"):
        return TcpState.SYN_SENT if side == "client" else TcpState.SYN_RECEIVED
    return None


@settings(max_examples=40, deadline=None)
@given(st.lists(stories, min_size=1, max_size=6))
def test_the_series_is_what_counting_end_by_end_gives(rows):
    rows = flows(*rows)
    series = StateSeries()
    run([series], rows)
    result = series.result()
    step_ns = round(result["step_s"] * 1e9)
    for side in ("client", "server"):
        points = len(result[side]["ESTABLISHED"])
        for point in range(0, points, max(1, points // 60)):
            now = result["first_ts_ns"] + point * step_ns
            expected = Counter(state.name for row in rows if (state := state_of(row, side, now)) is not None)
            assert {name: counts[point] for name, counts in result[side].items() if counts[point]} == expected


def test_something_is_found_at_all():
    rows = flows(
        *(half_open(t) for t in range(30)),
        *(stuck_in_close_wait(t) for t in range(5)),
        *(completed(t) for t in range(12)),
    )
    kinds = [finding.kind for finding in told(fed(rows))[0]]
    assert sorted(kinds) == ["close_wait_leak", "syn_flood", "time_wait_buildup"]


def test_spans_of_years_cost_no_memory():
    """One stray timestamp must not make a long list, nor change what the others say."""
    rows = flows(*(half_open(t) for t in range(30)), completed(30 * 365 * 86_400.0), completed(-40 * 365 * 86_400.0))
    detectors = make_detectors(SENSITIVE)
    series = StateSeries()
    run([*detectors, series], rows)
    assert [finding.kind for finding in find_all(detectors, END)] == ["syn_flood"]
    assert len(series.result()["client"]["TIME_WAIT"]) <= 2002
