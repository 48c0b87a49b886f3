"""What the detectors are handed: rows looked at once for all of them, and at the end what they all need.

`Page` is every row of a piece, with what core/survey.pyx says of each; `Batch` is those among them that are notable,
which are few and all that a detector needs to see; `Background` has what was counted of every service. All three are
made by `Detection` alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conntrack.core.survey import Attempt
from conntrack.detect.columns import words_endpoint
from conntrack.detect.counting import Tally

__all__ = ["WAIT_GRID_NS", "Background", "Batch", "Page"]

WAIT_GRID_NS = 10**8
"""Step of the grid on which TIME_WAIT is looked at, nanoseconds."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, each of them final, and what all of them count for. Valid until the next page is made.

    Attributes:
        rows: FLOW_DTYPE, shape (n,).
        services: int64, shape (n,): number of the server's endpoint, NO_GROUP past the limit of services.
        traits: uint32, shape (n,): bits of core.survey.Trait; 0 for most rows.
        fates, handshakes: uint64, keys of Tallies by service: what became of each connection, and how long its
            handshake took (core.survey has how).
        client_waits, server_waits: uint64, shape (4, m), by core.survey.WaitColumn: ends that were in TIME_WAIT, on a
            grid of WAIT_GRID_NS.
        first_ts_ns, last_ts_ns: when the first row began, and when the last segment was.
    """

    rows: np.ndarray
    services: np.ndarray
    traits: np.ndarray
    fates: np.ndarray
    handshakes: np.ndarray
    client_waits: np.ndarray
    server_waits: np.ndarray
    first_ts_ns: int
    last_ts_ns: int


class Batch:
    """Rows with a trait.

    Attributes:
        rows, services, traits: as in Page, of these rows alone.
    """

    def __init__(self, rows: np.ndarray, services: np.ndarray, traits: np.ndarray) -> None:
        self.rows = rows
        self.services = services
        self.traits = traits
        self._of_no_service = bool((services < 0).any())
        self._any = int(np.bitwise_or.reduce(traits)) if len(traits) else 0

    def having(self, traits: int) -> np.ndarray:
        """Return which rows have any of `traits` and a service with a number: int64, shape (m,)."""
        if not self._any & traits:
            return np.empty(0, np.int64)
        chosen = (self.traits & np.uint32(traits)) != 0
        if self._of_no_service:
            chosen &= self.services >= 0
        return np.flatnonzero(chosen)


@dataclass(frozen=True, slots=True)
class Background:
    """What every detector may ask when the connections are all there.

    Attributes:
        first_ts_ns, end_ts_ns: when the first connection began, and when the capture ended.
        connections: how many there were in all.
        packets: segments of them.
        payload_bytes: distinct payload of them.
        services: endpoint words by number of the service, uint64, shape (k, 3).
        of_service: connections by number of the service, int64, shape (k,).
        attempts: handshakes begun, by service, second and core.survey.Attempt.
    """

    first_ts_ns: int
    end_ts_ns: int
    connections: int
    packets: int
    payload_bytes: int
    services: np.ndarray
    of_service: np.ndarray
    attempts: Tally

    def name(self, service: int) -> str:
        """Return a service as text, "ip:port"."""
        return words_endpoint(self.services[service])

    def attempts_of(self, service: int, first_ts_ns: int, last_ts_ns: int) -> dict[Attempt, int]:
        """Return how many handshakes were begun between two times (to the second, both included), by outcome."""
        ticks, columns, counts = self.attempts.series_of(service)
        step = self.attempts.step_ns
        during = (ticks >= first_ts_ns // step) & (ticks <= -(-last_ts_ns // step))
        sums = np.bincount(columns[during], counts[during], len(Attempt)).astype(int)
        return {outcome: int(sums[outcome]) for outcome in Attempt}

    def begun_between(self, groups: np.ndarray, first_ts_ns: np.ndarray, last_ts_ns: np.ndarray) -> np.ndarray:
        """Return how many handshakes were begun, as `attempts_of` counts, for many services: int64, shape (n,)."""
        step = self.attempts.step_ns
        return self.attempts.between(groups, first_ts_ns // step, -(-last_ts_ns // step))
