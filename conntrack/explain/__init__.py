"""One connection, segment by segment: what each was taken for, and why it moved what it moved. Plain data, no printing.

A connection's life depends on its own segments and on time alone, so the segments of one 4-tuple (selection.py) go one
by one through a Tracker of their own (story.py; networks.py where those of each network are told apart). What it knows
before and after each (numbers.py) says what the segment was taken for (taken.py) and which rules of transitions.py
applied (reasons.py). The shape of the result is in model.py. For a report, a few connections of a whole capture are
told in a second look at it (second_look.py).
"""

from __future__ import annotations

from conntrack.explain.model import Change, Expired, Folded, Story, StorySegment
from conntrack.explain.networks import NetworkTellers
from conntrack.explain.second_look import SecondLook, find_tuples
from conntrack.explain.selection import FourTuple, parse_endpoint
from conntrack.explain.story import StoryTeller

__all__ = [
    "Change",
    "Expired",
    "Folded",
    "FourTuple",
    "NetworkTellers",
    "SecondLook",
    "Story",
    "StorySegment",
    "StoryTeller",
    "find_tuples",
    "parse_endpoint",
]
