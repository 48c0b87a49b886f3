"""Columns that other tools made familiar, computed from our record and never the other way round.

Owns Zeek's conn_state, Community ID v1 and the two handshake round-trip times, for whole batches of FLOW_DTYPE. Knows
no output format. Read Zeek's scripts/base/protocols/conn/main.zeek (function conn_state) and the Community ID
specification (github.com/corelight/community-id-spec) beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.core.sha1 import sha1_rows
from conntrack.states import NO_TIME_NS

__all__ = ["ZEEK_CONN_STATES", "community_id", "handshake_rtt_client_ns", "handshake_rtt_server_ns", "zeek_conn_state"]

ZEEK_CONN_STATES = (
    "S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH",
)  # fmt: skip
"""The 13 values, in the order in which Zeek documents them."""

_BASE64 = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)
_TCP = 6  # IANA protocol number


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

    "1:" and the base64 of SHA-1 over seed, both addresses, protocol, a zero and both ports in network order, the
    smaller endpoint first, so that both directions give the same.
    """
    client_ip = np.ascontiguousarray(flows["client_ip"])
    server_ip = np.ascontiguousarray(flows["server_ip"])
    client_port, server_port = flows["client_port"], flows["server_port"]
    client_words, server_words = client_ip.view(">u8"), server_ip.view(">u8")
    ordered = client_port <= server_port
    for word in (1, 0):  # the less significant half first: the greater one overrules it
        ours, theirs = client_words[:, word], server_words[:, word]
        ordered = (ours < theirs) | ((ours == theirs) & ordered)
    low_ip = np.where(ordered[:, None], client_ip, server_ip)
    high_ip = np.where(ordered[:, None], server_ip, client_ip)
    ports = np.empty((len(flows), 2), ">u2")
    ports[:, 0] = np.where(ordered, client_port, server_port)
    ports[:, 1] = np.where(ordered, server_port, client_port)

    digests = np.zeros((len(flows), 21), np.uint8)  # 20 and one zero: seven groups of three
    for version, first in ((4, 12), (6, 0)):  # IPv4 is hashed as its own 4 bytes
        rows = np.flatnonzero(flows["ip_version"] == version)
        if not len(rows):
            continue
        head = np.tile(np.frombuffer(seed.to_bytes(2, "big"), np.uint8), (len(rows), 1))
        protocol = np.tile(np.array([_TCP, 0], np.uint8), (len(rows), 1))
        message = np.hstack((head, low_ip[rows, first:], high_ip[rows, first:], protocol, ports[rows].view(np.uint8)))
        digests[rows, :20] = sha1_rows(message)
    text = np.empty((len(flows), 30), np.uint8)
    text[:, :2] = np.frombuffer(b"1:", np.uint8)
    first_byte, second_byte, third_byte = digests[:, 0::3], digests[:, 1::3], digests[:, 2::3]
    text[:, 2::4] = _BASE64[first_byte >> 2]
    text[:, 3::4] = _BASE64[(first_byte & 3) << 4 | second_byte >> 4]
    text[:, 4::4] = _BASE64[(second_byte & 15) << 2 | third_byte >> 6]
    text[:, 5::4] = _BASE64[third_byte & 63]
    text[:, 29] = ord("=")  # RFC 4648 section 4: 20 bytes leave one byte of padding
    return text.view("S30").reshape(-1)
