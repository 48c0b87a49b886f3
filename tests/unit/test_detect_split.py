"""Every detector, the series and the summary say the same in any order, any split, and when halves are merged."""

from __future__ import annotations

import json
import pickle
from collections import Counter

import numpy as np
from detected import everything
from flow_rows import at, completed, flow, flows, half_open, many, refused, stuck_in_close_wait, unanswered
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrack.addresses import ip_text
from conntrack.detect import DETECTORS, DetectOptions
from conntrack.detect.limits import Limits
from conntrack.states import NO_TIME_NS, EndReason, FlowFlag, TcpState

END = at(400)
SENSITIVE = DetectOptions(
    syn_half_open_min=2, syn_backlog=20, syn_window_syns=3, syn_sources_min=2, sources_exact=4,
    close_wait_warning_count=2, close_wait_critical_count=5, ephemeral_ports=10, time_wait_server_min=3,
    unanswered_min=1, accept_queue_min=1, accept_queue_ratio_min=0.1, scan_targets_min=2, stuck_ends_min=1,
    reset_storm_count=2, reset_storm_window_s=60.0, reset_storm_ratio_min=0.1, zero_windows_min=1,
)  # fmt: skip

seconds = st.integers(0, 300_000_000).map(lambda us: us / 1e6)
clients = st.integers(1, 4).map(lambda n: f"10.0.0.{n}:4000{n}")
servers = st.sampled_from(["10.1.0.1:80", "10.1.0.1:81", "10.1.0.2:80"])
ends = st.fixed_dictionaries({"client": clients, "server": servers})
short, side = st.floats(0.001, 3), st.sampled_from(["client", "server"])
ODD = [
    {"flags": FlowFlag.ACCEPT_QUEUE, "server_syns": 3}, {"flags": FlowFlag.CAPTURE_LOSS, "client_gap_bytes": 1460},
    {"flags": FlowFlag.ONE_SIDED, "client_packets": 0}, {"client_duplicates": 3}, {"server_zero_windows": 4},
    {"client_zero_windows": 9},
]  # fmt: skip
odd = st.sampled_from(ODD)


def reset_while_open(start, **fields):
    return flow(
        syn_ts=start, synack_ts=start, established_ts=start, reset_ts=start + 1, closed_ts=start + 1, closed_by=2,
        client_state=0, server_state=0, client_packets=3, server_packets=3, end_reason=EndReason.RESET, **fields,
    )  # fmt: skip


def vanished(start, **fields):
    return flow(
        syn_ts=start, synack_ts=start, established_ts=start, client_fin_ts=start + 1, client_fin_received_ts=start + 1,
        client_fin_acked_ts=start + 1, server_fin_ts=start + 1, server_fins=5, server_state=TcpState.LAST_ACK,
        server_since_ts=start + 1, client_fins=1, **fields,
    )  # fmt: skip


stories = st.one_of(
    st.builds(lambda e, t, r, b: completed(t, 1, r, b, **e), ends, seconds, short, side),
    st.builds(lambda e, t, n: half_open(t, 0.02, n, **e), ends, seconds, st.integers(1, 6)),
    st.builds(lambda e, t, n: unanswered(t, n, **e), ends, seconds, st.integers(1, 4)),
    st.builds(lambda e, t: refused(t, **e), ends, seconds),
    st.builds(lambda e, t, s: stuck_in_close_wait(t, 1, s, **e), ends, seconds, side),
    st.builds(lambda e, t: flow(first_ts=t, last_ts=t + 5, flags=FlowFlag.MIDSTREAM, **e), ends, seconds),
    st.builds(lambda e, t, more: completed(t, 1, **e, **more), ends, seconds, odd),
    st.builds(lambda e, t: reset_while_open(t, **e), ends, seconds),
    st.builds(lambda e, t: vanished(t, **e), ends, seconds),
)


def told(detection):
    return detection.findings(END), detection.series(), detection.services(), detection.top_series(2)


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
    json.dumps([[finding.evidence for finding in expected[0]], *expected[1:]], allow_nan=False)
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


def test_something_is_found_of_every_kind():
    """Otherwise equal findings would say little. Vary the stories, not the thresholds, when one is missing here."""
    captures = [
        flows(*(half_open(t) for t in range(30))),
        flows(*(stuck_in_close_wait(t) for t in range(5))),
        flows(*(completed(t) for t in range(12))),
        flows(reset_while_open(1), reset_while_open(2)),
        flows(unanswered(5, 3), refused(9), refused(9, server="10.0.0.2:81")),
        vanished(3),
        *(completed(0, 1, **more) for more in ODD),
    ]
    kinds = {finding.kind for rows in captures for finding in fed(rows).findings(END)}
    assert kinds == {detector.kind for detector in DETECTORS}


def test_spans_of_years_cost_no_memory():
    """One stray timestamp must not make a long list, nor change what the others say."""
    rows = flows(*(half_open(t) for t in range(30)), completed(30 * 365 * 86_400.0), completed(-40 * 365 * 86_400.0))
    detection = fed(rows)
    assert "syn_flood" in [finding.kind for finding in detection.findings(END)]
    assert len(detection.series()["client"]["TIME_WAIT"]) <= 2002


@settings(max_examples=40, deadline=None)
@given(st.lists(stories, min_size=1, max_size=8))
def test_services_and_hosts_add_up_to_what_counting_end_by_end_gives(rows):
    rows = flows(*rows)
    top = everything(rows).top_series(50)
    step_ns = round(top["step_s"] * 1e9)
    counted = {(kind, group["name"]): group["states"] for kind in ("services", "hosts") for group in top[kind]}
    assert top["services_rest"] == {}
    points = max((len(counts) for states in counted.values() for counts in states.values()), default=0)
    for point in range(0, points, max(1, points // 30)):
        now = top["first_ts_ns"] + point * step_ns
        expected = {}
        for row in rows:
            for side in ("client", "server"):
                state = state_of(row, side, now)
                if state is None:
                    continue
                ip = ip_text(row[f"{side}_ip"].tobytes(), 4)
                keys = [("hosts", ip)] + ([("services", f"{ip}:{row['server_port']}")] if side == "server" else [])
                for key in keys:
                    expected.setdefault(key, Counter())[state.name] += 1
        seen = {
            key: Counter({name: counts[point] for name, counts in states.items() if counts[point]})
            for key, states in counted.items()
        }
        assert {key: states for key, states in seen.items() if states} == expected


def test_past_the_top_the_rest_is_what_is_left():
    rows = flows(*(stuck_in_close_wait(t, server=f"10.0.0.{n}:80") for n in range(1, 6) for t in range(n)))
    top = everything(rows).top_series(2)
    assert [group["name"] for group in top["services"]] == ["10.0.0.5:80", "10.0.0.4:80"]
    assert top["services_total"] == 5
    assert top["services_rest"]["CLOSE_WAIT"][-1] == 1 + 2 + 3
    assert top["services"][0]["states"]["CLOSE_WAIT"][-1] == 5


def test_too_many_clients_are_given_up_as_a_whole():
    forged = many(unanswered(), np.arange(300) / 10, 0x0B000000 + np.arange(300))
    rows = flows(forged, many(completed(), np.arange(9)))
    for parts in ([rows], np.array_split(rows, 3)):
        detections = [everything(part, limits=Limits(hosts=100)) for part in parts]
        for detection in detections[1:]:
            detections[0].merge(detection)
        top = detections[0].top_series()
        assert (top["clients"], top["unproven_clients"]) == (True, False)
        assert {group["name"] for group in top["hosts"]} == {"10.0.0.1", "10.0.0.2"}


def test_every_length_of_capture_has_a_step_that_its_grid_divides():
    """A step finer than the grid would leave the series empty."""
    for span in np.geomspace(0.5, 3e8, 60):
        rows = flows(stuck_in_close_wait(0), stuck_in_close_wait(span))
        result = everything(rows).series()
        assert result["server"]["CLOSE_WAIT"][-1] >= 1, span
        assert len(result["server"]["CLOSE_WAIT"]) <= 2002
