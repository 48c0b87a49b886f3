"""A capture split between trackers, by connection and in any batches, then merged in any order, is the capture whole.

The whole report is compared, as JSON and with the connections that it shows one by one, not only what was found: that
one part of it does not depend on the split is also tested by itself (tests/unit/test_detect_split.py).
"""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from conntrack.capture import CaptureInfo, open_capture
from conntrack.pipeline import Analysis
from conntrack.report.json import render_json
from conntrack.tracker import Tracker

SPLITS = 12


@pytest.fixture(scope="module")
def capture(root: Path) -> tuple[NDArray[np.void], CaptureInfo]:
    """Segments of a capture with faults, and the account of it."""
    with open_capture([root / "tests" / "captures" / "incident.pcap"]) as opened:
        return np.concatenate(list(opened)), opened.info


def analysed(segments: NDArray[np.void], cuts: list[int], end_ns: int) -> Analysis:
    """Return what is said of `segments`, cut into batches, with connections as they are at `end_ns`."""
    tracker, analysis = Tracker(), Analysis(choose=True)
    for start, end in pairwise(sorted({0, len(segments), *cuts})):
        tracker.process(segments[start:end])
        tracker.retire_forgotten(tracker._table.settled_ns)
        for rows in [*tracker.retired(), *tracker.take_rows()]:
            analysis.feed(rows)
    analysis.feed(tracker.snapshot(end_ns))
    return analysis


def told(analysis: Analysis, info: CaptureInfo) -> tuple[str, bytes]:
    report = analysis.report(info)
    assert report.chosen is not None
    return render_json(report), report.chosen.tobytes()


def connection_of(segments: NDArray[np.void]) -> NDArray[np.int64]:
    """Return a number for the 4-tuple of each segment, the same in both directions."""
    ends = [
        np.concatenate([segments[f"{end}_ip"], segments[f"{end}_port"][:, None].view(np.uint8)], axis=1)
        for end in ("src", "dst")
    ]
    names = np.array([b"".join(sorted((one.tobytes(), other.tobytes()))) for one, other in zip(*ends, strict=True)])
    return np.unique(names, return_inverse=True)[1]


@pytest.mark.parametrize("seed", range(SPLITS))
def test_any_split_merged_in_any_order_is_the_whole(capture: tuple[NDArray[np.void], CaptureInfo], seed: int) -> None:
    segments, info = capture
    dice = Random(seed)
    end_ns = int(segments["ts_ns"].max())
    whole = told(analysed(segments, [], end_ns), info)
    assert len(whole[0]) > 10_000
    connections = connection_of(segments)
    count = dice.choice([2, 3, 7])
    of_part = np.array([dice.randrange(count) for _ in range(int(connections.max()) + 1)])[connections]
    parts = []
    for part in range(count):
        chosen = segments[of_part == part]
        cuts = [dice.randrange(len(chosen)) for _ in range(dice.randrange(30))]
        parts.append(analysed(chosen, cuts, end_ns))
    while len(parts) > 1:
        one, other = parts.pop(dice.randrange(len(parts))), parts.pop(dice.randrange(len(parts)))
        one.merge(pickle.loads(pickle.dumps(other)))  # as it comes from another process
        parts.append(one)
    assert told(parts[0], info) == whole
