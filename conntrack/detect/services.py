"""What each service did, in one row: connections, states, handshake times, resets, refusals. Judges nothing.

Sums by service, 264 bytes each, exact up to a million services (`overflow_connections` says how many connections were left
out beyond). Handshake times are counted in a histogram of 8 cells an octave, so quantiles are within 9 % and merge exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.detect.columns import endpoint_words, words_endpoint
from conntrack.detect.counting import NO_GROUP, KeyIndex, Tally
from conntrack.states import NO_TIME_NS, EndReason, FlowFlag, TcpState

__all__ = ["ServiceSummary"]

_SUMS = (
    "connections",
    "established",
    "refused",
    "reset",
    "unanswered",
    "midstream",
    "open_at_end",
    "client_payload_bytes",
    "server_payload_bytes",
    "client_retransmits",
    "server_retransmits",
)
_CLIENT_STATES = len(_SUMS)
_SERVER_STATES = _CLIENT_STATES + len(TcpState)
_WIDTH = _SERVER_STATES + len(TcpState)
_QUANTILES = (0.5, 0.95, 0.99)
_MOST_SERVICES = 1 << 20
# A float32 is ordered as its bits are: exponent, then mantissa. The top 3 bits of the mantissa split an octave in 8.
_CELL_SHIFT = 20


class ServiceSummary:
    """Counts by service (server's ip:port); incremental and mergeable like a detector."""

    def __init__(self) -> None:
        self._services = KeyIndex(3, limit=_MOST_SERVICES)
        self._sums = np.zeros((1024, _WIDTH), np.int64)
        self._handshakes = Tally(1)  # by service and cell of the histogram

    @property
    def overflow_connections(self) -> int:
        """Connections of services beyond the first million, which are not in the result."""
        return self._services.overflow_rows

    def feed(self, flows: np.ndarray) -> None:
        """Take in connections (FLOW_DTYPE, shape (n,)), each once, when it is final."""
        groups = self._services.intern(endpoint_words(flows, "server"))
        if (groups == NO_GROUP).any():
            flows, groups = flows[groups != NO_GROUP], groups[groups != NO_GROUP]
        self._make_room()
        syn, established, end_reason = flows["syn_ts_ns"], flows["established_ts_ns"], flows["end_reason"]
        is_established = established != NO_TIME_NS
        silent = (syn != NO_TIME_NS) & ~is_established & (flows["synack_ts_ns"] == NO_TIME_NS)
        chosen = {
            "established": is_established,
            "refused": end_reason == EndReason.REFUSED,
            "reset": end_reason == EndReason.RESET,
            "unanswered": silent & (flows["server_packets"] == 0),
            "midstream": (flows["flags"] & FlowFlag.MIDSTREAM) != 0,
            "open_at_end": end_reason == EndReason.OPEN_AT_END,
        }
        sums, base = self._sums.reshape(-1), groups * _WIDTH
        np.add.at(sums, base, 1)
        for number, name in enumerate(_SUMS[1:], 1):
            if name in chosen:
                np.add.at(sums, base[chosen[name]] + number, 1)
            else:
                np.add.at(sums, base + number, flows[name].astype(np.int64))
        np.add.at(sums, base + _CLIENT_STATES + np.minimum(flows["client_state"], max(TcpState)), 1)
        np.add.at(sums, base + _SERVER_STATES + np.minimum(flows["server_state"], max(TcpState)), 1)
        timed = is_established & (syn != NO_TIME_NS)
        took_ns = np.maximum(established[timed] - syn[timed], 1)
        cells = took_ns.astype(np.float32).view(np.int32).astype(np.int64) >> _CELL_SHIFT
        self._handshakes.add(groups[timed], cells, 0)

    def merge(self, other: ServiceSummary) -> None:
        """Take in what `other` was fed."""
        groups = self._services.merge(other._services)
        self._make_room()
        known = groups != NO_GROUP
        self._sums[groups[known]] += other._sums[: len(groups)][known]
        self._handshakes.merge(other._handshakes, groups)

    def result(self, most: int = 50) -> list[dict[str, Any]]:
        """Return the services with the most connections (then by name), at most `most`, as JSON-able rows.

        Each has service, the sums by name, client_states and server_states (those that occur), and handshake_p50_s,
        handshake_p95_s, handshake_p99_s (SYN to the ACK of the SYN+ACK as seen at the capture; None without any).
        """
        sums = self._sums[: len(self._services)]
        if len(sums) == 0:
            return []
        totals = sums[:, 0]
        least = np.partition(totals, -most)[-most] if len(totals) > most else 0
        words = self._services.keys
        named = [(words_endpoint(words[:, group]), group) for group in np.flatnonzero(totals >= least)]
        ranked = sorted(named, key=lambda item: (-int(totals[item[1]]), item[0]))[:most]
        return [self._row(name, int(group)) for name, group in ranked]

    def _row(self, name: str, group: int) -> dict[str, Any]:
        sums = self._sums[group].tolist()
        return {
            "service": name,
            **dict(zip(_SUMS, sums, strict=False)),
            "client_states": {state.name: sums[_CLIENT_STATES + state] for state in TcpState if sums[_CLIENT_STATES + state]},
            "server_states": {state.name: sums[_SERVER_STATES + state] for state in TcpState if sums[_SERVER_STATES + state]},
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
            grown = np.zeros((max(len(self._services), 2 * len(self._sums)), _WIDTH), np.int64)
            grown[: len(self._sums)] = self._sums
            self._sums = grown
