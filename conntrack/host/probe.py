"""A watch that forgets, for a probe that runs for weeks: what it says is about the last minutes.

A Watch counts growth from its first look on, so that a queue that was full once would be told for ever. Two overlap
here; the older one speaks.
"""

from __future__ import annotations

from conntrack.host.looks import Look
from conntrack.host.options import HostOptions
from conntrack.host.watch import Watch

__all__ = ["Probe"]


class Probe:
    """Looks at a host for as long as one likes.

    Args:
        window_ns: how far back growth and counters go at most. Once so much time has passed, at least half of it.
        options: thresholds.
    """

    def __init__(self, window_ns: int, options: HostOptions | None = None) -> None:
        self._window_ns = window_ns
        self._options = options
        self._watches: list[Watch] = []

    def feed(self, look: Look) -> None:
        """Take in a look, later than those before."""
        if not self._watches or look.at_ts_ns - self._watches[-1].first.at_ts_ns >= self._window_ns // 2:
            self._watches.append(Watch(self._options))
        for watch in self._watches:
            watch.feed(look)
        if len(self._watches) > 2:
            del self._watches[0]

    @property
    def watch(self) -> Watch:
        """What is so now; after at least one look."""
        return self._watches[0]
