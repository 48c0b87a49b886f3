"""Where the time of a report goes: `python -m benches.stages CAPTURE [CONNECTIONS] [--rounds N]`.

Prints what the README's section on speed says in words: each stage of conntrack.bench on CAPTURE, what it adds to those
before it, and by itself the whole process (`ctrack report` with one thread), next to the floor (floor.py) of the same
minute.
CAPTURE is classic pcap; CONNECTIONS sizes the floor's table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, run

from benches.floor import build_floor, floor_ns_per_packet
from conntrack.bench import measure_stages
from conntrack.capture import open_capture

__all__ = ["main"]

_WORDS = {
    "read": "reading the file",
    "decode": "from bytes to segments",
    "track": "the step from segment to state, and its table",
    "rows": "turning records into rows",
    "report": "detectors, time series, findings",
}


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benches.stages", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("capture", type=Path)
    parser.add_argument("connections", type=int, nargs="?", default=1 << 20)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    with open_capture([given.capture]) as reading:
        for _ in reading:
            pass
        packets = reading.info.packets
    with tempfile.TemporaryDirectory() as folder:
        program = build_floor(Path(folder))
        floor = None
        if program is not None:
            floor = floor_ns_per_packet(program, given.capture, given.connections, rounds=given.rounds)
    stages = [*measure_stages(given.capture, packets, 1, [], rounds=given.rounds)]
    whole = stages[-1].ns_a_packet
    print("| what | ns a packet | share | times the floor |\n|---|---|---|---|")
    before = 0.0
    for stage in stages:
        ns = stage.ns_a_packet - before
        print(f"| {_WORDS[stage.name]} | {ns:.0f} | {ns / whole:.0%} | {_times(ns, floor)} |")
        before = stage.ns_a_packet
    process = _process_ns(given.capture, packets, given.rounds)
    print(f"| `ctrack report`, one thread, the whole process | {process:.0f} | | {_times(process, floor)} |")
    return 0


def _process_ns(capture: Path, packets: int, rounds: int) -> float:
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run([sys.executable, "-m", "conntrack", "report", capture, "--threads", "1"], check=True, stdout=DEVNULL)
        times.append(time.perf_counter() - begin)
    return median(times) * 1e9 / packets


def _times(ns: float, floor: float | None) -> str:
    return f"{ns / floor:.2f}" if floor else "not measured"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
