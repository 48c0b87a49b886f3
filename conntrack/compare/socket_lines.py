"""The form of `ctrack sockets --format ndjson`: one JSON object a line (conntrack/export/sockets.schema.json).

Its own time counts: where the file holds several instants, it is the last one that is compared.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any

from conntrack.compare.model import Endpoint, KernelSocket, Snapshot
from conntrack.compare.ss import canonical_ip, parse_port
from conntrack.states import TcpState
from conntrack.times import parse_time

__all__ = ["is_socket_line", "take_socket_line"]


def is_socket_line(line: str) -> bool:
    """Return whether a file with this first line has this form."""
    return line.startswith("{")


def take_socket_line(line: str, snapshot: Snapshot) -> None:
    """Add what a line says to the snapshot."""
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        snapshot.skip("no JSON object")
        return
    state = TcpState.__members__.get(str(row.get("state")))
    if state is None:
        snapshot.skip("no state of RFC 9293")
        return
    at_ns = _time(row.get("at_ts"))
    if at_ns is not None and snapshot.at_ns is not None and at_ns != snapshot.at_ns:
        if at_ns < snapshot.at_ns:
            snapshot.skip("of an earlier instant")
            return
        earlier = len(snapshot.sockets)
        snapshot.skipped["of an earlier instant"] = snapshot.skipped.get("of an earlier instant", 0) + earlier
        snapshot.sockets.clear()
        snapshot.listening = 0
    if at_ns is not None:
        snapshot.at_ns = at_ns
    local = _endpoint(row, "local")
    if state in (TcpState.LISTEN, TcpState.CLOSED):
        snapshot.listening += state == TcpState.LISTEN
    else:
        remote = _endpoint(row, "remote")
        if local is None or remote is None:
            snapshot.skip("no address and port")
            return
        queued = row.get("recv_queue_bytes")
        snapshot.sockets.append(KernelSocket(local, remote, state, queued if type(queued) is int else None))
    if local is not None:
        snapshot.addresses.add(local.ip)


def _endpoint(row: dict[str, Any], end: str) -> Endpoint | None:
    ip, port = canonical_ip(str(row.get(f"{end}_ip"))), parse_port(row.get(f"{end}_port"))
    return None if ip is None or port is None else Endpoint(ip, port)


def _time(value: object) -> int | None:
    """Return a time of RFC 3339 or unix seconds; None if it is neither."""
    try:
        if isinstance(value, str):
            return parse_time(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return int(Decimal(str(value)) * 10**9)
    except (ValueError, InvalidOperation, OverflowError):
        pass
    return None
