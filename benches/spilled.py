"""A capture ten times the memory: `python -m benches.spilled CAPTURE [--share N] [--rounds N]`, as root.

Runs `ctrack report` on CAPTURE in memory and with --spill, in turns; the second in a control group (cgroups(7), either
version) whose memory is the capture's size divided by --share, page cache included. Fails where the two say different
things. Prints how fast the second is next to the first, and writes it to benches/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from subprocess import Popen

from benches.record import RESULTS, commit, machine

__all__ = ["main"]

_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(prog="python -m benches.spilled", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("capture", type=Path)
    parser.add_argument("--share", type=int, default=10, help="the capture is so many times the memory")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    size = given.capture.stat().st_size
    limit = size // given.share
    plain, spilled, peaks = [], [], []
    with tempfile.TemporaryDirectory() as name, _group(limit) as group:
        folder = Path(name)
        (folder / "spill").mkdir()
        report = (sys.executable, "-m", "conntrack", "report", str(given.capture))
        for _ in range(given.rounds):
            plain.append(_run(report, folder / "plain.txt")[0])
            seconds, peak = _run((*report, "--spill", str(folder / "spill")), folder / "spilled.txt", group)
            spilled.append(seconds)
            peaks.append(peak)
            if (folder / "plain.txt").read_bytes() != (folder / "spilled.txt").read_bytes():
                raise RuntimeError("the report with --spill is another")
    ratio = median(one / other for one, other in zip(plain, spilled, strict=True))
    print(
        f"{size / 1e6:,.0f} MB: in memory {median(plain):.1f} s; spilled, in {limit / 1e6:,.0f} MB, "
        f"{median(spilled):.1f} s, {max(peaks) / 1e6:,.0f} MB resident at the peak: {ratio:.2f} times as fast"
    )
    record = {
        "schema": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "capture": {"bytes": size},
        "limit_bytes": limit,
        "in_memory_s": [round(seconds, 2) for seconds in plain],
        "spilled_s": [round(seconds, 2) for seconds in spilled],
        "spilled_peak_bytes": max(peaks),
        "ratio": round(ratio, 3),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"spilled-{record['date'][:10]}-{record['commit']}-{size}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return 0


@contextmanager
def _group(limit: int) -> Iterator[Path]:
    """Make a control group of so many bytes; yield the file to which a process writes itself."""
    first = _V1.is_dir()
    group = (_V1 if first else _V2) / f"ctrack-bench-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit))
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def _run(command: Sequence[str], out: Path, group: Path | None = None) -> tuple[float, int]:
    """Return the seconds that the command took and the most memory that it held, in bytes."""
    with out.open("wb") as stream:
        begin = time.perf_counter()
        process = Popen(command, stdout=stream, preexec_fn=group and (lambda: group.write_text("0")))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
