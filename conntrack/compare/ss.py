"""The form of `ss -tan`, with any of -o, -p, -e, -i, -m, -O, -H, and with the column Netid of `ss -an`.

One line a socket; what -i adds stands in lines of its own that begin with white space. Read ss(8) and misc/ss.c of
iproute2 for the names of the states.
"""

from __future__ import annotations

import ipaddress
import re

from conntrack.compare.model import Endpoint, KernelSocket, Snapshot
from conntrack.states import TcpState

__all__ = ["canonical_ip", "parse_port", "take_ss"]

_STATES = {
    "ESTAB": TcpState.ESTABLISHED,
    "SYN-SENT": TcpState.SYN_SENT,
    "SYN-RECV": TcpState.SYN_RECEIVED,
    "FIN-WAIT-1": TcpState.FIN_WAIT_1,
    "FIN-WAIT-2": TcpState.FIN_WAIT_2,
    "TIME-WAIT": TcpState.TIME_WAIT,
    "UNCONN": TcpState.CLOSED,
    "CLOSE-WAIT": TcpState.CLOSE_WAIT,
    "LAST-ACK": TcpState.LAST_ACK,
    "LISTEN": TcpState.LISTEN,
    "CLOSING": TcpState.CLOSING,
}
_TCP = ("tcp", "mptcp")
_NETID = re.compile(r"(nl|p_raw|p_dgr|u_str|u_seq|u_dgr|udp|icmp6|raw|rawl|sctp|dccp|v_str|v_dgr|xdp|ti_\w+|\?\?\?)$")
_ENDPOINT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)(?:%[^\]]*)?\]|(?P<v4>[^\[\]%]*))(?:%[^:]*)?:(?P<port>[^:]+)")


def take_ss(line: str, snapshot: Snapshot) -> None:
    """Add what a line of `ss` says to the snapshot."""
    if line[0].isspace():
        return  # more of the socket before
    words = line.split()
    if words[0] in ("State", "Netid"):
        return
    if words[0] in _TCP:
        del words[0]
    elif _NETID.match(words[0]):
        snapshot.skip("not TCP")
        return
    state = _STATES.get(words[0]) if words else None
    if state is None:
        no_state = (words and words[0].isdigit()) or words[:1] == ["Recv-Q"]
        snapshot.skip("no column State: run ss without a filter of states" if no_state else "no line of ss -tan")
        return
    if len(words) < 5:
        snapshot.skip("a line that is cut")
        return
    if state in (TcpState.LISTEN, TcpState.CLOSED):
        snapshot.listening += state == TcpState.LISTEN
        local = _endpoint(words[3])
        if local is not None:
            snapshot.addresses.add(local.ip)
        return
    local, remote = _endpoint(words[3]), _endpoint(words[4])
    if local is None or remote is None:
        snapshot.skip("an address that is a name: run ss with -n")
        return
    queued = int(words[1]) if words[1].isascii() and words[1].isdigit() and len(words[1]) < 12 else None
    snapshot.sockets.append(KernelSocket(local, remote, state, queued))
    snapshot.addresses.add(local.ip)


def canonical_ip(text: str) -> str | None:
    """Return an address as this package writes it, without its zone, IPv4 in IPv6 as IPv4; None if it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped if mapped is not None else address)


def parse_port(text: object) -> int | None:
    """Return a port; None if it is none."""
    if isinstance(text, str):
        text = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else None
    return text if isinstance(text, int) and not isinstance(text, bool) and 0 <= text <= 65_535 else None


def _endpoint(text: str) -> Endpoint | None:
    match = _ENDPOINT.fullmatch(text)
    if match is None:
        return None
    ip, port = canonical_ip(match["v6"] or match["v4"] or ""), parse_port(match["port"])
    return None if ip is None or port is None else Endpoint(ip, port)
