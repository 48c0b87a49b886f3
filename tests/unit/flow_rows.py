"""Builders of FLOW_DTYPE rows for tests: connections told in seconds, without the tracker.

`flow()` makes one row. Any field of FLOW_DTYPE can be given by name; a name that ends in "_ts" instead of "_ts_ns" is
given in seconds after T0. The stories (`completed`, `half_open`, ...) are what the tracker says of common connections,
and `many` repeats a row: shifted in time, from other clients.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np

from conntrack.core.abi import FLOW_DTYPE
from conntrack.states import NO_TIME_NS, ClosedBy, EndReason, Evidence, FlowFlag, TcpState

NS = 1_000_000_000
T0 = 1_700_000_000
T0_NS = T0 * NS
TIME_FIELDS = tuple(name for name in FLOW_DTYPE.names if name.endswith("_ts_ns"))
SYN_TIMEOUT_S, SYN_RECEIVED_TIMEOUT_S, TIME_WAIT_S = 127, 63, 60


def at(seconds: float) -> int:
    """Return a time in ns, `seconds` after T0 (exact to the microsecond)."""
    return T0_NS + round(seconds * 1_000_000) * 1000


def ip16(address: str) -> np.ndarray:
    """Return an address as FLOW_DTYPE keeps it: uint8, shape (16,)."""
    ip = ipaddress.ip_address(address)
    raw = ip.packed if ip.version == 6 else b"\0" * 10 + b"\xff\xff" + ip.packed
    return np.frombuffer(raw, np.uint8)


def flow(client: str = "10.0.0.1:40000", server: str = "10.0.0.2:80", **fields: Any) -> np.ndarray:
    """Return one row, shape (1,). Unknown times are NO_TIME_NS; first and last time follow from the others."""
    row = np.zeros(1, FLOW_DTYPE)
    for name in (*TIME_FIELDS, "reused_age_ns"):
        row[name] = NO_TIME_NS
    for side, text in (("client", client), ("server", server)):
        host, _, port = text.rpartition(":")
        host = host.strip("[]")
        row[f"{side}_ip"], row[f"{side}_port"] = ip16(host), int(port)
        row["ip_version"] = ipaddress.ip_address(host).version
    row["flow_id"], row["generation"] = 1, 1
    row["client_state"] = row["server_state"] = TcpState.ESTABLISHED
    for name, value in fields.items():
        if name.endswith("_ts"):
            row[f"{name}_ns"] = NO_TIME_NS if value is None else at(value)
        else:
            row[name] = value
    steps = [name for name in TIME_FIELDS if "since" not in name and name != "closed_ts_ns"]
    known = [int(row[name][0]) for name in steps if row[name][0] != NO_TIME_NS] or [T0_NS]
    for name, value in (("first_ts_ns", min(known)), ("last_ts_ns", max(known))):
        if row[name][0] == NO_TIME_NS:
            row[name] = value
    return row


def flows(*rows: np.ndarray) -> np.ndarray:
    """Return rows as one array, numbered from 1 in this order."""
    joined = np.concatenate(rows) if rows else np.zeros(0, FLOW_DTYPE)
    joined["flow_id"] = np.arange(1, len(joined) + 1)
    return joined


def many(row: np.ndarray, shifts_s: Any, client_ips: Any = None, client_ports: Any = None) -> np.ndarray:
    """Return `row` once for each shift, every known time moved by it.

    Args:
        row: shape (1,).
        shifts_s: seconds, shape (n,).
        client_ips: IPv4 addresses as integers, shape (n,) or one; the row's own when omitted.
        client_ports: shape (n,); when omitted 1024, 1025, ... and again from 1024 after 65535.
    """
    shifts_ns = np.round(np.asarray(shifts_s, float) * 1e6).astype(np.int64) * 1000
    rows = np.repeat(row, len(shifts_ns))
    for name in TIME_FIELDS:
        rows[name] = np.where(rows[name] == NO_TIME_NS, NO_TIME_NS, rows[name] + shifts_ns)
    if client_ips is not None:
        big_endian = np.broadcast_to(np.asarray(client_ips), rows.shape).astype(">u4")
        rows["client_ip"][:, 12:] = np.ascontiguousarray(big_endian).view(np.uint8).reshape(-1, 4)
    rows["client_port"] = 1024 + np.arange(len(rows)) % 64512 if client_ports is None else client_ports
    return flows(rows)


def completed(
    start: float = 0.0, length: float = 1.0, rtt: float = 0.02, by: str = "client", **fields: Any
) -> np.ndarray:
    """Return a connection that opened, exchanged data and was closed by both, `by` first; its TIME_WAIT is over."""
    fin, answer, over = start + rtt + length, start + 2 * rtt + length, start + 2.5 * rtt + length
    peer = "server" if by == "client" else "client"
    times = {
        "syn_ts": start, "synack_ts": start + rtt / 2, "established_ts": start + rtt,
        f"{by}_fin_ts": fin, f"{peer}_fin_received_ts": over, f"{by}_fin_received_ts": answer,
        f"{by}_fin_acked_ts": answer,
        f"{peer}_fin_ts": answer, f"{peer}_fin_acked_ts": over,
        f"{by}_since_ts": over + TIME_WAIT_S, f"{peer}_since_ts": over, "closed_ts": over + TIME_WAIT_S,
    }  # fmt: skip
    counters: dict[str, Any] = {
        "client_state": TcpState.CLOSED, "server_state": TcpState.CLOSED, f"{by}_state_evidence": Evidence.EXPIRED,
        "client_packets": 5, "server_packets": 4, "client_syns": 1, "server_syns": 1,
        "client_fins": 1, "server_fins": 1,
        "client_payload_bytes": 100, "server_payload_bytes": 1000, "end_reason": EndReason.FIN,
        "closed_by": ClosedBy.CLIENT if by == "client" else ClosedBy.SERVER, "completeness": 31,
    }  # fmt: skip
    return flow(**{**times, **counters, **fields})


def half_open(start: float = 0.0, rtt: float = 0.02, synacks: int = 6, **fields: Any) -> np.ndarray:
    """Return a connection whose SYN+ACK nobody ever acknowledged, both ends given up by their timers."""
    return flow(**{
        "syn_ts": start, "synack_ts": start + rtt / 2, "client_since_ts": start + SYN_TIMEOUT_S,
        "server_since_ts": start + rtt / 2 + SYN_RECEIVED_TIMEOUT_S, "closed_ts": start + SYN_TIMEOUT_S,
        "client_state": TcpState.CLOSED, "server_state": TcpState.CLOSED, "client_state_evidence": Evidence.EXPIRED,
        "server_state_evidence": Evidence.EXPIRED, "client_packets": 1, "client_syns": 1, "server_packets": synacks,
        "server_syns": synacks, "end_reason": EndReason.TIMEOUT, "completeness": 3, **fields,
    })  # fmt: skip


def unanswered(start: float = 0.0, syns: int = 1, **fields: Any) -> np.ndarray:
    """Return a connection of SYNs (1 + the repeats) that nobody answered; the server's end never left LISTEN."""
    return flow(**{
        "syn_ts": start, "last_ts": start + 2 ** (syns - 1) - 1, "client_since_ts": start + SYN_TIMEOUT_S,
        "closed_ts": start + SYN_TIMEOUT_S, "client_state": TcpState.CLOSED, "server_state": TcpState.LISTEN,
        "client_state_evidence": Evidence.EXPIRED, "client_packets": syns, "client_syns": syns,
        "flags": FlowFlag.ONE_SIDED, "end_reason": EndReason.TIMEOUT, "completeness": 1, **fields,
    })  # fmt: skip


def refused(start: float = 0.0, **fields: Any) -> np.ndarray:
    """Return a connection whose SYN was answered by a RST."""
    return flow(**{
        "syn_ts": start, "reset_ts": start + 0.01, "client_since_ts": start + 0.01, "closed_ts": start + 0.01,
        "client_state": TcpState.CLOSED, "server_state": TcpState.CLOSED, "client_packets": 1, "client_syns": 1,
        "server_packets": 1, "server_rsts": 1, "end_reason": EndReason.REFUSED, "completeness": 33, **fields,
    })  # fmt: skip


def stuck_in_close_wait(start: float = 0.0, fin: float = 1.0, side: str = "server", **fields: Any) -> np.ndarray:
    """Return an open connection whose `side` took the peer's FIN and never sent its own (the peer left FIN_WAIT_2)."""
    peer = "client" if side == "server" else "server"
    return flow(**{
        "syn_ts": start, "synack_ts": start + 0.01, "established_ts": start + 0.02, f"{peer}_fin_ts": start + fin,
        f"{peer}_fin_received_ts": start + fin + 0.01, f"{peer}_fin_acked_ts": start + fin + 0.01,
        f"{side}_state": TcpState.CLOSE_WAIT, f"{side}_since_ts": start + fin + 0.01,
        f"{peer}_state": TcpState.CLOSED, f"{peer}_since_ts": start + fin + 60.01,
        f"{peer}_state_evidence": Evidence.EXPIRED, "client_packets": 4, "server_packets": 3, "client_syns": 1,
        "server_syns": 1, f"{peer}_fins": 1, "client_payload_bytes": 100, "server_payload_bytes": 1000,
        "completeness": 31, **fields,
    })  # fmt: skip


def queue_full(start: float = 0.0, repeats: int = 2, **fields: Any) -> np.ndarray:
    """Return a connection that the client took for open, while the server repeated its SYN+ACK."""
    return flow(**{
        "syn_ts": start, "synack_ts": start + 0.01, "established_ts": start + 0.02, "last_ts": start + 31.0,
        "client_packets": 2 + repeats, "client_syns": 1, "server_packets": 1 + repeats, "server_syns": 1 + repeats,
        "server_state": TcpState.SYN_RECEIVED, "flags": FlowFlag.ACCEPT_QUEUE, **fields,
    })  # fmt: skip


def vanished(fins: int = 6, **fields: Any) -> np.ndarray:
    """Return a connection whose server closed second, and sent that FIN again and again: the client is gone."""
    return flow(**{
        "syn_ts": 0.0, "synack_ts": 0.01, "established_ts": 0.02, "client_fin_ts": 1.0, "client_fin_received_ts": 1.01,
        "client_fin_acked_ts": 1.01, "server_fin_ts": 1.02, "server_state": TcpState.CLOSED, "server_since_ts": 100.0,
        "server_state_evidence": Evidence.EXPIRED, "closed_ts": 100.0, "client_fins": 1, "server_fins": fins,
        "end_reason": EndReason.TIMEOUT, **fields,
    })  # fmt: skip


def cut(by: int = ClosedBy.SERVER, **fields: Any) -> np.ndarray:
    """Return an open connection that `by` ended with a RST after 5 s, with no FIN from either end."""
    return flow(**{
        "syn_ts": 0.0, "synack_ts": 0.01, "established_ts": 0.02, "reset_ts": 5.0, "closed_ts": 5.0, "closed_by": by,
        "client_state": TcpState.CLOSED, "server_state": TcpState.CLOSED, "client_packets": 4, "server_packets": 4,
        "client_syns": 1, "server_syns": 1, "end_reason": EndReason.RESET, **fields,
    })  # fmt: skip
