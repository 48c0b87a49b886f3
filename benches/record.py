"""Run the benches and keep the numbers: `python -m benches.record [pytest arguments]`.

Writes benches/results/DATE-COMMIT.json: for each bench its median and best time, what it counted and nanoseconds for
each; the commit (with "-dirty" where the work tree differs from it) and the machine, with the load that was on it at
the start, without which a time means little. Without arguments all benches run; nothing is written when one of them
fails.

A bench whose ratio to the floor is a tenth above the one recorded last is called out, on a line of its own. Only these
ratios are compared: times of other days and machines are not.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["RATIO", "main", "slower"]

RATIO = "ratio_to_floor"
CALLED_OUT = 1.1

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches" / "results"


def _first(pattern: str, path: str) -> str:
    file = Path(path)
    found = re.search(pattern, file.read_text(), re.MULTILINE) if file.is_file() else None
    return found[1].strip() if found else "unknown"


def machine() -> dict[str, Any]:
    """Return what a time depends on."""
    return {
        "cpu": _first(r"^model name\s*:\s*(.*)$", "/proc/cpuinfo"),
        "cores": os.cpu_count(),
        "memory_kb": _first(r"^MemTotal:\s*(\d+)", "/proc/meminfo"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load_1m": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    """Return the short name of the commit that is checked out."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def recorded() -> dict[str, tuple[float, str]]:
    """Return the ratio to the floor that was recorded last for each bench, and of which commit."""
    last: dict[str, tuple[float, str]] = {}
    records = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    for record in sorted((record for record in records if "benches" in record), key=lambda record: record["date"]):
        for bench in record["benches"]:
            if RATIO in bench:
                last[bench["name"]] = bench[RATIO], record["commit"]
    return last


def slower(benches: list[dict[str, Any]], before: dict[str, tuple[float, str]]) -> list[str]:
    """Return a line for each bench that is a tenth further from the floor than it was `before`."""
    return [
        f"slower: {bench['name']} takes {bench[RATIO]:.2f} times the floor, {ratio:.2f} at {commit}"
        for bench in benches
        if RATIO in bench and bench["name"] in before
        for ratio, commit in [before[bench["name"]]]
        if bench[RATIO] > ratio * CALLED_OUT
    ]


def main(arguments: list[str]) -> int:
    """Run pytest with `arguments` and write the results; return its exit code."""
    record: dict[str, Any] = {"schema": 1, "date": datetime.now(UTC).isoformat(timespec="seconds")}
    record |= {"commit": commit(), "machine": machine(), "benches": []}
    chosen = arguments if any(not argument.startswith("-") for argument in arguments) else ["benches/", *arguments]
    with tempfile.TemporaryDirectory() as folder:
        measured = Path(folder) / "measured.json"
        command = [sys.executable, "-m", "pytest", *chosen, "--benchmark-only", f"--benchmark-json={measured}"]
        code = subprocess.run(command, cwd=ROOT).returncode
        if code:
            return code
        for bench in json.loads(measured.read_text())["benchmarks"]:
            stats = bench["stats"]
            times = {"median_s": round(stats["median"], 6), "min_s": round(stats["min"], 6), "rounds": stats["rounds"]}
            record["benches"].append({"name": bench["fullname"], **times, **bench["extra_info"]})
    for line in slower(record["benches"], recorded()):
        print(line)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{record['date'][:10]}-{record['commit']}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
