"""port_scan: one host that tries many ports, or many hosts on one port, and gets nowhere.

What counts is a target (address and port) that did not become a connection: refused, unanswered, or given up by a RST
after the SYN+ACK. A pair of host and target is kept once, in 80 bytes. Past 300,000 pairs only every second is kept,
chosen by its hash, then every fourth, and so on: what is said of a host is an estimate then, and says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.core.counts import TRY_DTYPE, Outcome, tries
from conntrack.core.keys import hash_words
from conntrack.core.survey import Trait
from conntrack.detect.batch import Background, Batch
from conntrack.detect.columns import ns_of, words_ip
from conntrack.detect.episodes import window_sums
from conntrack.detect.finding import Finding, worst_first
from conntrack.detect.limits import WHOLE, Limits
from conntrack.detect.options import DetectOptions

__all__ = ["PortScan"]

_LEAST_KEPT = 8
"""Pairs of a host, where only a share is kept, from which on they tell anything: forged addresses that come once each
leave one, and that one would stand for as many targets as the share is small."""
_FLOW_IDS = 100
_PORTS_NAMED = 10


class PortScan:
    """Finds scanners, by host.

    `scan_targets_min` ports of one host, or hosts on one port, within `scan_window_s`, and at least half of the tries
    were refused or not repeated (a client of hosts that are down repeats its SYN). Severity: info; a scan is no fault.
    """

    kind = "port_scan"

    def __init__(self, options: DetectOptions | None = None, limits: Limits = WHOLE) -> None:
        self.options = options or DetectOptions()
        self._limit = limits.pairs
        self._level = 0  # kept are pairs whose hash has that many zeros at its end
        self._pairs = np.empty(0, TRY_DTYPE)
        self._new: list[np.ndarray] = []
        self._new_rows = 0

    def feed(self, batch: Batch) -> None:
        """Take in a batch."""
        rows = batch.having(Trait.NEVER_OPEN)
        if not rows.size:
            return
        self._push(tries(batch.rows, rows, batch.traits, self._level))

    def merge(self, other: PortScan, services: np.ndarray) -> None:
        """Take in what `other` was fed."""
        self._level = max(self._level, other._level)
        for pairs in [other._pairs, *other._new]:
            self._push(pairs)

    def findings(self, background: Background) -> list[Finding]:
        """Return the scanners, those with the most targets first."""
        self._settle()
        pairs = _octets(self._pairs)[self._pairs["ts_ns"] <= background.end_ts_ns].view(TRY_DTYPE)
        if not len(pairs):
            return []
        hosts = hash_words(np.ascontiguousarray(pairs["host"]))
        order = np.argsort(hosts)
        starts = np.flatnonzero(np.diff(hosts[order], prepend=~hosts[order[:1]]))
        counts = np.diff(starts, append=len(order))
        many = counts >= self._least
        parts = (order[start : start + count] for start, count in zip(starts[many], counts[many], strict=True))
        return worst_first(self._finding(pairs[np.sort(part)]) for part in parts)[: self.options.subjects_max]

    def _push(self, pairs: np.ndarray) -> None:
        self._new.append(pairs)
        self._new_rows += len(pairs)
        if self._new_rows > self._limit:
            self._settle()

    def _settle(self) -> None:
        """Keep each pair once, as it first was; and fewer of them while there are too many."""
        pairs = np.concatenate([_octets(part) for part in (self._pairs, *self._new)]).view(TRY_DTYPE)
        self._new, self._new_rows = [], 0
        rows = np.flatnonzero(pairs["hash"] & np.uint64((1 << self._level) - 1) == 0)
        if len(rows):
            hashes = pairs["hash"][rows]
            order = np.argsort(hashes)
            hashes, rows = hashes[order], rows[order]
            ids = pairs["flow_id"][rows]
            starts = np.flatnonzero(np.concatenate(([True], hashes[1:] != hashes[:-1])))
            lowest = np.repeat(np.minimum.reduceat(ids, starts), np.diff(starts, append=len(ids)))
            rows = rows[ids == lowest]
        pairs = _octets(pairs)[rows].view(TRY_DTYPE)
        while len(pairs) > self._limit:
            self._level += 1
            pairs = _octets(pairs)[pairs["hash"] & np.uint64((1 << self._level) - 1) == 0].view(TRY_DTYPE)
        self._pairs = pairs

    @property
    def _least(self) -> float:
        """How many pairs that were kept of a host make a finding."""
        least = self.options.scan_targets_min
        return max(least / 2**self._level, _LEAST_KEPT) if self._level else least

    def _finding(self, pairs: np.ndarray) -> Finding | None:
        options = self.options
        least = self._least
        if len(pairs) < least:
            return None
        addresses, by_address = np.unique(pairs["target"], axis=0, return_counts=True)
        ports, by_port = np.unique(pairs["port"], return_counts=True)
        if max(by_address.max(), by_port.max()) < least:
            return None
        top_port, top_address = ports[np.argmax(by_port)], addresses[np.argmax(by_address)]
        of_port, of_host = pairs["port"] == top_port, (pairs["target"] == top_address).all(axis=1)
        chosen = of_host if by_address.max() >= by_port.max() else of_port
        ticks = np.sort(pairs["ts_ns"][chosen] // 10**8)
        _, sums = window_sums(ticks, np.ones(len(ticks), np.int64), max(1, ns_of(options.scan_window_s) // 10**8))
        patient = np.count_nonzero(pairs["outcome"] & Outcome.WAS_REPEATED)
        if sums.max() < least or 2 * patient > len(pairs):
            return None
        scale = 2**self._level
        version = int(pairs["version"][0])
        subject = words_ip(pairs["host"][0, 0], pairs["host"][0, 1], version)
        share = {name: int(np.count_nonzero(pairs["outcome"] & bit)) * scale for name, bit in _OUTCOMES}
        evidence: dict[str, Any] = {
            "direction": "ports of a host" if by_address.max() >= by_port.max() else "hosts on a port",
            "targets": len(pairs) * scale,
            "targets_by": "exact" if scale == 1 else f"one in {scale}, by hash",
            "hosts": len(addresses),
            "ports": len(ports),
            **share,
            "most_tried_host": words_ip(top_address[0], top_address[1], version),
            "most_tried_ports": [int(port) for port in ports[np.argsort(-by_port, kind="stable")[:_PORTS_NAMED]]],
        }
        return Finding(
            kind=self.kind,
            subject=subject,
            severity="info",
            first_ts_ns=int(pairs["ts_ns"].min()),
            last_ts_ns=int(pairs["ts_ns"].max()),
            count=len(pairs) * scale,
            peak=int(sums.max()) * scale,
            evidence=evidence,
            caveats=(
                "Monitoring and service discovery look the same; and a scanner can forge its address.",
                "Ports that did open are not counted among the targets.",
            ),
            next_steps=(
                f"whois {subject}; is it a scanner of your own?",
                f"ctrack flows CAPTURE --where 'client_ip={subject} and client_state!=CLOSED' (what did it reach?)",
                f"If it is not welcome: nft add rule inet filter input ip saddr {subject} drop"
                if version == 4
                else f"If it is not welcome: nft add rule inet filter input ip6 saddr {subject} drop",
            ),
            flow_ids=tuple(int(flow_id) for flow_id in np.sort(pairs["flow_id"])[:_FLOW_IDS]),
        )


def _octets(pairs: np.ndarray) -> np.ndarray:
    """Return `pairs` seen as octets: numpy copies structs field by field."""
    return pairs.view(f"V{TRY_DTYPE.itemsize}")


_OUTCOMES = (
    ("refused", Outcome.WAS_REFUSED),
    ("unanswered", Outcome.WAS_SILENT),
    ("given_up", Outcome.WAS_GIVEN_UP),
)
