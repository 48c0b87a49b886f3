"""Millions of mutated captures: `python -m benches.fuzz --count 20000000 --seed 1`.

Each is read in memory by the reader that its first bytes call for. It must not crash, take longer than a second a
megabyte (a capture of a kilobyte is given 50 ms of its thread), or make the process grow by more than 200 MB; what is
said of a damaged one is one line. The result goes to benches/results/: how many, from which seed, what was found. With
--sanitized the kernels are those that sanitized.py builds, under the address and undefined-behaviour sanitizers.

The record is written every half minute, and says whether the run came to its end. After a crash run the same seed from
the last block on record, with --keep FILE: the capture that is being read is in that file. It becomes a test
(tests/fuzz/test_fuzz_memory.py).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benches.record import RESULTS, ROOT, commit, machine
from benches.sanitized import build, environment
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
    return "libclang_rt.asan" in Path("/proc/self/maps").read_text()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _again_sanitized(arguments: list[str]) -> None:
    """Become the same program with the sanitized kernels."""
    build()
    variables = environment()
    variables["PYTHONPATH"] += os.pathsep + str(ROOT)
    program = [sys.executable, "-m", "benches.fuzz", *arguments]
    os.execve(sys.executable, program, variables | {"PYTHONSAFEPATH": "1"})


def main(arguments: list[str]) -> int:
    """Run, print the progress, and write the record; return 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m benches.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=0, help="end after so long, complete or not")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from-block", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="write each capture there before it is read")
    parser.add_argument("--sanitized", action="store_true", help="over the kernels of benches/sanitized.py")
    given = parser.parse_args(arguments)
    if given.sanitized and not _sanitized():
        _again_sanitized(arguments)
    run = _Run(given.seed, given.from_block, given.keep)
    ends = time.monotonic() + (given.seconds or float("inf"))
    told = run.began
    complete = False
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        while run.captures < given.count and time.monotonic() < ends:
            run.read_block()
            if time.monotonic() - told > TOLD_EVERY_S:
                told = time.monotonic()
                run.write(complete=False)
                speed = run.captures / (told - run.began)
                print(
                    f"block {run.block}: {run.captures:,} captures, {speed:,.0f}/s, {len(run.found)} found", flush=True
                )
        complete = run.captures >= given.count
    except Exception as error:
        run.found.append(f"block {run.block}: {error!r}")
        raise
    finally:
        run.write(complete=complete)
    return 1 if run.found else 0


class _Run:
    """One run, and its account.

    Attributes:
        block: the one that is next.
        captures: how many were read.
        found: what must not be, one line each.
        began: when, seconds of time.monotonic.
    """

    def __init__(self, seed: int, from_block: int, keep: Path | None) -> None:
        self.block = from_block
        self.captures = 0
        self.found: list[str] = []
        self.began = time.monotonic()
        self._cpu_before = time.process_time()
        self._seed = seed
        self._from_block = from_block
        self._keep = keep
        self._batch = Batch(64)
        self._outcomes: Counter[str] = Counter()
        self._bytes = 0
        self._slowest_s = 0.0
        self._peak_before = 0
        self._commit = commit()
        kind = "fuzz-sanitized" if _sanitized() else "fuzz"
        self._path = RESULTS / f"{kind}-{datetime.now(UTC):%Y-%m-%d}-{self._commit}-seed{seed}-from{from_block}.json"

    def read_block(self) -> None:
        """Read the captures of the next block."""
        outcomes: Counter[str] = Counter()
        clock = time.perf_counter
        for content in mutated(TEXTS if self.block % TEXT_EVERY == TEXT_EVERY - 1 else BINARY, self._seed, self.block):
            if self._keep:
                self._keep.write_bytes(content.tobytes())
            before = clock()
            said = read_memory(content, self._batch)
            if clock() - before > MOST_SECONDS:  # or it had to wait for a processor
                self._time(content)
            outcomes[said] += 1
            self._bytes += len(content)
        for said, times in outcomes.items():
            self._outcomes[said.partition(" (")[0].split(" at packet")[0].split(" after packet")[0][:60]] += times
        self.captures += BLOCK
        self.block += 1
        if not self._peak_before and self.captures >= 100 * BLOCK:
            self._peak_before = _peak_bytes()
        growth = self._growth_bytes()
        if growth > MOST_GROWTH_BYTES:
            self.found.append(f"block {self.block}: the process grew by {growth} bytes")
            self._peak_before = _peak_bytes()

    def write(self, *, complete: bool) -> None:
        """Write the record."""
        record = {
            "schema": 1,
            "complete": complete,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": self._commit,
            "machine": machine(),
            "seed": self._seed,
            "blocks": [self._from_block, self.block],
            "captures": self.captures,
            "bytes": self._bytes,
            "packets": self._batch.frames,
            "segments": int(self._batch.counts[0]),
            "sanitizers": "address, undefined (clang)" if _sanitized() else "none",
            "seconds": round(time.monotonic() - self.began, 1),
            "cpu_seconds": round(time.process_time() - self._cpu_before, 1),
            "slowest_suspect_s": round(self._slowest_s, 4),
            "grown_bytes": self._growth_bytes(),
            "peak_bytes": _peak_bytes(),
            "outcomes": {said or "whole": times for said, times in self._outcomes.most_common(40)},
            "found": self.found,
        }
        RESULTS.mkdir(exist_ok=True)
        self._path.write_text(json.dumps(record, indent=1) + "\n")

    def _growth_bytes(self) -> int:
        return _peak_bytes() - self._peak_before if self._peak_before else 0

    def _time(self, content: npt.NDArray[np.uint8]) -> None:
        took_s = min(self._read_once(content) for _ in range(3))  # a paused machine counts as the thread's time
        self._slowest_s = max(self._slowest_s, took_s)
        if took_s > MOST_SECONDS:
            self.found.append(f"block {self.block}: {took_s:.3f} s for {len(content)} bytes")

    def _read_once(self, content: npt.NDArray[np.uint8]) -> float:
        before = time.thread_time()
        read_memory(content, self._batch)
        return time.thread_time() - before


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
