"""Every detector, the series and the summary say the same in any order, any split, and when halves are merged."""

from __future__ import annotations

import json
import pickle
from collections import Counter

import numpy as np
from detected import everything
from flow_rows import at, completed, flow, flows, half_open, refused, stuck_in_close_wait, unanswered
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrack.detect import DetectOptions
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


def told(detection):
    return detection.findings(END), detection.series(), detection.services()


def fed(*parts):
    return everything(*parts, options=SENSITIVE)


def merged_at_random(parts, data):
    """Merge detections two by two, in an order drawn anew each time, until one is left."""
    parts = list(parts)
    while len(parts) > 1:
        one = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        other = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        one.merge(pickle.loads(pickle.dumps(other)))  # as it comes from another process
        parts.append(one)
    return parts[0]


@settings(max_examples=120, deadline=None)
@given(st.lists(stories, min_size=1, max_size=40), st.data())
def test_order_split_and_merge_change_nothing(rows, data):
    rows = flows(*rows)
    expected = told(fed(rows))
    json.dumps([[finding.evidence for finding in expected[0]], expected[1], expected[2]], allow_nan=False)
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    pieces = np.split(rows[order], cuts)
    assert told(fed(*pieces)) == expected
    assert told(merged_at_random([fed(piece) for piece in pieces], data)) == expected


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
    result = everything(rows).series()
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
    kinds = {finding.kind for finding in told(fed(rows))[0]}
    assert kinds >= {"close_wait_leak", "syn_flood", "time_wait_buildup"}


def test_spans_of_years_cost_no_memory():
    """One stray timestamp must not make a long list, nor change what the others say."""
    rows = flows(*(half_open(t) for t in range(30)), completed(30 * 365 * 86_400.0), completed(-40 * 365 * 86_400.0))
    detection = fed(rows)
    assert "syn_flood" in [finding.kind for finding in detection.findings(END)]
    assert len(detection.series()["client"]["TIME_WAIT"]) <= 2002
