"""Where the time of a report goes: `python -m benches.stages CAPTURE [--rounds N]`.

Prints what the README's section on speed says: `ctrack report` as a whole process with one thread and with two, each
round of them right behind one of the floor (floor.py); then each stage of conntrack.bench on CAPTURE, and what it adds
to those before it. CAPTURE is classic pcap.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benches.floor import build_floor, floor_ns_per_packet
from benches.memory import Usage, measure
from conntrack.bench import measure_stages

__all__ = ["main"]

_WORDS = {
    "read": "reading the file",
    "decode": "from bytes to segments",
    "track": "the step from segment to state, and its table",
    "rows": "turning records into rows",
    "report": "detectors, time series, findings",
}
_THREADS = (1, 2)


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benches.stages", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("capture", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    found = measure(str(given.capture), "--threads", "1")  # also to have the file in the page cache
    floors: list[float] = []
    runs: dict[int, list[Usage]] = {threads: [] for threads in _THREADS}
    with tempfile.TemporaryDirectory() as folder:
        program = build_floor(Path(folder))
        for _ in range(given.rounds):
            if program is not None:
                floors.append(floor_ns_per_packet(program, given.capture, found.connections, rounds=1))
            for threads in _THREADS:
                runs[threads].append(measure(str(given.capture), "--threads", str(threads)))
    floor = median(floors) if floors else None
    print(f"{found.packets:,} packets, {found.connections:,} connections; medians of {given.rounds} rounds")
    print("\n| what | s | ns a packet | times the floor | peak MB |\n|---|---|---|---|---|")
    if floor is not None:
        print(f"| the floor | | {floor:.0f} ({min(floors):.0f}-{max(floors):.0f}) | 1 | |")
    for threads, used in runs.items():
        seconds = sorted(each.seconds for each in used)
        ns = median(seconds) * 1e9 / found.packets
        peak = median(each.peak_bytes for each in used) / 1e6
        words = "one thread" if threads == 1 else f"{threads} threads"
        spread = f"{median(seconds):.2f} ({seconds[0]:.2f}-{seconds[-1]:.2f})"
        print(f"| `ctrack report`, {words} | {spread} | {ns:.0f} | {_times(ns, floor)} | {peak:,.0f} |")
    print("\n| stage | ns a packet | share | times the floor |\n|---|---|---|---|")
    stages = [*measure_stages(given.capture, found.packets, 1, [], rounds=given.rounds)]
    before = 0.0
    for stage in stages:
        ns = stage.ns_a_packet - before
        print(f"| {_WORDS[stage.name]} | {ns:.0f} | {ns / stages[-1].ns_a_packet:.0%} | {_times(ns, floor)} |")
        before = stage.ns_a_packet
    return 0


def _times(ns: float, floor: float | None) -> str:
    return f"{ns / floor:.2f}" if floor else "not measured"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
