"""From flow records to findings: every detector fed with the connections of the traffic, in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benches.traffic import segment_batches, tracked
from conntrack.detect import detectors

BATCH_FLOWS = 16_384


def flow_batches(scenario: str, connections: int) -> list[Any]:
    tracker, retired = tracked(segment_batches(scenario=scenario, connections=connections))
    flows = np.concatenate([*retired, *tracker.finish()])
    return [flows[low : low + BATCH_FLOWS] for low in range(0, len(flows), BATCH_FLOWS)]


@pytest.mark.parametrize("scenario", ["mixed", "syn-flood"])
def test_detect(benchmark: Any, report: Any, scenario: str, connections: int) -> None:
    batches = flow_batches(scenario, connections)
    end_ts_ns = max(int(batch["last_ts_ns"].max()) for batch in batches)

    def detect() -> list[Any]:
        found: list[Any] = []
        for detector in detectors():
            for batch in batches:
                detector.feed(batch)
            found += detector.findings(end_ts_ns)
        return found

    found = benchmark(detect)
    report(connections=sum(map(len, batches)), findings=len(found))
