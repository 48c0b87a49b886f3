"""What the Cython compiler makes of the kernels: C that never asks Python for anything while other threads run.

Read from the C itself: what the build left beside the .pyx, or made here where that is older. Every function of
conntrack/core that is declared nogil, and every block that gives the GIL up, may compute and call its like; it may not
touch an object, an exception, the GIL or the heap.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "conntrack").rglob("*.pyx"))
CORE = [path for path in MODULES if path.parent.name == "core"]
DIRECTIVES = "boundscheck=False,wraparound=False,initializedcheck=False,cdivision=True"  # as in setup.py
DECLARED = re.compile(r"^ *cdef\s[^\n=]*?(?P<name>\w+)\s*\((?:[^()]|\([^()]*\))*\)(?P<manner>[^\n:]*):", re.M)
FUNCTION = re.compile(r"^static [^\n;]*?\b__pyx_f_(?P<name>\w+)\([^;{]*?\)\s*\{\n(?P<body>.*?)^\}", re.M | re.S)
GIVEN_UP = re.compile(r"__Pyx_FastGIL_Remember\(\);(.*?)__Pyx_FastGIL_Forget\(\);", re.S)
HARMLESS = {"Py_ssize_t", "PyObject", "Py_None"}
"""A type, and what an argument is compared with to see whether it was given."""
OF_PYTHON = re.compile(r"\b(?:_?Py\w+|__Pyx_\w+|(?:malloc|calloc|realloc|free)(?=\s*\())")


def name_of(path: Path) -> str:
    return path.stem


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """The C of each module."""
    folder = tmp_path_factory.mktemp("c")
    sources = [ROOT / "setup.py", *MODULES, *(ROOT / "conntrack").rglob("*.pxd")]
    newest = max(path.stat().st_mtime for path in sources)

    def compile_one(path: Path) -> str:
        built = path.with_suffix(".c")
        if built.exists() and built.stat().st_mtime >= newest:
            return built.read_text()
        out = folder / f"{path.stem}.c"
        command = [sys.executable, "-m", "cython", "-3", "-X", DIRECTIVES, str(path.relative_to(ROOT)), "-o", str(out)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return out.read_text()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(MODULES, pool.map(compile_one, MODULES), strict=True))


def asked_of_python(code: str) -> set[str]:
    """What a piece of C takes from Python or the heap."""
    return set(OF_PYTHON.findall(re.sub(r"/\*.*?\*/", "", code, flags=re.S))) - HARMLESS


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_functions_without_the_gil_ask_nothing_of_python(compiled: dict[Path, str], path: Path) -> None:
    """Its own, and the inline functions that it takes from any .pxd: all but those declared without nogil."""
    found = {one["name"]: one["body"] for one in FUNCTION.finditer(compiled[path])}
    own = {one["name"]: "nogil" in one["manner"] for one in DECLARED.finditer(path.read_text())}
    for name, without_gil in own.items():
        assert not without_gil or any(mangled.endswith(f"_{name}") for mangled in found), f"{name} is not in the C"
    holders = ("__set_state", *(f"_{name}" for name, without_gil in own.items() if not without_gil))
    for name, body in found.items():
        assert name.endswith(holders) or not asked_of_python(body), f"{path.name}: {name}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_block_that_gives_the_gil_up_asks_nothing_of_python(compiled: dict[Path, str], path: Path) -> None:
    blocks = GIVEN_UP.findall(compiled[path])
    assert len(blocks) >= path.read_text().count("with nogil:")
    for block in blocks:
        assert not asked_of_python(block), path.name


def test_what_takes_the_gil_would_be_seen(tmp_path: Path) -> None:
    source = tmp_path / "wrong.pyx"
    source.write_text("cdef char wrong(int i) noexcept nogil:\n    return b'AD'[i]\n\ndef use(int i):\n    wrong(i)\n")
    command = [sys.executable, "-m", "cython", "-3", str(source), "-o", str(tmp_path / "wrong.c")]
    subprocess.run(command, check=True, capture_output=True)
    (body,) = (one["body"] for one in FUNCTION.finditer((tmp_path / "wrong.c").read_text()))
    assert any("GILState" in word for word in asked_of_python(body))
