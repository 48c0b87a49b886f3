"""Passes over the table: the sweep that finds what is over, and turning live records into rows."""

from __future__ import annotations

from typing import Any

import pytest

from benches.traffic import segment_batches, tracked
from conntrack.core import sweep
from conntrack.tracker import Tracker


@pytest.fixture(scope="module")
def full(connections: int) -> Tracker:
    """A table in which every connection of a flood of the size of the traffic is still there."""
    return tracked(segment_batches(scenario="syn-flood", connections=connections))[0]


def test_sweep_finds_nothing_over(benchmark: Any, report: Any, full: Tracker) -> None:
    table = full._table
    while sweep.sweep(table):  # what is over now goes before the clock starts
        full._collect()
    full._collect()
    benchmark(sweep.sweep, table)
    report(connections=len(full))


def test_snapshot(benchmark: Any, report: Any, full: Tracker) -> None:
    rows = benchmark(full.snapshot)
    report(connections=len(rows))
