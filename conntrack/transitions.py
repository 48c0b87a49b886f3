"""The machine: every rule by which a segment moves an endpoint from one state to another.

Rule 1: what moves a state is in this file, and nowhere else. Rule 2: nothing in this file counts, measures or decides
what a segment is.

We stand between the two endpoints, and see what one sends, not what the other receives. Each endpoint has its own
state. A segment from X to Y is taken for one or more events (states.SegmentEvent) by the numbers it carries
(core/judge.pyx); each event moves X by the SENT rules and, when Y will accept the segment, Y by the RECEIVED rules.
Several events of one segment are applied in the order of SegmentEvent: a FIN that also acknowledges the peer's FIN is
ACK_OF_FIN, then FIN.

Every pair of role, event and state has a value: the next state; IGNORE, which is a rule too (the event is right and
moves nothing); or INVALID, which is what no rule speaks of: the state is kept and the case counted.

Sections are those of RFC 9293 unless another document is named. Knows no flow, no segment, no compiled code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .states import Role, SegmentEvent, StateTrait, TcpState

__all__ = [
    "IGNORE",
    "INVALID",
    "RULES",
    "START",
    "TRAITS",
    "Rule",
    "compile_start",
    "compile_table",
    "compile_traits",
    "moves",
    "render_markdown",
]

IGNORE = 0xFE
"""Cell value: the event belongs here and moves nothing."""
INVALID = 0xFF
"""Cell value: no rule speaks of this pair; the state is kept, the case counted."""

SENT, RECEIVED = Role.SENT, Role.RECEIVED
CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED = list(TcpState)[:5]
FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT = list(TcpState)[5:]
(SYN, SYN_ACK, ACK_OF_SYN, DATA, ACK_OF_FIN, FIN, RST, SYN_ACK_AGAIN, FIN_CROSSING, TIMEOUT) = SegmentEvent

SYNCHRONISED = (ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT)
CLOSED_LOCALLY = (FIN_WAIT_1, FIN_WAIT_2, CLOSING, LAST_ACK, TIME_WAIT)


class Rule(NamedTuple):
    """One line of the machine: in any of `states`, `event` in `role` leads to `to` (a state, or IGNORE)."""

    role: Role
    event: SegmentEvent
    states: tuple[TcpState, ...]
    to: TcpState | int
    reason: str
    source: str


def _rule(
    role: Role, event: SegmentEvent, states: TcpState | tuple[TcpState, ...], to: int, reason: str, source: str
) -> Rule:
    return Rule(role, event, states if isinstance(states, tuple) else (states,), to, reason, source)


RULES: tuple[Rule, ...] = (
    # A SYN without ACK, first of its initial sequence number.
    _rule(SENT, SYN, CLOSED, SYN_SENT, "active open", "3.10.1"),
    _rule(SENT, SYN, LISTEN, SYN_SENT, "it opens too: simultaneous open or split handshake", "3.5, figure 7"),
    _rule(SENT, SYN, SYN_SENT, IGNORE, "still asking", "3.8.1"),
    _rule(SENT, SYN, SYN_RECEIVED, SYN_SENT, "its ACK before opened nothing: split handshake", "3.5, 3.10.7.3"),
    _rule(
        RECEIVED,
        SYN,
        LISTEN,
        IGNORE,
        "not before it answers: a SYN may be dropped on a full queue",
        "Linux tcp_conn_request",
    ),
    _rule(RECEIVED, SYN, SYN_SENT, SYN_RECEIVED, "both have sent a SYN: simultaneous open", "3.10.7.3, figure 7"),
    _rule(RECEIVED, SYN, SYN_RECEIVED, IGNORE, "the peer's SYN is known", "3.10.7.4"),
    _rule(RECEIVED, SYN, CLOSED, IGNORE, "nobody listens; a RST answers", "3.10.7.1"),
    _rule(RECEIVED, SYN, SYNCHRONISED, IGNORE, "a challenge ACK answers", "3.10.7.4; RFC 5961, 4.2"),
    # A SYN+ACK that acknowledges the peer's SYN.
    _rule(SENT, SYN_ACK, LISTEN, SYN_RECEIVED, "the server answers", "3.10.7.2"),
    _rule(SENT, SYN_ACK, CLOSED, SYN_RECEIVED, "a listener that was thought gone answers", "3.10.7.2"),
    _rule(SENT, SYN_ACK, SYN_SENT, SYN_RECEIVED, "it took the peer's SYN while asking itself", "3.10.7.3, figure 7"),
    _rule(SENT, SYN_ACK, SYN_RECEIVED, IGNORE, "still answering", "3.8.1"),
    _rule(SENT, SYN_ACK, SYNCHRONISED, IGNORE, "sent before the peer's ACK came", "3.8.1"),
    _rule(
        RECEIVED,
        SYN_ACK,
        SYN_SENT,
        IGNORE,
        "its ACK will prove that it took it; a spoofed client never sends one",
        "3.10.7.3",
    ),
    _rule(RECEIVED, SYN_ACK, SYN_RECEIVED, ESTABLISHED, "simultaneous open: its own SYN is acknowledged", "figure 7"),
    _rule(RECEIVED, SYN_ACK, (CLOSED, LISTEN), IGNORE, "nobody asked; a RST answers", "3.10.7.1, 3.10.7.2"),
    _rule(RECEIVED, SYN_ACK, SYNCHRONISED, IGNORE, "a repeated SYN+ACK; an ACK answers", "3.10.7.4"),
    # Any other segment whose ACK covers the peer's SYN.
    _rule(SENT, ACK_OF_SYN, SYN_SENT, ESTABLISHED, "the client took the SYN+ACK", "3.10.7.3"),
    _rule(SENT, ACK_OF_SYN, LISTEN, SYN_RECEIVED, "its SYN+ACK is not in the capture", "3.10.7.2"),
    _rule(SENT, ACK_OF_SYN, SYN_RECEIVED, IGNORE, "says nothing of its own SYN", "3.10.7.4"),
    _rule(SENT, ACK_OF_SYN, (CLOSED, *SYNCHRONISED), IGNORE, "known", "3.10.7.4"),
    _rule(RECEIVED, ACK_OF_SYN, SYN_RECEIVED, ESTABLISHED, "the handshake is complete", "3.10.7.4"),
    _rule(
        RECEIVED,
        ACK_OF_SYN,
        LISTEN,
        ESTABLISHED,
        "its SYN+ACK is not in the capture, or was a SYN cookie",
        "3.10.7.4; RFC 4987, 3.6",
    ),
    _rule(RECEIVED, ACK_OF_SYN, SYN_SENT, IGNORE, "an ACK without a SYN does not open", "3.10.7.3"),
    _rule(RECEIVED, ACK_OF_SYN, (CLOSED, *SYNCHRONISED), IGNORE, "known", "3.10.7.4"),
    # Payload or a FIN.
    _rule(SENT, DATA, (LISTEN, SYN_SENT, SYN_RECEIVED), ESTABLISHED, "data is sent only after the handshake", "3.10.2"),
    _rule(SENT, DATA, (CLOSED, *SYNCHRONISED), IGNORE, "moves nothing", "3.10.2"),
    _rule(
        RECEIVED,
        DATA,
        SYN_SENT,
        ESTABLISHED,
        "a server sends data once it took an ACK, which is not in the capture",
        "3.10.7.4",
    ),
    _rule(RECEIVED, DATA, tuple(s for s in TcpState if s != SYN_SENT), IGNORE, "moves nothing", "3.10.7.4"),
    # Any segment whose ACK covers the peer's FIN.
    _rule(
        SENT,
        ACK_OF_FIN,
        (SYN_SENT, SYN_RECEIVED, ESTABLISHED),
        CLOSE_WAIT,
        "proof that it took the peer's FIN",
        "3.10.7.4",
    ),
    _rule(
        SENT, ACK_OF_FIN, FIN_WAIT_1, CLOSING, "proof that it took the peer's FIN, its own still unanswered", "3.10.7.4"
    ),
    _rule(SENT, ACK_OF_FIN, FIN_WAIT_2, TIME_WAIT, "proof that it took the peer's FIN", "3.10.7.4"),
    _rule(SENT, ACK_OF_FIN, (CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT), IGNORE, "known", "3.10.7.4"),
    _rule(SENT, ACK_OF_FIN, (CLOSED, LISTEN), IGNORE, "nothing is left to close", "3.10.7.1"),
    _rule(RECEIVED, ACK_OF_FIN, FIN_WAIT_1, FIN_WAIT_2, "its FIN has arrived", "3.10.7.4"),
    _rule(RECEIVED, ACK_OF_FIN, CLOSING, TIME_WAIT, "both FINs have arrived", "3.10.7.4"),
    _rule(RECEIVED, ACK_OF_FIN, LAST_ACK, CLOSED, "its FIN, the second, has arrived", "3.10.7.4"),
    _rule(RECEIVED, ACK_OF_FIN, (FIN_WAIT_2, TIME_WAIT), IGNORE, "known", "3.10.7.4"),
    _rule(RECEIVED, ACK_OF_FIN, (CLOSED, LISTEN), IGNORE, "nothing is left to close", "3.10.7.1"),
    # A FIN: sent for the first time; received when all before it has arrived.
    _rule(SENT, FIN, (LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED), FIN_WAIT_1, "it closes first", "3.10.4"),
    _rule(SENT, FIN, CLOSE_WAIT, LAST_ACK, "it closes too", "3.10.4"),
    _rule(SENT, FIN, CLOSED_LOCALLY, IGNORE, "a FIN is sent once; more of it are retransmissions", "3.8.1"),
    _rule(SENT, FIN, CLOSED, IGNORE, "nothing is left to close", "3.10.4"),
    _rule(RECEIVED, FIN, (SYN_RECEIVED, ESTABLISHED), CLOSE_WAIT, "the peer closed first", "3.10.7.4"),
    _rule(RECEIVED, FIN, FIN_WAIT_1, CLOSING, "the peer closes too, this end's FIN is still unanswered", "3.10.7.4"),
    _rule(RECEIVED, FIN, FIN_WAIT_2, TIME_WAIT, "the peer closes too", "3.10.7.4"),
    _rule(RECEIVED, FIN, (CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT), IGNORE, "known", "3.10.7.4"),
    _rule(RECEIVED, FIN, (CLOSED, LISTEN, SYN_SENT), IGNORE, "its number cannot be checked: dropped", "3.10.7.4"),
    _rule(
        SENT,
        FIN_CROSSING,
        (LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED),
        FIN_WAIT_1,
        "it closes first, as far as it knows",
        "3.10.4, figure 13",
    ),
    _rule(SENT, FIN_CROSSING, CLOSE_WAIT, CLOSING, "its FIN left before the peer's came", "3.6, figure 13"),
    _rule(SENT, FIN_CROSSING, (CLOSED, *CLOSED_LOCALLY), IGNORE, "a FIN is sent once", "3.8.1"),
    _rule(RECEIVED, FIN_CROSSING, (SYN_RECEIVED, ESTABLISHED), CLOSE_WAIT, "the peer closed", "3.10.7.4"),
    _rule(RECEIVED, FIN_CROSSING, FIN_WAIT_1, CLOSING, "the FINs crossed", "3.6, figure 13"),
    _rule(RECEIVED, FIN_CROSSING, FIN_WAIT_2, TIME_WAIT, "the peer closes too", "3.10.7.4"),
    _rule(RECEIVED, FIN_CROSSING, (CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT), IGNORE, "known", "3.10.7.4"),
    _rule(
        RECEIVED, FIN_CROSSING, (CLOSED, LISTEN, SYN_SENT), IGNORE, "its number cannot be checked: dropped", "3.10.7.4"
    ),
    # A RST: from its sender always; for the receiver one that it accepts.
    _rule(SENT, RST, tuple(TcpState), CLOSED, "who resets keeps nothing", "3.10.5, 3.10.7"),
    _rule(RECEIVED, RST, LISTEN, IGNORE, "nothing had come of the connection here", "3.10.7.2"),
    _rule(RECEIVED, RST, tuple(s for s in TcpState if s != LISTEN), CLOSED, "reset by the peer", "3.10.7.3, 3.10.7.4"),
    # A SYN+ACK again, after the client's ACK of it.
    _rule(
        SENT,
        SYN_ACK_AGAIN,
        (ESTABLISHED, CLOSE_WAIT),
        SYN_RECEIVED,
        "the accept queue was full: the ACK was dropped",
        "Linux tcp_v4_syn_recv_sock, tcp_abort_on_overflow=0",
    ),
    _rule(SENT, SYN_ACK_AGAIN, SYN_RECEIVED, IGNORE, "the accept queue is still full", "Linux tcp_v4_syn_recv_sock"),
    _rule(
        SENT, SYN_ACK_AGAIN, (CLOSED, LISTEN, SYN_SENT, *CLOSED_LOCALLY), IGNORE, "too late to mean that", "3.10.7.4"
    ),
    _rule(RECEIVED, SYN_ACK_AGAIN, tuple(TcpState), IGNORE, "an ACK answers", "3.10.7.4"),
    # The host's own timers (timeouts.py). Nobody receives one.
    _rule(SENT, TIMEOUT, SYN_SENT, CLOSED, "nobody answered", "3.8.3; Linux tcp_syn_retries"),
    _rule(
        SENT,
        TIMEOUT,
        SYN_RECEIVED,
        CLOSED,
        "no ACK came, and it has stopped asking for one",
        "3.8.3; Linux tcp_synack_retries; cookies: RFC 4987 3.6",
    ),
    _rule(
        SENT,
        TIMEOUT,
        (FIN_WAIT_1, CLOSING, LAST_ACK),
        CLOSED,
        "nobody acknowledged the FIN",
        "3.8.3; Linux tcp_orphan_retries",
    ),
    _rule(SENT, TIMEOUT, FIN_WAIT_2, CLOSED, "the peer never closed, and nobody waits for it", "Linux tcp_fin_timeout"),
    _rule(SENT, TIMEOUT, TIME_WAIT, CLOSED, "2 MSL are over", "3.6.1, 3.10.8"),
)

START: dict[str, tuple[TcpState, TcpState]] = {
    "syn": (CLOSED, LISTEN),
    "syn_ack": (LISTEN, SYN_SENT),
    "other": (ESTABLISHED, ESTABLISHED),
}
"""States of sender and receiver just before the first segment of a connection, by what that segment is.

"syn_ack": the SYN was not captured; "other": the capture began midway, so both are taken for ESTABLISHED.
"""

TRAITS: dict[TcpState, StateTrait] = {
    CLOSED: StateTrait.OVER,
    LISTEN: StateTrait.PASSIVE,
    SYN_SENT: StateTrait.OPENING | StateTrait.ACTIVE_OPEN,
    SYN_RECEIVED: StateTrait.OPENING,
    ESTABLISHED: StateTrait.STEADY,
    FIN_WAIT_1: StateTrait(0),
    FIN_WAIT_2: StateTrait(0),
    CLOSE_WAIT: StateTrait.HALF_CLOSED,
    CLOSING: StateTrait(0),
    LAST_ACK: StateTrait(0),
    TIME_WAIT: StateTrait.LINGERS,
}
"""What the compiled core is told of each state."""


def compile_table() -> NDArray[np.uint8]:
    """Return the machine as uint8 of shape (2, 10, 11): [role, event, state] -> next state, IGNORE or INVALID.

    Raises:
        ValueError: two rules speak of the same cell.
    """
    table = np.full((len(Role), len(SegmentEvent), len(TcpState)), INVALID, dtype=np.uint8)
    for rule in RULES:
        for state in rule.states:
            if table[rule.role, rule.event, state] != INVALID:
                raise ValueError(f"two rules for {rule.role.name} {rule.event.name} in {state.name}")
            table[rule.role, rule.event, state] = rule.to
    return table


def compile_start() -> NDArray[np.uint8]:
    """Return START as uint8 of shape (3, 2): [syn | syn_ack | other, sender | receiver] -> state."""
    return np.array([START["syn"], START["syn_ack"], START["other"]], dtype=np.uint8)


def compile_traits() -> NDArray[np.uint8]:
    """Return TRAITS as uint8 of shape (11,)."""
    return np.array([TRAITS[state] for state in TcpState], dtype=np.uint8)


def _cell(table: NDArray[np.uint8], role: Role, event: SegmentEvent, state: TcpState) -> str:
    value = int(table[role, event, state])
    return {IGNORE: "-", INVALID: "!"}.get(value) or TcpState(value).name


def moves() -> Iterator[Rule]:
    """Yield the rules that move a state, in the order of RULES."""
    return (rule for rule in RULES if rule.to != IGNORE)


def render_markdown() -> str:
    """Return the machine as Markdown: one table a role, states down, events across (README.md carries it)."""
    table = compile_table()
    parts = []
    for role in Role:
        events = [e for e in SegmentEvent if any(r.role == role and r.event == e for r in moves())]
        lines = [
            f"| {role.name.lower()} | " + " | ".join(e.name for e in events) + " |",
            "|---" * (len(events) + 1) + "|",
        ]
        for state in TcpState:
            cells = [_cell(table, role, event, state) for event in events]
            lines.append(f"| **{state.name}** | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
