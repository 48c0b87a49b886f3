"""Tests over kernels with bounds checks and sanitizers: `python -m benches.checked [pytest arguments]`.

Owns that build: setup.py's switches together (CONNTRACK_DEBUG, CONNTRACK_SANITIZE, CONNTRACK_COVERAGE), in
build/checked/ with the package's Python beside it, so that the ordinary extension modules stay as they are. An index
beyond a memoryview is an exception that nobody takes, which fails the test; a byte beyond an allocation or undefined
behaviour ends the process, with the words on stderr (pytest's -s shows them). What gcc counts meanwhile, covered.py
reads.

Needs gcc with its sanitizers, which come with it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

from benches.record import ROOT

__all__ = ["BUILD", "OBJECTS", "TESTS", "build", "environment"]

BUILD = ROOT / "build" / "checked"
OBJECTS = BUILD / "objects"
"""What gcc leaves: its notes of each module, and its counts."""
TESTS = ("tests/unit", "tests/property", "tests/golden")
"""What touches the kernels."""
PLAIN = BUILD / "bin"
"""Ahead on the PATH: programs that do not stand the sanitizer's library (they hang), started without it."""
PROGRAMS = ("capinfos", "chromium", "dumpcap", "editcap", "mergecap", "tcpdump", "tshark")
SWITCHES = {"CONNTRACK_DEBUG": "1", "CONNTRACK_SANITIZE": "1", "CONNTRACK_COVERAGE": "1"}
ASAN_OPTIONS = "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1:malloc_context_size=6"
"""Python keeps what it has: no leaks."""


def build() -> None:
    """Compile what is older than its sources, and copy the Python beside it."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(BUILD), "--build-temp", str(OBJECTS)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | SWITCHES, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    PLAIN.mkdir(exist_ok=True)
    for name in PROGRAMS:
        if program := shutil.which(name):
            script = PLAIN / name
            script.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec {shlex.quote(program)} "$@"\n')
            script.chmod(0o755)
    ignored = shutil.ignore_patterns("*.so", "*.c", "*.pyx", "*.pyi", "__pycache__")
    shutil.copytree(ROOT / "conntrack", BUILD / "conntrack", ignore=ignored, dirs_exist_ok=True)


def environment() -> dict[str, str]:
    """Return the environment in which Python and its children import what `build` made, from wherever they run."""
    found = subprocess.run(["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True)
    return os.environ | {
        "LD_PRELOAD": found.stdout.strip(),
        "ASAN_OPTIONS": ASAN_OPTIONS,
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PATH": os.pathsep.join([str(PLAIN), os.environ["PATH"]]),
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join([str(BUILD), str(ROOT)]),
    }


def main(arguments: list[str]) -> int:
    """Build, and run pytest with `arguments`, by default over TESTS; return its exit code."""
    build()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(arguments or TESTS)]
    return subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
