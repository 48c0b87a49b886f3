"""Tests over kernels with bounds checks and sanitizers: `python -m benches.checked [--whole] [pytest arguments]`.

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

__all__ = ["BUILD", "LEFT_OUT", "OBJECTS", "TESTS", "WHOLE", "build", "environment"]

BUILD = ROOT / "build" / "checked"
OBJECTS = BUILD / "objects"
"""What gcc leaves: its notes of each module, and its counts."""
TESTS = ("tests/unit", "tests/property", "tests/golden")
"""What touches the kernels."""
_REAL_TIME = "has hosts of its own and traffic in real time, which waits for no process that is ten times slower"
LEFT_OUT = {
    "tests/test_checked.py": "is what runs the others so",
    "tests/test_source_rules.py": "reads the sources, in mypy's and ruff's way too; runs no kernel",
    "tests/test_compiled.py": "compiles the kernels and reads what the compilers say; runs none",
    "tests/test_documented.py": "reads the sources of the tests; runs no kernel",
    "tests/test_api.py": "reads docstrings; runs no kernel",
    "tests/browser": "what a browser makes of a page; the pages themselves are made elsewhere, too",
    "tests/fuzz/test_fuzz_guided.py": "runs kernels that clang compiled, with sanitizers of its own",
    "tests/kernel": _REAL_TIME,
    "tests/host": _REAL_TIME,
    "tests/corpus": _REAL_TIME,
}
"""Not part of --whole, which is all other tests, and why."""
WHOLE = ("tests", "-n", "2", "--dist", "loadfile", *(f"--ignore={path}" for path in LEFT_OUT))
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
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return inherited | {
        "LD_PRELOAD": found.stdout.strip(),
        "ASAN_OPTIONS": ASAN_OPTIONS,
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "GCOV_ERROR_FILE": os.devnull,  # where a test sees to it that nothing can be written
        "PATH": os.pathsep.join([str(PLAIN), os.environ["PATH"]]),
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join([str(BUILD), str(ROOT)]),
    }


def main(arguments: list[str]) -> int:
    """Build, and run pytest with `arguments`, by default over TESTS; return its exit code."""
    build()
    given = [part for word in arguments or TESTS for part in (WHOLE if word == "--whole" else (word,))]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *given]
    return subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
