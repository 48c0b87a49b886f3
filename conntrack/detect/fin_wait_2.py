"""fin_wait_2_stuck: ends that sent their FIN, had it acknowledged, and wait in vain for the peer's.

The peer is the one at fault: it is in CLOSE_WAIT (close_wait_leak tells of it where it can be seen to stay there). What
this costs the waiting end: an orphaned socket for tcp_fin_timeout, or one without end if the program used shutdown().
"""

from __future__ import annotations

import numpy as np

from conntrack.core.spans import lingering_ends
from conntrack.core.survey import Trait
from conntrack.detect.batch import Background, Batch
from conntrack.detect.cases import Case, Cases, Subjects
from conntrack.detect.columns import ns_of
from conntrack.detect.finding import Finding, Severity, worst_first
from conntrack.detect.options import DetectOptions

__all__ = ["FinWait2Stuck"]


class FinWait2Stuck:
    """Finds services, and hosts for the client's end, with many ends that were in FIN_WAIT_2 for `fin_wait_2_age_s`.

    Told from `stuck_ends_min`; of clients up to `lone_subjects_max` hosts, for where more wait the fault is a service's
    (close_wait_leak has it). Severity: info; warning where as many at once as `orphans_warning_ratio` of
    net.ipv4.tcp_max_orphans (`orphans_max`), past which Linux resets new ones.
    """

    kind = "fin_wait_2_stuck"

    def __init__(self, options: DetectOptions | None = None) -> None:
        self.options = options or DetectOptions()
        self._subjects = Subjects()
        self._cases = Cases()

    def feed(self, batch: Batch) -> None:
        """Take in a batch."""
        rows = batch.having(Trait.LINGERED)
        if not rows.size:
            return
        ends = lingering_ends(batch.rows, rows, ns_of(self.options.fin_wait_2_age_s))
        if len(ends):
            self._cases.add(self._subjects.numbers(ends["subject"]), ends["flow_id"], ends["start"], ends["end"])

    def merge(self, other: FinWait2Stuck, services: np.ndarray) -> None:
        """Take in what `other` was fed."""
        self._cases.merge(other._cases, self._subjects.merge(other._subjects))

    def findings(self, background: Background) -> list[Finding]:
        """Return who waits, worst first."""
        # An end that got there less than `fin_wait_2_age_s` before the capture ended shows nothing yet.
        least = self.options.stuck_ends_min
        cases = self._cases.with_least(least, len(self._subjects), background.end_ts_ns)
        found = worst_first(self._finding(case, background) for case in cases)
        clients = [one for one in found if one.evidence["side"] == "client" and one.severity == "info"]
        if len(clients) > self.options.lone_subjects_max:  # the service that they all wait for is the one to tell
            found = [one for one in found if one not in clients]
        return found[: self.options.subjects_max]

    def _finding(self, case: Case, background: Background) -> Finding | None:
        options = self.options
        settled = background.end_ts_ns - ns_of(options.fin_wait_2_age_s)
        count = case.series.total(0, 0, settled)
        if count < options.stuck_ends_min:
            return None
        subject, is_client = self._subjects.name(case.group), self._subjects.is_client(case.group)
        severity: Severity = "warning" if case.peak >= options.orphans_warning_ratio * options.orphans_max else "info"
        host, _, port = subject.rpartition(":")
        place, chosen = (subject, "") if is_client else (host, f" '( sport = :{port} )'")
        return Finding(
            kind=self.kind,
            subject=subject,
            severity=severity,
            first_ts_ns=case.first_ts_ns,
            last_ts_ns=case.last_ts_ns,
            count=count,
            peak=case.peak,
            evidence={
                "side": "client" if is_client else "server",
                "waited_at_least_s": options.fin_wait_2_age_s,
                "orphans_max": options.orphans_max,
                "orphans_ratio": round(case.peak / options.orphans_max, 4),
                "service_connections": self._subjects.connections(case.group, background),
            },
            caveats=(
                "The peers are the ones that do not close; these ends only wait for them.",
                "Linux gives an orphaned FIN_WAIT_2 up after tcp_fin_timeout; whether a program still holds the socket"
                " cannot be seen on the wire.",
            ),
            next_steps=(
                f"On {place}: ss -tanop state fin-wait-2{chosen} | wc -l",
                "sysctl net.ipv4.tcp_fin_timeout net.ipv4.tcp_max_orphans; nstat -az TcpExtTCPAbortOnMemory",
                "At the peers: ss -tanp state close-wait (which process does not close)",
            ),
            flow_ids=case.flow_ids,
        )
