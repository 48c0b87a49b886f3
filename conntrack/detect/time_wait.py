"""time_wait_buildup: clients that run out of ports to TIME_WAIT, and services that hold many. Knows rows, not packets.

TIME_WAIT sits on the end that closes first. At a client it takes a local port from the pair (client address, service)
for 60 s: 28,232 ports allow 470.5 new connections a second, then connect() fails with EADDRNOTAVAIL. At a server it
costs 168 bytes and nothing else, so there it is only ever told, never an alarm.

How many ports a client has is no segment's business, but a client that is short of them shows it: it takes the same
ones again. So of each client and service the ports are sampled that were in TIME_WAIT (`_Ports`).

Counted on a grid of instants (0.1 s, coarser past 4 million TIME_WAITs that differ, see `Occupancy`), exactly at each
of them: between two the truth may be higher by no more than what entered TIME_WAIT in one step. Pairs and services go
by a hash of 64 bits, which two of 4 million share with a probability of 5e-7. A TIME_WAIT is 16 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from conntrack.core.keys import endpoint_words, every, hash_words
from conntrack.core.survey import Trait
from conntrack.detect.batch import WAIT_GRID_NS, Background, Batch, Page
from conntrack.detect.columns import Side, ns_of, words_endpoint, words_ip
from conntrack.detect.counting import NO_GROUP, KeyIndex, LowestPerGroup
from conntrack.detect.finding import Finding, Severity, worst_first
from conntrack.detect.limits import WHOLE, Limits
from conntrack.detect.occupancy import Occupancy
from conntrack.detect.options import DetectOptions
from conntrack.states import FlowFlag

__all__ = ["TimeWaitBuildup"]

_WAIT, _REUSED, _REUSED_RFC6191, _REUSED_LATE = range(4)  # kinds of spans: TIME_WAIT, and instants of reuse
_LEFT, _NOT_LEFT = 4, 5
_COLUMNS = 6
_FLOW_IDS = 100
_PORTS, _EACH_PORT, _FEW_PORTS = 512, 16, 30  # kept of a group; looked at is one in so many; too few to judge by


class _Ports:
    """Ports of a client that were in TIME_WAIT, one in 16 of those there are, spread evenly over all of them.

    They go by their product with an odd number (Knuth, The Art of Computer Programming 6.4: multiplicative hashing by
    the golden ratio), which spreads neighbours; those with the lowest products are kept.
    """

    _FACTOR, _ALL = np.uint64(40503), 1 << 16

    def __init__(self, values: np.ndarray) -> None:
        self._products, ports = values >> np.uint64(16), values & np.uint64(0xFFFF)
        self._ports = ports.astype(np.int64)

    @classmethod
    def values(cls, ports: np.ndarray) -> np.ndarray:
        """Return what is kept of ports (shape (n,)): uint64, lowest first kept."""
        wide = ports.astype(np.uint64)
        products = wide * cls._FACTOR & np.uint64(cls._ALL - 1)
        values: np.ndarray = products << np.uint64(16) | wide
        return values

    @classmethod
    def sampled(cls, values: np.ndarray) -> np.ndarray:
        """Return which of these are looked at: int64."""
        return np.flatnonzero(values >> np.uint64(16) < cls._ALL // _EACH_PORT)

    def reused_range(self, uses: int, most: int) -> int | None:
        """Return how many ports there are from the lowest to the highest, if `uses` took the same ones again.

        The sample is of `most` ports at most. None where it is too small, or they were hardly taken twice: what a
        client takes in order, or at random out of many, tells nothing of how many it has.
        """
        n = len(self._ports)
        if n < _FEW_PORTS:
            return None
        share = (int(self._products.max()) + 1) / self._ALL if n >= most else 1 / _EACH_PORT
        if uses < _TAKEN_AGAIN * n / share:
            return None
        span = int(self._ports.max() - self._ports.min()) + 1
        return min(round(span * (n + 1) / (n - 1)), self._ALL)


_TAKEN_AGAIN = 1.1
"""Uses of each port, from which on they are taken again and not for want of sampling."""


class _Group:
    """One client and service, or one service: its key, connections to show, ports, and what happened when."""

    def __init__(self, words: np.ndarray, flow_ids: np.ndarray, ports: np.ndarray, spans: Sequence[np.ndarray]) -> None:
        self.words = words
        self.flow_ids = tuple(int(flow_id) for flow_id in flow_ids)
        self.ports = _Ports(ports)
        kinds, first, last, counts = spans
        waits, cut = kinds == _WAIT, (kinds == _REUSED) & (last > first)
        ticks = np.concatenate([first, last[waits], last[cut]])
        order = np.argsort(ticks, kind="stable")
        self._ticks = ticks[order]
        columns = [kinds, np.full(waits.sum(), _LEFT), np.full(cut.sum(), _NOT_LEFT)]
        self._columns = np.concatenate(columns)[order]
        self._counts = np.concatenate([counts, counts[waits], counts[cut]])[order]

    def measure(self, level: int, minute_ns: int, end_ts_ns: int, step_ns: int) -> dict[str, Any]:
        """Return what the grid says of it up to `end_ts_ns`; times in nanoseconds."""
        until = self._ticks <= max(end_ts_ns // step_ns, int(self._ticks[0]))
        ticks, columns, counts = self._ticks[until], self._columns[until], self._counts[until]
        sums = np.bincount(columns, counts, _COLUMNS).astype(np.int64)
        change = np.where(columns == _WAIT, counts, 0) - np.where(columns == _LEFT, counts, 0)
        if sums[_NOT_LEFT]:  # what was taken again is over then, and not when its time would have been
            change += np.where(columns == _NOT_LEFT, counts, 0) - np.where(columns == _REUSED, counts, 0)
        instants, starts = np.unique(ticks, return_index=True)
        held = np.cumsum(np.add.reduceat(change, starts))
        at_peak = int(np.argmax(held))
        over = np.flatnonzero(held >= level)
        peak_tick = int(instants[at_peak])
        minute = (columns == _WAIT) & (ticks <= peak_tick) & (ticks > peak_tick - minute_ns // step_ns)
        return {
            "peak": int(held[at_peak]),
            "peak_ts_ns": peak_tick * step_ns,
            "first_ts_ns": int(instants[over[0]]) * step_ns if over.size else None,
            "last_ts_ns": min(_next(instants, int(over[-1])) * step_ns, end_ts_ns) if over.size else None,
            "entered_before_peak": int(counts[minute].sum()),
            "step_ns": step_ns,
            "sums": [int(value) for value in sums],
        }


class _Ends:
    """TIME_WAIT at one side: over time by group, with what became of reused 4-tuples; and some connections of each.

    Groups go by their hash. What the hash stands for is kept for the connections that may be shown alone, which are
    chosen by their number: a group that matters has 400 of them or so, and none with a probability of e**-400.
    """

    def __init__(self, side: Side, least: int, limits: Limits = WHOLE) -> None:
        self.side = side
        self.occupancy = Occupancy(WAIT_GRID_NS, limits.spans, limits.waiting)
        self._limits = limits
        self._index = self._new_index()
        self._flow_ids = LowestPerGroup(_FLOW_IDS, limit=limits.lowest)
        self._ports = LowestPerGroup(_PORTS, limit=limits.lowest)
        self._sampled = max(1, least // (4 * _FLOW_IDS))

    def count(self, flows: np.ndarray, waits: np.ndarray) -> None:
        """Take in TIME_WAITs of rows of `flows`: uint64, shape (4, n), by core.survey.WaitColumn."""
        keys, whens, flow_ids, rows = waits
        if not keys.size:
            return
        self.occupancy.add_packed(keys.copy(), whens.copy())
        shown = every(flow_ids, self._sampled)
        if shown.size:
            words = np.column_stack([keys[shown], self._words(flows, rows[shown].astype(np.int64))])
            self._flow_ids.add(self._index.intern(words), flow_ids[shown])
        if self.side == "client":
            ports = _Ports.values(flows["client_port"][rows.astype(np.int64)])
            looked = _Ports.sampled(ports)
            if looked.size:
                words = np.column_stack([keys[looked], self._words(flows, rows[looked].astype(np.int64))])
                self._ports.add(self._index.intern(words), ports[looked])

    def feed(self, again: np.ndarray, time_wait_ns: int) -> None:
        """Take in connections (FLOW_DTYPE) on a 4-tuple that was in TIME_WAIT."""
        keys = hash_words(self._words(again, np.arange(len(again))))
        allowed, late = (again["flags"] & FlowFlag.REUSED_BY_RFC6191) != 0, again["client_syns"] > 1
        for chosen, kind in ((slice(None), _REUSED), (allowed, _REUSED_RFC6191), (late, _REUSED_LATE)):
            at = again["first_ts_ns"][chosen].astype(np.uint64)
            until = at
            if self.side == "client" and kind == _REUSED:  # a client that takes its own: the rest of that TIME_WAIT
                age = again["reused_age_ns"]
                rest = np.where((age >= 0) & (age < time_wait_ns), time_wait_ns - age, 0)
                until = at + rest.astype(np.uint64)
            self.occupancy.add(keys[chosen], at, until, kind)

    def merge(self, other: _Ends) -> None:
        self.occupancy.merge(other.occupancy)
        numbers = self._index.merge(other._index)
        self._flow_ids.merge(other._flow_ids, numbers)
        self._ports.merge(other._ports, numbers)
        if len(self._index) > self._limits.subjects:
            self._narrow()

    def _new_index(self) -> KeyIndex:
        return KeyIndex(7 if self.side == "client" else 4)  # the hash, the service, and the client's address

    def _narrow(self) -> None:
        """Keep the names of half of `limits.subjects` groups: of those that are likely to have the most TIME_WAITs."""
        likely = self.occupancy.likely(self._index.keys[:, 0])
        kept = np.sort(np.argsort(-likely, kind="stable")[: self._limits.subjects // 2])
        numbers = np.full(len(self._index), NO_GROUP)
        index = self._new_index()
        flow_ids, ports = (LowestPerGroup(most, limit=self._limits.lowest) for most in (_FLOW_IDS, _PORTS))
        numbers[kept] = index.intern(self._index.keys[kept])
        flow_ids.merge(self._flow_ids, numbers)
        ports.merge(self._ports, numbers)
        self._index, self._flow_ids, self._ports = index, flow_ids, ports

    def groups(self, least: int) -> Iterator[_Group]:
        """Yield the groups that could have had `least` at once."""
        for key, *spans in self.occupancy.busiest(max(least, 1)):
            for number in np.flatnonzero(self._index.keys[:, 0] == key)[:1]:
                flow_ids, ports = self._flow_ids.of(int(number)), self._ports.of(int(number))
                yield _Group(self._index.keys[number, 1:], flow_ids, ports, spans)

    @property
    def ports_most(self) -> int:
        """How many ports of a group are kept at most."""
        return self._ports.most

    def _words(self, flows: np.ndarray, rows: np.ndarray) -> np.ndarray:
        service = endpoint_words(flows, client=False, picks=rows)
        if self.side == "server":
            return service
        client = endpoint_words(flows, client=True, picks=rows)
        client[:, 2] &= ~np.uint64(0xFFFF)  # any port
        return np.concatenate([service, client], axis=1)


def _next(instants: np.ndarray, at: int) -> int:
    return int(instants[min(at + 1, len(instants) - 1)])


class TimeWaitBuildup:
    """Finds clients whose ports toward one service fill up with TIME_WAIT, and services that hold much of it.

    Client: warning from `time_wait_warning_ratio` of its ports at once, critical from `time_wait_critical_ratio`. It
    has `ephemeral_ports`, or fewer where `time_wait_client_min` or more were in TIME_WAIT at once and it took the same
    ones again and again out of a smaller range. One step less where half of them or more were taken again in
    TIME_WAIT, at the first SYN: that host reuses its TIME_WAITs (net.ipv4.tcp_tw_reuse) and does not run out.
    Service: info from `time_wait_server_min` at once.
    """

    kind = "time_wait_buildup"

    def __init__(self, options: DetectOptions | None = None, limits: Limits = WHOLE) -> None:
        self.options = options or DetectOptions()
        self._time_wait_ns = ns_of(self.options.time_wait_s)
        self._client_level = max(1, round(self.options.ephemeral_ports * self.options.time_wait_warning_ratio))
        self._clients = _Ends("client", self._client_level, limits)
        self._servers = _Ends("server", self.options.time_wait_server_min, limits)

    def count(self, page: Page) -> None:
        """Take in a page."""
        self._clients.count(page.rows, page.client_waits)
        self._servers.count(page.rows, page.server_waits)

    def feed(self, batch: Batch) -> None:
        """Take in a batch."""
        reused = np.flatnonzero(batch.traits & np.uint32(Trait.REUSED))
        if reused.size:
            again = batch.rows[reused]
            self._clients.feed(again, self._time_wait_ns)
            self._servers.feed(again, self._time_wait_ns)

    def merge(self, other: TimeWaitBuildup, services: np.ndarray) -> None:
        """Take in what `other` was fed."""
        self._clients.merge(other._clients)
        self._servers.merge(other._servers)

    def findings(self, background: Background) -> list[Finding]:
        """Return what is filling up, worst first."""
        end_ts_ns = background.end_ts_ns
        least = min(self._client_level, self.options.time_wait_client_min)
        found = [self._client(group, end_ts_ns) for group in self._clients.groups(least)]
        found += [self._server(group, end_ts_ns) for group in self._servers.groups(self.options.time_wait_server_min)]
        return worst_first(found)[: self.options.subjects_max]

    def _client(self, group: _Group, end_ts_ns: int) -> Finding | None:
        options, ports, level = self.options, self.options.ephemeral_ports, self._client_level
        seen = self._measure(self._clients, group, level, end_ts_ns)
        narrow = group.ports.reused_range(seen["sums"][_WAIT], self._clients.ports_most)
        if narrow is not None and narrow < ports and seen["peak"] >= options.time_wait_client_min:
            ports, level = narrow, max(1, round(narrow * options.time_wait_warning_ratio))
            seen = self._measure(self._clients, group, level, end_ts_ns)
        if seen["peak"] < level:
            return None
        words = group.words
        client, service = words_ip(words[3], words[4], int(words[2]) >> 16), words_endpoint(words[:3])
        occupancy = seen["peak"] / ports
        at_once = seen["sums"][_REUSED] - seen["sums"][_REUSED_LATE]
        reuses = 2 * at_once >= seen["sums"][_WAIT]
        severities: tuple[Severity, ...] = ("warning", "info") if reuses else ("critical", "warning")
        severity = severities[occupancy < options.time_wait_critical_ratio]
        evidence = {
            "side": "client",
            "service": service,
            "occupancy_ratio": round(occupancy, 4),
            "ephemeral_ports": ports,
            "sustainable_per_s": round(ports / options.time_wait_s, 1),
            **self._common(seen),
        }
        caveats = [
            f"The budget is the default port range ({ports} ports); the host may have another."
            if ports == options.ephemeral_ports
            else f"The budget of about {ports} ports is what the client shows: it takes the same ones again out of a"
            f" range narrower than the default ({options.ephemeral_ports}); behind a NAT it is the NAT's.",
            f"This host does reuse them ({at_once} at the first SYN), so that it does not run out."
            if reuses
            else "With TCP timestamps and net.ipv4.tcp_tw_reuse = 1 the kernel reuses these ports after a second.",
        ]
        steps = (
            f"On {client}: ss -tan state time-wait dst {service} | wc -l",
            f"On {client}: sysctl net.ipv4.ip_local_port_range net.ipv4.tcp_tw_reuse net.ipv4.tcp_timestamps",
            f"Keep connections to {service} open and reuse them (keep-alive, a pool): the rate is what fills the ports",
            'Until then: sysctl -w net.ipv4.ip_local_port_range="1024 65535"; or tcp_tw_reuse=1; or more addresses',
        )
        return self._finding(client, severity, seen, evidence, caveats, steps, self._clients, group)

    def _server(self, group: _Group, end_ts_ns: int) -> Finding | None:
        least = self.options.time_wait_server_min
        seen = self._measure(self._servers, group, least, end_ts_ns)
        if seen["peak"] < least:
            return None
        service = words_endpoint(group.words)
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

    def _measure(self, ends: _Ends, group: _Group, level: int, end_ts_ns: int) -> dict[str, Any]:
        return group.measure(level, self._time_wait_ns, end_ts_ns, ends.occupancy.step_ns)

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
        ends: _Ends,
        group: _Group,
    ) -> Finding:
        if seen["step_ns"] > self._time_wait_ns // 10:
            caveats.append(f"Counted only every {seen['step_ns'] / 1e9:g} s, because there is so much of it.")
        if ends.occupancy.dropped:
            caveats.append(f"There were too many to keep: {ends.occupancy.dropped}, of those with few, are left out.")
        return Finding(
            kind=self.kind,
            subject=subject,
            severity=severity,
            first_ts_ns=seen["first_ts_ns"],
            last_ts_ns=seen["last_ts_ns"],
            count=seen["sums"][_WAIT],
            peak=seen["peak"],
            evidence=evidence,
            caveats=tuple(caveats),
            next_steps=steps,
            flow_ids=group.flow_ids,
        )
