"""From when to when each end of a connection was in each state, out of the times in its row.

The tracker owns the states; this reads them back. A row keeps when each step happened (SYN, first ACK, FIN sent, taken
and acknowledged) and the last state with the time it began. RFC 9293 Figure 5 gives the states in between, and the last
state has the last word: whatever the steps say, from `*_since_ts_ns` on the end is in the state that the row names.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from conntrack.detect.columns import FAR_NS, Side, times_of
from conntrack.states import EndReason, FlowFlag, TcpState

__all__ = ["Steps", "last_states", "steps_of", "time_wait_spans"]

_PEER: dict[Side, Side] = {"client": "server", "server": "client"}
_COUNTED = np.array([state not in (TcpState.CLOSED, TcpState.LISTEN) for state in TcpState])


class Steps(NamedTuple):
    """When one end of each connection took each step; uint64 nanoseconds, shape (n,), FAR_NS where it did not (yet).

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
    peer = _PEER[side]
    own_fin = times_of(flows, f"{side}_fin_ts_ns")
    own_fin_acked = times_of(flows, f"{side}_fin_acked_ts_ns")
    peer_fin_taken = times_of(flows, f"{peer}_fin_received_ts_ns")
    established = times_of(flows, "established_ts_ns")
    midstream = np.flatnonzero(flows["flags"] & FlowFlag.MIDSTREAM)
    if midstream.size:
        established[midstream] = np.minimum(established[midstream], times_of(flows, "first_ts_ns", midstream))
    active = own_fin < peer_fin_taken
    return Steps(
        opening=times_of(flows, "syn_ts_ns" if side == "client" else "synack_ts_ns"),
        established=established,
        first_close=np.minimum(own_fin, peer_fin_taken),
        second_close=np.where(active, np.minimum(own_fin_acked, peer_fin_taken), own_fin),
        closed=np.where(active, np.maximum(own_fin_acked, peer_fin_taken), own_fin_acked),
        last=times_of(flows, f"{side}_since_ts_ns"),
        active=active,
        crossed=peer_fin_taken < own_fin_acked,
    )


def last_states(flows: np.ndarray, side: Side, time_wait_ns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows whose end was in a state as its record ended, and from when to when: (rows, start, end), shape
    (m,).

    CLOSED and LISTEN are left out (nobody counts what is not there). TIME_WAIT ends after `time_wait_ns`. A connection
    that was replaced or evicted ends with its record; one that is open at the end of the capture does not end (FAR_NS).
    """
    rows = np.flatnonzero(_COUNTED[np.minimum(flows[f"{side}_state"], TcpState.TIME_WAIT)])
    start = times_of(flows, f"{side}_since_ts_ns", rows)
    closed = times_of(flows, "closed_ts_ns", rows)
    open_at_end = flows["end_reason"][rows] == EndReason.OPEN_AT_END
    over = np.where(open_at_end | (closed != FAR_NS), closed, times_of(flows, "last_ts_ns", rows))
    waits = flows[f"{side}_state"][rows] == TcpState.TIME_WAIT
    end = np.where(waits, np.minimum(closed, start + time_wait_ns), over)
    return rows, start, np.maximum(start, end)


def time_wait_spans(flows: np.ndarray, side: Side, time_wait_ns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows whose end was in TIME_WAIT, and from when to when: (rows, start, end), shape (m,) each.

    It begins when the own FIN is acknowledged and the peer's FIN taken, whichever is later, at the end whose FIN was
    sent before it took the peer's (RFC 9293 section 3.6). It ends with the row's next state, or after `time_wait_ns`.
    """
    peer_fin_taken = times_of(flows, f"{_PEER[side]}_fin_received_ts_ns")
    waits = flows[f"{side}_state"] == TcpState.TIME_WAIT
    rows = np.flatnonzero(waits | (flows[f"{side}_fin_ts_ns"].view(np.uint64) < peer_fin_taken))
    waits = waits[rows]
    last = times_of(flows, f"{side}_since_ts_ns", rows)
    start = np.maximum(times_of(flows, f"{side}_fin_acked_ts_ns", rows), peer_fin_taken[rows])
    start = np.where(waits, np.minimum(start, last), start)
    end = np.where(last == FAR_NS, start + time_wait_ns, last)
    end = np.where(waits, np.minimum(times_of(flows, "closed_ts_ns", rows), last + time_wait_ns), end)
    lasts = np.flatnonzero((start < FAR_NS) & (end > start))
    return rows[lasts], start[lasts], end[lasts]
