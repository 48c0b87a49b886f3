"""benches/sizing.py: it measures the run that users start, and its model is the arithmetic that it says it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from benches.sizing import DAY_S, Costs, measure, nodes
from conntrack.generate import generate


def test_a_run_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    with path.open("wb") as out:
        truth = generate(out, scenario="mixed", connections=2500)
    run = measure(str(path), 1, chunk_bytes=500_000)
    assert run.capture_bytes == path.stat().st_size and run.segments == run.packets == truth["packets"]
    assert run.chunks == -(-run.capture_bytes // 500_000) and run.parts == 8
    assert run.bytes > 0 and run.packed_bytes <= 48 * run.segments
    assert min(run.start_s, run.read_s, run.follow_s, run.worker_cpu_s, run.own_cpu_s) > 0
    assert run.wall_s == run.read_s + run.follow_s


def test_the_model() -> None:
    costs = Costs(worker_s=10e-9, part_s=0.25, serial_s=0.05, exchanged=0.4)
    assert costs.seconds(64 << 20, 1, 2) == pytest.approx((64 << 20) * 10e-9 + 8 * 0.25 + 0.05)
    assert costs.seconds(64 << 20, 4, 2) == pytest.approx(((64 << 20) * 10e-9 + 32 * 0.25) / 2 + 0.05)
    assert costs.most_bytes_per_s == pytest.approx((64 << 20) / 0.05)
    assert nodes(costs, 1e12, 2, 1.0) == 1
    assert nodes(costs, 100e12, 2, 0.5) == -(-100e12 * 10e-9 // (DAY_S * 0.7))
