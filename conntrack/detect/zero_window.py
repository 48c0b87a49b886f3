"""zero_window_stall: ends whose program does not read, so that the window closes and the peer must wait.

A window of 0 now and then is flow control at work (RFC 9293 section 3.8.6); an end that announces it again and again,
or to the end, is stalled.
"""

from __future__ import annotations

import numpy as np

from conntrack.core.survey import Trait
from conntrack.detect.batch import Background, Batch
from conntrack.detect.cases import Case, OwnCases
from conntrack.detect.columns import Side
from conntrack.detect.finding import Finding, Severity, worst_first
from conntrack.detect.limits import WHOLE, Limits
from conntrack.detect.options import DetectOptions

__all__ = ["ZeroWindowStall"]

_SEGMENTS = 2
_SIDES: tuple[Side, ...] = ("client", "server")


class ZeroWindowStall:
    """Finds services, and hosts for the client's end, that announce windows of 0 on their connections.

    A connection counts from `zero_windows_min` such segments. Severity: info; warning for a service with
    `zero_window_warning_count` of them that are `zero_window_warning_ratio` of its connections.
    """

    kind = "zero_window_stall"

    def __init__(self, options: DetectOptions | None = None, limits: Limits = WHOLE) -> None:
        self.options = options or DetectOptions()
        self._cases = OwnCases(limits)

    def feed(self, batch: Batch) -> None:
        """Take in a batch."""
        rows = batch.having(Trait.NO_WINDOW)
        if not rows.size:
            return
        flows = batch.rows
        for side in _SIDES:
            segments = flows[f"{side}_zero_windows"][rows].astype(np.int64)
            stalled = segments >= self.options.zero_windows_min
            if stalled.any():
                chosen = rows[stalled]
                groups = self._cases.subjects.of(flows, chosen, client=side == "client")
                first, last = flows["first_ts_ns"][chosen], flows["last_ts_ns"][chosen]
                self._cases.add(groups, flows["flow_id"][chosen], first, last)
                self._cases.note(groups, first, _SEGMENTS, segments[stalled])

    def merge(self, other: ZeroWindowStall, services: np.ndarray) -> None:
        """Take in what `other` was fed."""
        self._cases.take(other._cases)

    def findings(self, background: Background) -> list[Finding]:
        """Return who stalls, worst first."""
        cases = self._cases.of_own(1, background.end_ts_ns)
        return worst_first(self._finding(case, background) for case in cases)[: self.options.subjects_max]

    def _finding(self, case: Case, background: Background) -> Finding:
        options = self.options
        subject, is_client = self._cases.subjects.name(case.group), self._cases.subjects.is_client(case.group)
        connections = self._cases.subjects.connections(case.group, background)
        ratio = None if not connections else round(case.count / connections, 4)
        many = ratio is not None and ratio >= options.zero_window_warning_ratio
        severity: Severity = "warning" if many and case.count >= options.zero_window_warning_count else "info"
        filter_ = f"src {subject}" if is_client else f"'( sport = :{subject.rpartition(':')[2]} )'"
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
                "zero_window_segments": case.series.total(_SEGMENTS),
                "service_connections": connections,
                "stalled_ratio": ratio,
            },
            caveats=(
                "When is that of the connections, not of the stalls; explain shows each of them.",
                "A receiver that is meant to be slow (a player, a rate limit) looks the same.",
            ),
            next_steps=(
                f"On {subject if is_client else subject.rpartition(':')[0]}: ss -tinp {filter_}"
                " (Recv-Q: what the program has not read)",
                "What does that process wait for: cat /proc/PID/stack; strace -f -e trace=recvfrom,read -p PID",
                "sysctl net.ipv4.tcp_rmem (is the buffer too small for the rate and the round trip?)",
            ),
            flow_ids=case.flow_ids,
        )
