"""From flow records to findings: the detectors, the series and the summary, fed with the traffic's connections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benches.traffic import segment_batches, tracked
from conntrack.detect import DETECTORS, Detection


def flows_of(scenario: str, connections: int) -> Any:
    tracker, retired = tracked(segment_batches(scenario=scenario, connections=connections))
    return np.concatenate([*retired, *tracker.finish()])


@pytest.mark.parametrize("scenario", ["mixed", "syn-flood"])
def test_detect(benchmark: Any, report: Any, scenario: str, connections: int) -> None:
    flows = flows_of(scenario, connections)

    def detect() -> list[Any]:
        detection = Detection(DETECTORS)
        detection.feed(flows)
        return detection.findings(int(flows["last_ts_ns"].max()))

    found = benchmark(detect)
    report(connections=len(flows), findings=len(found))


def test_collect(benchmark: Any, report: Any, connections: int) -> None:
    """The series and the summary by service, without any detector."""
    flows = flows_of("mixed", connections)
    benchmark(lambda: Detection([]).feed(flows))
    report(connections=len(flows))
