"""time_wait_buildup: clients that run out of ports to TIME_WAIT, and services that hold many. Knows rows, not packets.

TIME_WAIT sits on the end that closes first. At a client it takes a local port from the pair (client address, service)
for 60 s: 28,232 ports allow 470.5 new connections a second, then connect() fails with EADDRNOTAVAIL. At a server it
costs 168 bytes and nothing else, so there it is only ever told, never an alarm.

Counted on a grid of instants (0.1 s, coarser past 4 million cells, see `Tally`), exactly at each of them: between two
the truth may be higher by no more than what entered TIME_WAIT in one step. A cell is 16 bytes, a pair of client and
service 48.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.detect.columns import address_words, endpoint_words, ns_of, words_endpoint, words_ip
from conntrack.detect.counting import NO_GROUP, KeyIndex, LowestPerGroup, Tally, mix64
from conntrack.detect.finding import SEVERITIES, Finding, Severity
from conntrack.detect.options import DetectOptions
from conntrack.detect.spans import time_wait_spans
from conntrack.states import FlowFlag

__all__ = ["TimeWaitBuildup"]

_ENTERED, _LEFT, _REUSED, _REUSED_RFC6191, _REUSED_LATE = range(5)
_COLUMNS = 5
_FLOW_IDS = 100
_GRID_NS = 10**8


class _Occupancy:
    """TIME_WAIT over time by group, with what became of reused 4-tuples and some connections of each group."""

    def __init__(self, width: int, least: int) -> None:
        self.index = KeyIndex(width)
        self.tally = Tally(_GRID_NS)
        self.flow_ids = LowestPerGroup(_FLOW_IDS)
        self._sampled = max(1, least // (4 * _FLOW_IDS))  # a group that matters has 4 times the ids that are shown

    def add(
        self,
        flows: np.ndarray,
        words: list[np.ndarray],
        spans: tuple[np.ndarray, np.ndarray, np.ndarray],
        reused: np.ndarray,
    ) -> None:
        """Take in the TIME_WAITs `spans` (rows, start, end) of keys `words`, and the rows that `reused` one."""
        rows, starts, ends = spans
        both = np.concatenate([rows, reused])
        groups = self.index.intern([word[both] for word in words])
        known = np.flatnonzero(groups[: len(rows)] != NO_GROUP)
        owners, starts, ends = groups[known], starts[known], ends[known]
        self.tally.add(owners, starts, _ENTERED)
        self.tally.add(owners, ends, _LEFT)
        ids = flows["flow_id"][rows[known]]
        chosen = mix64([ids]) % np.uint64(self._sampled) == 0
        self.flow_ids.add(owners[chosen], ids[chosen])
        if reused.size:
            kept = groups[len(rows) :] != NO_GROUP
            again, owners = flows[reused[kept]], groups[len(rows) :][kept]
            allowed = (again["flags"] & FlowFlag.REUSED_BY_RFC6191) != 0
            late = again["client_syns"] > 1
            self.tally.add(owners, again["first_ts_ns"], _REUSED)
            self.tally.add(owners[allowed], again["first_ts_ns"][allowed], _REUSED_RFC6191)
            self.tally.add(owners[late], again["first_ts_ns"][late], _REUSED_LATE)

    def merge(self, other: _Occupancy) -> None:
        groups = self.index.merge(other.index)
        self.tally.merge(other.tally, groups)
        self.flow_ids.merge(other.flow_ids, groups)

    def candidates(self, least: int) -> list[int]:
        """Return the groups that could have had `least` at once."""
        entered = self.tally.totals(_COLUMNS, len(self.index))[_ENTERED]
        return [int(group) for group in np.flatnonzero(entered >= max(least, 1))]

    def measure(self, group: int, level: int, minute_ns: int, end_ts_ns: int) -> dict[str, Any]:
        """Return what the grid says of a group up to `end_ts_ns`; times in nanoseconds."""
        step_ns = self.tally.step_ns
        ticks, columns, counts = self.tally.series_of(group)
        until = ticks <= max(end_ts_ns // step_ns, int(ticks[0]))
        ticks, columns, counts = ticks[until], columns[until], counts[until]
        change = np.where(columns == _ENTERED, counts, 0) - np.where(columns == _LEFT, counts, 0)
        instants, starts = np.unique(ticks, return_index=True)
        held = np.cumsum(np.add.reduceat(change, starts))
        at_peak = int(np.argmax(held))
        over = np.flatnonzero(held >= level)
        entered = columns == _ENTERED
        peak_tick = int(instants[at_peak])
        minute = entered & (ticks <= peak_tick) & (ticks > peak_tick - minute_ns // step_ns)
        sums = np.bincount(columns, counts, _COLUMNS).astype(np.int64)
        return {
            "peak": int(held[at_peak]),
            "peak_ts_ns": peak_tick * step_ns,
            "first_ts_ns": int(instants[over[0]]) * step_ns if over.size else None,
            "last_ts_ns": min(_next(instants, int(over[-1])) * step_ns, end_ts_ns) if over.size else None,
            "entered_before_peak": int(counts[minute].sum()),
            "step_ns": step_ns,
            "sums": [int(value) for value in sums],
        }


def _next(instants: np.ndarray, at: int) -> int:
    return int(instants[min(at + 1, len(instants) - 1)])


class TimeWaitBuildup:
    """Finds clients whose ports toward one service fill up with TIME_WAIT, and services that hold much of it.

    Client: warning from `time_wait_warning_ratio` of `ephemeral_ports` at once, critical from
    `time_wait_critical_ratio`. Service: info from `time_wait_server_min` at once.
    """

    kind = "time_wait_buildup"

    def __init__(self, options: DetectOptions | None = None) -> None:
        self.options = options or DetectOptions()
        self._time_wait_ns = ns_of(self.options.time_wait_s)
        self._client_level = max(1, round(self.options.ephemeral_ports * self.options.time_wait_warning_ratio))
        self._clients = _Occupancy(5, self._client_level)
        self._servers = _Occupancy(3, self.options.time_wait_server_min)

    def feed(self, flows: np.ndarray) -> None:
        """Take in connections (FLOW_DTYPE, shape (n,))."""
        service = endpoint_words(flows, "server")
        pair = [*service, *address_words(flows, "client")]
        reused = np.flatnonzero(flows["flags"] & FlowFlag.REUSED_TIME_WAIT)
        self._clients.add(flows, pair, time_wait_spans(flows, "client", self._time_wait_ns), reused)
        self._servers.add(flows, service, time_wait_spans(flows, "server", self._time_wait_ns), reused)

    def merge(self, other: TimeWaitBuildup) -> None:
        """Take in what `other` was fed."""
        self._clients.merge(other._clients)
        self._servers.merge(other._servers)

    def findings(self, end_ts_ns: int) -> list[Finding]:
        """Return what is filling up, worst first; `end_ts_ns` is when the capture ended."""
        found = [self._client(group, end_ts_ns) for group in self._clients.candidates(self._client_level)]
        least = self.options.time_wait_server_min
        found += [self._server(group, end_ts_ns) for group in self._servers.candidates(least)]
        ranked = sorted(
            (finding for finding in found if finding is not None),
            key=lambda finding: (
                -SEVERITIES.index(finding.severity),
                -finding.peak,
                finding.subject,
                str(finding.evidence["service"]),
            ),
        )
        return ranked[: self.options.subjects_max]

    def _client(self, group: int, end_ts_ns: int) -> Finding | None:
        options = self.options
        seen = self._clients.measure(group, self._client_level, self._time_wait_ns, end_ts_ns)
        if seen["peak"] < self._client_level:
            return None
        words = self._clients.index.keys[:, group]
        client, service = words_ip(words[3], words[4], int(words[2]) >> 16), words_endpoint(words[:3])
        occupancy = seen["peak"] / options.ephemeral_ports
        severity: Severity = "critical" if occupancy >= options.time_wait_critical_ratio else "warning"
        evidence = {
            "side": "client",
            "service": service,
            "occupancy_ratio": round(occupancy, 4),
            "ephemeral_ports": options.ephemeral_ports,
            "sustainable_per_s": round(options.ephemeral_ports / options.time_wait_s, 1),
            **self._common(seen),
        }
        caveats = [
            f"The budget is the default port range ({options.ephemeral_ports} ports); the host may have another.",
            "With TCP timestamps and net.ipv4.tcp_tw_reuse = 1 the kernel reuses these ports after a second.",
        ]
        steps = (
            f"On {client}: ss -tan state time-wait dst {service} | wc -l",
            f"On {client}: sysctl net.ipv4.ip_local_port_range net.ipv4.tcp_tw_reuse net.ipv4.tcp_timestamps",
            f"Keep connections to {service} open and reuse them (keep-alive, a pool): the rate is what fills the ports",
            'Until then: sysctl -w net.ipv4.ip_local_port_range="1024 65535"; or tcp_tw_reuse=1; or more addresses',
        )
        return self._finding(client, severity, seen, evidence, caveats, steps, self._clients, group)

    def _server(self, group: int, end_ts_ns: int) -> Finding | None:
        least = self.options.time_wait_server_min
        seen = self._servers.measure(group, least, self._time_wait_ns, end_ts_ns)
        if seen["peak"] < least:
            return None
        service = words_endpoint(self._servers.index.keys[:, group])
        evidence = {
            "side": "server",
            "service": service,
            "kernel_memory_bytes": seen["peak"] * 168,  # sizeof(struct tcp_timewait_sock) on 64 bits (Bernat 2014)
            **self._common(seen),
        }
        caveats = ["TIME_WAIT at a server takes memory, not ports: harmless below net.ipv4.tcp_max_tw_buckets."]
        port = service.rpartition(":")[2]
        steps = (
            f"ss -tan state time-wait '( sport = :{port} )' | wc -l",
            "nstat -az TcpExtTCPTimeWaitOverflow; sysctl net.ipv4.tcp_max_tw_buckets (beyond it they are cut short)",
            "If the server closes first without need (no keep-alive), let the client close: see keep-alive settings",
        )
        return self._finding(service, "info", seen, evidence, caveats, steps, self._servers, group)

    def _common(self, seen: dict[str, Any]) -> dict[str, Any]:
        return {
            "rate_before_peak_per_s": round(seen["entered_before_peak"] / self.options.time_wait_s, 1),
            "peak_ts_ns": seen["peak_ts_ns"],
            "reused": seen["sums"][_REUSED],
            "reused_by_rfc6191": seen["sums"][_REUSED_RFC6191],
            "reused_after_retry": seen["sums"][_REUSED_LATE],
            "counted_every_s": seen["step_ns"] / 1e9,
        }

    def _finding(
        self,
        subject: str,
        severity: Severity,
        seen: dict[str, Any],
        evidence: dict[str, Any],
        caveats: list[str],
        steps: tuple[str, ...],
        occupancy: _Occupancy,
        group: int,
    ) -> Finding:
        if seen["step_ns"] > self._time_wait_ns // 10:
            caveats.append(f"Counted only every {seen['step_ns'] / 1e9:g} s, because there is so much of it.")
        return Finding(
            kind=self.kind,
            subject=subject,
            severity=severity,
            first_ts_ns=seen["first_ts_ns"],
            last_ts_ns=seen["last_ts_ns"],
            count=seen["sums"][_ENTERED],
            peak=seen["peak"],
            evidence=evidence,
            caveats=tuple(caveats),
            next_steps=steps,
            flow_ids=tuple(int(flow_id) for flow_id in occupancy.flow_ids.of(group)),
        )
