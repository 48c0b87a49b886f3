"""What the detectors are handed: a batch of rows looked at once for all of them, and at the end what they all need.

`Batch` has the number of each row's service and what is notable about it (core/survey.pyx); `Background` has what was
counted of every service. Both are made by `Detection` alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conntrack.core.survey import Attempt
from conntrack.detect.columns import words_endpoint
from conntrack.detect.counting import Tally

__all__ = ["Background", "Batch"]


class Batch:
    """Rows, looked at once.

    Attributes:
        rows: FLOW_DTYPE, shape (n,), each of them final.
        services: int64, shape (n,): number of the server's endpoint, NO_GROUP past the limit of services.
        traits: uint32, shape (n,): bits of core.survey.Trait; 0 for most rows.
        first_ts_ns, last_ts_ns: when the first began, and when the last segment was.
    """

    def __init__(
        self, rows: np.ndarray, services: np.ndarray, traits: np.ndarray, first_ts_ns: int, last_ts_ns: int
    ) -> None:
        self.rows = rows
        self.first_ts_ns = first_ts_ns
        self.services = services
        self.traits = traits
        self.last_ts_ns = last_ts_ns
        notable = np.flatnonzero(traits)
        self._notable = notable[services[notable] >= 0]
        self._notable_traits = traits[self._notable]
        self._any = int(np.bitwise_or.reduce(self._notable_traits)) if len(self._notable) else 0

    def having(self, traits: int) -> np.ndarray:
        """Return which rows have any of `traits` and a service with a number: int64, shape (m,)."""
        if not self._any & traits:
            return self._notable[:0]
        chosen: np.ndarray = self._notable[(self._notable_traits & np.uint32(traits)) != 0]
        return chosen


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
