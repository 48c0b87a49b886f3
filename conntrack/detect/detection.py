"""`Detection`: every detector, the series and the summary, fed together; rows are looked at once for all of them.

Owns the numbers of the services and what is counted of every one (`Background`); decides nothing. Fed batches in any
split and order, or merged, it says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from conntrack.core.survey import survey
from conntrack.detect.batch import Background, Batch
from conntrack.detect.columns import FAR_NS, ns_of
from conntrack.detect.counting import NO_GROUP, KeyIndex, Tally
from conntrack.detect.finding import SEVERITIES, Finding
from conntrack.detect.options import DetectOptions
from conntrack.detect.series import StateSeries
from conntrack.detect.services import ServiceSummary

__all__ = ["Detection"]

_PIECE = 16_384  # rows at once: 7 MB of them; what each batch costs whatever its size is 2 ms
_MOST_SERVICES = 1 << 20
_SECOND_NS = 10**9


class Detection:
    """Finds what is wrong with connections, counts states over time, sums up services; incremental and mergeable.

    Args:
        detectors: their classes, in the order in which equal findings are told.
        options: thresholds.

    Attributes:
        overflow_connections: connections of services beyond the first million, which only the series of the whole has.
    """

    def __init__(self, detectors: Sequence[Any], options: DetectOptions | None = None) -> None:
        self.options = options or DetectOptions()
        self._detectors = [make(self.options) for make in detectors]
        self._series = StateSeries(self.options)
        self._summary = ServiceSummary()
        self._services = KeyIndex(3, limit=_MOST_SERVICES)
        self._of_service = np.zeros(1024, np.int64)
        self._attempts = Tally(_SECOND_NS)
        self._limits_ns = (
            ns_of(self.options.handshake_wait_s),
            ns_of(self.options.close_wait_age_s),
            ns_of(self.options.fin_wait_2_age_s),
        )
        self._first_ts_ns = FAR_NS
        self._connections = 0
        self._packets = 0
        self._payload_bytes = 0
        self.overflow_connections = 0

    def feed(self, flows: np.ndarray) -> None:
        """Take in connections (FLOW_DTYPE, shape (n,)), each of them once, when it is final."""
        for start in range(0, len(flows), _PIECE):
            batch = self._look(flows[start : start + _PIECE])
            for part in (*self._detectors, self._series, self._summary):
                part.feed(batch)

    def merge(self, other: Detection) -> None:
        """Take in what `other` was fed."""
        services = self._services.merge(other._services)
        known = services != NO_GROUP
        self._make_room()
        self._of_service[services[known]] += other._of_service[: len(services)][known]
        self.overflow_connections += other.overflow_connections + int(other._of_service[: len(services)][~known].sum())
        self._attempts.merge(other._attempts, services)
        self._first_ts_ns = min(self._first_ts_ns, other._first_ts_ns)
        self._connections += other._connections
        self._packets += other._packets
        self._payload_bytes += other._payload_bytes
        mine, theirs = ((*d._detectors, d._series, d._summary) for d in (self, other))
        for part, its in zip(mine, theirs, strict=True):
            part.merge(its, services)

    def findings(self, end_ts_ns: int) -> list[Finding]:
        """Return every finding, the most severe first; `end_ts_ns` is when the capture ended."""
        background = Background(
            first_ts_ns=min(self._first_ts_ns, end_ts_ns),
            end_ts_ns=end_ts_ns,
            connections=self._connections,
            packets=self._packets,
            payload_bytes=self._payload_bytes,
            services=self._services.keys,
            of_service=self._of_service[: len(self._services)],
            attempts=self._attempts,
        )
        found = [finding for detector in self._detectors for finding in detector.findings(background)]
        return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))

    def series(self) -> dict[str, Any]:
        """Return how many ends were in each state at each instant: see `StateSeries.result`."""
        return self._series.result()

    def top_series(self, most: int = 10) -> dict[str, Any]:
        """Return the same for the services and hosts with the most ends at once: see `StateSeries.top`."""
        return self._series.top(self._services.keys, most)

    def services(self, most: int = 50) -> list[dict[str, Any]]:
        """Return what each service did, the busiest first: see `ServiceSummary.result`."""
        return self._summary.result(self._services.keys, most)

    def _look(self, rows: np.ndarray) -> Batch:
        n = len(rows)
        services, traits, attempts = np.empty(n, np.int64), np.empty(n, np.uint32), np.empty(n, np.uint64)
        first_ts_ns, last_ts_ns = FAR_NS, -FAR_NS
        done = 0
        while done < n:
            kernel = partial(
                survey, rows[done:], self._limits_ns, self.options.last_ack_fins_min, self._attempts.feed_step_ns,
                self._of_service, services[done:], traits[done:], attempts[done:],
            )  # fmt: skip
            looked, n_attempts, packets, payload_bytes, first, last = self._services.lend(kernel, n - done)
            self._make_room()
            self._attempts.add_keys(attempts[done : done + n_attempts])  # which keeps them: no place is used twice
            done += looked
            self._packets += packets
            self._payload_bytes += payload_bytes
            first_ts_ns, last_ts_ns = min(first_ts_ns, first), max(last_ts_ns, last)
        self._connections += n
        self._first_ts_ns = min(self._first_ts_ns, first_ts_ns)
        if len(self._services) == _MOST_SERVICES:
            self.overflow_connections += int(np.count_nonzero(services == NO_GROUP))
        return Batch(rows, services, traits, first_ts_ns, last_ts_ns)

    def _make_room(self) -> None:
        if self._services.room > len(self._of_service):
            grown = np.zeros(self._services.room, np.int64)
            grown[: len(self._of_service)] = self._of_service
            self._of_service = grown
