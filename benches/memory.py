"""How much memory a report takes: `python -m benches.memory CAPTURE [LIVE]`.

Runs `ctrack report CAPTURE --format json` as a process of its own and prints the most memory it ever held (its maximum
resident set), for each of LIVE connections: as many as were alive at once, by default all that the report counts. The
promise is 160 bytes for each and 100 MB besides. A capture in which all are alive at once is
`ctrack generate --scenario syn-flood --connections 1000000`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

__all__ = ["Usage", "main", "measure"]

BASE_BYTES = 100_000_000


class Usage(NamedTuple):
    """What one report took."""

    seconds: float
    peak_bytes: int
    connections: int
    packets: int


def measure(capture: str, *options: str) -> Usage:
    """Report on `capture` with `options` in a process of its own.

    Raises:
        RuntimeError: the command failed.
    """
    command = [sys.executable, "-m", "conntrack", "report", capture, "--format", "json", *options]
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)  # the child's own maximum, not that of all children
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        out.seek(0)
        report = json.load(out)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, kilobytes on Linux
    return Usage(seconds, usage.ru_maxrss * unit, report["connections"]["total"], report["capture"]["packets"])


def main(arguments: list[str]) -> int:
    """Measure and print one line."""
    if len(arguments) not in (1, 2):
        print("usage: python -m benches.memory CAPTURE [LIVE]", file=sys.stderr)
        return 2
    used = measure(arguments[0])
    live = int(arguments[1]) if len(arguments) == 2 else used.connections
    each = used.peak_bytes / max(live, 1)
    above = max(used.peak_bytes - BASE_BYTES, 0) / max(live, 1)
    print(
        f"peak {used.peak_bytes / 1e6:.1f} MB, {used.packets:,} packets, {used.connections:,} connections; "
        f"{live:,} at once: {each:.1f} bytes each, {above:.1f} above the first 100 MB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
