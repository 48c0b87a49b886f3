"""From a capture in page cache to findings, as `ctrack report` does it, and how far that is from the floor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import conntrack
from benches.floor import floor_ns_per_packet
from benches.traffic import CaptureFile


def test_analyze(benchmark: Any, report: Any, capture: CaptureFile, floor: Path | None) -> None:
    benchmark.pedantic(conntrack.analyze, args=(str(capture.path),), rounds=5, warmup_rounds=1)
    least = floor and floor_ns_per_packet(floor, capture.path, capture.connections)
    report(packets=capture.packets, bytes=capture.bytes, connections=capture.connections, floor_ns=least)
