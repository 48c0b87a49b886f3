"""Kernels under clang's sanitizers, with libFuzzer's coverage: built apart, and run by any Python.

Owns the build. Only what touches a capture's bytes is compiled so; it goes to build/sanitized/ with the package's
Python beside it, so that the ordinary extension modules stay as they are. Two libraries are loaded ahead of all others
(LD_PRELOAD): the address sanitizer's, and libFuzzer's, which gives the kernels a place to count their edges.

Needs clang with its runtime (package clang) and Cython.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benches.record import ROOT

__all__ = ["BUILD", "build", "environment", "python_environment"]

BUILD = ROOT / "build" / "sanitized"
MODULES = (
    *("abi", "blocks", "decode", "fragments", "framing", "ip", "links", "memory", "order", "paths", "tunnels", "walk"),
    *("walk_pcapng", "wireless"),
)
"""Of conntrack.core: all that capture/ imports."""
TARGET = "fuzz_target"
"""In benches/: what libFuzzer calls."""
DIRECTIVES = ("language_level=3", "boundscheck=False", "wraparound=False", "initializedcheck=False", "cdivision=True")
FLAGS = (
    *("-shared", "-fPIC", "-O1", "-g1", "-fno-omit-frame-pointer", "-w", "-shared-libasan"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
)
COUNTED = ("-fsanitize=fuzzer-no-link",)
ASAN_OPTIONS = (
    *("detect_leaks=0", "verify_asan_link_order=0", "abort_on_error=1", "allocator_may_return_null=1"),
    *("quarantine_size_mb=8", "malloc_context_size=4"),
)
"""Python keeps what it has: no leaks. A small quarantine: the memory that is measured is ours."""
OTHERS = (
    "__Pyx_*",
    "__pyx_pw_*",
    "__pyx_pf_*",
    "__pyx_pymod_*",
    "__pyx_tp_*",
    "__pyx_memview*",
    "__pyx_array*",
    "PyInit_*",
)
"""Functions that Cython adds, which no byte of a capture reaches: nine tenths of the code, left as it is."""


def _clang(*arguments: str | Path) -> str:
    done = subprocess.run(["clang", *map(str, arguments)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"clang {' '.join(map(str, arguments))}\n{done.stderr}")
    return done.stdout.strip()


def _runtime(name: str, suffix: str) -> Path:
    return Path(_clang("-print-resource-dir")) / "lib" / "linux" / f"libclang_rt.{name}-{os.uname().machine}{suffix}"


def _compile(source: Path, out: Path) -> None:
    newest = max(
        path.stat().st_mtime for path in (source, Path(__file__), *(ROOT / "conntrack" / "core").glob("*.pxd"))
    )
    if out.exists() and out.stat().st_mtime > newest:
        return
    name = ".".join(source.relative_to(ROOT).with_suffix("").parts)
    generated = BUILD / "c" / f"{source.stem}.c"
    directives = [part for directive in DIRECTIVES for part in ("-X", directive)]
    command = [sys.executable, "-m", "cython", *directives, "--module-name", name, str(source), "-o", str(generated)]
    subprocess.run(command, check=True, cwd=ROOT)
    listed = [f"-f{kind}={BUILD / 'others.txt'}" for kind in ("sanitize-ignorelist", "sanitize-coverage-ignorelist")]
    counted = () if source.stem == TARGET else COUNTED
    _clang(*FLAGS, *counted, *listed, "-I", sysconfig.get_paths()["include"], generated, "-o", out)


def build() -> None:
    """Compile what is older than its sources, and copy the Python beside it."""
    (BUILD / "c").mkdir(parents=True, exist_ok=True)
    (BUILD / "benches").mkdir(exist_ok=True)
    shutil.copytree(
        ROOT / "conntrack",
        BUILD / "conntrack",
        ignore=shutil.ignore_patterns("*.so", "*.c", "*.pyx", "*.pyi", "__pycache__"),
        dirs_exist_ok=True,
    )
    library = BUILD / "libfuzzer.so"
    if not library.exists():
        whole = ("-Wl,--whole-archive", _runtime("fuzzer_no_main", ".a"), "-Wl,--no-whole-archive")
        _clang(
            "-shared", *whole, "-fsanitize=address", "-shared-libasan", "-lstdc++", "-lm", "-lpthread", "-o", library
        )
    (BUILD / "others.txt").write_text("".join(f"fun:{name}\n" for name in OTHERS))
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    sources = [ROOT / "conntrack" / "core" / f"{module}.pyx" for module in MODULES] + [
        ROOT / "benches" / f"{TARGET}.pyx"
    ]
    outs = [(BUILD / source.relative_to(ROOT)).with_suffix(suffix) for source in sources]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_compile, sources, outs))


def python_environment() -> dict[str, str]:
    """Return the environment in which Python imports the tests' modules, and the package as it is."""
    paths = [ROOT, ROOT / "tests", ROOT / "tests" / "fuzz"]
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}


def environment() -> dict[str, str]:
    """Return the environment in which Python imports what `build` made."""
    # libFuzzer before the sanitizer, which has empty functions of the same names.
    preload = f"{BUILD / 'libfuzzer.so'} {_runtime('asan', '.so')}"
    paths = [BUILD, ROOT / "tests", ROOT / "tests" / "fuzz"]
    return os.environ | {
        "LD_PRELOAD": preload,
        "ASAN_OPTIONS": ":".join(ASAN_OPTIONS),
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }
