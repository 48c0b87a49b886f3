"""capture_loss: segments that the hosts exchanged and the capture does not hold: acknowledged data never seen."""

from __future__ import annotations

import numpy as np

from conntrack.core.survey import Trait
from conntrack.detect.batch import Background, Batch
from conntrack.detect.finding import Finding
from conntrack.detect.options import DetectOptions
from conntrack.detect.quality import SUBJECT, Whole, lost_bytes

__all__ = ["CaptureLoss"]


class CaptureLoss:
    """Tells that the capture lost segments: `capture_loss_ratio_min` of the payload, or of the connections, has gaps.

    Severity: info; what it weakens is said as its caveat.
    """

    kind = "capture_loss"

    def __init__(self, options: DetectOptions | None = None) -> None:
        self.options = options or DetectOptions()
        self._whole = Whole()

    def feed(self, batch: Batch) -> None:
        """Take in a batch."""
        rows = batch.having(Trait.GAPS)
        if not rows.size:
            return
        gaps = lost_bytes(batch, rows)
        lost = gaps > 0
        if lost.any():
            self._whole.add(batch, rows[lost], gap_bytes=int(gaps[lost].sum()))

    def merge(self, other: CaptureLoss, services: np.ndarray) -> None:
        """Take in what `other` was fed; `services` turns its numbers of services into ours."""
        self._whole.merge(other._whole, services)

    def findings(self, background: Background) -> list[Finding]:
        """Return one finding, or none."""
        case = self._whole.case(background)
        if case is None:
            return []
        gaps = self._whole.sums["gap_bytes"]
        of_bytes = gaps / (gaps + background.payload_bytes)
        of_connections = case.count / background.connections
        if max(of_bytes, of_connections) < self.options.capture_loss_ratio_min:
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
                    "affected_ratio": round(of_connections, 4),
                    "gap_bytes": gaps,
                    "gap_ratio": round(of_bytes, 6),
                    "top_services": self._whole.top_services(background),
                },
                caveats=(
                    "Where data is missing a FIN or RST may be missing too: states rest on later segments there.",
                    "Only gaps that an ACK covers are counted: what is missing of handshakes and ACKs does not show.",
                ),
                next_steps=(
                    "What did the capturing program drop: the last lines of tcpdump, or capinfos FILE",
                    "Capture less or faster: tcpdump -s 96 -B 65536 (KiB of buffer); a filter on the port in question",
                    "ethtool -S IFACE | grep -i -e drop -e miss (did the mirror port or the card drop them?)",
                ),
                flow_ids=case.flow_ids,
            )
        ]
