"""One generated capture: plays a scenario in slices, puts the packets in order, and says what is true of the result.

Owns the order of time and the truth. Knows neither bytes (frames.py) nor TCP (conversation.py).

What the truth promises: states are those that the segments show to an observer at the capture point who knows the
timers of Linux, when the last packet of the capture is seen. So the client of a forged SYN is SYN_SENT until it would
have given up, a server with SYN cookies is SYN_RECEIVED as if it kept the connection, a server that answered nothing is
LISTEN, and a client that waits for a FIN stays FIN_WAIT_2 (the wire cannot tell whether its application still does).
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from conntrack.generate.conversation import NEVER, PACKET_DTYPE, Conversation, Ending
from conntrack.generate.frames import IPV6_PREFIX, Frames, pcap_header
from conntrack.generate.scenarios import PLANS, PlannedFinding, Planner
from conntrack.states import TcpState

__all__ = ["Story"]

Array = NDArray[Any]
SLICE: Final = 32_768
"""Connections that are played at a time: about half a million packets, 20 MB."""


class Story:
    """A scenario, played once: take the packets, then ask for the truth."""

    def __init__(self, scenario: str, *, connections: int, seed: int, nanosecond: bool) -> None:
        """Plan the scenario; arguments as for `conntrack.generate.generate`."""
        if scenario not in PLANS:
            raise ValueError(f"unknown scenario {scenario!r}; one of {', '.join(PLANS)}")
        if not 1 <= connections <= 5_000_000:  # every group of clients has 2**17 addresses, with 50 connections each
            raise ValueError(f"connections must be 1 to 5,000,000, not {connections}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, not {seed}")
        least, plan = PLANS[scenario]
        planner = Planner(np.random.default_rng(seed))
        plan(planner, max(connections, least))
        self._scenario, self._seed, self._nanosecond = scenario, seed, nanosecond
        self._findings = planner.findings
        self._connections = planner.connections()
        n = len(self._connections)
        self._states = {"client": np.zeros(n, "u1"), "server": np.zeros(n, "u1")}
        self._until_ns = {"client": np.full(n, NEVER), "server": np.full(n, NEVER)}
        self._retransmissions: dict[str, int] = {}
        self._packets = 0
        self._first_ts_ns = self._last_ts_ns = 0

    def _play(self, low: int) -> Array:
        """Return the packets of one slice of the connections."""
        part = slice(low, low + SLICE)
        talk = Conversation(self._connections[part], np.random.default_rng([self._seed, low]))
        packets = talk.packets()
        packets["connection"] += low
        if not self._nanosecond:
            packets["ts_ns"] -= packets["ts_ns"] % 1000
        self._states["client"][part], self._until_ns["client"][part] = talk.client_state, talk.client_until_ns
        self._states["server"][part], self._until_ns["server"][part] = talk.server_state, talk.server_until_ns
        for kind, count in talk.retransmissions.items():
            self._retransmissions[kind] = self._retransmissions.get(kind, 0) + count
        return packets

    def _batches(self) -> Iterator[Array]:
        """Yield all packets (PACKET_DTYPE) in the order of time.

        Connections come in the order of their first SYN, so that whatever is earlier than the first SYN of the next
        slice is complete and can go.
        """
        waiting = np.empty(0, PACKET_DTYPE)
        for low in range(0, len(self._connections), SLICE):
            waiting = np.concatenate([waiting, self._play(low)])
            waiting = waiting[np.argsort(waiting["ts_ns"], kind="stable")]
            ready = len(waiting)
            if low + SLICE < len(self._connections):
                next_ns = self._connections["start_ns"][low + SLICE]
                ready = int(np.searchsorted(waiting["ts_ns"], next_ns - next_ns % 1000))
            batch, waiting = waiting[:ready], waiting[ready:]
            if ready:
                self._first_ts_ns = self._first_ts_ns or int(batch["ts_ns"][0])
                self._last_ts_ns = int(batch["ts_ns"][-1])
                self._packets += ready
                yield batch

    def write_pcap(self, out: BinaryIO, *, snaplen: int, ip_version: int) -> None:
        """Play the scenario into a classic pcap."""
        if not 54 <= snaplen <= 262_144:  # Ethernet, IPv4 and TCP without options; MAXIMUM_SNAPLEN of libpcap
            raise ValueError(f"snaplen must be 54 to 262144, not {snaplen}")
        frames = self._frames(ip_version)
        out.write(pcap_header(snaplen=snaplen, nanosecond=self._nanosecond))
        for batch in self._batches():
            for records in frames.records(batch, snaplen=snaplen, nanosecond=self._nanosecond):
                out.write(records.data)

    def segments(self, *, ip_version: int) -> Iterator[Array]:
        """Play the scenario as arrays of SEGMENT_DTYPE."""
        frames = self._frames(ip_version)
        return (frames.segments(batch) for batch in self._batches())

    def _frames(self, ip_version: int) -> Frames:
        if ip_version not in (4, 6):
            raise ValueError(f"ip_version must be 4 or 6, not {ip_version}")
        return Frames(self._connections, ip_version=ip_version)

    def truth(self, *, ip_version: int) -> dict[str, Any]:
        """Return what is true of the capture once it has been played to its end (see `conntrack.generate.generate`)."""
        endings = np.bincount(self._connections["ending"], minlength=len(Ending))
        return {
            "scenario": self._scenario,
            "seed": self._seed,
            "packets": self._packets,
            "connections": len(self._connections),
            "first_ts_ns": self._first_ts_ns,
            "last_ts_ns": self._last_ts_ns,
            "endings": {ending.name.lower(): int(endings[ending]) for ending in Ending if endings[ending]},
            "retransmissions": dict(self._retransmissions),
            "findings": [
                {"kind": f.kind, "subject": _subject(f, ip_version), "connections": f.connections}
                for f in self._findings
            ],
            "client_states": self._final("client"),
            "server_states": self._final("server"),
        }

    def _final(self, side: str) -> dict[str, int]:
        expired = self._until_ns[side] <= self._last_ts_ns
        counts = np.bincount(np.where(expired, TcpState.CLOSED, self._states[side]), minlength=len(TcpState))
        return {state.name: int(counts[state]) for state in TcpState if counts[state]}


def _subject(finding: PlannedFinding, ip_version: int) -> str:
    """Return "ip:port", "[ip6]:port", or the bare address of a host."""
    address: IPv4Address | IPv6Address = IPv4Address(finding.ip)
    if ip_version == 6:
        address = IPv6Address(IPV6_PREFIX + finding.ip.to_bytes(4, "big"))
    if finding.port is None:
        return str(address)
    return f"[{address}]:{finding.port}" if ip_version == 6 else f"{address}:{finding.port}"
