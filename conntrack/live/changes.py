"""What became of findings from one look to the next: a finding opened, grew, or ended.

A finding is the same one as long as its kind and its subject are. It has grown when it has become more severe, or twice
as many connections are concerned, in all or at one time, as when it was told last: so a finding of a million
connections is told 20 times. It has ended when the window no longer shows it (session.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from conntrack.detect.finding import SEVERITIES, Finding

__all__ = ["Change", "Changes"]

GROWS_BY = 2


@dataclass(frozen=True, slots=True)
class Change:
    """One event.

    Attributes:
        event: what happened.
        ts_ns: when that was seen, nanoseconds since 1970, in the time of the capture.
        finding: as it is now; one that ended as it was when it was seen last.
    """

    event: Literal["opened", "grew", "ended"]
    ts_ns: int
    finding: Finding


class Changes:
    """Compares the findings of each look with those before.

    Attributes:
        opened: how many were opened so far, by kind.
    """

    def __init__(self) -> None:
        self.opened: dict[str, int] = {}
        self._told: dict[tuple[str, str], Finding] = {}
        self._seen: dict[tuple[str, str], Finding] = {}

    def look(self, findings: Sequence[Finding], ts_ns: int) -> list[Change]:
        """Return what changed with `findings`, those that hold at `ts_ns`; what ended comes first."""
        now = {(finding.kind, finding.subject): finding for finding in findings}
        changes = [Change("ended", ts_ns, seen) for key, seen in self._seen.items() if key not in now]
        for change in changes:
            del self._told[change.finding.kind, change.finding.subject]
        for key, finding in now.items():
            told = self._told.get(key)
            if told is None:
                self.opened[finding.kind] = self.opened.get(finding.kind, 0) + 1
                changes.append(Change("opened", ts_ns, finding))
            elif _has_grown(told, finding):
                changes.append(Change("grew", ts_ns, finding))
            else:
                continue
            self._told[key] = finding
        self._seen = now
        return changes


def _has_grown(told: Finding, finding: Finding) -> bool:
    return (
        SEVERITIES.index(finding.severity) > SEVERITIES.index(told.severity)
        or finding.count >= GROWS_BY * max(told.count, 1)
        or finding.peak >= GROWS_BY * max(told.peak, 1)
    )
