"""Several networks with the same addresses and ports: the story of each network's connections by a teller of its own.

That is how connections are told where the tag is part of what makes one (Tracker's `tag_in_key`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conntrack.explain.model import Story
from conntrack.explain.selection import FourTuple
from conntrack.explain.story import StoryTeller

__all__ = ["MOST_NETWORKS", "NetworkTellers"]

MOST_NETWORKS = 100
"""Networks that are told of one 4-tuple, each with a tracker: whoever sends packets chooses how many there are."""


class NetworkTellers:
    """Tells the connections on one 4-tuple, apart by the tag of their segments; used as a StoryTeller.

    Args:
        four: the 4-tuple, on any network; `feed` takes its segments only.
        make: gives a teller of a 4-tuple on one network.

    Attributes:
        untold: segments that were not taken in, on networks beyond MOST_NETWORKS.
    """

    def __init__(self, four: FourTuple, make: Callable[[FourTuple], StoryTeller]) -> None:
        self.untold = 0
        self._four = four
        self._make = make
        self._tellers: dict[int, StoryTeller] = {}

    @property
    def networks(self) -> int:
        """How many are told."""
        return len(self._tellers)

    def feed(self, segments: np.ndarray[Any, Any]) -> None:
        """Take in segments of the 4-tuple (SEGMENT_DTYPE, shape (n,)), in the order of the capture."""
        tags, begins = np.unique(segments["tag"], return_index=True)
        for tag in tags[np.argsort(begins)].tolist():
            own = segments[segments["tag"] == tag]
            if tag not in self._tellers and len(self._tellers) == MOST_NETWORKS:
                self.untold += len(own)
                continue
            if tag not in self._tellers:
                self._tellers[tag] = self._make(self._four._replace(tag=tag))
            self._tellers[tag].feed(own)

    def finish(self, now_ns: int) -> list[Story]:
        """Return the stories of all networks by flow_id; `now_ns` as for StoryTeller.finish."""
        stories = [story for teller in self._tellers.values() for story in teller.finish(now_ns)]
        return sorted(stories, key=lambda story: story.flow_id)
