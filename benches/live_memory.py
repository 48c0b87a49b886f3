"""What `ctrack live` comes to in the course of hours: `python -m benches.live_memory [--minutes N]`.

Feeds a live session 5,000 generated segments for each simulated second, with a window of 30 s and a look a second, and
prints the resident set of this process every twenty simulated minutes. An hour takes about three minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from conntrack.capture import open_capture
from conntrack.cli.live_status import memory_bytes
from conntrack.generate import generate
from conntrack.live import Session

__all__ = ["main"]

A_SECOND = 5_000
SEED = 17


def main(arguments: Sequence[str]) -> int:
    """Feed and print."""
    parser = argparse.ArgumentParser(prog="python -m benches.live_memory", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=int, default=60)
    given = parser.parse_args(arguments)
    with tempfile.NamedTemporaryFile(suffix=".pcap") as file:
        generate(file, connections=2_000, seed=SEED)
        file.flush()
        with open_capture([file.name]) as capture:
            traffic = np.concatenate([segments.copy() for segments in capture])
    lasts_ns = (int(np.ptp(traffic["ts_ns"])) // 10**9 + 1) * 10**9
    now_s = 0
    session = Session(clock=lambda: float(now_s), window_s=30.0)
    for minute in range(given.minutes):
        for _ in range(60):
            numbers = np.arange(now_s * A_SECOND, (now_s + 1) * A_SECOND)
            rounds, rows = np.divmod(numbers, len(traffic))
            segments = traffic[rows]
            segments["ts_ns"] += rounds * lasts_ns
            segments["frame"] = numbers + 1
            session.feed(segments)
            now_s += 1
            look = session.look()
        if minute % 20 == 19 or minute == given.minutes - 1:
            print(f"{minute + 1} min: {look.connections:,} connections, {memory_bytes() / 1e6:.0f} MB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
