"""A look that was kept: the file of `ctrack sockets --format ndjson`, read back. Knows nothing of the kernel.

Only what is compared later is taken: the ends, the state, since when, the counters of each socket and who held it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from conntrack.addresses import parse_ip
from conntrack.errors import InputError
from conntrack.host.looks import Look
from conntrack.host.messages import HOST_SOCKET_DTYPE
from conntrack.states import NO_TIME_NS, TcpState
from conntrack.times import parse_time

__all__ = ["read_snapshot"]

_COUNTS = ("recv_queue", "send_queue", "retransmits", "sent_bytes", "received_bytes", "drops")
_NUMBERS = {
    "timeouts": 2**32,
    "uid": 2**32,
    "inode": 2**32,
    "flow_id": 2**64,
    "local_port": 2**16,
    "remote_port": 2**16,
}
_MOST_LINE = 1 << 16


def read_snapshot(path: str) -> Look:
    """Return the look that the file at `path` holds.

    Raises:
        InputError: it cannot be read, a line of it is no row of `ctrack sockets --format ndjson`, or it has none.
    """
    rows: list[Any] = []
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MOST_LINE), b""), 1):
                if line.strip():
                    rows.append(_row(path, number, line))
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if not rows:
        raise InputError(f"{path}: no socket in it; make one with 'ctrack sockets --format ndjson -o FILE'")
    table = np.concatenate(rows)
    return Look(path, int(table["at_ts_ns"].max()), table, source=path)


def _row(path: str, number: int, line: bytes) -> np.ndarray[Any, Any]:
    row = np.zeros(1, HOST_SOCKET_DTYPE)
    try:
        found = json.loads(line)
        row["state"] = TcpState[found["state"]]
        versions = set()
        for end in ("local", "remote"):
            octets, version = parse_ip(found[f"{end}_ip"])
            row[f"{end}_ip"] = np.frombuffer(octets, np.uint8)
            versions.add(version)
        if len(versions) != 1:
            raise ValueError("two versions of IP")
        row["ip_version"] = versions.pop()
        row["at_ts_ns"] = _time(found["at_ts"])
        row["since_ts_ns"] = _time(found["since_ts"])
        row["timer_ns"] = row["idle_ns"] = row["rtt_ns"] = NO_TIME_NS
        for name, limit in _NUMBERS.items():
            row[name] = _number(found.get(name, 0), limit)
        for name in _COUNTS:
            row[name] = -1 if found.get(name) is None else _number(found[name], 2**63)
        row["pid"] = -1 if found.get("pid") is None else _number(found["pid"], 2**31)
        for name in ("process", "unit"):
            row[name] = str(found.get(name, "")).encode("ascii")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise InputError(f"{path}: line {number} is no row of 'ctrack sockets --format ndjson': {what[:100]}") from None
    return row


def _time(value: Any) -> int:
    if value is None:
        return NO_TIME_NS
    return parse_time(value if isinstance(value, str) else repr(value))


def _number(value: Any, limit: int) -> int:
    if type(value) is not int or not 0 <= value < limit:
        raise ValueError(f"{value!r} is no number from 0 to {limit - 1}")
    return value
