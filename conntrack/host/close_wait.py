"""close_wait_leak on a host: sockets that a program forgot, by service or by the address that opened them.

The kernel tells how long ago the last ACK came: since then at least has a socket been in CLOSE_WAIT. Where it does not
(procfs), what was there at an earlier look, or in an earlier snapshot, is as old as that.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from conntrack.detect.finding import Finding, Severity, worst_first
from conntrack.host.looks import Look
from conntrack.host.owners import descriptors
from conntrack.host.rule import Rule, shown_ids
from conntrack.host.services import holders, subjects_of, top_peers, unit_of_most
from conntrack.states import NO_TIME_NS, TcpState

__all__ = ["CloseWait"]

Rows = np.ndarray[Any, Any]

_TUPLE = 37  # octets


class CloseWait(Rule):
    """Finds leaks of CLOSE_WAIT: sockets in it for `close_wait_age_s` or longer.

    Severity: critical from `close_wait_critical_count` of one subject; warning from `close_wait_warning_count`, or from
    `close_wait_ratio_min_count` that are `close_wait_warning_ratio` of the service's connections; else info.
    """

    kind = "close_wait_leak"

    def see(self, look: Look) -> None:
        """Remember since when each socket has been in CLOSE_WAIT, and how many each subject had at the first look."""
        known = self._since if self.looks > 1 else {}
        rows = np.flatnonzero(look.rows["state"] == TcpState.CLOSE_WAIT)
        waiting = look.rows[rows]
        self._since: dict[bytes, int] = {}
        for key, told in zip(_tuples(waiting), waiting["since_ts_ns"].tolist(), strict=True):
            since = look.at_ts_ns if told == NO_TIME_NS else told
            self._since[key] = min(since, known.get(key, since))
        self._rows, self._waiting = rows, waiting
        self._names, self._groups = subjects_of(waiting, look.service_of[rows], look.services)
        if self.looks == 1:
            self._before = Counter(self._names[group] for group in self._groups.tolist())

    def findings(self) -> list[Finding]:
        """Return the leaks, worst first."""
        since = np.array(list(map(self._since.__getitem__, _tuples(self._waiting))), np.int64)
        old = since <= self.last.at_ts_ns - round(self.options.close_wait_age_s * 1e9)
        found = [self._finding(group, since, old) for group in np.unique(self._groups[old]).tolist()]
        return worst_first(found)[: self.options.subjects_max]

    def _finding(self, group: int, since: Rows, old: Rows) -> Finding:
        last, subject = self.last, self._names[group]
        of_subject = self._groups == group
        shown = of_subject & old
        rows = self._waiting[shown]
        ages_s = (last.at_ts_ns - since[shown]) / 1e9
        is_client = group >= len(last.services)
        unaccepted = float((rows["inode"] == 0).mean())
        starved = not is_client and unaccepted >= self.options.close_wait_starved_ratio
        distinct_peers, peers = top_peers(rows)
        held_by = holders(rows)
        evidence: dict[str, Any] = {
            "side": "client" if is_client else "server",
            "cause": "accept_starvation" if starved else "application_leak",
            "processes": held_by,
            "unit": unit_of_most(rows),
            "leaking": len(rows),
            "oldest_s": round(float(ages_s.max()), 3),
            "median_age_s": round(float(np.median(ages_s)), 3),
            "not_accepted_ratio": round(unaccepted, 4),
            "distinct_peers": distinct_peers,
            "top_peers": peers,
        }
        if self.looks > 1 and self.span_s > 0:
            growth = int(of_subject.sum()) - self._before[subject]
            evidence["growth"] = growth
            evidence["growth_per_min"] = round(growth * 60 / self.span_s, 3)
            evidence["observed_s"] = round(self.span_s, 3)
        ratio = 0.0
        if not is_client:
            total = int((last.service_of == group).sum()) - len(last.services[group].sockets)
            ratio = len(rows) / max(total, 1)
            evidence["service_connections"] = total
            evidence["ratio_of_service"] = round(ratio, 4)
        pid = next(iter(held_by), "").rpartition("/")[2]
        if pid and (used := descriptors(int(pid))):
            evidence["descriptors"], evidence["descriptors_max"] = used
        return Finding(
            kind=self.kind,
            subject=subject,
            severity=self._severity(len(rows), ratio),
            first_ts_ns=int(since[shown].min()),
            last_ts_ns=last.at_ts_ns,
            count=len(rows),
            peak=len(rows),
            evidence=evidence,
            caveats=tuple(self._caveats(rows, held_by, starved)),
            next_steps=tuple(_next_steps(subject, is_client, starved, pid, evidence["unit"])),
            flow_ids=shown_ids(rows),
        )

    def _severity(self, leaking: int, ratio: float) -> Severity:
        options = self.options
        if leaking >= options.close_wait_critical_count:
            return "critical"
        share = leaking >= options.close_wait_ratio_min_count and ratio >= options.close_wait_warning_ratio
        return "warning" if leaking >= options.close_wait_warning_count or share else "info"

    def _caveats(self, rows: Rows, held_by: dict[str, int], starved: bool) -> list[str]:
        caveats = []
        if not starved and not held_by:
            caveats.append("Which process holds them cannot be seen by this user.")
        if not starved and len(rows) < self.options.close_wait_warning_count:
            caveats.append("Few connections: one long-running task can hold them.")
        if (rows["since_ts_ns"] == NO_TIME_NS).all():
            caveats.append("Their age is only known from the earlier look.")
        return caveats


def _tuples(rows: Rows) -> list[bytes]:
    """Return what names a connection, 37 octets each: both addresses, both ports, the version."""
    packed = np.empty((len(rows), _TUPLE), np.uint8)
    packed[:, :16], packed[:, 16:32] = rows["local_ip"], rows["remote_ip"]
    packed[:, 32:34] = np.ascontiguousarray(rows["local_port"]).view(np.uint8).reshape(-1, 2)
    packed[:, 34:36] = np.ascontiguousarray(rows["remote_port"]).view(np.uint8).reshape(-1, 2)
    packed[:, 36] = rows["ip_version"]
    return [octets.tobytes() for octets in packed]


def _next_steps(subject: str, is_client: bool, starved: bool, pid: str, unit: str | None) -> list[str]:
    port = subject.rpartition(":")[2]
    which = f"src {subject}" if is_client else f"'( sport = :{port} )'"
    steps = [f"ss -tanpo state close-wait {which}"]
    if starved:
        return [
            *steps,
            f"ss -tlnp '( sport = :{port} )' (Recv-Q is the accept queue; why does the program not call accept()?)",
            "nstat -az TcpExtListenOverflows TcpExtListenDrops; sysctl net.core.somaxconn",
        ]
    process = pid or "PID"
    steps.append(
        f"ls /proc/{process}/fd | wc -l; grep 'open files' /proc/{process}/limits (how long until none is left)"
    )
    steps.append(
        "In the program: close the socket when read() returns 0; look for error paths that return without close"
    )
    if unit and unit.endswith(".service"):
        steps.append(f"systemctl restart {unit} (closes them for now)")
    steps.append(
        "No sysctl ends CLOSE_WAIT, it lasts until the program closes; net.ipv4.tcp_keepalive_time acts only on "
        "sockets with SO_KEEPALIVE"
    )
    return steps
