"""All the rules of a host together: shown one look after the other, they say what is wrong. What `ctrack host` runs."""

from __future__ import annotations

from conntrack.detect.finding import Finding, worst_first
from conntrack.host.accept_queue import AcceptQueue
from conntrack.host.close_wait import CloseWait
from conntrack.host.closing import FinWait2, LastAck
from conntrack.host.conntrack_table import ConntrackTable
from conntrack.host.looks import Look
from conntrack.host.options import HostOptions
from conntrack.host.rates import Resets, Retransmissions
from conntrack.host.rule import Rule
from conntrack.host.syn_flood import SynFlood
from conntrack.host.time_wait import TimeWait, TimeWaitTable

__all__ = ["RULES", "Watch"]

RULES: tuple[type[Rule], ...] = (
    SynFlood,
    CloseWait,
    TimeWait,
    TimeWaitTable,
    AcceptQueue,
    FinWait2,
    LastAck,
    Retransmissions,
    Resets,
    ConntrackTable,
)


class Watch:
    """Looks at a host over time.

    Args:
        options: thresholds.

    Example:
        >>> from conntrack.host import Watch, look
        >>> watch = Watch()
        >>> watch.feed(look())
        >>> findings = watch.findings()
    """

    def __init__(self, options: HostOptions | None = None) -> None:
        self._rules = [rule(options or HostOptions()) for rule in RULES]
        self.looks: int = 0

    def feed(self, look: Look) -> None:
        """Take in a look, later than those before. Counters and growth are told between the first and the last one."""
        self.looks += 1
        for rule in self._rules:
            rule.feed(look)

    def findings(self) -> list[Finding]:
        """Return what is wrong as of the last look, worst first."""
        return worst_first(finding for rule in self._rules for finding in rule.findings())

    @property
    def first(self) -> Look:
        """The look that growth is counted from."""
        return self._rules[0].first

    @property
    def last(self) -> Look:
        """The latest look."""
        return self._rules[0].last

    def grown(self, name: str) -> int | None:
        """Return by how much a counter has grown since the first look that knew it; None if that is not known."""
        return self._rules[0].grown(name)

    @property
    def counted_s(self) -> float:
        """Seconds that `grown` is about."""
        return self._rules[0].counted_s
