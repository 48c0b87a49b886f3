"""Distinct values by group, against sets, and the sketch beyond them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from conntrack.core.keys import hash_words
from conntrack.detect.distinct import Distinct

RNG = np.random.default_rng(11)


def fed(groups, values, exact=1000, limit=1 << 20):
    distinct = Distinct(exact, limit)
    distinct.add(groups, values)
    return distinct


def people(count, first=0):
    return hash_words(np.arange(first, first + count, dtype=np.uint64)[:, None])


def test_exact_up_to_the_limit_and_close_beyond():
    groups = np.repeat(np.arange(3), [1000, 1001, 100_000])
    distinct = fed(groups, np.concatenate([people(1000), people(1001), people(100_000)]))
    assert distinct.count(0) == (1000, "exact")
    assert distinct.count(1)[1] == distinct.count(2)[1] == "HyperLogLog"
    assert distinct.count(1)[0] == pytest.approx(1001, rel=0.5)  # 63 of them are in the sketch
    assert distinct.count(2)[0] == pytest.approx(100_000, rel=0.04)
    assert distinct.count(3) == (0, "exact")


def test_order_split_repetition_merge_and_pickling_change_nothing():
    groups = RNG.integers(0, 4, 60_000)
    values = people(60_000)
    values[groups == 0] = values[groups == 0] % np.uint64(700)  # few distinct ones
    expected = [fed(groups, values).count(group) for group in range(4)]
    assert expected[0] == (len(np.unique(values[groups == 0])), "exact")
    order = RNG.permutation(60_000)
    parts = [fed(groups[part], values[part]) for part in np.array_split(order, 7)]
    parts[3].add(groups[order[:9000]], values[order[:9000]])
    whole = pickle.loads(pickle.dumps(parts[0]))
    for part in parts[1:]:
        whole.merge(pickle.loads(pickle.dumps(part)), np.arange(4))
    assert [whole.count(group) for group in range(4)] == expected


def test_numbers_of_groups_are_translated():
    one, other = fed(np.zeros(5, np.int64), people(5)), fed(np.repeat([0, 1], 3000), people(6000))
    one.merge(other, np.array([1, -1]))
    assert one.count(0) == (5, "exact")
    assert one.count(1)[0] == pytest.approx(3000, rel=0.2)
    assert one.count(2) == (0, "exact")


def test_many_groups_share_one_limit_whatever_the_order():
    groups, values = np.repeat(np.arange(40), 600), people(24_000)
    whole = fed(groups, values, exact=1000, limit=8000)
    assert {whole.count(group)[1] for group in range(40)} == {"HyperLogLog"}  # at 256 each
    half = fed(groups[::2], values[::2], exact=1000, limit=8000)
    half.merge(fed(groups[1::2], values[1::2], exact=1000, limit=8000), np.arange(40))
    assert [half.count(group) for group in range(40)] == [whole.count(group) for group in range(40)]
    assert fed(groups, values).count(0) == (600, "exact")


def test_without_the_library_it_says_how_many_at_least(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasketches", None)
    distinct = fed(np.zeros(5000, np.int64), people(5000))
    assert distinct.count(0) == (1001, "at least")
    distinct.merge(pickle.loads(pickle.dumps(fed(np.zeros(2000, np.int64), people(2000, 9000)))), np.arange(1))
    assert distinct.count(0) == (1001, "at least")


def test_a_part_with_the_library_and_one_without(monkeypatch):
    """What is known is the least of both: no estimate is made of a bound."""
    sketched = fed(np.zeros(5000, np.int64), people(5000))
    assert sketched.count(0)[1] == "HyperLogLog"
    monkeypatch.setitem(__import__("sys").modules, "datasketches", None)
    bound = fed(np.zeros(3000, np.int64), people(3000))
    assert bound.count(0) == (1001, "at least")
    monkeypatch.undo()
    bound.merge(sketched, np.arange(1))
    assert bound.count(0) == (1001, "at least")
    nothing, other = fed(np.empty(0, np.int64), people(0)), fed(np.zeros(5000, np.int64), people(5000))
    nothing.merge(other, np.arange(1))
    other.add(np.zeros(90_000, np.int64), people(90_000, 5000))
    assert nothing.count(0) == fed(np.zeros(5000, np.int64), people(5000)).count(0), "a copy: the other went on"
    sketched.merge(other, np.array([-1]))
    assert sketched.count(0) == nothing.count(0)
