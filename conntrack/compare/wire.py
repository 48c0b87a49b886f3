"""What the capture says at an instant, of the connections that may matter to a snapshot: one pass over its segments.

Owns which connections those are: the ones that are open then and have an end at one of the addresses, and of those that
are over the last one on each 4-tuple that the snapshot still has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from conntrack.addresses import addresses_text, parse_ip
from conntrack.compare.model import Endpoint, WireFlow
from conntrack.compare.ss import canonical_ip
from conntrack.states import EndReason, Evidence, FlowFlag, TcpState
from conntrack.tracker import Tracker

__all__ = ["Wanted", "flows_at"]

Rows = np.ndarray[Any, Any]
Pair = tuple[Endpoint, Endpoint]


class Wanted:
    """Which connections matter.

    Args:
        ips: addresses as text; a connection with an end at one of them matters. None: every one does.
        pairs: 4-tuples, in either direction, of which the last connection matters also if it is over.
    """

    def __init__(self, ips: Iterable[str] | None, pairs: Iterable[Pair]) -> None:
        self.pairs = {frozenset(pair) for pair in pairs}
        addresses = {end.ip for pair in self.pairs for end in pair} | set(ips or ())
        self._ips = None if ips is None else np.array([parse_ip(ip)[0] for ip in addresses], "S16")

    def pick(self, flows: Rows) -> Rows:
        """Return those of `flows` that may matter."""
        if self._ips is None or not len(flows):
            return flows
        ends = [np.ascontiguousarray(flows[name]).view("S16").ravel() for name in ("client_ip", "server_ip")]
        chosen: Rows = flows[np.isin(ends[0], self._ips) | np.isin(ends[1], self._ips)]
        return chosen


def flows_at(
    segment_batches: Iterable[Rows], tracker: Tracker, wanted: Wanted, instant: Callable[[], int | None]
) -> tuple[int | None, dict[frozenset[Endpoint], WireFlow]]:
    """Return the instant, and the connections that matter as they are then, by their two ends.

    Args:
        segment_batches: SEGMENT_DTYPE, shape (n,) each; nothing behind the instant is used.
        tracker: one that has seen nothing yet.
        wanted: which connections matter.
        instant: nanoseconds since 1970, asked for once the first batch is there; None for the end of the capture.
    """
    found: dict[frozenset[Endpoint], WireFlow] = {}
    at_ns: int | None = None
    asked = False
    for segments in segment_batches:
        if not asked:
            at_ns, asked = instant(), True
        late = False
        if at_ns is not None and int(segments["ts_ns"].max(initial=at_ns)) > at_ns:
            late = True
            reached_ns = np.maximum.accumulate(segments["ts_ns"])
            segments = segments[: int(np.searchsorted(reached_ns, at_ns, side="right"))]
        tracker.process(segments)
        for flows in tracker.retired():
            _take(flows, wanted, found)
        if late:
            break
    if not asked:
        at_ns = instant()
    now_ns = tracker.now_ns if at_ns is None else at_ns
    if tracker.now_ns is not None and now_ns is not None:
        for flows in tracker.snapshot_batches(max(now_ns, tracker.now_ns)):
            _take(flows, wanted, found)
    return now_ns, found


def _take(flows: Rows, wanted: Wanted, found: dict[frozenset[Endpoint], WireFlow]) -> None:
    flows = wanted.pick(flows)
    clients, servers = (_endpoints(flows, end) for end in ("client", "server"))
    for at in range(len(flows)):
        ends = frozenset((clients[at], servers[at]))
        flow = _wire_flow(flows[at], clients[at], servers[at])
        if not flow.is_open and ends not in wanted.pairs:
            continue
        known = found.get(ends)
        if known is None or flow.first_ns >= known.first_ns:
            found[ends] = flow


def _endpoints(flows: Rows, end: str) -> list[Endpoint]:
    ips = addresses_text(flows[f"{end}_ip"], flows["ip_version"])
    ports = flows[f"{end}_port"].tolist()
    return [Endpoint(canonical_ip(ip) or ip, port) for ip, port in zip(ips, ports, strict=True)]


def _wire_flow(row: Any, client: Endpoint, server: Endpoint) -> WireFlow:
    flags = FlowFlag(int(row["flags"]) & 0x7FFF)
    return WireFlow(
        flow_id=int(row["flow_id"]),
        client=client,
        server=server,
        client_state=TcpState(int(row["client_state"])),
        server_state=TcpState(int(row["server_state"])),
        client_evidence=Evidence(int(row["client_state_evidence"])).name,
        server_evidence=Evidence(int(row["server_state_evidence"])).name,
        client_since_ns=int(row["client_since_ts_ns"]),
        server_since_ns=int(row["server_since_ts_ns"]),
        first_ns=int(row["first_ts_ns"]),
        last_ns=int(row["last_ts_ns"]),
        client_retransmits=int(row["client_retransmits"]),
        server_retransmits=int(row["server_retransmits"]),
        end_reason=EndReason(int(row["end_reason"])).name,
        flags=frozenset(str(flag.name) for flag in flags),
    )
