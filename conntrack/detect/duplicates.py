"""duplicate_frames: frames that are in the capture twice (mirror ports, two interfaces, `-i any` on a router)."""

from __future__ import annotations

import numpy as np

from conntrack.core.survey import Trait
from conntrack.detect.batch import Background, Batch
from conntrack.detect.finding import Finding
from conntrack.detect.limits import WHOLE, Limits
from conntrack.detect.options import DetectOptions
from conntrack.detect.quality import SUBJECT, Whole

__all__ = ["DuplicateFrames"]


class DuplicateFrames:
    """Tells that `duplicates_ratio_min` of the frames are copies; they are counted nowhere else. Severity: info."""

    kind = "duplicate_frames"

    def __init__(self, options: DetectOptions | None = None, limits: Limits = WHOLE) -> None:
        self.options = options or DetectOptions()
        self._whole = Whole(limits)

    def feed(self, batch: Batch) -> None:
        """Take in a batch."""
        rows = batch.having(Trait.COPIED)
        if rows.size:
            copies = sum(
                int(batch.rows[f"{side}_duplicates"][rows].sum(dtype=np.int64)) for side in ("client", "server")
            )
            self._whole.add(batch, rows, copies=copies)

    def merge(self, other: DuplicateFrames, services: np.ndarray) -> None:
        """Take in what `other` was fed; `services` turns its numbers of services into ours."""
        self._whole.merge(other._whole, services)

    def findings(self, background: Background) -> list[Finding]:
        """Return one finding, or none."""
        case = self._whole.case(background)
        if case is None:
            return []
        copies = self._whole.sums["copies"]
        ratio = copies / (background.packets + copies)
        if ratio < self.options.duplicates_ratio_min:
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
                    "copies": copies,
                    "copies_ratio": round(ratio, 4),
                    "connections": background.connections,
                    "affected_ratio": round(case.count / background.connections, 4),
                    "top_services": self._whole.top_services(background),
                },
                caveats=(
                    "A network that doubles packets on their way, or a host that sends the same frame again within"
                    " milliseconds, looks the same; a mirror that does it reaches a third or half of the frames.",
                ),
                next_steps=(
                    "Capture one interface (tcpdump -i eth0, not any), or one direction of the mirror port",
                    "editcap -D 100 FILE OUT takes most of them out for other tools",
                ),
                flow_ids=case.flow_ids,
            )
        ]
