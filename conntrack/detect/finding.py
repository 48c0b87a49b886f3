"""What a detector says: `Finding`, and the shape of a detector. Plain data; knows no detector and no output format.

A finding names a subject, says since when, how many, on what evidence, what a careful engineer would doubt, and
what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

import numpy as np

__all__ = ["SEVERITIES", "Detector", "Finding", "Severity"]

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing, about one subject.

    Attributes:
        kind: the detector's name, e.g. "syn_flood".
        subject: "ip:port" of a service ("[ip6]:port"), or the address of a host.
        severity: "info", "warning" or "critical".
        first_ts_ns, last_ts_ns: when it began and when it was last seen, nanoseconds since 1970 (UTC).
        count: connections concerned.
        peak: the most of them at one instant.
        evidence: numbers and short strings by name; JSON-able; units in the names.
        caveats: what would make this finding weaker, one sentence each.
        next_steps: what to run or check next, one command or sentence each.
        flow_ids: connections behind it, lowest first, at most 100 (`count` says how many there are).
    """

    kind: str
    subject: str
    severity: Severity
    first_ts_ns: int
    last_ts_ns: int
    count: int
    peak: int
    evidence: dict[str, Any] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()
    flow_ids: tuple[int, ...] = ()


class Detector(Protocol):
    """Incremental and mergeable: fed batches in any split and order, or halves merged, the findings are the same."""

    kind: str

    def feed(self, flows: np.ndarray) -> None:
        """Take in connections (FLOW_DTYPE, shape (n,)); each connection is fed exactly once, when it is final."""

    def merge(self, other: Self) -> None:
        """Take in what `other` was fed."""

    def findings(self, end_ts_ns: int) -> Sequence[Finding]:
        """Return what is wrong, worst first; `end_ts_ns` is when the capture ended."""
