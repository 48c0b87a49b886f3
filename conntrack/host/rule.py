"""What every rule of a host has in common: it is shown one look after the other, and then says what is wrong.

A rule keeps the first and the last look and what it needs of those between, so that memory does not follow time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from conntrack.detect.finding import Finding
from conntrack.host.looks import Look
from conntrack.host.options import HostOptions

__all__ = ["Rule", "shown_ids"]

_SHOWN = 100


class Rule(ABC):
    """Base of the rules, one to a kind of finding.

    Attributes:
        kind: of its findings.
        first, last: the looks between which things changed; the same where there was one.
    """

    kind: str
    first: Look
    last: Look

    def __init__(self, options: HostOptions) -> None:
        self.options = options
        self.looks = 0
        self._counted: Look | None = None

    def feed(self, look: Look) -> None:
        """Take in a look, later than those before."""
        if not self.looks:
            self.first = look
        if self._counted is None and look.counters:
            self._counted = look
        self.last = look
        self.looks += 1
        self.see(look)

    def see(self, look: Look) -> None:  # noqa: B027  (most rules need no more than the first and the last)
        """Note what no first and last look would tell."""

    @abstractmethod
    def findings(self) -> list[Finding]:
        """Return what is wrong, worst first; after at least one look."""

    @property
    def span_s(self) -> float:
        """Seconds from the first look to the last."""
        return (self.last.at_ts_ns - self.first.at_ts_ns) / 1e9

    @property
    def counted_s(self) -> float:
        """Seconds that `grown` is about."""
        return 0.0 if self._counted is None else (self.last.at_ts_ns - self._counted.at_ts_ns) / 1e9

    def grown(self, name: str) -> int | None:
        """Return by how much a counter has grown since the first look that knew it; None if that is not known."""
        if self._counted is None or self._counted is self.last or name not in self.last.counters:
            return None
        return max(0, self.last.counters[name] - self._counted.counters.get(name, 0))


def shown_ids(rows: np.ndarray[Any, Any]) -> tuple[int, ...]:
    """Return the kernel's cookies of sockets, lowest first, at most 100: their `flow_id` in `ctrack sockets`."""
    return tuple(np.sort(rows["flow_id"][rows["flow_id"] != 0])[:_SHOWN].tolist())
