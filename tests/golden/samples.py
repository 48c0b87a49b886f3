"""Reports and connections made by hand, with something of everything that a renderer must show."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np

from conntrack.core.abi import FLOW_DTYPE
from conntrack.detect.finding import Finding
from conntrack.report.model import CaptureSummary, ConnectionCounts, Report, StateSeries
from conntrack.states import (
    NO_TIME_NS,
    ClosedBy,
    DirectionEvidence,
    EndReason,
    Evidence,
    FlowFlag,
    TcpState,
)

SECOND = 10**9
NOON = 1_763_726_400 * SECOND  # 2025-11-21T12:00:00Z


def counts(**states: int) -> dict[str, int]:
    return {state.name: states.get(state.name, 0) for state in TcpState}


def service(name: str, connections: int) -> dict[str, Any]:
    return {
        "service": name,
        "connections": connections,
        "established": connections,
        "refused": 0,
        "reset": 0,
        "unanswered": 0,
        "handshake_p50_s": 0.000251,
        "server_states": {"CLOSED": connections - 1, "CLOSE_WAIT": 1},
    }


FLOOD = Finding(
    kind="syn_flood",
    subject="10.0.0.2:80",
    severity="critical",
    first_ts_ns=NOON + SECOND,
    last_ts_ns=NOON + 431_500_000_001,
    count=123_456,
    peak=4_000,
    evidence={
        "shape": "fast",
        "attempts": 130_000,
        "completion_ratio": 0.0312,
        "syn_rate_peak_per_s": 3012.5,
        "half_open_peak": 4_000,
        "half_open_peak_ts_ns": NOON + 195 * SECOND,
        "backlog": 4_096,
        "answered_once_ratio": None,
        "distinct_sources_exact": False,
    },
    caveats=("The capture is one-sided.",),
    next_steps=(
        "ss -tan state syn-recv '( sport = :80 )' | wc -l",
        "sysctl net.ipv4.tcp_syncookies net.ipv4.tcp_max_syn_backlog net.core.somaxconn (what the service can hold)",
    ),
    flow_ids=tuple(range(7, 207, 2)),
)

LEAK = Finding(
    kind="close_wait_leak",
    subject="[2001:db8::2]:8080",
    severity="warning",
    first_ts_ns=NOON,
    last_ts_ns=NOON + 9 * SECOND,
    count=12,
    peak=12,
    evidence={
        "side": "server",
        "cause": "application_leak",
        "leaking": 12,
        "oldest_s": 7_439.5,
        "top_peers": {"10.9.8.7": 9, "2001:db8::99": 3},
    },
    flow_ids=(3, 5),
)

PORTS = Finding(
    kind="time_wait_buildup",
    subject="10.0.0.9",
    severity="warning",
    first_ts_ns=NOON,
    last_ts_ns=NOON + 60 * SECOND,
    count=30_000,
    peak=20_000,
    evidence={"side": "client", "service": "10.0.0.2:80", "ephemeral_ports": 28_232, "occupancy_ratio": 0.7084},
)

TROUBLE = Report(
    capture=CaptureSummary(
        files=("big.pcap", "-", "evil\x1b[31m\n\udcff[red]\u202e.pcap"),
        bytes=3_050_000_000,
        packets=2_000_000,
        tcp_segments=1_999_000,
        first_ts_ns=NOON,
        last_ts_ns=NOON + 600 * SECOND,
        skipped={"udp": 100, "not_ip": 900},
        time_inversions=3,
        faults=("big.pcap: cut short in packet 1203 (54 of 66 bytes, offset 81920); 1202 packets used",),
    ),
    connections=ConnectionCounts(
        130_012,
        counts(SYN_SENT=123_456, ESTABLISHED=6_544, FIN_WAIT_2=12),
        counts(SYN_RECEIVED=123_456, CLOSE_WAIT=6_556),
    ),
    findings=(FLOOD, LEAK, PORTS),
    series=StateSeries(
        NOON,
        SECOND,
        {"SYN_SENT": [second % 50 for second in range(600)]},
        {"SYN_RECEIVED": [0] * 100 + list(range(500)), "ESTABLISHED": [5] * 600},
    ),
    services=tuple(service(f"10.0.0.{number}:80", 1_000 - number) for number in range(12)),
)

CLEAN = Report(
    capture=CaptureSummary(("ssh.pcap",), 7_042, 45, 45, NOON, NOON + 41_006_000_000),
    connections=ConnectionCounts(1, counts(TIME_WAIT=1), counts(CLOSED=1)),
    findings=(),
    series=StateSeries(NOON, SECOND // 10, {"ESTABLISHED": [1, 1, 1, 0]}, {"ESTABLISHED": [0, 1, 1, 0]}),
    services=(service("10.0.0.2:22", 1),),
)

NO_TCP = Report(
    capture=CaptureSummary(("dns.pcap",), 1_000, 12, 0, NOON, NOON + SECOND, {"udp": 12}),
    connections=ConnectionCounts(0, counts(), counts()),
    findings=(),
)


def _address(text: str) -> np.ndarray[Any, Any]:
    packed = ipaddress.ip_address(text).packed
    return np.frombuffer(packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed, np.uint8)


def sample_flows() -> np.ndarray[Any, Any]:
    """Return two connections: a whole IPv4 one, and a midstream IPv6 one of which little is known."""
    flows = np.zeros(2, FLOW_DTYPE)
    for name in FLOW_DTYPE.names or ():
        if name.endswith("_ts_ns"):
            flows[name] = NO_TIME_NS
    flows["reused_age_ns"] = NO_TIME_NS
    flows["flow_id"] = (1, 20_006)
    flows["generation"] = 1
    flows["ip_version"] = (4, 6)
    flows["client_ip"] = (_address("10.0.0.1"), _address("2001:db8::1"))
    flows["server_ip"] = (_address("10.0.0.2"), _address("2001:db8::2"))
    flows["client_port"], flows["server_port"] = (40_000, 40_001), (22, 8_080)
    flows["client_state"] = (TcpState.TIME_WAIT, TcpState.FIN_WAIT_2)
    flows["server_state"] = (TcpState.CLOSED, TcpState.CLOSE_WAIT)
    flows["client_state_evidence"] = (Evidence.SEEN, Evidence.ASSUMED)
    flows["server_state_evidence"] = (Evidence.SEEN, Evidence.INFERRED)
    flows["direction_evidence"] = (DirectionEvidence.SYN, DirectionEvidence.PORT)
    flows["closed_by"] = ClosedBy.CLIENT
    flows["end_reason"] = (EndReason.FIN, EndReason.OPEN_AT_END)
    flows["flags"] = (0, FlowFlag.MIDSTREAM | FlowFlag.CAPTURE_LOSS)
    flows["first_ts_ns"] = (NOON, NOON + 1)
    flows["last_ts_ns"] = (NOON + 41_006_000_000, NOON + 3_600 * SECOND)
    whole = flows[:1]
    for step, after_ns in (
        ("syn", 0),
        ("synack", 250_000),
        ("established", 251_000),
        ("client_fin", 41 * SECOND),
        ("server_fin", 41_005_000_000),
        ("closed", 101 * SECOND),
    ):
        whole[f"{step}_ts_ns"] = NOON + after_ns
    flows["client_fin_ts_ns"][1] = NOON + 5 * SECOND
    flows["client_packets"], flows["server_packets"] = (23, 7), (22, 1)
    flows["client_payload_bytes"], flows["server_payload_bytes"] = (2_001, 99_999), (2_333, 12_345_678_901)
    flows["server_unique_bytes"], flows["server_gap_bytes"] = (2_333, 12_345_000_000), (0, 70_000)
    flows["client_syns"], flows["server_syns"] = (1, 0), (1, 0)
    flows["client_fins"], flows["server_fins"] = (1, 1), (1, 0)
    flows["completeness"] = (31, 24)
    for row, history in enumerate((b"ShADadFf", b"^dDaF")):
        flows["history"][row, : len(history)] = np.frombuffer(history, np.uint8)
    return flows
