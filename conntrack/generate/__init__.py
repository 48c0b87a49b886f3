"""Synthetic captures with known truth, for trying, testing and benchmarking.

Owns what is generated and what is true of it: `SCENARIOS`, `generate` (a pcap file) and `segments` (the same packets as
arrays of SEGMENT_DTYPE, without a file). Knows no reader, tracker or detector, so that its truth is an opinion of its
own. Read scenarios.py for what happens in each scenario, conversation.py for how TCP behaves in all of them, truth.py
for what is promised about the result, frames.py for the bytes.

This module imports no numpy: the command line lists the scenarios without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SCENARIOS", "generate", "segments"]

SCENARIOS: dict[str, str] = {
    "mixed": "every way to open and close, retransmissions, and one service that leaks CLOSE_WAIT",
    "healthy": "three services and their clients; nothing is wrong",
    "syn-flood": "30 s of SYNs from forged addresses; the server falls back to SYN cookies, its clients get through",
    "slow-syn-flood": "three SYNs a second for 200 s, under any rate alarm, enough to fill a backlog of 128",
    "close-wait-leak": "a service that forgets to close 30 % of its connections, beside a healthy one",
    "time-wait-client": "one client that closes 410 connections a second: 87 % of its ports are in TIME_WAIT",
    "flash-crowd": "thousands of honest connections within a second, all completing; not an attack",
    "port-scan": "one host that tries many ports; not a flood",
    "server-down": "a service that answers nobody, beside a healthy one; not a flood",
}


def generate(
    out: BinaryIO,
    *,
    scenario: str = "mixed",
    connections: int = 10_000,
    seed: int = 1,
    snaplen: int = 96,
    nanosecond: bool = False,
    ip_version: int = 4,
) -> dict[str, Any]:
    """Write a scenario as a classic pcap (little-endian, Ethernet) and return what is true of it.

    The bytes depend on the arguments only (and on numpy, whose generators may change between its feature releases).
    The capture is taken beside the servers. Checksums are valid; all payload is zeros. `out` is written in order and
    never sought, so it may be a pipe. Memory: 60 bytes a connection, and 150 bytes a packet of those connections that
    overlap in time.

    Args:
        out: where to write.
        scenario: a name in SCENARIOS.
        connections: how many, more or less; raised to the least with which the scenario's findings are true.
        seed: another seed gives other addresses, times and lengths of the same story.
        snaplen: bytes kept of each frame, 54 to 262,144; the default keeps all headers and options.
        nanosecond: nanosecond instead of microsecond timestamps.
        ip_version: 4 or 6.

    Returns:
        JSON-able: "scenario", "seed", "packets", "connections" (total), "first_ts_ns", "last_ts_ns", "endings" {ending:
        connections}, "retransmissions" {"syn", "syn_ack", "data", "fin": segments sent again}, "findings" [{"kind",
        "subject", "connections"}] (all that must be found, and nothing else may be at warning or critical),
        "client_states" and "server_states" {state: connections} when the capture ends (see truth.py).

    Raises:
        ValueError: an argument out of its range.
    """
    from conntrack.generate.truth import Story

    story = Story(scenario, connections=connections, seed=seed, nanosecond=nanosecond)
    story.write_pcap(out, snaplen=snaplen, ip_version=ip_version)
    return story.truth(ip_version=ip_version)


def segments(
    *,
    scenario: str = "mixed",
    connections: int = 10_000,
    seed: int = 1,
    nanosecond: bool = False,
    ip_version: int = 4,
) -> Iterator[NDArray[Any]]:
    """Yield the packets that `generate` writes as arrays of SEGMENT_DTYPE, shape (n,), as a reader of that file would.

    For stages that are tried or timed without a file. Options are whole, as with a snap length that keeps all headers.

    Raises:
        ValueError: an argument out of its range.
    """
    from conntrack.generate.truth import Story

    story = Story(scenario, connections=connections, seed=seed, nanosecond=nanosecond)
    return story.segments(ip_version=ip_version)
