"""one_sided_capture: connections of which only one direction is in the capture (asymmetric routes, a one-way tap)."""

from __future__ import annotations

import numpy as np

from conntrack.core.survey import Trait
from conntrack.detect.batch import Background, Batch
from conntrack.detect.finding import Finding
from conntrack.detect.limits import WHOLE, Limits
from conntrack.detect.options import DetectOptions
from conntrack.detect.quality import SUBJECT, Whole

__all__ = ["OneSidedCapture"]


class OneSidedCapture:
    """Tells that `one_sided_ratio_min` of the connections have segments of one direction only.

    A connection counts with `one_sided_packets_min` segments or more, which acknowledge what is not there, or come from
    a server alone; SYNs that nobody answers do not. Severity: info; what it weakens is said as its caveat.
    """

    kind = "one_sided_capture"

    def __init__(self, options: DetectOptions | None = None, limits: Limits = WHOLE) -> None:
        self.options = options or DetectOptions()
        self._whole = Whole(limits)

    def feed(self, batch: Batch) -> None:
        """Take in a batch."""
        rows = batch.having(Trait.ONE_WAY)
        if not rows.size:
            return
        client, server = (batch.rows[f"{side}_packets"][rows] for side in ("client", "server"))
        rows = rows[client + server >= self.options.one_sided_packets_min]
        if rows.size:
            from_client = int(np.count_nonzero(batch.rows["client_packets"][rows]))
            self._whole.add(batch, rows, from_client=from_client, from_server=len(rows) - from_client)

    def merge(self, other: OneSidedCapture, services: np.ndarray) -> None:
        """Take in what `other` was fed; `services` turns its numbers of services into ours."""
        self._whole.merge(other._whole, services)

    def findings(self, background: Background) -> list[Finding]:
        """Return one finding, or none."""
        case = self._whole.case(background)
        if case is None or case.count < self.options.one_sided_ratio_min * background.connections:
            return []
        return [
            Finding(
                kind=self.kind,
                subject=SUBJECT,
                severity="info",
                first_ts_ns=case.first_ts_ns,
                last_ts_ns=case.last_ts_ns,
                count=case.count,
                peak=case.peak,
                evidence={
                    "connections": background.connections,
                    "one_sided_ratio": round(case.count / background.connections, 4),
                    "only_from_client": self._whole.sums["from_client"],
                    "only_from_server": self._whole.sums["from_server"],
                    "top_services": self._whole.top_services(background),
                },
                caveats=("States of the end that is not seen are inferred from what the other end acknowledges.",),
                next_steps=(
                    "ip route get PEER at both ends (do the two directions take different ways?)",
                    "Capture at the host itself (tcpdump -i any), or at both taps and give ctrack both files",
                ),
                flow_ids=case.flow_ids,
            )
        ]
