"""The model's rules: where an endpoint is after it sent or took something, as branches.

Part of model.py; from RFC 9293 figure 5 and what is known of Linux, without a look at transitions.py.
"""

from __future__ import annotations

from conntrack.states import SegmentEvent as Event
from conntrack.states import TcpState

(CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED) = list(TcpState)[:5]
(FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT) = list(TcpState)[5:]


def sent(state: TcpState, event: Event) -> TcpState:
    """Where an endpoint is after it sent something (RFC 9293, figure 5, seen from outside)."""
    match event, state:
        case Event.SYN, TcpState.CLOSED | TcpState.LISTEN | TcpState.SYN_RECEIVED:
            return SYN_SENT
        case Event.SYN_ACK, TcpState.CLOSED | TcpState.LISTEN | TcpState.SYN_SENT:
            return SYN_RECEIVED
        case Event.SYN_ACK_AGAIN, TcpState.ESTABLISHED | TcpState.CLOSE_WAIT:
            return SYN_RECEIVED
        case Event.ACK_OF_SYN, TcpState.SYN_SENT:
            return ESTABLISHED
        case Event.ACK_OF_SYN, TcpState.LISTEN:
            return SYN_RECEIVED
        case Event.DATA, TcpState.LISTEN | TcpState.SYN_SENT | TcpState.SYN_RECEIVED:
            return ESTABLISHED
        case Event.ACK_OF_FIN, TcpState.SYN_SENT | TcpState.SYN_RECEIVED | TcpState.ESTABLISHED:
            return CLOSE_WAIT
        case Event.ACK_OF_FIN, TcpState.FIN_WAIT_1:
            return CLOSING
        case Event.ACK_OF_FIN, TcpState.FIN_WAIT_2:
            return TIME_WAIT
        case Event.FIN, TcpState.CLOSE_WAIT:
            return LAST_ACK
        case Event.FIN_CROSSING, TcpState.CLOSE_WAIT:
            return CLOSING
        case (
            (Event.FIN | Event.FIN_CROSSING),
            (TcpState.LISTEN | TcpState.SYN_SENT | TcpState.SYN_RECEIVED | TcpState.ESTABLISHED),
        ):
            return FIN_WAIT_1
        case Event.RST, _:
            return CLOSED
    return state


def received(state: TcpState, event: Event) -> TcpState:
    """Where an endpoint is after it took something."""
    match event, state:
        case Event.SYN, TcpState.SYN_SENT:
            return SYN_RECEIVED
        case Event.SYN_ACK, TcpState.SYN_RECEIVED:
            return ESTABLISHED
        case Event.ACK_OF_SYN, TcpState.SYN_RECEIVED | TcpState.LISTEN:
            return ESTABLISHED
        case Event.DATA, TcpState.SYN_SENT:
            return ESTABLISHED
        case Event.ACK_OF_FIN, TcpState.FIN_WAIT_1:
            return FIN_WAIT_2
        case Event.ACK_OF_FIN, TcpState.CLOSING:
            return TIME_WAIT
        case Event.ACK_OF_FIN, TcpState.LAST_ACK:
            return CLOSED
        case ((Event.FIN | Event.FIN_CROSSING), TcpState.SYN_RECEIVED | TcpState.ESTABLISHED):
            return CLOSE_WAIT
        case ((Event.FIN | Event.FIN_CROSSING), TcpState.FIN_WAIT_1):
            return CLOSING
        case ((Event.FIN | Event.FIN_CROSSING), TcpState.FIN_WAIT_2):
            return TIME_WAIT
        case Event.RST, _ if state != LISTEN:
            return CLOSED
    return state
