"""Looks at hosts that never were: sockets by hand, for the rules of conntrack/host/."""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.addresses import parse_ip
from conntrack.host.looks import Look
from conntrack.host.messages import HOST_SOCKET_DTYPE
from conntrack.states import NO_TIME_NS, TcpState

NOON = 1_763_726_400 * 10**9
SECOND = 10**9
HOST = "web1"


def sock(
    state: str,
    local: tuple[str, int],
    remote: tuple[str, int] = ("0.0.0.0", 0),
    *,
    age_s: float | None = None,
    **fields: Any,
) -> np.ndarray[Any, Any]:
    """One socket as the kernel tells it at noon; `age_s` is since_ts_ns, counted back from there."""
    row = np.zeros(1, HOST_SOCKET_DTYPE)
    row["state"] = TcpState[state]
    (row["local_ip"][0], row["remote_ip"][0]) = (np.frombuffer(parse_ip(ip)[0], np.uint8) for ip, _ in (local, remote))
    row["local_port"], row["remote_port"] = local[1], remote[1]
    row["ip_version"] = parse_ip(local[0])[1]
    row["at_ts_ns"] = NOON
    row["since_ts_ns"] = NO_TIME_NS if age_s is None else NOON - round(age_s * SECOND)
    row["timer_ns"] = row["idle_ns"] = row["rtt_ns"] = NO_TIME_NS
    row["pid"] = -1
    row["inode"] = 1
    for name, value in fields.items():
        row[name] = value
    return row


def many(number: int, state: str, local: tuple[str, int], remote_ip: str = "10.0.0.1", **fields: Any) -> list[Any]:
    """`number` sockets that differ in the remote port, from 40000 on."""
    return [sock(state, local, (remote_ip, 40_000 + port), flow_id=port + 1, **fields) for port in range(number)]


def look(
    *rows: Any,
    at_s: float = 0,
    counters: dict[str, int] | None = None,
    settings: dict[str, tuple[int, ...]] | None = None,
    source: str = "netlink",
) -> Look:
    """A look `at_s` after noon."""
    table = np.concatenate([np.zeros(0, HOST_SOCKET_DTYPE), *rows])
    return Look(HOST, NOON + round(at_s * SECOND), table, source, counters or {}, settings or {})
