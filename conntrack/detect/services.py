"""What each service did, in one row: connections, states, handshake times, resets, refusals. Judges nothing.

About 200 bytes a service. Handshake times are counted in a histogram of 8 cells an octave, so quantiles are within 9 %
and merge exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.core.survey import Fate
from conntrack.detect.batch import Page
from conntrack.detect.columns import words_endpoint
from conntrack.detect.counting import Tally
from conntrack.detect.limits import WHOLE, Limits
from conntrack.states import EndReason, TcpState

__all__ = ["SUMS", "ServiceSummary"]

SUMS = ("client_payload_bytes", "server_payload_bytes", "client_retransmits", "server_retransmits")
"""What is summed up of each service besides its connections; in the order of core.survey's sums."""
_QUANTILES = (0.5, 0.95, 0.99)
_CELL_SHIFT = 20  # a float32 is ordered as its bits are: its exponent and 3 bits of its mantissa split an octave in 8


class ServiceSummary:
    """Counts by service (server's ip:port); incremental and mergeable like a detector."""

    def __init__(self, limits: Limits = WHOLE) -> None:
        self._fates = Tally((1,), limits.cells)  # by service and what became of the connection
        self._handshakes = Tally((1,), limits.cells)  # by service and cell of the histogram

    def count(self, page: Page) -> None:
        """Take in a page."""
        self._fates.add_keys(page.fates)
        self._handshakes.add_keys(page.handshakes)

    def merge(self, other: ServiceSummary, services: np.ndarray) -> None:
        """Take in what `other` was fed; `services` turns its numbers of services into ours."""
        self._fates.merge(other._fates, services)
        self._handshakes.merge(other._handshakes, services)

    def result(self, services: np.ndarray, sums: np.ndarray, most: int = 50) -> list[dict[str, Any]]:
        """Return the services with the most connections (then by name), at most `most`, as JSON-able rows.

        `services` are their endpoint words by number (uint64, shape (k, 3)), `sums` their connections and SUMS (int64,
        shape (k or more, 5)).

        Each has service, connections, established, refused, reset, unanswered, midstream, open_at_end, payload bytes
        and retransmits of both sides, client_states and server_states (those that occur), and handshake_p50_s,
        handshake_p95_s, handshake_p99_s (SYN to the ACK of the SYN+ACK as seen at the capture; None without any).
        """
        if len(services) == 0:
            return []
        totals = sums[: len(services), 0]
        least = np.partition(totals, -most)[-most] if len(totals) > most else 0
        named = [(words_endpoint(services[group]), group) for group in np.flatnonzero(totals >= least)]
        ranked = sorted(named, key=lambda item: (-int(totals[item[1]]), item[0]))[:most]
        return [self._row(name, int(group), sums[group, 1:]) for name, group in ranked]

    def _row(self, name: str, group: int, sums: np.ndarray) -> dict[str, Any]:
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
            **dict(zip(SUMS, sums.tolist(), strict=True)),
            "client_states": _by_state(fates & 15, counts),
            "server_states": _by_state(fates >> 4 & 15, counts),
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


def _by_state(states: np.ndarray, counts: np.ndarray) -> dict[str, int]:
    sums = np.bincount(states, counts, len(TcpState)).astype(int).tolist()
    return {state.name: sums[state] for state in TcpState if sums[state]}
