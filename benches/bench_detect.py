"""From flow records to findings: the detectors, the series and the summary, fed with the traffic's connections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benches.traffic import segment_batches, tracked
from conntrack.detect import ServiceSummary, StateSeries, find_all, make_detectors, run


def flows_of(scenario: str, connections: int) -> Any:
    tracker, retired = tracked(segment_batches(scenario=scenario, connections=connections))
    return np.concatenate([*retired, *tracker.finish()])


@pytest.mark.parametrize("scenario", ["mixed", "syn-flood"])
def test_detect(benchmark: Any, report: Any, scenario: str, connections: int) -> None:
    flows = flows_of(scenario, connections)

    def detect() -> list[Any]:
        detectors = make_detectors()
        run(detectors, flows)
        return find_all(detectors, int(flows["last_ts_ns"].max()))

    found = benchmark(detect)
    report(connections=len(flows), findings=len(found))


@pytest.mark.parametrize("collector", [StateSeries, ServiceSummary])
def test_collect(benchmark: Any, report: Any, collector: Any, connections: int) -> None:
    flows = flows_of("mixed", connections)
    benchmark(lambda: run([collector()], flows))
    report(connections=len(flows))
