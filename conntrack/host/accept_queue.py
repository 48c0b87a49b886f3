"""accept_queue_overflow on a host: listening sockets whose queue is full, or that dropped what did not fit.

`ss -tln` shows the queue as Recv-Q and its limit as Send-Q. The kernel drops the last ACK of a handshake, and new SYNs,
when more wait than the limit (tcp_v4_syn_recv_sock, tcp_conn_request), and counts it as ListenOverflows, ListenDrops
and on the socket itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from conntrack.detect.finding import Finding, worst_first
from conntrack.host.looks import Look
from conntrack.host.rule import Rule, shown_ids
from conntrack.host.services import Service, holders, unit_of_most

__all__ = ["AcceptQueue"]


@dataclass(slots=True)
class _Seen:
    """Of one service: at how many looks, at how many of them full and how full, and its drops at the first one."""

    since_ts_ns: int
    drops: int
    looks: int = 0
    full: int = 0
    peak: int = 0


class AcceptQueue(Rule):
    """Finds services whose accept queue is full at the last look and at half of those before, or overflows meanwhile.

    Severity: warning; critical where it dropped `accept_queue_critical_count` or more meanwhile. Drops count where the
    queue was full at a look, or where the host's counter of overflows has grown.
    """

    kind = "accept_queue_overflow"

    def see(self, look: Look) -> None:
        """Note how full each queue is."""
        before = self._seen if self.looks > 1 else {}
        self._seen: dict[str, _Seen] = {}
        for service in look.services:
            seen = before.get(service.name) or _Seen(look.at_ts_ns, service.drops)
            self._seen[service.name] = seen
            if service.is_full and not seen.full:
                seen.since_ts_ns = look.at_ts_ns
            if seen.drops < 0 or service.drops < seen.drops:  # not told before, or another socket now
                seen.drops = service.drops
            seen.looks += 1
            seen.full += service.is_full
            seen.peak = max(seen.peak, service.accept_queue)

    def findings(self) -> list[Finding]:
        """Return the services that do not accept fast enough, worst first."""
        found = [self._finding(number, service) for number, service in enumerate(self.last.services)]
        known = [finding for finding in found if finding is not None]
        if not known and (overflows := self.grown("TcpExt.ListenOverflows")):
            known.append(self._of_host(overflows))
        return worst_first(known)[: self.options.subjects_max]

    def _finding(self, number: int, service: Service) -> Finding | None:
        seen, last = self._seen[service.name], self.last
        overflows = self.grown("TcpExt.ListenOverflows") or 0
        dropped = max(0, service.drops - seen.drops) if seen.drops >= 0 else 0
        is_full = service.is_full and 2 * seen.full >= seen.looks
        overflowed = dropped > 0 and (seen.full > 0 or overflows > 0)
        if not is_full and not overflowed:
            return None
        rows = last.rows[list(service.sockets)]
        held_by = holders(rows)
        evidence: dict[str, Any] = {
            "processes": held_by,
            "unit": unit_of_most(rows),
            "accept_queue": service.accept_queue,
            "accept_queue_peak": seen.peak,
            "backlog": None if service.backlog < 0 else service.backlog,
            "dropped": dropped if self.looks > 1 else None,
            "dropped_since_listen": None if service.drops < 0 else service.drops,
            "listen_overflows": self.grown("TcpExt.ListenOverflows"),
            "listen_drops": self.grown("TcpExt.ListenDrops"),
            "full_at_looks": f"{seen.full} of {seen.looks}",
        }
        caveats = []
        if self.looks == 1:
            caveats.append("One look: the queue may have been full for a moment only.")
        if not is_full:
            caveats.append("It is not full now: a burst, or a pause of the program.")
        return Finding(
            kind=self.kind,
            subject=service.name,
            severity="critical" if dropped >= self.options.accept_queue_critical_count else "warning",
            first_ts_ns=seen.since_ts_ns,
            last_ts_ns=last.at_ts_ns,
            count=max(service.accept_queue, seen.peak),
            peak=seen.peak,
            evidence=evidence,
            caveats=tuple(caveats),
            next_steps=self._next_steps(service, next(iter(held_by), "").rpartition("/")[2] or "PID"),
            flow_ids=shown_ids(rows),
        )

    def _of_host(self, overflows: int) -> Finding:
        last = self.last
        return Finding(
            kind=self.kind,
            subject=last.host,
            severity="critical" if overflows >= self.options.accept_queue_critical_count else "warning",
            first_ts_ns=self.first.at_ts_ns,
            last_ts_ns=last.at_ts_ns,
            count=overflows,
            peak=overflows,
            evidence={"listen_overflows": overflows, "listen_drops": self.grown("TcpExt.ListenDrops")},
            caveats=("Which service it was cannot be told: no listening socket shows it.",),
            next_steps=(
                "ss -tlnm (Recv-Q against Send-Q; d in skmem is what each socket dropped)",
                "nstat -az TcpExtListenOverflows TcpExtListenDrops (are they growing?)",
                "sysctl net.core.somaxconn net.ipv4.tcp_abort_on_overflow",
            ),
        )

    def _next_steps(self, service: Service, pid: str) -> tuple[str, ...]:
        port = service.name.rpartition(":")[2]
        most = self.last.setting("net.core.somaxconn")
        limit = (
            f"sysctl net.core.somaxconn (= {most}) is what holds the backlog down; raise it and restart the service"
            if most is not None and service.backlog == most
            else f"sysctl net.core.somaxconn (= {'?' if most is None else most}) allows more: raise the backlog that "
            "the program gives listen()"
        )
        return (
            f"ss -tlnp '( sport = :{port} )' (Recv-Q is the accept queue, Send-Q its limit)",
            f"Why does the program not call accept(): top -H -p {pid}; strace -f -e trace=accept,accept4 -p {pid}",
            "nstat -az TcpExtListenOverflows TcpExtListenDrops (are they growing?)",
            limit,
        )
