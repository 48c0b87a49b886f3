"""Connections to a file: nanoseconds a row of each format, and Parquet against pyarrow writing the same table.

`ratio_to_pyarrow` is the time that pyarrow takes for the same rows, already in its memory, by its own defaults and by
our settings, divided by ours from FLOW_DTYPE: 0.5 is half its speed. Measured in the same run.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from benches.traffic import CaptureFile
from conntrack import track
from conntrack.export import FLOW_FORMATS, make_exporter
from conntrack.export.arrow import to_arrow
from conntrack.export.parquet import GROUP_ROWS, parquet_options

ROUNDS = 5
BATCH_ROWS = 65_536


def write(name: str, flows: np.ndarray[Any, Any]) -> int:
    """Export `flows` and throw the bytes away; return how many they were."""
    exporter = make_exporter(name)
    size = len(exporter.header())
    for at in range(0, len(flows), BATCH_ROWS):
        size += len(exporter.rows(flows[at : at + BATCH_ROWS]))
    return size + len(exporter.finish())


def seconds(work: Callable[[], Any]) -> float:
    """The median time of `work`."""
    times = []
    for _ in range(ROUNDS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return median(times)


@pytest.fixture(scope="module")
def flows(capture: CaptureFile) -> np.ndarray[Any, Any]:
    """The connections of the capture."""
    return np.concatenate([batch.copy() for batch in track(capture.path)])


@pytest.mark.parametrize("name", [name for name in FLOW_FORMATS if name != "table"])
def test_export(benchmark: Any, report: Any, flows: np.ndarray[Any, Any], name: str) -> None:
    size = benchmark.pedantic(write, args=(name, flows), rounds=ROUNDS, warmup_rounds=1)
    report(rows=len(flows), bytes_a_row=size // len(flows))
    if name == "parquet" and benchmark.stats is not None:
        table = pyarrow.table(to_arrow(flows))
        ours = benchmark.stats.stats.median
        for which, options in (("defaults", {}), ("settings", parquet_options())):
            theirs = seconds(
                lambda options=options: pyarrow.parquet.write_table(
                    table, io.BytesIO(), row_group_size=GROUP_ROWS, **options
                )
            )
            benchmark.extra_info[f"ratio_to_pyarrow_{which}"] = round(theirs / ours, 2)
