"""What is compared and what comes out: plain data. Knows no form of a snapshot and no reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from conntrack.states import TcpState

__all__ = ["Comparison", "Disagreement", "Endpoint", "FirewallEntry", "KernelSocket", "Snapshot", "WireFlow"]


class Endpoint(NamedTuple):
    """An address as text (RFC 5952; IPv4 also where the kernel writes it as ::ffff:a.b.c.d) and a port."""

    ip: str
    port: int


class KernelSocket(NamedTuple):
    """A socket as the host's kernel has it; `queued` is what its program has not read yet, None where not told."""

    local: Endpoint
    remote: Endpoint
    state: TcpState
    queued: int | None = None


class FirewallEntry(NamedTuple):
    """A connection as netfilter tracks it: who opened it to whom, and between whom the answers go.

    Without NAT `reply` is `original` turned round. `timeout_s` is after how long without a packet it is forgotten.
    """

    original: tuple[Endpoint, Endpoint]
    reply: tuple[Endpoint, Endpoint]
    state: str
    timeout_s: int
    unreplied: bool


@dataclass(slots=True)
class Snapshot:
    """What a kernel said at an instant.

    Attributes:
        name: where it comes from, in words.
        form: "ss", "ndjson", "conntrack" or "host".
        sockets: connections of the host; rows that listen are only counted.
        entries: of a firewall, in the place of sockets.
        addresses: that the host has, as far as its sockets tell.
        listening: how many sockets listen.
        at_ns: when it was taken, nanoseconds since 1970, if it says so.
        skipped: lines that were not used, by reason.
    """

    name: str
    form: str
    sockets: list[KernelSocket] = field(default_factory=list)
    entries: list[FirewallEntry] = field(default_factory=list)
    addresses: set[str] = field(default_factory=set)
    listening: int = 0
    at_ns: int | None = None
    skipped: dict[str, int] = field(default_factory=dict)

    def skip(self, reason: str) -> None:
        """Count a line that is not used."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class WireFlow:
    """What the capture says of a connection at an instant, as far as it is needed here; fields as in FLOW_DTYPE."""

    flow_id: int
    client: Endpoint
    server: Endpoint
    client_state: TcpState
    server_state: TcpState
    client_evidence: str
    server_evidence: str
    client_since_ns: int
    server_since_ns: int
    first_ns: int
    last_ns: int
    client_retransmits: int
    server_retransmits: int
    end_reason: str
    flags: frozenset[str]

    def is_client(self, end: Endpoint) -> bool:
        """Return whether `end` is the client's."""
        return end == self.client

    @property
    def is_open(self) -> bool:
        """Whether an end is in a state other than CLOSED and LISTEN."""
        return not {self.client_state, self.server_state} <= {TcpState.CLOSED, TcpState.LISTEN}


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A socket, or an entry of a firewall, on which the wire and the kernel disagree.

    Attributes:
        local, remote: its ends; of a firewall's entry the client's and the server's.
        wire: the state by the capture, None if it holds nothing of it; of a firewall's entry both ends' states.
        kernel: the state by the snapshot, None if it does not have it.
        reason: in one word (reasons.py).
        explanation: the same in a sentence.
        since_ns: when the end entered its state on the wire, None if it is not known.
        last_ns: its last segment, None if there is none.
        flow_id: of the connection, None if the capture holds none.
    """

    local: Endpoint
    remote: Endpoint
    wire: str | None
    kernel: str | None
    reason: str
    explanation: str
    since_ns: int | None = None
    last_ns: int | None = None
    flow_id: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out.

    Attributes:
        at_ns: the instant that was compared.
        end_ns: when the capture ended, None if it holds no packet.
        hosts: the addresses whose sockets were compared, as text; none for a firewall's entries.
        agreed: how many are in the same state on both sides.
        disagreements: the others, by reason, then by endpoints.
    """

    at_ns: int
    end_ns: int | None
    hosts: tuple[str, ...]
    agreed: int
    disagreements: tuple[Disagreement, ...]
