"""What each service did, in one row: connections, states, handshake times, resets, refusals. Judges nothing.

About 200 bytes a service, exact up to a million of them (`overflow_connections` says how many connections were left
out beyond). Handshake times are counted in a histogram of 8 cells an octave, so quantiles are within 9 % and merge
exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.core.counts import Fate, fates
from conntrack.core.keys import endpoint_words
from conntrack.detect.columns import words_endpoint
from conntrack.detect.counting import NO_GROUP, KeyIndex, Tally
from conntrack.states import EndReason, TcpState

__all__ = ["ServiceSummary"]

_SUMS = ("client_payload_bytes", "server_payload_bytes", "client_retransmits", "server_retransmits")
_QUANTILES = (0.5, 0.95, 0.99)
_MOST_SERVICES = 1 << 20
_CELL_SHIFT = 20  # a float32 is ordered as its bits are: its exponent and 3 bits of its mantissa split an octave in 8


class ServiceSummary:
    """Counts by service (server's ip:port); incremental and mergeable like a detector."""

    def __init__(self) -> None:
        self._services = KeyIndex(3, limit=_MOST_SERVICES)
        self._sums = np.zeros((1024, len(_SUMS)), np.int64)
        self._fates = Tally(1)  # by service and what became of the connection
        self._handshakes = Tally(1)  # by service and cell of the histogram

    @property
    def overflow_connections(self) -> int:
        """Connections of services beyond the first million, which are not in the result."""
        return self._services.overflow_rows

    def feed(self, flows: np.ndarray) -> None:
        """Take in connections (FLOW_DTYPE, shape (n,)), each once, when it is final."""
        groups = self._services.intern(endpoint_words(flows, client=False))
        self._make_room()
        ends, took = fates(flows, groups, self._sums)
        self._fates.add_keys(ends)
        self._handshakes.add_keys(took)

    def merge(self, other: ServiceSummary) -> None:
        """Take in what `other` was fed."""
        groups = self._services.merge(other._services)
        self._make_room()
        known = groups != NO_GROUP
        self._sums[groups[known]] += other._sums[: len(groups)][known]
        self._fates.merge(other._fates, groups)
        self._handshakes.merge(other._handshakes, groups)

    def result(self, most: int = 50) -> list[dict[str, Any]]:
        """Return the services with the most connections (then by name), at most `most`, as JSON-able rows.

        Each has service, connections, established, refused, reset, unanswered, midstream, open_at_end, payload bytes
        and retransmits of both sides, client_states and server_states (those that occur), and handshake_p50_s,
        handshake_p95_s, handshake_p99_s (SYN to the ACK of the SYN+ACK as seen at the capture; None without any).
        """
        if len(self._services) == 0:
            return []
        totals = self._fates.totals(1, len(self._services))[0]
        least = np.partition(totals, -most)[-most] if len(totals) > most else 0
        words = self._services.keys
        named = [(words_endpoint(words[group]), group) for group in np.flatnonzero(totals >= least)]
        ranked = sorted(named, key=lambda item: (-int(totals[item[1]]), item[0]))[:most]
        return [self._row(name, int(group)) for name, group in ranked]

    def _row(self, name: str, group: int) -> dict[str, Any]:
        fates, _, counts = self._fates.series_of(group)
        ends = (fates >> 8) & 7

        def among(chosen: np.ndarray) -> int:
            return int(counts[chosen].sum())

        return {
            "service": name,
            "connections": int(counts.sum()),
            "established": among((fates & Fate.WAS_ESTABLISHED) != 0),
            "refused": among(ends == EndReason.REFUSED),
            "reset": among(ends == EndReason.RESET),
            "unanswered": among((fates & Fate.WAS_UNANSWERED) != 0),
            "midstream": among((fates & Fate.WAS_MIDSTREAM) != 0),
            "open_at_end": among(ends == EndReason.OPEN_AT_END),
            **dict(zip(_SUMS, self._sums[group].tolist(), strict=True)),
            "client_states": {s.name: n for s in TcpState if (n := among((fates & 15) == s))},
            "server_states": {s.name: n for s in TcpState if (n := among((fates >> 4 & 15) == s))},
            **self._quantiles(group),
        }

    def _quantiles(self, group: int) -> dict[str, float | None]:
        cells, _, counts = self._handshakes.series_of(group)
        upto = np.cumsum(counts)
        values: dict[str, float | None] = {}
        for quantile in _QUANTILES:
            value = None
            if len(cells):
                cell = cells[np.searchsorted(upto, quantile * upto[-1])]
                low, high = (np.array([cell, cell + 1], np.int32) << _CELL_SHIFT).view(np.float32).astype(float)
                value = float(f"{(low + high) / 2e9:.3g}")
            values[f"handshake_p{quantile * 100:.0f}_s"] = value
        return values

    def _make_room(self) -> None:
        if len(self._services) > len(self._sums):
            grown = np.zeros((max(len(self._services), 2 * len(self._sums)), len(_SUMS)), np.int64)
            grown[: len(self._sums)] = self._sums
            self._sums = grown
