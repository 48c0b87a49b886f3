"""last_ack_stuck: ends whose last FIN nobody acknowledges: the peer is gone, or the way to it.

Such an end repeats its FIN (Linux: tcp_orphan_retries, about 100 s) and holds an orphaned socket meanwhile.
"""

from __future__ import annotations

import numpy as np

from conntrack.core.survey import Trait
from conntrack.detect.batch import Background, Batch
from conntrack.detect.cases import Case, OwnCases, ended
from conntrack.detect.columns import Side
from conntrack.detect.finding import Finding, Severity, worst_first
from conntrack.detect.limits import WHOLE, Limits
from conntrack.detect.options import DetectOptions
from conntrack.states import NO_TIME_NS

__all__ = ["LastAckStuck"]

_FINS = 2
_SIDES: tuple[tuple[Side, Side], ...] = (("client", "server"), ("server", "client"))


class LastAckStuck:
    """Finds services, and hosts for the client's end, with many ends stuck in LAST_ACK.

    An end counts that closed second and sent more than `last_ack_fins_min` FINs without an ACK: repetitions prove that
    its host had none, where a missing ACK alone may be the capture's loss. Told from `stuck_ends_min`. Severity: info;
    warning where as many at once as `orphans_warning_ratio` of `orphans_max`.
    """

    kind = "last_ack_stuck"

    def __init__(self, options: DetectOptions | None = None, limits: Limits = WHOLE) -> None:
        self.options = options or DetectOptions()
        self._cases = OwnCases(limits)

    def feed(self, batch: Batch) -> None:
        """Take in a batch."""
        rows = batch.having(Trait.FIN_IGNORED)
        if not rows.size:
            return
        flows = batch.rows
        for side, peer in _SIDES:
            fin, taken = flows[f"{side}_fin_ts_ns"][rows], flows[f"{peer}_fin_received_ts_ns"][rows]
            fins = flows[f"{side}_fins"][rows].astype(np.int64)
            stuck = (
                (fin != NO_TIME_NS) & (taken != NO_TIME_NS) & (taken <= fin) & (fins > self.options.last_ack_fins_min)
            )
            stuck &= flows[f"{side}_fin_acked_ts_ns"][rows] == NO_TIME_NS
            if stuck.any():
                groups = self._cases.subjects.of(flows, rows[stuck], client=side == "client")
                end = ended(flows["reset_ts_ns"][rows[stuck]], flows["closed_ts_ns"][rows[stuck]])
                self._cases.add(groups, flows["flow_id"][rows[stuck]], fin[stuck], end)
                self._cases.note(groups, fin[stuck], _FINS, fins[stuck])

    def merge(self, other: LastAckStuck, services: np.ndarray) -> None:
        """Take in what `other` was fed."""
        self._cases.take(other._cases)

    def findings(self, background: Background) -> list[Finding]:
        """Return who waits, worst first."""
        least = self.options.stuck_ends_min
        cases = self._cases.of_own(least, background.end_ts_ns)
        return worst_first(self._finding(case, background) for case in cases)[: self.options.subjects_max]

    def _finding(self, case: Case, background: Background) -> Finding:
        options = self.options
        subject, is_client = self._cases.subjects.name(case.group), self._cases.subjects.is_client(case.group)
        severity: Severity = "warning" if case.peak >= options.orphans_warning_ratio * options.orphans_max else "info"
        return Finding(
            kind=self.kind,
            subject=subject,
            severity=severity,
            first_ts_ns=case.first_ts_ns,
            last_ts_ns=case.last_ts_ns,
            count=case.count,
            peak=case.peak,
            evidence={
                "side": "client" if is_client else "server",
                "fins": case.series.total(_FINS),
                "orphans_max": options.orphans_max,
                "orphans_ratio": round(case.peak / options.orphans_max, 4),
                "service_connections": self._cases.subjects.connections(case.group, background),
            },
            caveats=("The ACKs may take another way than the one that was captured.",),
            next_steps=(
                "ss -tano state last-ack | head (the timer shows the next repetition)",
                "sysctl net.ipv4.tcp_orphan_retries net.ipv4.tcp_max_orphans; nstat -az TcpExtTCPAbortOnTimeout",
                "Are the peers reachable: a NAT or firewall that forgot the connection, mobile clients that left",
            ),
            flow_ids=case.flow_ids,
        )
