"""What a detector says: `Finding`, and the shape of a detector. Plain data; knows no detector and no output format.

A finding names a subject, says since when, how many, on what evidence, what a careful engineer would doubt, and
what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from conntrack.detect.batch import Background, Batch, Page

__all__ = ["SEVERITIES", "Detector", "EveryRow", "Finding", "Severity", "few_lone_ones", "worst_first"]

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


def worst_first(findings: Iterable[Finding | None]) -> list[Finding]:
    """Return those that are not None: the most severe first, then those with the most at once, then by subject."""
    return sorted(
        (finding for finding in findings if finding is not None),
        key=lambda finding: (-SEVERITIES.index(finding.severity), -finding.peak, -finding.count, finding.subject),
    )


def few_lone_ones(findings: Iterable[Finding | None], most: int) -> list[Finding]:
    """Leave out the findings that rest on a single connection each, if there are more than `most` of them.

    A handful of services that fail one client each are as many faults; a thousand are one scan, told as such.
    """
    found = [finding for finding in findings if finding is not None]
    lone = sum(finding.count == 1 for finding in found)
    return found if lone <= most else [finding for finding in found if finding.count > 1]


class Detector(Protocol):
    """Incremental and mergeable: fed batches in any split and order, or parts merged, the findings are the same."""

    kind: str

    def feed(self, batch: Batch) -> None:
        """Take in a batch; each notable connection is fed exactly once, when it is final."""

    def merge(self, other: Self, services: np.ndarray) -> None:
        """Take in what `other` was fed; `services` turns its numbers of services into ours (NO_GROUP: none)."""

    def findings(self, background: Background) -> Sequence[Finding]:
        """Return what is wrong, worst first."""


@runtime_checkable
class EveryRow(Protocol):
    """What counts healthy connections too."""

    def count(self, page: Page) -> None:
        """Take in a page; each connection is on exactly one, when it is final."""
