"""Why the wire and a host's kernel disagree on a socket: rules, in the order in which they are asked.

A socket that both have, in two states, differs by a segment that one side knows of and the other does not: FACTS says
which segments a state stands for. What the kernel alone knows of is missing in the capture; what the wire alone knows
of has not reached the host, or was not sent by it. Reasons are likely, not proven: the explanation says what they rest
on. Read RFC 9293 section 3.3.2 for the states, ip-sysctl of Linux for the timers.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from conntrack.compare.model import Endpoint, KernelSocket, WireFlow
from conntrack.states import TcpState

__all__ = ["REASONS", "Instant", "nat", "of_difference", "only_in_kernel", "only_on_wire"]

Reason = tuple[str, str]

_NS = 10**9
FIN_TIMEOUT_S = 60
"""tcp_fin_timeout: for so long Linux keeps a FIN_WAIT_2 that no program holds any more."""
MANY_RETRANSMITS = 3

_OPENED = frozenset(set(TcpState) - {TcpState.CLOSED, TcpState.LISTEN, TcpState.SYN_SENT, TcpState.SYN_RECEIVED})
_PEER_CLOSED = frozenset({TcpState.CLOSE_WAIT, TcpState.CLOSING, TcpState.LAST_ACK, TcpState.TIME_WAIT})
_CLOSED_ITSELF = frozenset(
    {TcpState.FIN_WAIT_1, TcpState.FIN_WAIT_2, TcpState.CLOSING, TcpState.LAST_ACK, TcpState.TIME_WAIT}
)
_CLOSE_TAKEN = frozenset({TcpState.FIN_WAIT_2, TcpState.TIME_WAIT})

FACTS: tuple[tuple[frozenset[TcpState], str, bool], ...] = (
    (_OPENED, "the end of the handshake", True),
    (_PEER_CLOSED, "the peer's FIN", True),
    (_CLOSED_ITSELF, "this host's FIN", False),
    (_CLOSE_TAKEN, "the ACK of this host's FIN", True),
)
"""States of an end that stand for a segment, its name, and whether the end received it (else it sent it)."""


REASONS = (
    "accept_queue", "began_before", "clock", "firewall_dropped", "firewall_forgot", "given_up", "lost_segments", "nat",
    "not_arrived", "not_captured", "one_sided", "peer_vanished", "sent_by_another", "snapshot_later",
    "stale_close_wait", "syn_cookies", "timer",
)  # fmt: skip
"""Each in one word, those of firewall.py included."""


@dataclass(frozen=True, slots=True)
class Instant:
    """When is compared, and when the capture ended; nanoseconds since 1970."""

    at_ns: int
    end_ns: int

    @property
    def is_late(self) -> bool:
        """Whether the capture ended before."""
        return self.at_ns > self.end_ns


def of_difference(wire: TcpState, kernel: TcpState, flow: WireFlow, end: Endpoint, instant: Instant) -> Reason:
    """Return why both have the socket `end`, in different states; `wire` is CLOSED where it is over by the capture."""
    opening = flow.server_state == TcpState.SYN_RECEIVED or flow.client_state == TcpState.SYN_SENT
    at_server = kernel == TcpState.CLOSE_WAIT and ("PENDING_SYN" in flow.flags or opening)
    if at_server or (kernel == TcpState.SYN_SENT and "PENDING_SYN" in flow.flags):
        return (
            "stale_close_wait",
            "A client came back to these ports with a SYN, while the server still holds the connection before: its "
            "program never closed it (CLOSE_WAIT), and the client cannot connect.",
        )
    if wire in (TcpState.CLOSED, TcpState.LISTEN):
        if reason := _over_by_the_wire(kernel, flow, end):
            return reason
        wire = TcpState.TIME_WAIT  # closed by FINs: all of the segments were there
    for states, segment, received in FACTS:
        if (kernel in states) == (wire in states):
            continue
        if kernel in states:
            return _later(instant) or _lost(segment, flow)
        if segment == FACTS[0][1] and kernel == TcpState.SYN_RECEIVED:
            return _no_room(flow)
        if received:
            return (
                "not_arrived",
                f"The capture holds {segment}, and it has not reached the host's socket: it was lost behind the point "
                "of capture, or a firewall dropped it.",
            )
        return (
            "sent_by_another",
            f"The capture holds {segment}, and the kernel did not send it: a proxy or a firewall in between closed the "
            "connection in its name.",
        )
    return _later(instant) or (
        "clock",
        "Both know the same segments: the snapshot was taken a moment before or after, or the clocks differ.",
    )


def only_on_wire(wire: TcpState, flow: WireFlow, end: Endpoint, instant: Instant) -> Reason:
    """Return why the kernel has no socket for an end that is open by the capture."""
    if late := _later(instant):
        return late
    is_client = flow.is_client(end)
    again = flow.client_retransmits if is_client else flow.server_retransmits
    quiet_s = (instant.at_ns - flow.last_ns) / _NS
    match wire:
        case TcpState.SYN_RECEIVED:
            return (
                "syn_cookies",
                "The kernel keeps nothing of this handshake: it answered with a SYN cookie, or dropped it again under "
                "pressure (nstat -az TcpExtSyncookiesSent TcpExtTCPReqQFullDrop).",
            )
        case TcpState.SYN_SENT:
            return (
                "given_up",
                "The program gave up connecting before the kernel would: nothing on the wire ends it.",
            )
        case TcpState.TIME_WAIT:
            return (
                "timer",
                "The kernel keeps no TIME_WAIT of it: tcp_max_tw_buckets is reached, the port is in use again "
                "(tcp_tw_reuse), or the program closed without one (SO_LINGER).",
            )
        case TcpState.FIN_WAIT_2 if quiet_s > FIN_TIMEOUT_S:
            return "timer", "No program held this FIN_WAIT_2 any more, and the kernel forgot it after tcp_fin_timeout."
        case TcpState.FIN_WAIT_1 | TcpState.CLOSING | TcpState.LAST_ACK if again:
            return (
                "peer_vanished",
                "Its FIN was sent again and nobody acknowledged it: the kernel gave up (tcp_orphan_retries).",
            )
    if again >= MANY_RETRANSMITS and wire in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT):
        return (
            "peer_vanished",
            f"The host sent {again} segments again: its peer is gone, and the kernel gave up (tcp_retries2) without a "
            "segment that says so.",
        )
    return _lost("what ended it (a FIN, a RST or the last ACK)", flow)


def only_in_kernel(socket: KernelSocket) -> Reason:
    """Return why the capture has nothing of a socket."""
    if ipaddress.ip_address(socket.remote.ip).is_loopback or socket.remote.ip == socket.local.ip:
        return "not_captured", "A connection within the host: it passes no interface but lo."
    if socket.state == TcpState.SYN_SENT:
        return (
            "not_captured",
            "Not one of its SYNs is in the capture: the host's own firewall drops them, or they leave by another "
            "interface.",
        )
    return (
        "not_captured",
        "No segment of it is in the capture: it was silent all the time, passes another interface, or a filter left it "
        "out.",
    )


def nat(other: WireFlow) -> Reason:
    """Return that addresses are translated: the capture has `other` in the place of the socket."""
    ends = " and ".join(f"{end.ip} port {end.port}" for end in (other.client, other.server))
    return "nat", f"The capture has it between {ends}: addresses are translated between there and the host."


def _over_by_the_wire(kernel: TcpState, flow: WireFlow, end: Endpoint) -> Reason | None:
    if flow.end_reason in ("RESET", "REFUSED"):
        return (
            "not_arrived",
            "The capture holds a RST that ended it, and the host still has it: a firewall dropped the RST, or the host "
            "did not take it (RFC 5961).",
        )
    if kernel == TcpState.TIME_WAIT:
        return "timer", "By the capture its TIME_WAIT has run out; the host keeps it longer, or its clock differs."
    if (flow.client_evidence if flow.is_client(end) else flow.server_evidence) == "EXPIRED":
        return (
            "timer",
            "By the usual timers (timeouts.py) it is over; this host's are longer (tcp_synack_retries, "
            "tcp_syn_retries, tcp_orphan_retries), or a segment that starts them again is not in the capture.",
        )
    return None


def _no_room(flow: WireFlow) -> Reason:
    if "ACCEPT_QUEUE" in flow.flags:
        return (
            "accept_queue",
            "The server sends its SYN+ACK again after the client's ACK of it: its accept queue is full, the kernel "
            "drops that ACK (ss -tln: Recv-Q over Send-Q).",
        )
    return (
        "not_arrived",
        "The client's ACK of the handshake is in the capture and the kernel has not taken it: a firewall dropped it, "
        "or the accept queue is full.",
    )


def _later(instant: Instant) -> Reason | None:
    if not instant.is_late:
        return None
    after = (instant.at_ns - instant.end_ns) / _NS
    return "snapshot_later", f"The snapshot is {after:,.1f} s later than the capture's last packet: it happened since."


def _lost(segment: str, flow: WireFlow) -> Reason:
    if "MIDSTREAM" in flow.flags:
        return "began_before", f"The connection is older than the capture, which does not hold {segment}."
    if "ONE_SIDED" in flow.flags:
        return "one_sided", f"The capture holds one direction of it only, and not {segment}."
    if "CAPTURE_LOSS" in flow.flags:
        return "lost_segments", f"The capture lost segments of this connection (holes are seen), among them {segment}."
    return "lost_segments", f"The capture does not hold {segment}: it was lost while capturing, or took another path."
