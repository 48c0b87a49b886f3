"""Spans by key against counting one by one: any order, any split, at and past the limit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrack.core.keys import hash_words
from conntrack.detect.occupancy import Occupancy

rows_strategy = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 5000), st.integers(0, 900), st.integers(0, 3)), max_size=60
)


def fed(rows, limit):
    spans = Occupancy(1, limit)
    for key, start, length, kind in rows:
        words = np.array([[key]], np.uint64)
        start, end = np.array([start], np.uint64), np.array([start + length], np.uint64)
        spans.add(hash_words(words), start, end, kind)
    return spans


def told(spans, least=1):
    """Return {key: sorted spans, one by one}."""
    return {
        key: sorted(
            (kind, first, last)
            for kind, first, last, count in zip(kinds, firsts, lasts, counts, strict=True)
            for _ in range(count)
        )
        for key, kinds, firsts, lasts, counts in spans.busiest(least)
    }


@settings(deadline=None)
@given(rows_strategy, st.integers(0, 60), st.integers(1, 4), st.randoms(use_true_random=False))
def test_every_span_of_a_busy_key_is_told_in_any_order_and_split(rows, split, least, random):
    expected = {}
    for number in range(5):
        mine = [row for row in rows if row[0] == number]
        if sum(kind == 0 for *_, kind in mine) >= least:
            key = int(hash_words(np.array([[number]], np.uint64))[0])
            expected[key] = sorted((kind, start, start + length) for _, start, length, kind in mine)
    shuffled = random.sample(rows, len(rows))
    merged = fed(shuffled[:split], 1000)
    merged.merge(fed(shuffled[split:], 1000))
    assert told(fed(rows, 1000), least) == told(merged, least) == expected


@settings(deadline=None)
@given(rows_strategy, st.integers(0, 60), st.integers(3, 30), st.randoms(use_true_random=False))
def test_past_the_limit_the_grid_depends_on_what_was_fed_alone(rows, split, limit, random):
    whole = fed(rows, limit)
    shuffled = random.sample(rows, len(rows))
    merged = fed(shuffled[:split], limit)
    merged.merge(fed(shuffled[split:], limit))
    if whole.dropped == merged.dropped == 0:
        assert whole.step_ns == merged.step_ns
        assert told(whole) == told(merged)


def test_equal_spans_are_counted_together_and_the_grid_becomes_coarser():
    spans = Occupancy(1, limit=100)
    key = hash_words(np.array([[7]], np.uint64))
    for start in range(500):
        spans.add(np.repeat(key, 3), *np.full((2, 3), start, np.uint64))
    ((found, kinds, firsts, lasts, counts),) = spans.busiest(1500)
    assert spans.step_ns == 10
    assert (found, spans.dropped) == (int(key[0]), 0)
    assert not kinds.any()
    assert np.array_equal(firsts, lasts)
    assert sorted(zip(firsts.tolist(), counts.tolist(), strict=True))[:3] == [(0, 3), (1, 30), (2, 30)]
    assert counts.sum() == 1500


def test_keys_with_few_are_dropped_when_nothing_else_helps_and_counted():
    spans = Occupancy(1, limit=1000)
    heavy = hash_words(np.array([[1]], np.uint64))
    light = hash_words(np.arange(100, 20_100, dtype=np.uint64)[:, None])
    for part in np.split(light, 20):
        at = np.full(1000, 5000, np.uint64)
        spans.add(part, at, at)
        spans.add(np.repeat(heavy, 50), at[:50], at[:50])
    ((found, *_, counts),) = spans.busiest(900)
    assert (found, int(counts.sum())) == (int(heavy[0]), 1000)
    assert 18_000 <= spans.dropped <= 20_000
    assert spans._rows <= 2000
