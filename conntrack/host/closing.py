"""fin_wait_2_stuck and last_ack_stuck on a host: ends whose peer does not close, or is gone.

A socket without an inode is held by no program any more (an orphan). The kernel ends an orphan in FIN_WAIT_2 after
tcp_fin_timeout, and one in LAST_ACK after tcp_orphan_retries; a program that only half-closed waits for ever.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from conntrack.detect.finding import Finding, Severity, worst_first
from conntrack.host.options import HostOptions
from conntrack.host.rule import Rule, shown_ids
from conntrack.host.services import holders, subjects_of, top_peers
from conntrack.states import NO_TIME_NS, TcpState

__all__ = ["FinWait2", "LastAck"]

Rows = np.ndarray[Any, Any]

_ORPHANED = [TcpState.FIN_WAIT_1, TcpState.FIN_WAIT_2, TcpState.CLOSING, TcpState.LAST_ACK]
_TIMER_TIME_WAIT = 3


class _Stuck(Rule):
    """Tells by subject the sockets that `_stuck` picks, from `stuck_ends_min` of them.

    Severity: info; warning where this host's orphans are `orphans_warning_ratio` of tcp_max_orphans.
    """

    def __init__(self, options: HostOptions) -> None:
        super().__init__(options)
        self._begins: dict[str, int] = {}

    @abstractmethod
    def _stuck(self, rows: Rows, at_ts_ns: int) -> Rows:
        """Return bool, shape (n,): which of `rows` are stuck at that moment."""

    @abstractmethod
    def _tell(self, rows: Rows) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]:
        """Return evidence, caveats and next steps of `rows`, all of one subject."""

    def findings(self) -> list[Finding]:
        """Return who waits, worst first."""
        last = self.last
        at = np.flatnonzero(self._stuck(last.rows, last.at_ts_ns))
        rows = last.rows[at]
        names, groups = subjects_of(rows, last.service_of[at], last.services)
        numbers, counts = np.unique(groups, return_counts=True)
        many = numbers[counts >= self.options.stuck_ends_min].tolist()
        found = [self._finding(names[group], rows[groups == group], group < len(last.services)) for group in many]
        return worst_first(found)[: self.options.subjects_max]

    def _finding(self, subject: str, rows: Rows, is_service: bool) -> Finding:
        evidence, caveats, next_steps = self._tell(rows)
        orphans = self._orphans()
        limit = self.last.setting("net.ipv4.tcp_max_orphans")
        ratio = orphans / limit if limit else 0.0
        severity: Severity = "warning" if ratio >= self.options.orphans_warning_ratio else "info"
        distinct, peers = top_peers(rows)
        since = rows["since_ts_ns"][rows["since_ts_ns"] != NO_TIME_NS]
        return Finding(
            kind=self.kind,
            subject=subject,
            severity=severity,
            first_ts_ns=int(since.min()) if len(since) else self.first.at_ts_ns,
            last_ts_ns=self.last.at_ts_ns,
            count=len(rows),
            peak=len(rows),
            evidence={
                "side": "server" if is_service else "client",
                **evidence,
                "orphans": orphans,
                "orphans_max": limit,
                "orphans_ratio": round(ratio, 4),
                "distinct_peers": distinct,
                "top_peers": peers,
            },
            caveats=caveats,
            next_steps=next_steps,
            flow_ids=shown_ids(rows),
        )

    def _orphans(self) -> int:
        """Return how many orphans there are; those that only a TIME_WAIT timer is left of are none to the kernel."""
        rows = self.last.rows
        orphaned = np.isin(rows["state"], _ORPHANED) & (rows["inode"] == 0) & (rows["timer"] != _TIMER_TIME_WAIT)
        return int(orphaned.sum())


class FinWait2(_Stuck):
    """Finds many ends that wait for the peer's FIN: orphans for `orphan_age_s`, others for `fin_wait_2_age_s`."""

    kind = "fin_wait_2_stuck"

    def _stuck(self, rows: Rows, at_ts_ns: int) -> Rows:
        ages_s = np.where(rows["since_ts_ns"] == NO_TIME_NS, 0, at_ts_ns - rows["since_ts_ns"]) / 1e9
        least_s = np.where(rows["inode"] == 0, self.options.orphan_age_s, self.options.fin_wait_2_age_s)
        stuck: Rows = (rows["state"] == TcpState.FIN_WAIT_2) & (ages_s >= least_s)
        return stuck

    def _tell(self, rows: Rows) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]:
        orphaned = int((rows["inode"] == 0).sum())
        oldest_ns = self.last.at_ts_ns - int(rows["since_ts_ns"].min())
        evidence = {
            "waiting": len(rows),
            "orphaned": orphaned,
            "oldest_s": round(oldest_ns / 1e9, 3),
            "processes": holders(rows),
        }
        caveats = ["The peers are the ones that do not close; these ends only wait for them."]
        if orphaned < len(rows):
            caveats.append("A program that shut down its half and reads on may do so on purpose.")
        return (
            evidence,
            tuple(caveats),
            (
                "ss -tanop state fin-wait-2 (no process: an orphan, which tcp_fin_timeout ends)",
                "sysctl net.ipv4.tcp_fin_timeout net.ipv4.tcp_max_orphans; nstat -az TcpExtTCPAbortOnMemory",
                "At the peers: ss -tanp state close-wait (which process does not close)",
            ),
        )


class LastAck(_Stuck):
    """Finds many ends whose last FIN was repeated `last_ack_timeouts_min` times and not acknowledged."""

    kind = "last_ack_stuck"

    def _stuck(self, rows: Rows, at_ts_ns: int) -> Rows:
        stuck: Rows = rows["state"] == TcpState.LAST_ACK
        return stuck & (rows["timeouts"] >= self.options.last_ack_timeouts_min)

    def _tell(self, rows: Rows) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]:
        idle = rows["idle_ns"][rows["idle_ns"] != NO_TIME_NS]
        evidence = {
            "waiting": len(rows),
            "fins_repeated_most": int(rows["timeouts"].max()),
            "longest_silence_s": round(int(idle.max()) / 1e9, 3) if len(idle) else None,
        }
        return (
            evidence,
            ("A path that loses everything for a while looks the same as peers that are gone.",),
            (
                "ss -tano state last-ack (the timer counts the repetitions)",
                "sysctl net.ipv4.tcp_orphan_retries net.ipv4.tcp_max_orphans; nstat -az TcpExtTCPTimeouts",
                "Towards the peers: are they up, and does a firewall on the way forget connections before they end?",
            ),
        )
