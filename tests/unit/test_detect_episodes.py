"""conntrack/detect/episodes.py against counting by hand: events, levels, sums over windows, the run around a peak."""

from __future__ import annotations

import numpy as np
import pytest

from conntrack.detect.counting import Tally
from conntrack.detect.episodes import EPISODE_RATIO, Series, around_peak, running_sum, sorted_by, window_sums

STEP_NS = 10
UP, DOWN = 0, 1


def series(end_ts_ns: int | None = None) -> Series:
    """Three begin at tick 2, one at 5, one at 9; two of them end at 5 and one at 9. And there is another group."""
    tally = Tally(STEP_NS)
    events = [(2, UP, 3), (5, UP, 1), (9, UP, 1), (5, DOWN, 2), (9, DOWN, 1)]
    ticks, columns, counts = (np.array(part, np.int64) for part in zip(*events, strict=True))
    tally.add(np.full(5, 7), ticks * STEP_NS, columns.astype(np.uint64), counts)
    tally.add(np.full(1, 8), np.array([2 * STEP_NS]), UP, np.array([100]))
    return Series(tally, 7) if end_ts_ns is None else Series(tally, 7, end_ts_ns)


def told(pair: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, int]]:
    return list(zip(pair[0].tolist(), pair[1].tolist(), strict=True))


def test_events_are_those_of_the_column_up_to_the_tick_of_a_time() -> None:
    one = series()
    assert one.step_ns == STEP_NS
    assert told(one.events(UP)) == [(2, 3), (5, 1), (9, 1)]
    assert told(one.events(DOWN)) == [(5, 2), (9, 1)]
    assert told(one.events(UP, 50)) == told(one.events(UP, 59)) == [(2, 3), (5, 1)]
    assert told(one.events(UP, 49)) == [(2, 3)]


def test_both_ends_of_a_total_belong_to_it() -> None:
    one = series()
    assert one.total(UP) == 5
    assert [one.total(UP, first, last) for first, last in ((20, 90), (29, 90), (30, 90), (20, 89), (50, 50))] == [
        5, 5, 2, 4, 1,
    ]  # fmt: skip
    assert one.total(DOWN, 51, 59) == 2, "a tick is counted as a whole"
    assert (one.total(DOWN, 60), one.total(DOWN, 60, 89), one.total(DOWN, 0, 49)) == (1, 0, 0)


def test_nothing_is_known_behind_the_end() -> None:
    assert told(series(90).events(UP)) == told(series(99).events(UP)) == [(2, 3), (5, 1), (9, 1)]
    assert told(series(89).events(UP)) == [(2, 3), (5, 1)]
    assert told(series(0).events(UP)) == []


def test_a_level_is_what_began_and_is_not_over() -> None:
    assert told(series().level(UP, DOWN)) == [(2, 3), (5, 2), (9, 2)]
    assert told(series(0).level(UP, DOWN)) == []


def test_equal_ticks_keep_their_order_and_are_one() -> None:
    ticks, changes = np.array([5, 2, 5, 3]), np.array([1, 10, 2, -4])
    assert told(sorted_by(ticks, changes)) == [(2, 10), (3, -4), (5, 1), (5, 2)]
    assert told(running_sum(ticks, changes)) == [(2, 10), (3, 6), (5, 9)]
    assert told(running_sum(np.array([4]), np.array([7]))) == [(4, 7)]


@pytest.mark.parametrize("window", [1, 2, 3, 7])
def test_a_window_holds_so_many_ticks(window: int) -> None:
    random = np.random.default_rng(window)
    ticks, counts = np.sort(random.integers(0, 30, 20)), random.integers(1, 5, 20)
    sums = dict(told(window_sums(ticks, counts, window)))
    assert set(sums) == {*ticks.tolist(), *(ticks + window).tolist()}
    for instant, held in sums.items():
        inside = (ticks > instant - window) & (ticks <= instant)
        assert held == counts[inside].sum()


@pytest.mark.parametrize(
    ("level", "run"),
    [
        ([5], (0, 0)),
        ([0, 3, 9, 4, 0, 8], (1, 3)),
        ([0, 8, 0, 9, 4], (3, 4)),
        ([9, 0, 9], (0, 0)),  # the first of two peaks
        ([4, 5, 100, 5, 4], (1, 3)),  # a twentieth belongs to it
        ([1, 0, 1, 2], (2, 3)),  # less than one is nothing
        ([1, 1, 10, 0, 1], (0, 2)),  # one belongs to it, however low the share
        ([200, 10, 9, 10], (0, 1)),
        ([9, 200], (1, 1)),
    ],
)
def test_the_run_around_a_peak(level: list[int], run: tuple[int, int]) -> None:
    assert around_peak(np.array(level)) == run
    assert EPISODE_RATIO == 0.05
