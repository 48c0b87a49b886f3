"""What a finding about the capture itself is made of: cases of the whole capture, and the services that have most.

The three detectors that use it (one_sided, capture_loss, duplicates) say what else in the report is the weaker for it.
"""

from __future__ import annotations

import numpy as np

from conntrack.detect.batch import Background, Batch
from conntrack.detect.cases import Case, Cases

__all__ = ["SUBJECT", "Whole", "lost_bytes"]

SUBJECT = "capture"
"""What such a finding names as its subject: it is about no host."""
_SERVICES_NAMED = 5
_KEEP_ALIVES = 2
"""Bytes that may not be lost: a keep-alive repeats the last one before the capture began (RFC 9293 section 3.8.4), one
of each end, and the peer acknowledges it."""
_BY_SERVICE = 1


def lost_bytes(batch: Batch, rows: np.ndarray) -> np.ndarray:
    """Return what the peers acknowledged and the capture does not have of each of `rows`: int64, shape (n,)."""
    client, server = (batch.rows[f"{side}_gap_bytes"][rows].astype(np.int64) for side in ("client", "server"))
    gaps: np.ndarray = client + server
    gaps[gaps <= _KEEP_ALIVES] = 0
    return gaps


class Whole:
    """Counts cases of the whole capture, and by service which have them."""

    def __init__(self) -> None:
        self._cases = Cases()
        self._services = Cases()
        self.sums: dict[str, int] = {}

    def add(self, batch: Batch, rows: np.ndarray, **sums: int) -> None:
        """Take in rows of a batch, and whatever else is to be summed up."""
        flows = batch.rows
        first, last, ids = flows["first_ts_ns"][rows], flows["last_ts_ns"][rows], flows["flow_id"][rows]
        self._cases.add(np.zeros(len(rows), np.int64), ids, first, last)
        self._services.note(batch.services[rows], first, _BY_SERVICE)
        self._sum(sums)

    def merge(self, other: Whole, services: np.ndarray) -> None:
        """Take in what `other` was fed; `services` turns its numbers of services into ours."""
        self._cases.merge(other._cases, np.zeros(1, np.int64))
        self._services.merge(other._services, services)
        self._sum(other.sums)

    def case(self, background: Background) -> Case | None:
        """Return what was counted, if anything was."""
        return next(self._cases.with_least(1, 1, background.end_ts_ns), None)

    def top_services(self, background: Background) -> dict[str, int]:
        """Return the services with the most of it, and how many each."""
        counts = self._services.tally.totals(16, len(background.services))[_BY_SERVICE]
        least = np.partition(counts, -_SERVICES_NAMED)[-_SERVICES_NAMED] if len(counts) > _SERVICES_NAMED else 1
        named = [(-int(counts[at]), background.name(int(at))) for at in np.flatnonzero(counts >= max(1, least))]
        return {name: -count for count, name in sorted(named)[:_SERVICES_NAMED]}

    def _sum(self, sums: dict[str, int]) -> None:
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0) + value
