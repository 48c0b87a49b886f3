"""Tells the connections of made-up segments, for the tests of explain, of the ladder and of the golden files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from segments import Exchange

from conntrack.explain import Expired, FourTuple, Story, StorySegment, StoryTeller

__all__ = ["reasons", "tell", "words"]


def tell(capture: Exchange | NDArray[np.void], *, after_s: float = 0.0, **options: Any) -> list[Story]:
    """The stories of the first segment's 4-tuple, when the capture goes on `after_s` seconds after its last segment."""
    segments = capture.segments() if isinstance(capture, Exchange) else capture
    four = FourTuple.of(segments[0])
    teller = StoryTeller(four, **options)
    teller.feed(four.select(segments))
    return teller.finish(int(segments["ts_ns"].max()) + round(after_s * 1e9))


def words(story: Story) -> list[str]:
    """What each segment was taken for; the lines of timers are "timer"."""
    return [
        "; ".join(step.taken_for) if isinstance(step, StorySegment) else type(step).__name__.lower()
        for step in story.steps
    ]


def reasons(story: Story, at: int = -1) -> list[tuple[str, str, str, str]]:
    """Side, state before, state after and reason of every change of a step."""
    step = story.steps[at]
    assert isinstance(step, StorySegment | Expired)
    return [(("client", "server")[c.side], c.before.name, c.after.name, c.reason) for c in step.changes]
