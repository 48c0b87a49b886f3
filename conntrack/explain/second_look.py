"""A second look at a capture, at a few chosen connections: their final rows, and the stories of some of them.

The first reading names them by flow_id, the frame of their first segment. `find_tuples` finds the 4-tuples of those
frames; `SecondLook` is then fed the capture once more, drops the segments of all others by a table of ports and a hash,
and follows what is left with a Tracker of its own. A connection's life depends on its own segments and on time alone,
so the rows are those of the first reading. Knows no capture: whoever has one hands in the batches, twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from conntrack.core.abi import FLOW_DTYPE
from conntrack.explain.model import Story
from conntrack.explain.selection import FourTuple
from conntrack.explain.story import StoryTeller
from conntrack.states import NO_TIME_NS
from conntrack.tracker import Tracker

__all__ = ["MOST_SEGMENTS", "SecondLook", "find_tuples"]

Array = np.ndarray[Any, Any]

MOST_SEGMENTS = 2_000
"""Segments that are told of a 4-tuple, about 0.1 ms each; what comes after them is counted in `Story.left_out`."""
_ODD = (0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9)
"""Odd numbers of 64 bits (golden ratio; XXH64). Two tuples that hash alike only make both be followed."""


def find_tuples(batches: Iterable[Array], flow_ids: Iterable[int], *, tag_in_key: bool = False) -> dict[int, FourTuple]:
    """Return the 4-tuples of the segments in the frames `flow_ids`; reads `batches` no further than the last of them.

    Args:
        batches: SEGMENT_DTYPE, shape (n,) each, in the order of the frames.
        flow_ids: what is no segment's frame is left out.
        tag_in_key: as in the first reading.
    """
    wanted = np.unique(np.fromiter(flow_ids, np.uint64))
    found: dict[int, FourTuple] = {}
    if not len(wanted):
        return found
    for batch in batches:
        frames = batch["frame"]
        low, high = np.searchsorted(wanted, (frames[0], frames[-1] + np.uint64(1)))
        for frame in wanted[low:high]:
            at = int(frames.searchsorted(frame))
            if frames[at] == frame:
                found[int(frame)] = FourTuple.of(batch[at], with_tag=tag_in_key)
        if high == len(wanted):
            break
    return found


class SecondLook:
    """Follows chosen connections.

    Args:
        tuples: 4-tuples by flow_id, as `find_tuples` gives them; with tags, the tag is part of a connection's key.
        told: those of the flow_ids whose story is told.
        profile: timers of which kind of host, as in the first reading.
    """

    def __init__(self, tuples: dict[int, FourTuple], told: Sequence[int], *, profile: str = "linux") -> None:
        self._ids = np.array(sorted(tuples), np.uint64)
        self._tracker = Tracker(profile=profile, tag_in_key=any(four.tag is not None for four in tuples.values()))
        self._rows: list[Array] = []
        self._last_ns = NO_TIME_NS
        self._wanted_port = np.zeros(1 << 16, bool)
        for four in tuples.values():
            self._wanted_port[[four.a.port, four.b.port]] = True
        self._hashes = np.unique(np.array([_hash_of(four) for four in tuples.values()], np.uint64))
        self._tellers = [_Teller(flow_id, tuples[flow_id], profile) for flow_id in told if flow_id in tuples]
        self._by_hash: dict[int, list[_Teller]] = {}
        for teller in self._tellers:
            self._by_hash.setdefault(_hash_of(teller.four), []).append(teller)

    def feed(self, batch: Array) -> None:
        """Take in all segments of the capture (SEGMENT_DTYPE, shape (n,)), in order."""
        self._last_ns = max(self._last_ns, int(batch["ts_ns"].max(initial=NO_TIME_NS)))
        segments = batch[self._wanted_port[batch["src_port"]] & self._wanted_port[batch["dst_port"]]]
        if not len(segments) or not len(self._hashes):
            return
        hashes = _hashes(segments)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        ours = self._hashes[at] == hashes
        segments, hashes = segments[ours], hashes[ours]
        if not len(segments):
            return
        self._tracker.process(segments)
        self._keep(self._tracker.retired())
        for value in np.unique(hashes).tolist():
            for teller in self._by_hash.get(value, ()):
                teller.feed(segments[hashes == value])

    def finish(self) -> tuple[Array, list[Story]]:
        """Return the rows of the chosen connections (FLOW_DTYPE, shape (n,)), and the stories in the order asked for.

        The rows are as at the last segment of the whole capture.
        """
        now = [self._tracker.snapshot(max(self._last_ns, self._tracker.now_ns))] if self._tracker.now_ns else []
        self._keep(self._tracker.finish())
        self._keep(now)  # what is still there comes twice: as at its own last segment, then as at the capture's
        rows = np.concatenate([*self._rows, np.empty(0, FLOW_DTYPE)])
        by_id = {int(flow_id): at for at, flow_id in enumerate(rows["flow_id"])}
        stories = []
        for teller in self._tellers:
            at = by_id.get(teller.flow_id)
            story = None if at is None else teller.story(self._last_ns, rows[at : at + 1])
            if story is not None:
                stories.append(story)
        return rows[list(by_id.values())], stories

    def _keep(self, batches: Iterable[Array]) -> None:
        for flows in batches:
            self._rows.append(flows[np.isin(flows["flow_id"], self._ids)])


class _Teller:
    """One story, told up to a number of segments."""

    def __init__(self, flow_id: int, four: FourTuple, profile: str) -> None:
        self.flow_id = flow_id
        self.four = four
        self._teller = StoryTeller(four, profile=profile, only=flow_id)
        self._told = 0
        self._last_ns = NO_TIME_NS

    def feed(self, segments: Array) -> None:
        own = self.four.select(segments)[: MOST_SEGMENTS - self._told]
        if len(own):
            self._told += len(own)
            self._last_ns = max(self._last_ns, int(own["ts_ns"].max()))
            self._teller.feed(own)

    def story(self, now_ns: int, row: Array) -> Story | None:
        """Return the story with its final row; None if the segments that were told do not reach it."""
        cut = self._told == MOST_SEGMENTS
        for story in self._teller.finish(self._last_ns if cut else now_ns):
            if story.flow_id == self.flow_id and story.row is not None:
                packets = [int(each["client_packets"][0]) + int(each["server_packets"][0]) for each in (story.row, row)]
                story.left_out += packets[1] - packets[0]
                story.row, story.capture_last_ts_ns = row, now_ns
                return story
        return None


def _hashes(segments: Array) -> Array:
    """Return a hash of the 4-tuple of each segment, the same for both directions: uint64, shape (n,)."""
    ends = []
    for end in ("src", "dst"):
        words = np.ascontiguousarray(segments[f"{end}_ip"]).view(np.uint64)
        value = words[:, 0] * np.uint64(_ODD[0]) ^ words[:, 1]
        value = (value ^ value >> np.uint64(29)) * np.uint64(_ODD[1]) + segments[f"{end}_port"]
        ends.append((value ^ value >> np.uint64(32)) * np.uint64(_ODD[2]))
    total: Array = ends[0] + ends[1]
    return total


def _hash_of(four: FourTuple) -> int:
    names = ["src_ip", "dst_ip", "src_port", "dst_port"]
    row = np.zeros(1, np.dtype([(names[0], "u1", 16), (names[1], "u1", 16), (names[2], "u2"), (names[3], "u2")]))
    for end, (ip, _, port) in zip(("src", "dst"), (four.a, four.b), strict=True):
        row[f"{end}_ip"], row[f"{end}_port"] = np.frombuffer(ip, np.uint8), port
    return int(_hashes(row)[0])
