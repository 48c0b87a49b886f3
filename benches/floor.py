"""The floor: what the least possible tracker, in C, needs for a capture on this machine now.

Owns building and running tools/floor.c of the shared folder. Knows no bench.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
from pathlib import Path

__all__ = ["build_floor", "floor_ns_per_packet"]

SHARED = Path(os.environ.get("CONNTRACK_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def build_floor(folder: Path) -> Path | None:
    """Compile floor.c into `folder`; None where its source is not there."""
    source = SHARED / "tools" / "floor.c"
    if not source.is_file():
        return None
    program = folder / "floor"
    subprocess.run(["gcc", "-O3", "-w", "-o", program, source], check=True)
    return program


def floor_ns_per_packet(program: Path, capture: Path, connections: int, *, rounds: int = 5) -> float:
    """Return the median of some runs on a capture (classic pcap, little-endian, microseconds), in ns a packet."""
    slots_log2 = max(16, (connections * 2).bit_length())
    command = [str(program), str(capture), str(slots_log2), str(connections + 16)]
    times = []
    for _ in range(rounds):
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = re.search(r"ns/packet ([0-9.]+)", said)
        if found is None:
            raise ValueError(f"{program} said {said!r}, and not how long it took")
        times.append(float(found[1]))
    return statistics.median(times)
