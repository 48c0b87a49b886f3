"""From when to when each end of a connection was in each state, out of the times in its row.

The tracker owns the states; this reads them back. A row keeps when each step happened (SYN, first ACK, FIN sent, taken and
acknowledged) and the last state with the time it began. RFC 9293 Figure 5 gives the states in between, and the last state
has the last word: whatever the steps say, from `*_since_ts_ns` on the end is in the state that the row names.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from conntrack.detect.columns import FAR_NS, Side, known_or_far
from conntrack.states import NO_TIME_NS, EndReason, FlowFlag, TcpState

__all__ = ["Steps", "last_state_end", "steps_of", "time_wait_spans"]


class Steps(NamedTuple):
    """When one end of each connection took each step; int64 nanoseconds, shape (n,), FAR_NS where it did not (yet).

    Each state lasts from its step to the next one, and no state before the last one goes beyond `last`.

    Attributes:
        opening: SYN sent (SYN_SENT), or SYN+ACK sent (SYN_RECEIVED).
        established: ESTABLISHED.
        first_close: FIN_WAIT_1 where `active`, else CLOSE_WAIT.
        second_close: where `active` CLOSING if `crossed`, else FIN_WAIT_2; where not `active` LAST_ACK.
        closed: where `active` TIME_WAIT, else the end of LAST_ACK.
        last: when the last state began, FAR_NS where the row does not know.
        active: this end sent its FIN before it took the peer's, bool.
        crossed: it took the peer's FIN before its own was acknowledged, bool.
    """

    opening: np.ndarray
    established: np.ndarray
    first_close: np.ndarray
    second_close: np.ndarray
    closed: np.ndarray
    last: np.ndarray
    active: np.ndarray
    crossed: np.ndarray


def steps_of(flows: np.ndarray, side: Side) -> Steps:
    """Return the steps of one end of each connection (FLOW_DTYPE, shape (n,))."""
    peer = "server" if side == "client" else "client"
    own_fin = known_or_far(flows, f"{side}_fin_ts_ns")
    own_fin_acked = known_or_far(flows, f"{side}_fin_acked_ts_ns")
    peer_fin_taken = known_or_far(flows, f"{peer}_fin_received_ts_ns")
    established = known_or_far(flows, "established_ts_ns")
    midstream = np.flatnonzero((flows["flags"] & FlowFlag.MIDSTREAM) != 0)
    established[midstream] = np.minimum(established[midstream], flows["first_ts_ns"][midstream])
    active = own_fin < peer_fin_taken
    return Steps(
        opening=known_or_far(flows, "syn_ts_ns" if side == "client" else "synack_ts_ns"),
        established=established,
        first_close=np.minimum(own_fin, peer_fin_taken),
        second_close=np.where(active, np.minimum(own_fin_acked, peer_fin_taken), own_fin),
        closed=np.where(active, np.maximum(own_fin_acked, peer_fin_taken), own_fin_acked),
        last=known_or_far(flows, f"{side}_since_ts_ns"),
        active=active,
        crossed=peer_fin_taken < own_fin_acked,
    )


def last_state_end(flows: np.ndarray, side: Side, time_wait_ns: int) -> np.ndarray:
    """Return when the last state of one end was over, FAR_NS where it was not; int64, shape (n,).

    CLOSED and LISTEN end as they begin (nobody counts them). TIME_WAIT ends after `time_wait_ns`. A connection that was
    replaced or evicted ends with its record; one that is open at the end of the capture does not end.
    """
    state = flows[f"{side}_state"]
    since = known_or_far(flows, f"{side}_since_ts_ns")
    closed = flows["closed_ts_ns"]
    over = np.where(flows["end_reason"] == EndReason.OPEN_AT_END, FAR_NS, flows["last_ts_ns"])
    end = np.where(closed == NO_TIME_NS, over, closed)
    end = np.where(state == TcpState.TIME_WAIT, np.minimum(since + time_wait_ns, known_or_far(flows, "closed_ts_ns")), end)
    nothing = (state == TcpState.CLOSED) | (state == TcpState.LISTEN)
    return np.where(nothing, since, np.maximum(end, since))


def time_wait_spans(flows: np.ndarray, side: Side, time_wait_ns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows whose end was in TIME_WAIT, and from when to when: (rows, start, end), int64, shape (m,) each.

    It begins when the own FIN is acknowledged and the peer's FIN taken, whichever is later, at the end whose FIN was sent
    before it took the peer's (RFC 9293 section 3.6). It ends with the row's next state, or after `time_wait_ns`.
    """
    steps = steps_of(flows, side)
    state = flows[f"{side}_state"]
    waits = state == TcpState.TIME_WAIT
    start = np.where(steps.active, steps.closed, FAR_NS)
    start = np.where(waits, np.minimum(start, steps.last), start)
    rows = np.flatnonzero(start < FAR_NS)
    start, last = start[rows], steps.last[rows]
    end = np.where(last == FAR_NS, start + time_wait_ns, last)
    end = np.where(waits[rows], last_state_end(flows[rows], side, time_wait_ns), end)
    lasts = end > start
    return rows[lasts], start[lasts], end[lasts]
