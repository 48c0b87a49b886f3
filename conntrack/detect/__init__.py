"""Detectors: what is wrong, said of connections. They read arrays of FLOW_DTYPE and nothing else: no packet, no
tracker.

Everything here takes batches in any split and order, merges, and then says the same (counting.py has how). Start with
`finding.py` (what is said), `options.py` (the thresholds), then a detector.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from conntrack.detect.close_wait import CloseWaitLeak
from conntrack.detect.finding import SEVERITIES, Detector, Finding, Severity
from conntrack.detect.options import DetectOptions
from conntrack.detect.series import StateSeries
from conntrack.detect.services import ServiceSummary
from conntrack.detect.syn_flood import SynFlood
from conntrack.detect.time_wait import TimeWaitBuildup

__all__ = [
    "DETECTORS",
    "SEVERITIES",
    "CloseWaitLeak",
    "DetectOptions",
    "Detector",
    "Finding",
    "ServiceSummary",
    "Severity",
    "StateSeries",
    "SynFlood",
    "TimeWaitBuildup",
    "find_all",
    "make_detectors",
    "merge",
    "run",
]

DETECTORS: tuple[Any, ...] = (SynFlood, CloseWaitLeak, TimeWaitBuildup)
"""The detectors there are, in the order in which equal findings are told. Each is made from DetectOptions."""

_PIECE = 8192  # rows at once: 3 MB of them, and their columns, stay in the processor's cache for all detectors


def make_detectors(options: DetectOptions | None = None) -> list[Detector]:
    """Return one of each detector."""
    options = options or DetectOptions()
    return [make(options) for make in DETECTORS]


def run(detectors: Iterable[Any], flows: np.ndarray) -> None:
    """Feed final connections (FLOW_DTYPE, shape (n,)) to everything that has `feed`: detectors, series, summary."""
    for start in range(0, len(flows), _PIECE):
        piece = flows[start : start + _PIECE]
        for detector in detectors:
            detector.feed(piece)


def merge(detectors: Iterable[Any], others: Iterable[Any]) -> None:
    """Merge each of `others` into its counterpart; both as `make_detectors` orders them."""
    for detector, other in zip(detectors, others, strict=True):
        detector.merge(other)


def find_all(detectors: Iterable[Detector], end_ts_ns: int) -> list[Finding]:
    """Return every finding, the most severe first; `end_ts_ns` is when the capture ended."""
    found: Sequence[Finding] = [finding for detector in detectors for finding in detector.findings(end_ts_ns)]
    return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))
