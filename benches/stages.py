"""Where the time of a report goes: `python -m benches.stages CAPTURE [CONNECTIONS] [--rounds N]`.

Prints the table of the README's section on speed: each stage of conntrack.bench on CAPTURE, what it adds to those
before it, and the whole process (`ctrack report` with one thread), next to the floor (floor.py) of the same minute.
CAPTURE is classic pcap; CONNECTIONS sizes the floor's table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
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
    "process": "the start of Python and numpy, the text",
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
    stages = list(_stages(given.capture, packets, given.rounds))
    whole = stages[-1][1]
    print("| what | ns a packet | of the whole | times the floor |\n|---|---|---|---|")
    before = 0.0
    for name, ns in stages:
        print(f"| {_WORDS[name]} | {ns - before:.0f} | {(ns - before) / whole:.0%} | {_times(ns - before, floor)} |")
        before = ns
    print(f"| `ctrack report`, one thread | {whole:.0f} | 100% | {_times(whole, floor)} |")
    return 0


def _stages(capture: Path, packets: int, rounds: int) -> Iterator[tuple[str, float]]:
    """Yield each stage's name and nanoseconds a packet, those before it included."""
    for stage in measure_stages(capture, packets, 1, [], rounds=rounds):
        yield stage.name, stage.ns_a_packet
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run([sys.executable, "-m", "conntrack", "report", capture, "--threads", "1"], check=True, stdout=DEVNULL)
        times.append(time.perf_counter() - begin)
    yield "process", median(times) * 1e9 / packets


def _times(ns: float, floor: float | None) -> str:
    return f"{ns / floor:.2f}" if floor else "not measured"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
