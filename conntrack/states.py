"""The words of the tracker: states, events, evidence and flags, as numbers with names.

Owns every enumeration that crosses between rooms. Imports nothing of ours and knows no rule: how a state follows
another is in transitions.py, after how long in timeouts.py. Read RFC 9293 section 3.3.2 (Figure 5) first.

Sets of states are masks (`1 << state`), never comparisons of numbers: the order of the members means nothing.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

__all__ = [
    "NO_TIME_NS",
    "ClosedBy",
    "DirectionEvidence",
    "EndReason",
    "Evidence",
    "FlowFlag",
    "Role",
    "SegmentEvent",
    "StateTrait",
    "TcpState",
    "mask_of",
]

NO_TIME_NS = -(2**63)
"""A time that is not known (int64 minimum, so that a view as datetime64[ns] reads NaT)."""


class TcpState(IntEnum):
    """The 11 states of RFC 9293 section 3.3.2, spelled as everywhere in the output."""

    CLOSED = 0
    LISTEN = 1
    SYN_SENT = 2
    SYN_RECEIVED = 3
    ESTABLISHED = 4
    FIN_WAIT_1 = 5
    FIN_WAIT_2 = 6
    CLOSE_WAIT = 7
    CLOSING = 8
    LAST_ACK = 9
    TIME_WAIT = 10


class Role(IntEnum):
    """Which half of the machine an endpoint goes through for one segment: it sent it, or it received it."""

    SENT = 0
    RECEIVED = 1


class SegmentEvent(IntEnum):
    """What the numbers of a segment say that it is. One segment gives none, one, or several, in this order."""

    SYN = 0
    """A SYN without ACK that opens a connection (first of its initial sequence number)."""
    SYN_ACK = 1
    """A SYN+ACK that acknowledges the peer's SYN."""
    ACK_OF_SYN = 2
    """Any segment without SYN whose ACK covers the peer's SYN."""
    DATA = 3
    """Payload or a FIN outside of a SYN: proof that its sender is past the handshake (a server sends none before it
    took the client's ACK)."""
    ACK_OF_FIN = 4
    """Any segment whose ACK covers the peer's FIN: proof that its sender received the FIN."""
    FIN = 5
    """A FIN. For its sender when first sent; for the receiver when everything before it has arrived."""
    RST = 6
    """A reset. For its sender always; for the receiver when RFC 5961 and the host's rules accept it."""
    SYN_ACK_AGAIN = 7
    """A SYN+ACK repeated after the client's ACK of it was seen: the server dropped that ACK (accept queue full)."""
    FIN_CROSSING = 8
    """A FIN that does not acknowledge the peer's FIN, although that was sent before: the two are crossing."""
    TIMEOUT = 9
    """The host's timer of the state has run out (timeouts.py)."""


class Evidence(IntEnum):
    """How the state of an endpoint is known."""

    SEEN = 0
    """The segments that lead to it were in the capture."""
    INFERRED = 1
    """A later segment proves it; the one that caused it was not in the capture."""
    ASSUMED = 2
    """The capture began in the middle of the connection."""
    EXPIRED = 3
    """A timer of the host ended it; nothing on the wire shows that."""


class DirectionEvidence(IntEnum):
    """Why one end is called the client.

    That a side has many peers on one port is no evidence here: it would make what one connection is called depend on
    all others, and so on where the capture begins, on what is filtered, and on how connections are spread over
    processes. Of the 221 guesses among 11,283 connections in 256 public captures it would change 38, in two of them: 36
    for the better (the victim of a flood listens at a high port), 2 for the worse (a client calls several servers from
    one port).
    """

    SYN = 0
    """It sent a SYN."""
    SYN_ACK = 1
    """The other end sent a SYN+ACK."""
    PORT = 2
    """The other end has the lower port (no handshake in the capture)."""
    FIRST_SENDER = 3
    """It sent the first segment seen, and both ports are the same (no handshake in the capture)."""


class EndReason(IntEnum):
    """Why the record ends where it does (compare IPFIX flowEndReason, element 136)."""

    OPEN_AT_END = 0
    """Not over when the capture ended."""
    FIN = 1
    """Both ends closed with a FIN."""
    RESET = 2
    """A valid RST ended it."""
    REFUSED = 3
    """The SYN was answered by a RST."""
    TIMEOUT = 4
    """Timers of the hosts ended it (half-open, or orphaned while closing)."""
    REPLACED = 5
    """A new connection on the same 4-tuple took its place before it was over."""
    EVICTED = 6
    """Given up to stay within the memory budget."""


class ClosedBy(IntEnum):
    """Which end closed first (sent the first FIN, or the RST that ended the connection)."""

    NEITHER = 0
    CLIENT = 1
    SERVER = 2
    BOTH = 3
    """Both FINs crossed."""


class FlowFlag(IntFlag):
    """What is special about a connection. Bits 0-15 are exported by these names in lower case."""

    MIDSTREAM = 1 << 0
    """The capture holds no SYN and no SYN+ACK of it."""
    ONE_SIDED = 1 << 1
    """Segments of one direction only."""
    SIMULTANEOUS_OPEN = 1 << 2
    """Both ends sent a SYN without ACK (RFC 9293 figure 7, or a split handshake)."""
    FAST_OPEN = 1 << 3
    """The SYN carried data (RFC 7413)."""
    REUSED_TIME_WAIT = 1 << 4
    """Its 4-tuple was in TIME_WAIT when it began."""
    REUSED_BY_RFC6191 = 1 << 5
    """That reuse is one that RFC 6191 (newer timestamp or sequence number) allows."""
    PENDING_SYN = 1 << 6
    """A SYN with another initial sequence number came while the connection was alive."""
    ACCEPT_QUEUE = 1 << 7
    """The server repeated its SYN+ACK after the client's ACK of it."""
    RST_CHALLENGED = 1 << 8
    """A RST in the window but not exact was ignored (RFC 5961 section 3.2)."""
    RST_IGNORED = 1 << 9
    """A RST outside of the window was ignored."""
    OUT_OF_WINDOW = 1 << 10
    """A segment outside of the receiver's window was left out."""
    PAWS_REJECTED = 1 << 11
    """A segment with an old timestamp was left out (RFC 7323 section 5)."""
    ODD_FLAGS = 1 << 12
    """A segment with an impossible combination of flags (SYN+FIN, none, ...) moved nothing."""
    CAPTURE_LOSS = 1 << 13
    """Data was acknowledged that the capture does not hold."""
    HISTORY_CUT = 1 << 14
    """The history has more letters than are kept."""


class StateTrait(IntFlag):
    """What the compiled core must know of a state, as bits: it is handed these and never a state's name."""

    OVER = 1 << 0
    """Nothing is left of the connection at this end (CLOSED)."""
    PASSIVE = 1 << 1
    """Nothing has come of the connection at this end yet (LISTEN)."""
    OPENING = 1 << 2
    """The handshake is not complete at this end; its timer runs from when the state was entered."""
    ACTIVE_OPEN = 1 << 3
    """Waiting for the answer to its own SYN (SYN_SENT): only a RST that acknowledges it counts."""
    STEADY = 1 << 4
    """Data moves nothing here; only a FIN, a RST or a SYN can (ESTABLISHED)."""
    HALF_CLOSED = 1 << 5
    """The peer has closed and this end has not (CLOSE_WAIT)."""
    LINGERS = 1 << 6
    """Its timer starts again with every segment received but a RST (TIME_WAIT)."""


def mask_of(*states: TcpState) -> int:
    """Return the set of `states` as a bit mask: `mask >> state & 1` is membership."""
    mask = 0
    for state in states:
        mask |= 1 << state
    return mask
