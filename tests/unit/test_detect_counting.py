"""The containers under the detectors, against dictionaries and sorted lists."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrack.detect.counting import NO_GROUP, KeyIndex, LowestPerGroup, Tally, ticks_of

NS = 1_000_000_000


def words(keys):
    return np.array(keys, np.uint64)


keys_strategy = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 2**64 - 1) | st.integers(0, 3)), min_size=1, max_size=80
)


@settings(deadline=None)
@given(keys_strategy, st.integers(1, 80))
def test_equal_keys_have_equal_numbers_and_others_do_not(keys, split):
    index = KeyIndex(2)
    numbers = [*index.intern(words(keys[:split])), *(index.intern(words(keys[split:])) if keys[split:] else [])]
    assert len(index) == len(set(keys))
    assert [tuple(int(word) for word in index.keys[number]) for number in numbers] == keys


def test_many_keys_grow_the_table():
    index = KeyIndex(1)
    column = np.arange(100_000, dtype=np.uint64) % np.uint64(30_011)
    numbers = index.intern(column[:, None])
    assert len(index) == 30_011
    assert np.array_equal(index.keys[numbers, 0], column)
    assert np.array_equal(index.intern(column[:, None]), numbers)


def test_keys_beyond_the_limit_are_refused_and_counted():
    index = KeyIndex(1, limit=3)
    numbers = index.intern(np.array([[7], [8], [9], [10], [7], [11]], np.uint64))
    assert sorted(number for number in numbers if number != NO_GROUP) and len(index) == 3
    assert index.overflow_rows == int((numbers == NO_GROUP).sum()) > 0
    assert np.array_equal(index.intern(index.keys.copy()), [0, 1, 2])
    with pytest.raises(ValueError, match="at most"):
        KeyIndex(1, limit=1 << 25)


def test_merging_indexes_translates_numbers():
    one, other = KeyIndex(1), KeyIndex(1)
    one.intern(np.array([[5], [6]], np.uint64))
    other.intern(np.array([[6], [7], [5]], np.uint64))
    translated = one.merge(other)
    assert np.array_equal(one.keys[translated], other.keys)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**5)), max_size=60), st.sampled_from([1, 10, 100, 1000])
)
def test_counts_at_the_ticks_are_exact_at_any_step(intervals, factor):
    """The sum of +1 and -1 up to a tick is the number of intervals that hold that instant."""
    starts = np.array([start for start, _ in intervals], np.int64)
    ends = starts + np.array([length for _, length in intervals], np.int64)
    step = 100 * factor
    start_ticks, end_ticks = ticks_of(ticks_of(starts, 100), factor), ticks_of(ticks_of(ends, 100), factor)
    for tick in range(0, 1_200_000 // step, 7):
        going_on = int(((starts <= tick * step) & (ends > tick * step)).sum())
        assert (start_ticks <= tick).sum() - (end_ticks <= tick).sum() == going_on


rows_strategy = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 100 * NS), st.integers(0, 15), st.integers(1, 3)),
    min_size=1,
    max_size=60,
)


def fed(rows, limit):
    tally = Tally(NS // 10, limit)
    if rows:
        group, time_ns, column, count = (np.array(values, np.int64) for values in zip(*rows, strict=True))
        for number in range(16):
            chosen = column == number
            tally.add(group[chosen], time_ns[chosen], number, count[chosen] if number % 2 else None)
    return tally


def counted(tally):
    return tally.step_ns, [tuple(row) for row in np.stack(tally.table()).T.tolist()]


@settings(deadline=None)
@given(rows_strategy, st.integers(0, 60), st.sampled_from([2, 5, 20, 1000]), st.randoms(use_true_random=False))
def test_a_tally_is_the_same_in_any_order_split_and_merge(rows, split, limit, random):
    whole = fed(rows, limit)
    step_ns, table = counted(whole)
    expected = Counter()
    for group, time_ns, column, count in rows:
        expected[group, -(-time_ns // step_ns), column] += count if column % 2 else 1
    assert table == [(*key, count) for key, count in sorted(expected.items())]
    shuffled = random.sample(rows, len(rows))
    half, other = fed(shuffled[:split], limit), fed(shuffled[split:], limit)
    half.merge(other, np.arange(5))
    assert counted(half) == (step_ns, table)


def test_a_tally_over_its_limit_becomes_coarser_and_keeps_its_sums():
    tally = Tally(1, limit=100)
    tally.add(np.zeros(1000, np.int64), np.arange(1000), 3)
    assert np.array_equal(tally.totals(4, 1)[:, 0], [0, 0, 0, 1000])
    assert tally.step_ns == 100
    ticks, columns, counts = tally.series_of(0)
    assert ticks.tolist() == list(range(11))
    assert set(columns.tolist()) == {3}
    assert counts.tolist() == [1, *[100] * 9, 99]


def test_times_out_of_range_are_counted_at_the_ends():
    tally = Tally(1)
    tally.add(np.zeros(2, np.int64), np.array([-5, 2**62]), 0)
    assert tally.series_of(0)[0].tolist() == [0, 2**36 - 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=80), st.integers(1, 6), st.integers(0, 80))
def test_the_lowest_of_each_group_are_kept(pairs, most, split):
    def fed_with(part):
        lowest = LowestPerGroup(most)
        lowest.add(np.array([group for group, _ in part], np.int64), np.array([value for _, value in part], np.uint64))
        return lowest

    merged = fed_with(pairs[split:])
    merged.merge(fed_with(pairs[:split]), np.arange(4))
    for group in range(4):
        expected = sorted({value for owner, value in pairs if owner == group})[:most]
        assert fed_with(pairs).of(group).tolist() == merged.of(group).tolist() == expected


def test_words_stay_with_their_value_and_a_full_house_halves_what_is_kept():
    lowest = LowestPerGroup(8, width=1, limit=100)
    values = np.arange(1000, dtype=np.uint64)
    lowest.add(np.arange(1000, dtype=np.int64) % 20, values, 3 * values[:, None])
    assert lowest.of(7).tolist() == [7, 27, 47, 67]  # 20 groups: 8 of each are too many, 4 are not
    assert lowest.words_of(7)[:, 0].tolist() == [21, 81, 141, 201]
    other = LowestPerGroup(8, width=1, limit=100)
    other.add(np.zeros(1, np.int64), np.array([2], np.uint64), np.array([[9]], np.uint64))
    other.merge(lowest, np.arange(20))
    assert other.most == 4
    assert other.of(0).tolist() == [0, 2, 20, 40]
    assert other.words_of(0)[:, 0].tolist() == [0, 9, 60, 120]
