"""From end to end on captures of other kinds: IPv6, without TCP options, whole payloads, out of order, a flood.

The floor is that of the plain capture of the same traffic, since it reads nothing else: `ratio_to_floor` is nanoseconds
a packet of the kind by the floor's nanoseconds a packet of the plain one. In the plain one most connections carry the
timestamps option, and all have options on their SYNs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import conntrack
from benches.floor import floor_ns_per_packet
from benches.traffic import KINDS, CaptureFile, capture_of_kind


@pytest.mark.parametrize("kind", KINDS)
def test_kind(
    benchmark: Any, report: Any, kind: str, connections: int, capture: CaptureFile, floor: Path | None, tmp_path: Path
) -> None:
    made = capture_of_kind(tmp_path / "kind.pcap", kind, connections=connections)
    benchmark.pedantic(conntrack.analyze, args=(str(made.path),), rounds=3, warmup_rounds=1)
    least = floor and floor_ns_per_packet(floor, capture.path, capture.connections)
    report(packets=made.packets, bytes=made.bytes, connections=made.connections, floor_ns=least)
    made.path.unlink()
