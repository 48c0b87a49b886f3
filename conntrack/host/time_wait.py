"""time_wait_buildup and time_wait_table_full on a host: the ports that TIME_WAIT holds, and the kernel's limit on it.

A TIME_WAIT of this host's own connection takes one local port towards one destination for 60 s; ip_local_port_range
says how many there are. All of them together may be tcp_max_tw_buckets; past that the kernel forgets them early.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.addresses import endpoint_text, ip_text
from conntrack.detect.finding import Finding, Severity, worst_first
from conntrack.host.rule import Rule, shown_ids
from conntrack.states import NO_TIME_NS, TcpState

__all__ = ["TimeWait", "TimeWaitTable"]

Rows = np.ndarray[Any, Any]

_PORTS = "net.ipv4.ip_local_port_range"
_BUCKETS = "net.ipv4.tcp_max_tw_buckets"
_DEFAULT_PORTS = (32_768, 60_999)  # net.ipv4.ip_local_port_range of Linux
_RATE_S = 10
_TIMER_TIME_WAIT = 3


class TimeWait(Rule):
    """Finds destinations towards which this host runs out of ports, and services that hold many TIME_WAIT.

    Severity by the share of ip_local_port_range that is in TIME_WAIT towards one destination: warning from
    `time_wait_warning_ratio`, critical from `time_wait_critical_ratio`; no worse than a warning where tcp_tw_reuse lets
    connect() take them again. A service with `time_wait_server_min` is info: it costs memory only.
    """

    kind = "time_wait_buildup"

    def findings(self) -> list[Finding]:
        """Return who closes first and how far that has gone, worst first."""
        last = self.last
        at = np.flatnonzero(last.rows["state"] == TcpState.TIME_WAIT)
        rows, service_of = last.rows[at], last.service_of[at]
        low, high = self.last.settings.get(_PORTS, _DEFAULT_PORTS)[:2]
        ports = max(high - low + 1, 1)
        found = []
        mine = rows[(service_of < 0) & (rows["local_port"] >= low) & (rows["local_port"] <= high)]
        if len(mine):
            order, starts = _by_destination(mine)
            for group in np.split(order, starts[1:]):
                if len(group) >= self.options.time_wait_warning_ratio * ports:
                    found.append(self._client(mine[group], ports))
        numbers, counts = np.unique(service_of[service_of >= 0], return_counts=True)
        for number in numbers[counts >= self.options.time_wait_server_min].tolist():
            found.append(self._server(last.services[number].name, rows[service_of == number]))
        return worst_first(found)[: self.options.subjects_max]

    def _client(self, rows: Rows, ports: int) -> Finding:
        options, first = self.options, rows[0]
        version = int(first["ip_version"])
        service = endpoint_text(first["remote_ip"], version, int(first["remote_port"]))
        ratio = len(rows) / ports
        all_rows = self.last.rows
        towards = (all_rows["remote_ip"] == first["remote_ip"]).all(axis=1)
        towards &= (all_rows["remote_port"] == first["remote_port"]) & (all_rows["ip_version"] == version)
        towards &= (all_rows["local_ip"] == first["local_ip"]).all(axis=1)
        reuse = self.last.setting("net.ipv4.tcp_tw_reuse")
        on_loopback = ip_text(first["remote_ip"], version) in ("::1",) or bytes(first["remote_ip"])[12] == 127
        reusable = reuse == 1 or (reuse == 2 and on_loopback)
        severity: Severity = "critical" if ratio >= options.time_wait_critical_ratio and not reusable else "warning"
        return Finding(
            kind=self.kind,
            subject=ip_text(first["local_ip"], version),
            severity=severity,
            first_ts_ns=_oldest(rows, self.last.at_ts_ns),
            last_ts_ns=self.last.at_ts_ns,
            count=len(rows),
            peak=len(rows),
            evidence={
                "side": "client",
                "service": service,
                "ephemeral_ports": ports,
                "occupancy_ratio": round(ratio, 4),
                "other_sockets_there": int(towards.sum()) - len(rows),
                "rate_per_s": _rate(rows),
                "tcp_tw_reuse": None if reuse is None else str(reuse),
            },
            caveats=(
                (
                    f"tcp_tw_reuse = {reuse} lets connect() take such a port again after a second, if the peer speaks "
                    "timestamps.",
                )
                if reusable
                else ()
            ),
            next_steps=(
                "In the client: keep connections open (keep-alive, a pool), or let the server close first",
                f"sysctl {_PORTS} (wider: more ports for each destination)",
                "sysctl net.ipv4.tcp_tw_reuse (1 lets connect() take them again after a second; safe with timestamps)",
                f"ss -tan state time-wait dst {service} | wc -l",
            ),
            flow_ids=shown_ids(rows),
        )

    def _server(self, name: str, rows: Rows) -> Finding:
        return Finding(
            kind=self.kind,
            subject=name,
            severity="info",
            first_ts_ns=_oldest(rows, self.last.at_ts_ns),
            last_ts_ns=self.last.at_ts_ns,
            count=len(rows),
            peak=len(rows),
            evidence={"side": "server", "time_wait": len(rows), "rate_per_s": _rate(rows)},
            caveats=("It costs the server memory only, 168 bytes each.",),
            next_steps=(
                f"ss -tan state time-wait '( sport = :{name.rpartition(':')[2]} )' | wc -l",
                f"sysctl {_BUCKETS}; nstat -az TcpExtTCPTimeWaitOverflow",
            ),
            flow_ids=shown_ids(rows),
        )


class TimeWaitTable(Rule):
    """Finds a host whose TIME_WAIT near tcp_max_tw_buckets, by the same ratios; critical where it has overflowed."""

    kind = "time_wait_table_full"

    def findings(self) -> list[Finding]:
        """Return the finding, if there is one."""
        limit, options = self.last.setting(_BUCKETS), self.options
        rows = self.last.rows[self.last.rows["timer"] == _TIMER_TIME_WAIT]
        overflows = self.grown("TcpExt.TCPTimeWaitOverflow") or 0
        ratio = len(rows) / limit if limit else 0.0
        if ratio < options.time_wait_warning_ratio and not overflows:
            return []
        finding = Finding(
            kind=self.kind,
            subject=self.last.host,
            severity="critical" if overflows or ratio >= options.time_wait_critical_ratio else "warning",
            first_ts_ns=self.first.at_ts_ns,
            last_ts_ns=self.last.at_ts_ns,
            count=len(rows),
            peak=len(rows),
            evidence={"time_wait": len(rows), "limit": limit, "limit_ratio": round(ratio, 4), "overflows": overflows},
            caveats=("An old segment can then meet a new connection on the same ports; mostly nothing comes of it.",),
            next_steps=(
                f"sysctl {_BUCKETS} (about 250 bytes of memory each)",
                "nstat -az TcpExtTCPTimeWaitOverflow TcpExtTW",
                "ss -tan state time-wait | awk '{print $4}' | sort | uniq -c | sort -rn | head (towards whom)",
            ),
            flow_ids=shown_ids(rows),
        )
        return [finding]


def _by_destination(rows: Rows) -> tuple[Rows, Rows]:
    """Return `rows` in order of (local address, remote address and port), and where in that order each begins."""
    packed = np.empty((len(rows), 35), np.uint8)
    packed[:, :16], packed[:, 16:32] = rows["local_ip"], rows["remote_ip"]
    packed[:, 32:34] = np.ascontiguousarray(rows["remote_port"]).view(np.uint8).reshape(-1, 2)
    packed[:, 34] = rows["ip_version"]
    _, which = np.unique(packed.view("V35").reshape(-1), return_inverse=True)
    order = np.argsort(which, kind="stable")
    return order, np.flatnonzero(np.diff(which[order], prepend=-1))


def _oldest(rows: Rows, at_ts_ns: int) -> int:
    known = rows["since_ts_ns"][rows["since_ts_ns"] != NO_TIME_NS]
    return int(known.min()) if len(known) else at_ts_ns


def _rate(rows: Rows) -> float:
    """Return how many a second entered TIME_WAIT in the last 10 seconds."""
    ages = rows["at_ts_ns"] - rows["since_ts_ns"]
    recent = (rows["since_ts_ns"] != NO_TIME_NS) & (ages <= _RATE_S * 10**9)
    return round(int(recent.sum()) / _RATE_S, 1)
