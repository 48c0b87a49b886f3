"""Coverage-guided fuzzing: `python -m benches.guided captures --runs 20000000 --seed 1`.

libFuzzer mutates what reaches something new. `captures` and `frames` are in the kernels, built with clang's address
and undefined-behaviour sanitizers (sanitized.py): whole files, and single frames of every link type one after the other
(fuzz_target.pyx has the forms). `python` is in the parsers written in Python, through atheris. All start from the
tests' own captures, and from the public ones where they are; what is worth keeping is in build/fuzz/TARGET, and the
next run starts from that too.

An input that crashes, is told of by a sanitizer, takes 50 ms of its thread or makes the process larger than 200 MB more
than it was ends the run, and is left beside the corpus; it becomes a test (tests/fuzz/test_fuzz_memory.py). The result
goes to benches/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from benches.record import RESULTS, ROOT, commit, machine
from benches.sanitized import BUILD, build, environment, python_environment

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "fuzz")]

from corpus import BINARY, TEXTS, beginnings, frames_of

__all__ = ["fuzz", "main"]

TARGETS = ("captures", "frames", "python", "canary")
"""The last one reads a byte too many: the sanitizers must find it."""
MOST_BYTES = 1200
"""Of an input: a few packets. What takes longer inputs is the same code again."""
MOST_RSS_MB = 320
"""Without input it has 95 MB, sanitizers and libFuzzer included; 200 are what reading may take, 25 is the corpus."""
PYTHON_TARGET = ROOT / "tests" / "fuzz" / "python_target.py"
_SMALL = ("sh", "-c", 'env "$@"; exit $?', "sh")
"""A process takes over ru_maxrss, which is held to MOST_RSS_MB, from the one that starts it: let that be small."""
INTERRUPTED = 72
"""libFuzzer's exit code after Ctrl-C."""
TOLD = r"^(?:not so: .*|.*runtime error: .*|.*ERROR: .*| === Uncaught.*|\w+Error: .*)$"
OPTIONS = ("-print_final_stats=1", "-reduce_inputs=0", "-entropic=0", "-timeout=120", "-verbosity=1")


def fuzz(
    target: str, *, seed: int, runs: int = -1, seconds: int = 0, shared: Path | None = None, keep: Path | None = None
) -> dict[str, Any]:
    """Build, run and return the account: executed inputs, seed, what was found.

    Args:
        target: one of TARGETS.
        seed: of libFuzzer's chance; not 0.
        runs: inputs, -1 for no limit.
        seconds: how long, 0 for no limit.
        shared: folder of public captures to start from too.
        keep: where the corpus and what is found are kept; build/fuzz/TARGET if not given.
    """
    kept = keep or ROOT / "build" / "fuzz" / target
    corpus, seeds = kept / "corpus", kept / "seeds"
    for folder in (corpus, seeds):
        folder.mkdir(parents=True, exist_ok=True)
    started_from = BINARY + (TEXTS if target == "python" else []) + (beginnings(shared) if shared else [])
    for content in frames_of(started_from) if target == "frames" else started_from:
        (seeds / sha256(content).hexdigest()).write_bytes(content)
    limits = [f"-runs={runs}", f"-max_total_time={seconds}", f"-max_len={MOST_BYTES}", f"-rss_limit_mb={MOST_RSS_MB}"]
    options = [*OPTIONS, *limits, f"-seed={seed}", f"-artifact_prefix={kept}/found-", str(corpus), str(seeds)]
    if target == "python":
        command, folder, variables = [str(PYTHON_TARGET)], ROOT, python_environment()
    else:
        build()
        program = "import sys; from benches.fuzz_target import run; run(sys.argv[1], sys.argv[2:])"
        command, folder, variables = ["-c", program, target], BUILD, environment()
    settings = [f"{name}={value}" for name, value in variables.items() if os.environ.get(name) != value]
    began = time.monotonic()
    done = subprocess.run(
        [*_SMALL, *settings, sys.executable, *command, *options],
        check=False,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    stats = dict(re.findall(r"^stat::(\w+):\s+(\d+)", done.stderr, re.MULTILINE))
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stderr)
    told = re.findall(TOLD, done.stderr, re.MULTILINE)
    return {
        "target": target,
        "seed": seed,
        "started_from": len(list(seeds.iterdir())),
        "inputs": int(stats.get("number_of_executed_units", 0)),
        "edges": int(covered[-1][0]) if covered else 0,
        "corpus": int(covered[-1][2]) if covered else 0,
        "peak_rss_mb": int(stats.get("peak_rss_mb", 0)),
        "slowest_s": int(stats.get("slowest_unit_time_sec", 0)),
        "seconds": round(time.monotonic() - began, 1),
        "complete": done.returncode != INTERRUPTED,
        "found": told or ([done.stderr[-2000:]] if done.returncode not in (0, INTERRUPTED) else []),
    }


def main(arguments: list[str]) -> int:
    """Run, and write the record; return 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m benches.guided", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "captures")
    given = parser.parse_args(arguments)
    shared = given.shared if given.shared.is_dir() else None
    account = fuzz(given.target, seed=given.seed, runs=given.runs, seconds=given.seconds, shared=shared)
    now = datetime.now(UTC)
    record = {
        "schema": 1,
        "date": now.isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "sanitizers": "none" if given.target == "python" else "address, undefined (clang)",
        **account,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"guided-{given.target}-{now:%Y-%m-%d}-{commit()}-seed{given.seed}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(account, indent=1))
    return 1 if account["found"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
