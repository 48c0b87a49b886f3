"""The states that core/spans.pyx reads back from rows: hands it their numbers, and knows nothing else."""

from __future__ import annotations

import numpy as np

from conntrack.core import spans
from conntrack.states import TcpState, mask_of

__all__ = ["COUNTED_STATES", "count_states"]

COUNTED_STATES = tuple(state for state in TcpState if state not in (TcpState.CLOSED, TcpState.LISTEN))
"""The states that are counted, in the order of RFC 9293: nobody counts what is not there."""

_SPAN_STATES = np.array(
    [
        TcpState.SYN_SENT,  # opening: the client, the server
        TcpState.SYN_RECEIVED,
        TcpState.ESTABLISHED,
        TcpState.CLOSE_WAIT,  # after the first FIN: the end that closes second, the one that closes first
        TcpState.FIN_WAIT_1,
        TcpState.LAST_ACK,  # then: the end that closes second; the one that closes first; the same, if the FINs crossed
        TcpState.FIN_WAIT_2,
        TcpState.CLOSING,
        TcpState.TIME_WAIT,
    ],
    np.uint8,
)
_COUNTED = mask_of(*COUNTED_STATES)


def count_states(
    flows: np.ndarray, time_wait_ns: int, step_ns: int, changes: np.ndarray, first: int, factor: int,
    services: np.ndarray, traits: np.ndarray, want_proven: bool, want_unproven: bool, keys: np.ndarray,
    clients: np.ndarray,
) -> tuple[int, int, int, int, int, int]:  # fmt: skip
    """Add every state of every end to `changes`, and write keys and spans of a coarser grid: see the core's."""
    return spans.count_states(
        flows, _SPAN_STATES, _COUNTED, time_wait_ns, step_ns, changes, first, factor, services, traits, want_proven,
        want_unproven, keys, clients,
    )  # fmt: skip
