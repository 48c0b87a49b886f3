"""Millions of mutated captures: `python -m benches.fuzz --count 20000000 --seed 1`.

Each is read in memory by the reader that its first bytes call for. It must not crash, take longer than a second a
megabyte (a capture of a kilobyte is given 50 ms of its thread), or make the process grow by more than 200 MB; what is
said of a damaged one is one line. The result goes to benches/results/: how many, from which seed, what was found.
Under the sanitizers of gcc or clang:

    CONNTRACK_SANITIZE=1 python setup.py build_ext --inplace --force
    LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 python -m benches.fuzz ...

The record is written every half minute, and says at its end whether the run is complete. After a crash run the same
seed from the last block on record, with --keep FILE: the capture that is being read is in that file. It becomes a test
(tests/fuzz/test_regressions.py).
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from benches.record import RESULTS, ROOT, commit, machine
from conntrack.capture.batch import Batch

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "fuzz")]

from corpus import BINARY, TEXTS
from mutate import BLOCK, mutated
from reading import read_memory

__all__ = ["main"]

MOST_SECONDS = 0.05
"""Of a thread, for one capture of a kilobyte."""
MOST_GROWTH_BYTES = 200_000_000
TEXT_EVERY = 32
"""Of so many blocks one is of tcpdump's text, which is read in Python."""
TOLD_EVERY_S = 30.0


def _sanitized() -> bool:
    return "libasan" in Path("/proc/self/maps").read_text()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(arguments: list[str]) -> int:
    """Run, print the progress, and write the record; return 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m benches.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from-block", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="write each capture there before it is read")
    given = parser.parse_args(arguments)
    batch = Batch(64)
    outcomes: Counter[str] = Counter()
    found: list[str] = []
    captures = size = 0
    slowest_s = 0.0
    peak_before = 0
    began = told = time.monotonic()
    cpu_before = time.process_time()
    block = given.from_block
    name = f"fuzz-{datetime.now(UTC):%Y-%m-%d}-{commit()}-seed{given.seed}.json"

    def write(*, complete: bool) -> None:
        growth = _peak_bytes() - peak_before if peak_before else 0
        if growth > MOST_GROWTH_BYTES:
            found.append(f"the process grew by {growth} bytes")
        record = {
            "schema": 1,
            "complete": complete,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": machine(),
            "seed": given.seed,
            "blocks": [given.from_block, block],
            "captures": captures,
            "bytes": size,
            "packets": batch.frames,
            "segments": int(batch.counts[0]),
            "sanitizers": "address, undefined" if _sanitized() else "none",
            "seconds": round(time.monotonic() - began, 1),
            "cpu_seconds": round(time.process_time() - cpu_before, 1),
            "slowest_suspect_s": round(slowest_s, 4),
            "grown_bytes": growth,
            "peak_bytes": _peak_bytes(),
            "outcomes": dict(outcomes.most_common(40)),
            "found": found,
        }
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / name).write_text(json.dumps(record, indent=1) + "\n")

    while captures < given.count:
        for content in mutated(TEXTS if block % TEXT_EVERY == TEXT_EVERY - 1 else BINARY, given.seed, block):
            if given.keep:
                given.keep.write_bytes(content.tobytes())
            before = time.perf_counter()
            said = read_memory(content, batch)
            if time.perf_counter() - before > MOST_SECONDS:  # or it had to wait for a processor
                before = time.thread_time()
                read_memory(content, batch)
                slowest_s = max(slowest_s, time.thread_time() - before)
                if slowest_s > MOST_SECONDS:
                    found.append(f"block {block}: {slowest_s:.3f} s for {len(content)} bytes")
            outcomes[said.partition(" (")[0].split(" at packet")[0].split(" after packet")[0][:60] or "whole"] += 1
            size += len(content)
        captures += BLOCK
        block += 1
        if not peak_before and captures >= 100 * BLOCK:
            peak_before = _peak_bytes()
        if time.monotonic() - told > TOLD_EVERY_S:
            told = time.monotonic()
            print(
                f"block {block}: {captures:,} captures, {captures / (told - began):,.0f}/s, {len(found)} found",
                flush=True,
            )
    write(complete=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
