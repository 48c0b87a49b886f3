"""A thousand instants of a capture of about a million packets against the pass that they cannot do without.

`extra_info` has the ratio to that pass, measured in the same run: reading and tracking alone. One host is the question
that `ss` on it would have answered. The text of the rows costs by the row: a busy server has thousands at each instant.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from benches.traffic import CaptureFile
from conntrack.addresses import ip_text
from conntrack.capture import open_capture
from conntrack.cli import main
from conntrack.sockets import sockets_at
from conntrack.times import unix_seconds
from conntrack.tracker import Tracker

INSTANTS = 1_000
ROUNDS = 5


def one_pass(capture: CaptureFile) -> tuple[int, int]:
    """Read and track the capture and no more; return its first and last time."""
    tracker = Tracker()
    with open_capture([capture.path]) as reading:
        for segments in reading:
            tracker.process(segments)
            for _ in tracker.retired():
                pass
        assert reading.info.first_ts_ns is not None and reading.info.last_ts_ns is not None
        return reading.info.first_ts_ns, reading.info.last_ts_ns


def ask(capture: CaptureFile, instants: list[int], host: tuple[bytes, int], *, text: bool) -> int:
    """Answer all instants, by the command if text is wanted; return how many rows that were, or its exit code."""
    if text:
        times = [each for at_ns in instants for each in ("--at", unix_seconds(at_ns))]
        whose = ["--host", ip_text(*host)]
        return main(["sockets", str(capture.path), "--format", "ndjson", "-o", os.devnull, *times, *whose])
    with open_capture([capture.path]) as reading:
        return sum(len(sockets) for _, sockets in sockets_at(reading, Tracker(), instants, host=host))


def seconds(work: Callable[[], Any]) -> float:
    """The median time of `work`."""
    times = []
    for _ in range(ROUNDS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return median(times)


@pytest.mark.parametrize("whose", ["one client", "busiest host"])
def test_a_thousand_instants(benchmark: Any, report: Any, capture: CaptureFile, whose: str) -> None:
    first_ns, last_ns = one_pass(capture)
    instants = np.linspace(first_ns, last_ns, INSTANTS, dtype=np.int64).tolist()
    host = _host(capture, instants, busiest=whose == "busiest host")
    rows = ask(capture, instants, host, text=False)
    benchmark.pedantic(ask, args=(capture, instants, host), kwargs={"text": True}, rounds=ROUNDS, warmup_rounds=1)
    report(packets=capture.packets, connections=capture.connections, instants=INSTANTS, rows=rows)
    if benchmark.stats is not None:
        pass_s = seconds(lambda: one_pass(capture))
        benchmark.extra_info["ratio_to_one_pass"] = round(benchmark.stats.stats.median / pass_s, 2)
        benchmark.extra_info["ratio_without_text"] = round(
            seconds(lambda: ask(capture, instants, host, text=False)) / pass_s, 2
        )


def _host(capture: CaptureFile, instants: list[int], *, busiest: bool) -> tuple[bytes, int]:
    """The address with the most, or the fewest, sockets in the middle of the capture."""
    with open_capture([capture.path]) as reading:
        ((_, sockets),) = sockets_at(reading, Tracker(), [instants[INSTANTS // 2]])
    ips = np.ascontiguousarray(sockets["local_ip"]).view("V16").ravel()
    distinct, first, counts = np.unique(ips, return_index=True, return_counts=True)
    chosen = int(counts.argmax() if busiest else counts.argmin())
    return distinct[chosen].tobytes(), int(sockets["ip_version"][first[chosen]])
