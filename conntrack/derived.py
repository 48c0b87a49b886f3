"""Columns that other tools made familiar, computed from our record and never the other way round.

Owns Zeek's conn_state, IPFIX's flowEndReason, Community ID v1 and the two handshake round-trip times, for whole batches
of FLOW_DTYPE. Knows no output format. Read Zeek's scripts/base/protocols/conn/main.zeek (function conn_state), RFC 5102
section 5.11.3 and the Community ID specification (github.com/corelight/community-id-spec) beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.core.community_id import community_ids
from conntrack.states import NO_TIME_NS, EndReason

__all__ = [
    "FLOW_END_REASONS",
    "ZEEK_CONN_STATES",
    "community_id",
    "flow_end_reason",
    "handshake_rtt_client_ns",
    "handshake_rtt_server_ns",
    "zeek_conn_state",
]

ZEEK_CONN_STATES = (
    "S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH",
)  # fmt: skip
"""The 13 values, in the order in which Zeek documents them."""

FLOW_END_REASONS = {
    EndReason.OPEN_AT_END: 4,  # forced end: the metering ended, not the flow
    EndReason.FIN: 3,  # end of flow detected
    EndReason.RESET: 3,
    EndReason.REFUSED: 3,
    EndReason.TIMEOUT: 1,  # idle timeout: nothing came until the hosts' timers had run out
    EndReason.REPLACED: 3,  # the SYN of the next connection is the sign of its end
    EndReason.EVICTED: 5,  # lack of resources
}
"""IPFIX's flowEndReason (element 136, RFC 5102 section 5.11.3, the numbers of IANA's registry) for our `end_reason`.

2, active timeout, is never said: it cuts a flow that goes on in two, and here a connection is one record.
"""


def zeek_conn_state(flows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the index into ZEEK_CONN_STATES of each connection of `flows` (FLOW_DTYPE, shape (n,)): uint8, shape (n,).

    Zeek keeps one of seven states for each end and looks the pair up, first match first. An end is RESET once it sent a
    RST, unless both ends sent a FIN (Zeek then stays with its normal close); CLOSED once it sent a FIN. A SYN+ACK
    establishes both ends, or the server alone while the client is not heard. Zeek splits a connection after a RST and
    on its own timeouts; our record does not, so the values can differ there.
    """
    client_fin, server_fin = flows["client_fins"] > 0, flows["server_fins"] > 0
    both_fins = client_fin & server_fin
    client_reset = (flows["client_rsts"] > 0) & ~both_fins
    server_reset = (flows["server_rsts"] > 0) & ~both_fins
    client_closed, server_closed = client_fin & ~client_reset, server_fin & ~server_reset

    answered = flows["server_syns"] > 0
    client_opened = (flows["client_syns"] > 0) | (answered & (flows["client_packets"] > flows["client_rsts"]))
    client_inactive = ~(client_opened | client_closed | client_reset)  # or partial: heard, but without a handshake
    server_inactive = ~(answered | server_closed | server_reset)
    client_syn_sent = client_opened & ~answered & ~client_closed & ~client_reset
    no_payload = (flows["client_payload_bytes"] == 0) & (flows["server_payload_bytes"] == 0)

    rules = (
        (server_reset & (client_syn_sent | (client_reset & no_payload)), "REJ"),
        (server_reset & client_inactive, "RSTRH"),
        (server_reset, "RSTR"),
        (client_reset & server_inactive, "RSTOS0"),
        (client_reset, "RSTO"),
        (both_fins, "SF"),
        (client_closed & server_inactive, "SH"),
        (client_closed, "S2"),
        (server_closed & client_inactive, "SHR"),
        (server_closed, "S3"),
        (client_syn_sent & (flows["server_packets"] == 0), "S0"),
        (client_opened & answered, "S1"),
    )
    codes = [np.uint8(ZEEK_CONN_STATES.index(name)) for _, name in rules]
    return np.select([mask for mask, _ in rules], codes, np.uint8(ZEEK_CONN_STATES.index("OTH")))


def flow_end_reason(flows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return IPFIX's flowEndReason of each of `flows` (FLOW_DTYPE, shape (n,)): uint8, shape (n,), 1 to 5.

    By FLOW_END_REASONS; but 3 where only TIME_WAIT was left at the capture's end: both FINs had been acknowledged.
    """
    numbers: np.ndarray[Any, Any] = _IPFIX[flows["end_reason"]]
    lingers = flows["end_reason"] == EndReason.OPEN_AT_END
    for end in ("client", "server"):
        lingers &= flows[f"{end}_fin_acked_ts_ns"] != NO_TIME_NS
    numbers[lingers] = FLOW_END_REASONS[EndReason.FIN]
    return numbers


_IPFIX = np.array([FLOW_END_REASONS[reason] for reason in EndReason], np.uint8)


def handshake_rtt_server_ns(flows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the time from the SYN to the SYN+ACK in ns, int64: the way from the capture point to the server and back.

    NO_TIME_NS where either was not seen, where the SYN was sent more than once (which one was answered cannot be known:
    Karn's algorithm, RFC 6298 section 3), or where the capture's clock went backwards.
    """
    return _elapsed(flows["syn_ts_ns"], flows["synack_ts_ns"], flows["client_syns"] == 1)


def handshake_rtt_client_ns(flows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the time from the SYN+ACK to its ACK in ns, int64; as handshake_rtt_server_ns, for the client's side."""
    return _elapsed(flows["synack_ts_ns"], flows["established_ts_ns"], flows["server_syns"] == 1)


def _elapsed(
    start_ns: np.ndarray[Any, Any], end_ns: np.ndarray[Any, Any], clear: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    known = clear & (start_ns != NO_TIME_NS) & (end_ns != NO_TIME_NS) & (end_ns >= start_ns)
    return np.where(known, end_ns - start_ns, np.int64(NO_TIME_NS))


def community_id(flows: np.ndarray[Any, Any], *, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return the Community ID v1 of each connection of `flows` (FLOW_DTYPE, shape (n,)): dtype S30, shape (n,).

    "1:" and the base64 of SHA-1 over seed (0 to 65,535), both addresses, protocol, a zero and both ports in network
    order, the smaller endpoint first, so that both directions give the same.
    """
    return community_ids(flows, seed)
