"""`Detection`: every detector, the series and the summary, fed together; rows are looked at once for all of them.

Owns the numbers of the services and what is counted of every one (`Background`); decides nothing. Most rows are healthy
and end here: what counts every row (`EveryRow`) is handed pages, the detectors only the notable rows, some thousands at
a time. Fed batches in any split and order, or merged, it says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from conntrack.core.abi import FLOW_DTYPE
from conntrack.core.survey import survey
from conntrack.detect.batch import WAIT_GRID_NS, Background, Batch, Page
from conntrack.detect.cases import Cases, OwnCases
from conntrack.detect.columns import FAR_NS, ns_of, words_endpoint
from conntrack.detect.counting import NO_GROUP, KeyIndex, Tally
from conntrack.detect.finding import SEVERITIES, EveryRow, Finding
from conntrack.detect.limits import WHOLE, Limits
from conntrack.detect.options import DetectOptions
from conntrack.detect.series import StateSeries
from conntrack.detect.services import SUMS, ServiceSummary
from conntrack.states import TcpState

__all__ = ["Detection"]

_PIECE = 16_384  # rows at once: 7 MB of them; what each batch costs whatever its size is 2 ms
_WAITING = 4096  # notable rows that wait for more, 1.6 MB: as many as are worth a round of the detectors
_MANY = 8  # one in so many rows: it is cheaper to look them up where they are than to copy them
_SECOND_NS = 10**9

_Kept = TypeVar("_Kept")


class Detection:
    """Finds what is wrong with connections, counts states over time, sums up services; incremental and mergeable.

    Args:
        detectors: their classes, in the order in which equal findings are told.
        options: thresholds.
        limits: how much is kept.
        series: count states over time as well: two fifths of the work. Without, there is no `series` and `top_series`;
            any other is merged into this, but this into no other that has them.

    Attributes:
        evicted: connections that were given up for want of memory (EndReason.EVICTED).
        overflow_connections: connections of services beyond the first million, or let go by `narrowed`, which only the
            series of the whole has.
    """

    def __init__(
        self,
        detectors: Sequence[Any],
        options: DetectOptions | None = None,
        limits: Limits = WHOLE,
        *,
        series: bool = True,
    ) -> None:
        self.options = options or DetectOptions()
        self.limits = limits
        self._detectors = [make(self.options, limits) for make in detectors]
        self._series = StateSeries(self.options, limits) if series else None
        self._summary = ServiceSummary(limits)
        self._of_every_row = [part for part in (*self._detectors, self._series) if isinstance(part, EveryRow)]
        self._services = KeyIndex(3, limit=WHOLE.services)
        self._sums = np.zeros((1024, 1 + len(SUMS)), np.int64)  # by service: connections, then SUMS
        self._states = np.zeros((2, 16), np.int64)
        self._attempts = Tally(_SECOND_NS, limits.cells)
        self._limits = (
            ns_of(self.options.handshake_wait_s),
            ns_of(self.options.close_wait_age_s),
            ns_of(self.options.fin_wait_2_age_s),
            ns_of(self.options.time_wait_s),
            self.options.last_ack_fins_min,
            int(TcpState.TIME_WAIT),
        )
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # notable rows, their services and traits
        self._first_ts_ns = FAR_NS
        self._connections = 0
        self._packets = 0
        self._payload_bytes = 0
        self.evicted = 0
        self.overflow_connections = 0
        self._forget_scratch()

    def _forget_scratch(self) -> None:
        """What a page is looked at with, used again for the next: memory that is new each time costs more to get."""
        self._counted, self._waits = np.empty((3, 0), np.uint64), np.empty((2, 4, 0), np.uint64)
        self._of_rows = np.empty(0, np.int64), np.empty(0, np.uint32)

    def __getstate__(self) -> dict[str, Any]:
        self._forget_scratch()
        return self.__dict__

    def feed(self, flows: np.ndarray) -> None:
        """Take in connections (FLOW_DTYPE, shape (n,)), each of them once, when it is final."""
        for start in range(0, len(flows), _PIECE):
            page = self._look(flows[start : start + _PIECE])
            for part in self._of_every_row:
                part.count(page)
            self._summary.count(page)
            notable = np.flatnonzero(page.traits)
            if notable.size * _MANY >= len(page.rows) >= _WAITING:
                self._hand_out(Batch(page.rows, page.services, page.traits))
            elif notable.size:
                self._waiting.append((_words(page.rows)[notable], page.services[notable], page.traits[notable]))
                if sum(len(rows) for rows, *_ in self._waiting) >= _WAITING:
                    self._settle()

    def merge(self, other: Detection) -> None:
        """Take in what `other` was fed."""
        self._settle()
        other._settle()
        services = self._services.merge(other._services)
        known = services != NO_GROUP
        self._make_room()
        self._sums[services[known]] += other._sums[: len(services)][known]
        self.overflow_connections += other.overflow_connections + int(other._sums[: len(services), 0][~known].sum())
        self._states += other._states
        self._attempts.merge(other._attempts, services)
        self._first_ts_ns = min(self._first_ts_ns, other._first_ts_ns)
        self._connections += other._connections
        self._packets += other._packets
        self._payload_bytes += other._payload_bytes
        self.evicted += other.evicted
        mine, theirs = ((*d._detectors, d._summary) for d in (self, other))
        for part, its in zip(mine, theirs, strict=True):
            part.merge(its, services)
        if self._series is not None:
            assert other._series is not None, "they count states over time, or neither does"
            self._series.merge(other._series, services)

    def narrowed(self, end_ts_ns: int) -> Detection:
        """Return this without the services that had the fewest connections; itself where it has few.

        Of more than `limits.services` half as many are left, and those that a finding names at `end_ts_ns`.
        """
        known = len(self._services)
        if known <= self.limits.services:
            return self
        kept = np.zeros(known, bool)
        kept[np.argsort(-self._sums[:known, 0], kind="stable")[: self.limits.services // 2]] = True
        found = self.findings(end_ts_ns)
        named = {name for finding in found for name in (finding.subject, finding.evidence.get("service"))}
        if named:
            kept |= np.array([words_endpoint(words) in named for words in self._services.keys])
        kinds, series = [type(detector) for detector in self._detectors], self._series is not None
        some = Detection(kinds, self.options, self.limits, series=series)
        some._services.intern(self._services.keys[kept])
        room, some._services.limit = some._services.limit, len(some._services)
        some.merge(self)
        some._services.limit = room
        return some

    def reduced(self) -> list[str]:
        """Return what was kept less of than there was, because of `limits`: a sentence each, for a report."""
        told = []
        if self.overflow_connections:
            told.append(
                f"{self.overflow_connections:,} connections of services that had few are counted by state and time, "
                "and not by service."
            )
        if let_go := sum(cases.let_go for cases in self._kept_by(OwnCases)):
            told.append(f"{let_go:,} connections of hosts that had few are in no finding.")
        steps = [cases.tally.step_ns for cases in self._kept_by(Cases)] + [self._attempts.step_ns]
        if max(steps) > _SECOND_NS:
            told.append(f"What happened when is kept to {max(steps) / 1e9:g} s: peaks may have been higher in between.")
        return told

    def _kept_by(self, kind: type[_Kept]) -> list[_Kept]:
        return [part for detector in self._detectors for part in vars(detector).values() if isinstance(part, kind)]

    def findings(self, end_ts_ns: int) -> list[Finding]:
        """Return every finding, the most severe first; `end_ts_ns` is when the capture ended."""
        self._settle()
        background = Background(
            first_ts_ns=min(self._first_ts_ns, end_ts_ns),
            end_ts_ns=end_ts_ns,
            connections=self._connections,
            packets=self._packets,
            payload_bytes=self._payload_bytes,
            services=self._services.keys,
            of_service=self._sums[: len(self._services), 0],
            attempts=self._attempts,
        )
        found = [finding for detector in self._detectors for finding in detector.findings(background)]
        return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))

    def series(self) -> dict[str, Any]:
        """Return how many ends were in each state at each instant: see `StateSeries.result`."""
        assert self._series is not None
        return self._series.result()

    def top_series(self, most: int = 10) -> dict[str, Any]:
        """Return the same for the services and hosts with the most ends at once: see `StateSeries.top`."""
        assert self._series is not None
        return self._series.top(self._services.keys, most)

    def services(self, most: int = 50) -> list[dict[str, Any]]:
        """Return what each service did, the busiest first: see `ServiceSummary.result`."""
        return self._summary.result(self._services.keys, self._sums, most)

    def states(self) -> np.ndarray:
        """Return how many clients' and servers' ends are in each state as their rows end: int64, shape (2, 11)."""
        return self._states[:, : len(TcpState)].copy()

    def _settle(self) -> None:
        """Hand the notable rows that wait to the detectors."""
        if self._waiting:
            words, services, traits = (np.concatenate([part[k] for part in self._waiting]) for k in range(3))
            self._waiting = []
            self._hand_out(Batch(words.view(FLOW_DTYPE)[:, 0], services, traits))

    def _hand_out(self, batch: Batch) -> None:
        for detector in self._detectors:
            detector.feed(batch)

    def _look(self, rows: np.ndarray) -> Page:
        n = len(rows)
        if n > self._waits.shape[2]:
            self._counted, self._waits = np.empty((3, n), np.uint64), np.empty((2, 4, n), np.uint64)
            self._of_rows = np.empty(n, np.int64), np.empty(n, np.uint32)
        services, traits = (column[:n] for column in self._of_rows)
        written = [0] * 5
        first_ts_ns, last_ts_ns = FAR_NS, -FAR_NS
        done = 0
        while done < n:
            kernel = partial(
                survey, rows, done, written, self._limits, self._attempts.feed_step_ns, WAIT_GRID_NS, self._sums,
                self._states, services, traits, self._counted, self._waits,
            )  # fmt: skip
            done, written, packets, payload_bytes, evicted, first, last = self._services.lend(kernel, n)
            self._make_room()
            self._packets += packets
            self._payload_bytes += payload_bytes
            self.evicted += evicted
            first_ts_ns, last_ts_ns = min(first_ts_ns, first), max(last_ts_ns, last)
        self._connections += n
        self._first_ts_ns = min(self._first_ts_ns, first_ts_ns)
        if len(self._services) == self._services.limit:
            self.overflow_connections += int(np.count_nonzero(services == NO_GROUP))
        attempts, fates, handshakes = (keys[:size].copy() for keys, size in zip(self._counted, written, strict=False))
        client_waits, server_waits = (waits[:, :size] for waits, size in zip(self._waits, written[3:], strict=True))
        self._attempts.add_keys(attempts)
        return Page(
            rows, services, traits, fates, handshakes, client_waits, server_waits, first_ts_ns, last_ts_ns
        )  # fmt: skip

    def _make_room(self) -> None:
        if self._services.room > len(self._sums):
            grown = np.zeros((self._services.room, self._sums.shape[1]), np.int64)
            grown[: len(self._sums)] = self._sums
            self._sums = grown


def _words(rows: np.ndarray) -> np.ndarray:
    """Return rows as words: uint64, shape (n, 50). numpy copies rows of fields one field at a time, words at once."""
    return np.ascontiguousarray(rows).view(np.uint64).reshape(len(rows), -1)
