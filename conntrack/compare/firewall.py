"""Which entry of a firewall is which connection on the wire, and on which of them the two disagree.

netfilter keeps one state a connection, this package one for each end: AGREES says which pairs go with which. A
connection is known by either of an entry's tuples, so that translated addresses are no disagreement. Read
nf_conntrack_proto_tcp.c of Linux for the states and their timers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from conntrack.compare.model import Disagreement, Endpoint, FirewallEntry, WireFlow
from conntrack.compare.netfilter import STATES
from conntrack.compare.reasons import Instant
from conntrack.states import TcpState

__all__ = ["compare_firewall"]

Flows = dict[frozenset[Endpoint], WireFlow]
Reason = tuple[str, str]
_NS = 10**9
_S = TcpState
_OVER = {_S.CLOSED, _S.LISTEN}


def _ends(*pairs: tuple[TcpState, TcpState]) -> Callable[[WireFlow], bool]:
    allowed = {frozenset(pair) for pair in pairs}
    return lambda flow: frozenset((flow.client_state, flow.server_state)) in allowed


_CLOSING_PAIRS = [
    (first, second)
    for first in (_S.LAST_ACK, _S.CLOSING)
    for second in (_S.FIN_WAIT_1, _S.FIN_WAIT_2, _S.CLOSING, _S.LAST_ACK, _S.TIME_WAIT, _S.CLOSED)
]
AGREES: dict[str, Callable[[WireFlow], bool]] = {
    "NONE": lambda flow: True,
    "SYN_SENT": lambda flow: flow.client_state == _S.SYN_SENT and flow.server_state in _OVER,
    "SYN_SENT2": _ends((_S.SYN_SENT, _S.SYN_SENT), (_S.SYN_SENT, _S.SYN_RECEIVED), (_S.SYN_RECEIVED, _S.SYN_RECEIVED)),
    "SYN_RECV": _ends((_S.SYN_SENT, _S.SYN_RECEIVED), (_S.ESTABLISHED, _S.SYN_RECEIVED)),
    "ESTABLISHED": _ends((_S.ESTABLISHED, _S.ESTABLISHED), (_S.ESTABLISHED, _S.SYN_RECEIVED)),
    "FIN_WAIT": _ends((_S.FIN_WAIT_1, _S.ESTABLISHED), (_S.FIN_WAIT_1, _S.CLOSE_WAIT)),
    "CLOSE_WAIT": _ends((_S.FIN_WAIT_1, _S.CLOSE_WAIT), (_S.FIN_WAIT_2, _S.CLOSE_WAIT)),
    "LAST_ACK": _ends(*_CLOSING_PAIRS),
    "TIME_WAIT": lambda flow: _S.TIME_WAIT in (flow.client_state, flow.server_state) or flow.end_reason == "FIN",
    "CLOSE": lambda flow: {flow.client_state, flow.server_state} <= _OVER and flow.end_reason in ("RESET", "REFUSED"),
}
"""By netfilter's state: whether the ends of a connection are in states that go with it."""

_ORDER = tuple(state for state in STATES if state != "NONE")
"""As a connection goes through them."""
TIMEOUTS_S = {
    "SYN_SENT": 120, "SYN_RECV": 60, "ESTABLISHED": 432_000, "FIN_WAIT": 120, "CLOSE_WAIT": 60, "LAST_ACK": 30,
    "TIME_WAIT": 120, "CLOSE": 10,
}  # fmt: skip
"""After how long without a packet netfilter forgets an entry: the defaults of nf_conntrack_tcp_timeout_*."""


def compare_firewall(
    entries: Iterable[FirewallEntry], flows: Flows, host: str | None, instant: Instant
) -> tuple[int, list[Disagreement]]:
    """Return how many entries agree with the wire, and the others.

    Args:
        entries: of the firewall.
        flows: of the wire, by their two ends (wire.flows_at).
        host: only connections with an end at this address.
        instant: when.
    """
    agreed = 0
    found = []
    known: set[frozenset[Endpoint]] = set()
    for entry in entries:
        pairs = {frozenset(entry.original), frozenset(entry.reply)}
        known |= pairs
        seen = [flows[pair] for pair in pairs if pair in flows]
        if host is not None and host not in {end.ip for end in (*entry.original, *entry.reply)}:
            continue
        if not seen:
            reason = (
                "not_captured",
                "No segment of it is in the capture: it was silent all the time, took another path, or a filter "
                "left it out.",
            )
            found.append(Disagreement(*entry.original, None, entry.state, *reason))
            continue
        wrong = next((flow for flow in seen if not AGREES[entry.state](flow)), None)
        if wrong is None:
            agreed += 1
        else:
            found.append(_row(entry.original, wrong, entry.state, _different(entry, wrong, instant)))
    for pair, flow in flows.items():
        ours = host is None or host in (flow.client.ip, flow.server.ip)
        if ours and pair not in known and flow.is_open:
            found.append(_row((flow.client, flow.server), flow, None, _forgotten(flow, instant)))
    return agreed, found


def _row(ends: tuple[Endpoint, Endpoint], flow: WireFlow, kernel: str | None, reason: Reason) -> Disagreement:
    wire = f"{flow.client_state.name}/{flow.server_state.name}"
    return Disagreement(*ends, wire, kernel, *reason, last_ns=flow.last_ns, flow_id=flow.flow_id)


def _state_of(flow: WireFlow) -> str | None:
    return next((state for state in _ORDER if AGREES[state](flow)), None)


def _different(entry: FirewallEntry, flow: WireFlow, instant: Instant) -> Reason:
    if entry.unreplied and flow.server_state not in _OVER:
        return "one_sided", "The firewall has seen no answer, the capture has: answers take a path around the firewall."
    state = _state_of(flow)
    if state is not None and entry.state in _ORDER and _ORDER.index(entry.state) > _ORDER.index(state):
        if instant.is_late:
            after = (instant.at_ns - instant.end_ns) / _NS
            return "snapshot_later", f"The snapshot is {after:,.1f} s later than the capture's last packet."
        return "lost_segments", "Segments that the firewall has seen are not in the capture: lost, or on another path."
    if not flow.is_open:
        return (
            "not_arrived",
            "By the capture it is over, and the firewall keeps it open: what ended it did not pass the firewall, or it "
            "took that for invalid.",
        )
    return "not_arrived", "Segments that are in the capture have not passed the firewall, or it took them for invalid."


def _forgotten(flow: WireFlow, instant: Instant) -> Reason:
    if instant.is_late:
        after = (instant.at_ns - instant.end_ns) / _NS
        return "snapshot_later", f"The snapshot is {after:,.1f} s later than the capture's last packet."
    state, quiet_s = _state_of(flow), (instant.at_ns - flow.last_ns) / _NS
    if state is not None and quiet_s > TIMEOUTS_S.get(state, quiet_s):
        name = f"nf_conntrack_tcp_timeout_{state.lower()}"
        return (
            "firewall_forgot",
            f"Nothing passed for {quiet_s:,.0f} s, and netfilter forgets {state} after {TIMEOUTS_S[state]:,} s "
            f"({name}): what comes next is dropped or taken for a new connection.",
        )
    return (
        "firewall_dropped",
        "The firewall has no entry for a connection that is open: its table was full or cleared, it took the "
        "connection for invalid, or the connection does not pass it.",
    )
