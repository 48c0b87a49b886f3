"""From segments to states: Tracker.process on batches in memory, sweeps included."""

from __future__ import annotations

from typing import Any

import pytest

from benches.traffic import segment_batches
from conntrack.tracker import Tracker


def run(tracker: Tracker, batches: list[Any]) -> int:
    retired = 0
    for batch in batches:
        tracker.process(batch)
        retired += sum(len(rows) for rows in tracker.retired())
    return retired


def test_step(benchmark: Any, report: Any, batches: list[Any]) -> None:
    retired = benchmark.pedantic(run, setup=lambda: ((Tracker(), batches), {}), rounds=5)
    report(packets=sum(map(len, batches)), retired=retired)


@pytest.mark.parametrize("scenario", ["syn-flood", "time-wait-client"])
def test_step_when_connections_come_and_go(benchmark: Any, report: Any, scenario: str, connections: int) -> None:
    batches = segment_batches(scenario=scenario, connections=connections)
    retired = benchmark.pedantic(run, setup=lambda: ((Tracker(), batches), {}), rounds=5)
    report(packets=sum(map(len, batches)), connections=connections, retired=retired)


def test_one_connection(benchmark: Any, report: Any, batches: list[Any]) -> None:
    """The same 4-tuple all the time: what the rules cost when no memory has to be waited for."""
    longest = max(batches, key=len).copy()
    first = longest[0].copy()
    longest[:] = first
    longest["flags"] = 16
    longest["payload_bytes"] = 1
    longest["seq"] = first["seq"] + 1 + range(len(longest))
    longest["ts_ns"] = first["ts_ns"] + range(len(longest))
    longest["tsval"] = first["tsval"]
    repeated = [longest] * 20
    benchmark.pedantic(run, setup=lambda: ((Tracker(), repeated), {}), rounds=5)
    report(packets=sum(map(len, repeated)))
