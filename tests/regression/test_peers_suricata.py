"""The flow records that Suricata's own test suite expects (suricata-verify), from the shared folder.

Suricata keeps one state for a session, ours keeps one for each end; what Suricata's would be is worked out here, from
both of ours, and nowhere in the package. Compared: endpoints, packets and bytes each way, the times of the first and
the last segment, SYN, FIN and RST each way, tcp.state, flow.state, flow.reason, what an alert says of its flow at the
frame that raised it, and, where a test says no more than that, how many TCP flows there are.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from conntrack.addresses import ip_text
from conntrack.capture import open_capture
from conntrack.core.abi import FLOW_DTYPE, SEGMENT_DTYPE
from conntrack.pipeline import flow_batches
from conntrack.states import TcpState
from conntrack.tracker import Tracker

DIFFERENT = {
    "tests/firewall/tcp-session-syn-flood-drop-precedence/test.yaml": (
        "the flows that its rules dropped; the capture is 200 SYNs on 200 4-tuples, each a connection",
        200,
        100,
    ),
    "tests/bug-5437-02/test.yaml": ("only those that it takes for HTTP", 10, 2),
}
"""By test: what it counts instead of the connections, how many there are of these, how many Suricata counts."""

OUTER_FLOWS = {"tests/bug-6402-01/test.yaml", "tests/vxlan-decoder-03/test.yaml"}
"""Tests that also count the UDP flows around a tunnel: of these only what says TCP is compared."""

NOT_COMPARED = {
    "event_type": "says which records a check is about",
    "pcap_cnt": "says at which frame",
    "alert.": "a rule's",
    "http": "a protocol parser's",
    "app_proto": "a protocol parser's",
    "tx_id": "a protocol parser's",
    "flow.alerted": "a rule's",
    "flow.action": "a rule's",
    "flow.exception_policy": "a rule's",
    "tcp.ack": "our record does not keep which segments had the ACK flag",
    "tcp.psh": "nor the PSH flag",
}
"""Prefixes of keys: results of rules and protocol parsers, and what a connection's record does not hold."""

ENDED = frozenset({TcpState.CLOSED, TcpState.TIME_WAIT})

FIN, SYN, RST = 0x01, 0x02, 0x04


def session_state(client: TcpState, server: TcpState) -> str:
    """The one state that Suricata keeps: the server's, and closed when the last FIN is acknowledged or a RST was sent.

    stream-tcp.c: a FIN to the server makes the session close_wait, one from it fin_wait1; the ACK of the last FIN takes
    it from last_ack, or from time_wait, to closed. Where our server listens, a SYN was sent to it: syn_sent.
    """
    if {client, server} <= ENDED:
        return "closed"
    names = {
        TcpState.LISTEN: "syn_sent",
        TcpState.SYN_RECEIVED: "syn_recv",
        TcpState.FIN_WAIT_1: "fin_wait1",
        TcpState.FIN_WAIT_2: "fin_wait2",
    }
    return names.get(server, server.name.lower())


def flow_state(session: str) -> str:
    """StreamTcpPacketSetState: what the session's state makes of the flow's."""
    if session in ("last_ack", "time_wait", "closed"):
        return "closed"
    return "new" if session in ("syn_sent", "syn_recv") else "established"


def connections(path: Path, *, last_frame: int | None = None) -> np.ndarray[Any, Any]:
    with open_capture([path]) as capture:
        segments = np.concatenate([np.empty(0, SEGMENT_DTYPE), *[batch.copy() for batch in capture]])
    if last_frame is not None:
        segments = segments[segments["frame"] <= last_frame]
    return np.concatenate([np.empty(0, FLOW_DTYPE), *flow_batches([segments], Tracker(validate=True))])


def eve_time(ts_ns: int) -> str:
    return f"{datetime.fromtimestamp(ts_ns // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{ts_ns % 10**9 // 1000:06}+0000"


def eve(row: np.void) -> dict[str, str]:
    """What Suricata would write of this connection, as text."""
    version = int(row["ip_version"])
    first_ns, last_ns = int(row["first_ts_ns"]), int(row["last_ts_ns"])
    session = session_state(TcpState(row["client_state"]), TcpState(row["server_state"]))
    record = {
        "proto": "TCP",
        "flow.start": eve_time(first_ns),
        "flow.end": eve_time(last_ns),
        "flow.age": str(last_ns // 10**9 - first_ns // 10**9),  # whole seconds of each, as Suricata takes it
        "flow.state": flow_state(session),
        "flow.reason": "shutdown" if session == "closed" else "forced",
        "tcp.state": session,
    }
    both = 0
    for end, here, way, suffix in (("client", "src", "toserver", "ts"), ("server", "dest", "toclient", "tc")):
        record[f"{here}_ip"] = ip_text(row[f"{end}_ip"].tobytes(), version)
        record[f"{here}_port"] = str(row[f"{end}_port"])
        record[f"flow.pkts_{way}"] = str(row[f"{end}_packets"])
        record[f"flow.bytes_{way}"] = str(row[f"{end}_wire_bytes"])
        flags = sum(bit for bit, what in ((FIN, "fins"), (SYN, "syns"), (RST, "rsts")) if row[f"{end}_{what}"])
        record[f"tcp.tcp_flags_{suffix}"] = f"{flags:02x}"
        both |= flags
    record["tcp.tcp_flags"] = f"{both:02x}"
    for name, bit in (("fin", FIN), ("syn", SYN), ("rst", RST)):
        record[f"tcp.{name}"] = str(bool(both & bit))
    return record


def wanted(match: dict[str, str]) -> dict[str, str]:
    """The part of a check that is about what our record holds."""
    kept = {key: value for key, value in match.items() if not key.startswith(tuple(NOT_COMPARED))}
    for key in kept.keys() & {"tcp.tcp_flags", "tcp.tcp_flags_ts", "tcp.tcp_flags_tc"}:
        kept[key] = f"{int(kept[key], 16) & (FIN | SYN | RST):02x}"
    return kept


def test_flows_are_suricatas(shared: Path) -> None:
    expected = json.loads((shared / "captures" / "expected_suricata.json").read_text())
    checks = values = 0
    for name, tests in expected.items():
        path = shared / "captures" / "OISF+suricata-verify" / name
        ours = [eve(row) for row in connections(path)]
        assert ours, name
        for test in tests:
            for check in test["checks"]:
                match = check["match"]
                if test["test"] in OUTER_FLOWS and match.get("proto") != "TCP":
                    continue
                rows = ours
                if match["event_type"] == "alert":
                    rows = [eve(row) for row in connections(path, last_frame=int(match["pcap_cnt"]))]
                want = wanted(match)
                assert want.keys() <= rows[0].keys(), (test["test"], want.keys() - rows[0].keys())
                found = [row for row in rows if want.items() <= row.items()]
                _, expected_ours, theirs = DIFFERENT.get(test["test"], ("", check["count"], check["count"]))
                assert (len(found), check["count"]) == (expected_ours, theirs), (test["test"], want, rows)
                checks += 1
                values += len(want)
    assert (checks, values) == (21, 103)
