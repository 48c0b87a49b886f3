"""What happens in each scenario: which connections there are, when, between whom, and how each of them ends.

Owns the addresses, the rates and the findings that each scenario must lead to. Knows no packet: conversation.py plays
what is planned here. Read detectors' rules first (conntrack/detect): a scenario is true of a finding, or close to it
without being one.

Addresses: servers in 198.51.100.0/24 (RFC 5737), clients in 10.0.0.0/8 with one /16 and more for each group, forged
sources in 32.0.0.0/3. No 4-tuple is used twice but in time-wait-client, where one client runs through its ports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from conntrack.generate.conversation import CONNECTION_DTYPE, Ending, Loss

__all__ = ["PLANS", "PlannedFinding", "Planner"]

Array = NDArray[Any]
Service = tuple[int, int]
S = 1_000_000_000
EPOCH_NS: Final = 1_767_225_600 * S
"""2026-01-01T00:00:00Z: when every capture begins."""
PORT_FIRST: Final = 32768
PORTS: Final = 28232
"""Linux net.ipv4.ip_local_port_range, 32768 to 60999."""
BACKLOG: Final = 4096
"""Linux net.core.somaxconn since 5.4: as many half-open connections are held, then come SYN cookies."""

WEB: Service = (0xC6336401, 443)
API: Service = (0xC6336402, 8080)
DATABASE: Service = (0xC6336403, 5432)
LEAKY: Service = (0xC6336404, 9000)
ADMIN: Service = (0xC6336406, 22)
DOWN: Service = (0xC6336405, 8443)
CLOSED_PORT: Service = (0xC6336402, 8081)

CLEAN: Mapping[Ending, float] = {Ending.CLEAN_CLIENT: 0.75, Ending.CLEAN_SERVER: 0.25}
HEALTHY: Mapping[Ending, float] = {
    Ending.CLEAN_CLIENT: 0.70,
    Ending.CLEAN_SERVER: 0.22,
    Ending.OPEN: 0.05,
    Ending.HALF_CLOSE: 0.03,
}
MIXED: Mapping[Ending, float] = {
    Ending.CLEAN_CLIENT: 0.54,
    Ending.CLEAN_SERVER: 0.20,
    Ending.RESET_CLIENT: 0.08,
    Ending.RESET_SERVER: 0.04,
    Ending.HALF_CLOSE: 0.05,
    Ending.SIMULTANEOUS_CLOSE: 0.04,
    Ending.OPEN: 0.05,
}
LEAKING: Mapping[Ending, float] = {Ending.CLEAN_CLIENT: 0.6, Ending.CLEAN_SERVER: 0.1, Ending.CLOSE_WAIT: 0.3}


@dataclass(frozen=True, slots=True)
class PlannedFinding:
    """A finding that the scenario must lead to: its kind, a service or a host (port None), how many connections."""

    kind: str
    ip: int
    port: int | None
    connections: int


@dataclass(slots=True)
class Planner:
    """Collects groups of connections and findings."""

    rng: np.random.Generator
    groups: list[Array] = field(default_factory=list)
    findings: list[PlannedFinding] = field(default_factory=list)

    def connections(self) -> Array:
        """Return all connections (CONNECTION_DTYPE, shape (n,)) in the order of their first SYN."""
        connections = np.concatenate(self.groups)
        return connections[np.argsort(connections["start_ns"], kind="stable")]

    def finding(self, kind: str, service: Service, group: Array, *endings: Ending) -> None:
        """Note that `group` leads to a finding of a service; `endings` are those of its connections behind it."""
        count = int(np.isin(group["ending"], endings).sum()) if endings else len(group)
        self.findings.append(PlannedFinding(kind, *service, count))

    def group(
        self, n: int, service: Service, start_s: float, end_s: float, endings: Mapping[Ending, float] | Ending
    ) -> Array:
        """Add `n` connections to `service` that begin between two instants, from hosts of their own.

        Ports of a host follow one another and do not come again: there are as many hosts as that takes, and more.
        """
        rng = self.rng
        c = np.zeros(n, CONNECTION_DTYPE)
        c["start_ns"] = EPOCH_NS + np.sort(rng.integers(int(start_s * S), int(end_s * S), n))
        c["rtt_ns"] = np.clip(rng.lognormal(np.log(15e6), 0.8, n), 3e5, 3e8)
        c["server_ip"], c["server_port"] = service
        for name in ("client_isn", "server_isn", "client_clock", "server_clock"):
            c[name] = rng.integers(0, 2**32, n, dtype="u4")
        c["exchanges"] = np.clip(rng.geometric(0.6, n), 1, 8)
        hosts = max(n // 50, min(n, 40), 1)
        order = rng.permutation(n)
        host = order % hosts
        c["client_ip"] = 0x0A000000 + len(self.groups) * 0x20000 + 2 + host
        first_port = rng.integers(0, PORTS, hosts)
        c["client_port"] = PORT_FIRST + (first_port[host] + order // hosts) % PORTS
        c["client_ttl"] = rng.integers(46, 62, hosts)[host]
        if isinstance(endings, Ending):
            c["ending"] = endings
        else:
            c["ending"] = rng.choice([int(ending) for ending in endings], n, p=list(endings.values()))
        self.groups.append(c)
        return c

    def lose(self, group: Array, share: float) -> None:
        """Let that share of the connections lose one segment on the way to the client."""
        lucky = self.rng.random(len(group)) >= share
        loss = self.rng.integers(Loss.SYN_ACK, Loss.FIN + 1, len(group))
        loss[(loss == Loss.FIN) & (group["ending"] != Ending.CLEAN_CLIENT)] = Loss.DATA
        group["loss"] = np.where(lucky, Loss.NONE, loss)

    def forge(self, group: Array) -> None:
        """Make the clients what a simple flooding tool makes of them: no options, one TTL, each address once."""
        n = len(group)
        at = int(self.rng.integers(0, 2**29))
        group["client_ip"] = 0x20000000 | ((np.arange(n) + at) * 0x9E3779B1 & 0x1FFFFFFF)  # odd factor: no repetition
        group["client_port"] = self.rng.integers(1024, 65536, n)
        group["client_ttl"] = 52
        group["bare"] = 1


def _healthy(plan: Planner, n: int, end_s: float = 300) -> None:
    """Three services with 1 % of their connections losing a segment."""
    for service, share in ((WEB, 0.5), (API, 0.3), (DATABASE, 0.2)):
        plan.lose(plan.group(int(n * share), service, 0, end_s, HEALTHY), 0.01)


def _mixed(plan: Planner, n: int) -> None:
    """Everything; the few half-open connections are far from filling any backlog."""
    leaking, refused, silent = n * 8 // 100, n * 3 // 100, min(n // 100, 60)
    open_ended = n - leaking - refused - silent
    for service, share in ((WEB, 0.6), (DATABASE, 0.4)):
        plan.lose(plan.group(int(open_ended * share), service, 0, 300, MIXED), 0.03)
    plan.group(silent, WEB, 0, 300, Ending.HALF_OPEN)
    group = plan.group(leaking, LEAKY, 0, 220, {Ending.CLEAN_CLIENT: 0.5, Ending.CLOSE_WAIT: 0.5})
    plan.finding("close_wait_leak", LEAKY, group, Ending.CLOSE_WAIT)
    plan.finding("connection_refused", CLOSED_PORT, plan.group(refused, CLOSED_PORT, 0, 300, Ending.REFUSED))


def _syn_flood(plan: Planner, n: int) -> None:
    """Nine in ten connections are forged SYNs, all within 30 s; then the capture goes on for more than a minute."""
    plan.lose(plan.group(n // 20, WEB, 0, 120, HEALTHY), 0.01)
    plan.lose(plan.group(n // 20, API, 0, 120, HEALTHY), 0.01)
    flood = plan.group(n - n // 20 * 2, WEB, 20, 50, Ending.COOKIE)
    flood["ending"][:BACKLOG] = Ending.HALF_OPEN
    plan.forge(flood)
    plan.finding("syn_flood", WEB, flood)


def _slow_syn_flood(plan: Planner, n: int) -> None:
    """3 SYN/s to a service with one honest connection a second, held for 63 s: 189 half-open at a time."""
    _healthy(plan, n - 800, 200)
    plan.group(200, ADMIN, 0, 200, HEALTHY)
    flood = plan.group(600, ADMIN, 0, 200, Ending.HALF_OPEN)
    plan.forge(flood)
    plan.finding("syn_flood", ADMIN, flood)


def _close_wait_leak(plan: Planner, n: int) -> None:
    """The leak stops 80 s before the end of the capture, which the healthy service brings about."""
    plan.lose(plan.group(n // 2, WEB, 0, 300, HEALTHY), 0.01)
    group = plan.group(n - n // 2, LEAKY, 0, 220, LEAKING)
    plan.finding("close_wait_leak", LEAKY, group, Ending.CLOSE_WAIT)


def _time_wait_client(plan: Planner, n: int) -> None:
    """410 connections/s from one address: 24,600 of 28,232 ports in TIME_WAIT; each port rests for 68 s."""
    rate = 410
    group = plan.group(n, API, 0, n / rate, Ending.CLEAN_CLIENT)
    group["client_ip"] = 0x0A000002
    group["client_port"] = PORT_FIRST + np.arange(n) % PORTS
    group["client_ttl"] = 63
    group["start_ns"] = EPOCH_NS + np.arange(n) * S // rate + plan.rng.integers(0, S // rate, n)
    group["rtt_ns"] = plan.rng.integers(200_000, 600_000, n)
    group["exchanges"] = 1
    plan.findings.append(PlannedFinding("time_wait_buildup", 0x0A000002, None, n))


def _flash_crowd(plan: Planner, n: int) -> None:
    """Nineteen in twenty connections begin within one second (50,000 of them at the most), 30 s into the capture."""
    plan.group(n // 20, WEB, 0, 60, CLEAN)
    crowd = plan.group(n - n // 20, WEB, 30, 30 + max(1, n / 50_000), CLEAN)
    plan.lose(crowd, 0.02)


def _port_scan(plan: Planner, n: int) -> None:
    """A third are probes of one host, from one address and port: 90 % refused, 8 % filtered, 2 % open."""
    _healthy(plan, n - n // 3, 120)
    probes = n // 3
    answers = {Ending.REFUSED: 0.90, Ending.FILTERED: 0.08, Ending.PROBED: 0.02}
    group = plan.group(probes, WEB, 30, 60, answers)
    plan.forge(group)
    targets = plan.rng.permutation(65535)[np.arange(probes) % 65535] + 1
    group["server_ip"] = 0xC6336480 + np.arange(probes) // 65535
    group["server_port"] = targets
    group["client_ip"], group["client_port"] = 0x0AFF0009, 54321
    plan.findings.append(PlannedFinding("port_scan", 0x0AFF0009, None, probes))


def _server_down(plan: Planner, n: int) -> None:
    """A fifth of the connections go to a service whose host is gone; every client tries for 63 s."""
    _healthy(plan, n - n // 5, 200)
    plan.finding("unanswered_syn", DOWN, plan.group(n // 5, DOWN, 60, 180, Ending.UNANSWERED))


PLANS: dict[str, tuple[int, Callable[[Planner, int], None]]] = {
    "mixed": (1_000, _mixed),
    "healthy": (100, _healthy),
    "syn-flood": (5_000, _syn_flood),
    "slow-syn-flood": (1_000, _slow_syn_flood),
    "close-wait-leak": (500, _close_wait_leak),
    "time-wait-client": (26_000, _time_wait_client),
    "flash-crowd": (2_000, _flash_crowd),
    "port-scan": (600, _port_scan),
    "server-down": (500, _server_down),
}
"""By name: the least number of connections with which the findings hold, and who plans them."""
