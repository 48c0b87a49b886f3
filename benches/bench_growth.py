"""How the cost of a packet grows with the connections that are alive at once: 10 thousand to 10 million.

On captures of the shared folder's gen.c, whose connections take turns at random, which is the worst for caches; beside
the floor on the same capture. `bytes_a_connection` is what the table takes at the end, index included, for each
connection in it. Ten million take 5 GB of disk and 3 GB of memory, and are asked for: `--bench-most-live 10000000`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from benches.floor import SHARED, floor_ns_per_packet
from conntrack.capture import open_capture
from conntrack.tracker import Tracker

LIVE = (10_000, 100_000, 1_000_000, 10_000_000)
PACKETS_A_CONNECTION = 6
LEAST_PACKETS = 2_000_000
SNAPLEN = 64


@pytest.fixture(scope="module")
def gen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled generator."""
    source = SHARED / "tools" / "gen.c"
    if not source.is_file():
        pytest.skip(f"there is no {source}")
    program = tmp_path_factory.mktemp("gen") / "gen"
    subprocess.run(["gcc", "-O2", "-w", "-o", program, source], check=True)
    return program


def track(path: Path) -> Tracker:
    tracker = Tracker()
    with open_capture([path]) as capture:
        for batch in capture:
            tracker.process(batch)
            for _ in tracker.retired():
                pass
    return tracker


@pytest.mark.parametrize("live", LIVE)
def test_growth(benchmark: Any, report: Any, live: int, most_live: int, gen: Path, floor: Path, tmp_path: Path) -> None:
    if live > most_live:
        pytest.skip(f"--bench-most-live is {most_live:,}")
    capture, packets = tmp_path / "live.pcap", max(LEAST_PACKETS, live * PACKETS_A_CONNECTION)
    subprocess.run([gen, capture, str(packets), str(live), "1", str(SNAPLEN)], check=True, capture_output=True)
    tracker = benchmark.pedantic(track, args=(capture,), rounds=3)
    least = floor_ns_per_packet(floor, capture, packets // 4, rounds=3)
    each = round(tracker.bytes_used / len(tracker), 1)
    report(packets=packets, in_table=len(tracker), bytes_a_connection=each, floor_ns=least)
    capture.unlink()
