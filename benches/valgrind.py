"""A short run under valgrind: `python -m benches.valgrind [arguments of ctrack]`, by default a report and its flows.

Owns how it is run and what counts: reads and writes beyond what was allocated, values that nobody set, and what is
freed twice, where a kernel is among the nearest callers. What Python and numpy do among themselves, and what they
keep, is theirs. It runs the kernels as users get them, a hundred times slower; checked.py finds more, over tests.
Needs valgrind.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from benches.record import ROOT

__all__ = ["errors_of", "main"]

RUNS = (["report", "tests/captures/incident.pcap"], ["flows", "--format", "ndjson", "tests/captures/incident.pcap"])
OURS = str(ROOT / "conntrack") + os.sep
MEMCHECK = ("--leak-check=no", "--show-leak-kinds=none", "--error-limit=no", "--num-callers=8", "--xml=yes")


def errors_of(said: Path) -> list[str]:
    """Return what valgrind wrote of errors with one of our extension modules among the callers."""
    found = []
    for error in ET.parse(said).getroot().iter("error"):
        frames = [(frame.findtext("obj", ""), frame.findtext("fn", "?")) for frame in error.iter("frame")]
        if not error.findtext("kind", "").startswith("Leak_") and any(where.startswith(OURS) for where, _ in frames):
            what = error.findtext("what") or error.findtext("xwhat/text") or ""
            found.append("\n  ".join([what, *(f"{name} ({Path(where).name})" for where, name in frames)]))
    return found


def main(arguments: list[str]) -> int:
    """Run ctrack under valgrind and print what it found; return an exit code."""
    found: list[str] = []
    for run in [arguments] if arguments else RUNS:
        with tempfile.TemporaryDirectory() as folder:
            said = Path(folder) / "said.xml"
            command = ["valgrind", *MEMCHECK, f"--xml-file={said}", sys.executable, "-m", "conntrack", *run]
            environ = os.environ | {"PYTHONMALLOC": "malloc", "OPENBLAS_NUM_THREADS": "1"}
            done = subprocess.run(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, check=False)
            found += errors_of(said)
        print(f"ctrack {' '.join(run)}: exit code {done.returncode}")
        if done.returncode:
            return done.returncode
    print(*found, f"{len(found)} errors in the kernels", sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
