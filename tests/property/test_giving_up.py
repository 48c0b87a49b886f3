"""What leaves the table early, retired or evicted, at whatever moment, leaves as the model (model.py) says it was then.

Random histories (histories.py) of many connections go through a tracker that sweeps at any moment, that is told to give
up connections at any moment, or that has room for a handful. The model is told to forget the same connections at the
same moments; every row must be the same, and every eviction counted. For more of them, by other dice, as in
test_histories.py: CONNTRACK_HISTORIES=3200 CONNTRACK_SEED=7. Where tracker and model differ whoever leaves, as they do
about some SYN+ACKs of several numbers, they differ here too.
"""

from __future__ import annotations

import os
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from histories import History, draw_history, join
from model import Model
from model_connection import Row
from numpy.typing import NDArray
from test_histories import END_NS
from tracked import agreed

from conntrack import tracker as tracker_module
from conntrack import upkeep
from conntrack.core.abi import FLOW_DTYPE
from conntrack.states import EndReason
from conntrack.tracker import MOST_BYTES_EACH, Tracker

TOGETHER = 32
BLOCKS = int(os.environ.get("CONNTRACK_HISTORIES", "640")) // TOGETHER
SEED = int(os.environ.get("CONNTRACK_SEED", "1"))
LOOK_SEGMENTS = 16
Moment = tuple[int, int, int, int]
"""After so many segments, at a time, those go that are idle since before another; since then, up to a flow_id."""


class Forgetful(Model):
    """A model that forgets when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.evicted: set[int] = set()

    def forget(self, now_ns: int, last_ts_ns: int, flow_id: int) -> int:
        """Put away the connections that are idle since then; return how many of them were not over."""
        before = len(self.evicted)
        for key, connection in list(self.table.items()):
            if (connection.last, connection.number) <= (last_ts_ns, flow_id):
                connection.expire(max(now_ns, connection.last))
                if not connection.over():
                    self.evicted.add(connection.number)
                self.finished.append(self.table.pop(key))
        return len(self.evicted) - before


class Watched(Tracker):
    """A tracker that keeps account of what it evicts."""

    def __init__(self, max_memory: int | None = None) -> None:
        super().__init__(max_memory=max_memory, validate=True)
        self.moments: list[Moment] = []
        self.counts: list[int] = []

    def evict(self, now_ns: int, last_ts_ns: int, flow_id: int) -> int:
        count = super().evict(now_ns, last_ts_ns, flow_id)
        self.moments.append((self.segments, now_ns, last_ts_ns, flow_id))
        self.counts.append(count)
        return count

    def all_rows(self, at_ns: int) -> NDArray[np.void]:
        """What retired and what is left, each as it is at `at_ns` unless it left before."""
        gone = [*self.retired(), *self.take_rows()]
        return np.concatenate([np.empty(0, FLOW_DTYPE), *gone, self.snapshot(at_ns)])


def captured(block: int) -> tuple[Random, History]:
    """Histories of many connections over ten minutes, in one capture, without the frames that are there twice."""
    dice = Random(SEED << 40 | block)
    histories = []
    for number in range(TOGETHER):
        segments, copies, ended_ns = draw_history(dice, number + 1)
        if len(segments):
            histories.append(History(segments[~copies], copies[~copies], ended_ns + dice.randrange(600 * 10**9)))
    return dice, join(histories, END_NS)


def cuts_of(dice: Random, count: int, most: int) -> list[int]:
    return sorted({0, count, *(dice.randrange(count + 1) for _ in range(dice.randrange(most)))})


def told(segments: NDArray[np.void], moments: list[Moment]) -> tuple[list[Row], set[int], list[int]]:
    """What the model says that forgets at these moments: rows, who was evicted, and how many each time."""
    model, counts, done = Forgetful(), [], 0
    for upto, *limits in moments:
        model.process(segments[done:upto])
        done = upto
        counts.append(model.forget(*limits))
    model.process(segments[done:])
    return model.rows(END_NS), model.evicted, counts


def evicted_of(rows: NDArray[np.void]) -> set[int]:
    return set(rows["flow_id"][rows["end_reason"] == EndReason.EVICTED].tolist())


def test_a_sweep_at_any_moment_changes_no_row() -> None:
    swept = 0
    for block in range(BLOCKS):
        dice, (segments, _, _) = captured(block)
        tracker = Watched()
        for start, end in pairwise(cuts_of(dice, len(segments), 40)):
            tracker.process(segments[start:end])
            before = len(tracker)
            tracker.retire_forgotten(tracker._table.settled_ns)
            swept += before - len(tracker)
        rows = tracker.all_rows(END_NS)
        assert agreed(rows) == told(segments, [])[0], f"block {block} of seed {SEED}"
        assert evicted_of(rows) == set()
    assert swept > BLOCKS


def test_who_is_given_up_at_any_moment_leaves_as_the_model_says() -> None:
    evicted = over = 0
    for block in range(BLOCKS, 2 * BLOCKS):
        dice, (segments, _, _) = captured(block)
        tracker, model = Watched(), Forgetful()
        for start, end in pairwise(cuts_of(dice, len(segments), 12)):
            tracker.process(segments[start:end])
            model.process(segments[start:end])
            if model.table and dice.random() < 0.8:
                idlest = sorted((connection.last, connection.number) for connection in model.table.values())
                limits, before = idlest[dice.randrange(len(idlest))], len(tracker)
                count = model.forget(model.now, *limits)
                assert tracker.evict(model.now, *limits) == count, f"block {block} of seed {SEED}"
                evicted, over = evicted + count, over + before - len(tracker) - count
            if dice.random() < 0.3:
                tracker.retire_forgotten(tracker._table.settled_ns)
        rows = tracker.all_rows(END_NS)
        assert agreed(rows) == model.rows(END_NS), f"block {block} of seed {SEED}"
        assert evicted_of(rows) == model.evicted
    assert evicted > BLOCKS
    assert over > BLOCKS


def test_a_small_budget_gives_the_rows_of_a_model_that_forgets_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the same ones in any batches; after every look no more is taken than allowed."""
    monkeypatch.setattr(upkeep, "LEAST_BUDGET", 0)
    monkeypatch.setattr(tracker_module, "LOOK_SEGMENTS", LOOK_SEGMENTS)
    total = 0
    for block in range(2 * BLOCKS, 3 * BLOCKS):
        dice, (segments, _, _) = captured(block)
        budget = dice.choice([3, 6, 12]) * MOST_BYTES_EACH
        seen = []
        for _ in range(2):
            tracker = Watched(budget)
            for start, end in pairwise(cuts_of(dice, len(segments), 60)):
                tracker.process(segments[start:end])
                assert tracker.segments % LOOK_SEGMENTS or tracker.bytes_used <= budget
            rows = tracker.all_rows(END_NS)
            seen.append((rows[np.argsort(rows["flow_id"], kind="stable")].tobytes(), tracker.moments))
        assert seen[0] == seen[1], f"block {block} of seed {SEED}"
        expected, evicted, counts = told(segments, tracker.moments)
        assert agreed(rows) == expected, f"block {block} of seed {SEED}"
        assert evicted_of(rows) == evicted
        assert tracker.counts == counts
        assert tracker.evicted == sum(counts) == len(evicted)
        total += len(evicted)
    assert total > BLOCKS
