"""accept_queue_overflow: handshakes that the server completes again and again, because it has no room to keep them.

With a full accept queue Linux drops the client's ACK (net.ipv4.tcp_abort_on_overflow = 0) and sends its SYN+ACK again;
new SYNs it drops. The client believes to be connected, and its data is dropped too. One such connection may be an ACK
that was lost behind the point of capture; a share of all that no loss explains is not.

Clients that come one by one meet a queue that is full already, and none of that is seen: their SYNs go unanswered. Then
the connections in the queue tell, which are open, and whose data arrived, but on which the server never sent any.
"""

from __future__ import annotations

import numpy as np

from conntrack.core.survey import Attempt, Trait
from conntrack.detect.batch import Background, Batch
from conntrack.detect.cases import Case, Cases
from conntrack.detect.finding import Finding, worst_first
from conntrack.detect.limits import WHOLE, Limits
from conntrack.detect.options import DetectOptions

__all__ = ["AcceptQueueOverflow"]

_REPEATS, _SERVED = 2, 3
_WAITING = 2
_SECOND_NS = 10**9
_MOST_TURNS = 6  # 2**6 - 1 = 63 s


class AcceptQueueOverflow:
    """Finds services whose accept queue overflows.

    `accept_queue_min` connections or more whose SYN+ACK was repeated after the client's ACK, and these are
    `accept_queue_ratio_min` of the attempts from the first to the last of them. Or as many attempts, and such a share,
    without an answer to a repeated SYN, after `accept_queue_min` connections that wait in vain to be served.
    Severity: warning, critical from `accept_queue_critical_count` of them.
    """

    kind = "accept_queue_overflow"

    def __init__(self, options: DetectOptions | None = None, limits: Limits = WHOLE) -> None:
        self.options = options or DetectOptions()
        self._cases = Cases(limits)
        self._vain = Cases(limits)  # SYNs without an answer, and connections that wait to be served

    def feed(self, batch: Batch) -> None:
        """Take in a batch."""
        self._feed_vain(batch)
        rows = batch.having(Trait.QUEUE_FULL)
        if not rows.size:
            return
        flows, services = batch.rows, batch.services[rows]
        first, last = flows["first_ts_ns"][rows], flows["last_ts_ns"][rows]
        repeats = np.maximum(flows["server_syns"][rows].astype(np.int64) - 1, 1)
        # Not in the row: when the last SYN+ACK came. Linux repeats it after 1, 2, 4, ... seconds.
        turns = np.minimum(repeats, _MOST_TURNS)
        self._cases.add(services, flows["flow_id"][rows], first, np.minimum(first + (2**turns - 1) * _SECOND_NS, last))
        self._cases.note(services, first, _REPEATS, repeats)
        served = flows["server_payload_bytes"][rows] > 0
        self._cases.note(services[served], first[served], _SERVED)

    def _feed_vain(self, batch: Batch) -> None:
        flows = batch.rows
        if (waiting := batch.having(Trait.UNSERVED)).size:
            self._vain.note(batch.services[waiting], flows["first_ts_ns"][waiting], _WAITING)
        vain = batch.having(Trait.UNANSWERED)
        vain = vain[flows["client_syns"][vain] > 1]
        if vain.size:
            self._vain.add(
                batch.services[vain], flows["flow_id"][vain], flows["first_ts_ns"][vain], flows["last_ts_ns"][vain]
            )

    def merge(self, other: AcceptQueueOverflow, services: np.ndarray) -> None:
        """Take in what `other` was fed; `services` turns its numbers of services into ours."""
        self._cases.merge(other._cases, services)
        self._vain.merge(other._vain, services)

    def findings(self, background: Background) -> list[Finding]:
        """Return the services that overflow, worst first."""
        found: dict[int, Finding] = {}
        for cases, is_vain in ((self._cases, False), (self._vain, True)):
            least, ratio = self.options.accept_queue_min, self.options.accept_queue_ratio_min
            for case in cases.with_share(least, ratio, background):
                if case.group not in found and (finding := self._finding(case, background, is_vain)):
                    found[case.group] = finding
        return worst_first(found.values())[: self.options.subjects_max]

    def _finding(self, case: Case, background: Background, is_vain: bool) -> Finding | None:
        options = self.options
        during = background.attempts_of(case.group, case.first_ts_ns, case.last_ts_ns)
        attempts = max(sum(during.values()), case.count)
        if case.count < options.accept_queue_ratio_min * attempts:
            return None
        waiting = case.series.total(_WAITING, 0, case.first_ts_ns) if is_vain else 0
        if is_vain and waiting < options.accept_queue_min:
            return None
        subject = background.name(case.group)
        port = subject.rpartition(":")[2]
        return Finding(
            kind=self.kind,
            subject=subject,
            severity="critical" if case.count >= options.accept_queue_critical_count else "warning",
            first_ts_ns=case.first_ts_ns,
            last_ts_ns=case.last_ts_ns,
            count=case.count,
            peak=case.peak,
            evidence={
                "attempts": attempts,
                "affected_ratio": round(case.count / attempts, 4),
                "synack_repeats_after_ack": 0 if is_vain else case.series.total(_REPEATS),
                "never_served": case.count - (0 if is_vain else case.series.total(_SERVED)),
                "waiting_before": waiting,
                "failed_meanwhile": during[Attempt.FAILED],
                "late_meanwhile": during[Attempt.LATE],
            },
            caveats=(
                "A service that only listens to its clients, and whose host or firewall lets no new ones in, looks the"
                " same."
                if is_vain
                else "ACKs that were lost between the point of capture and the server look the same, but hardly so"
                " many.",
            ),
            next_steps=(
                f"ss -tln '( sport = :{port} )' (Recv-Q is the accept queue, Send-Q its limit)",
                "nstat -az TcpExtListenOverflows TcpExtListenDrops (are they growing?)",
                "sysctl net.core.somaxconn net.ipv4.tcp_abort_on_overflow (and what does the program give listen()?)",
                "Why does the program not call accept() fast enough: top -H -p PID, strace -f -e trace=accept4 -p PID",
            ),
            flow_ids=case.flow_ids,
        )
