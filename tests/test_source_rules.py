"""What the sources must keep to, read from the sources: who imports whom, what the core may not do, sizes, drift.

docs: the picture of the rooms is in README.md. A rule that fails here names the file and the line.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conntrack import transitions

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "conntrack"
CORE = PACKAGE / "core"
MAX_LINES = 500

WORDS = {"states", "errors", "addresses", "times", "derived"}
ROOMS = {
    "states": set(),
    "errors": set(),
    "addresses": set(),
    "times": {"states"},
    "derived": {"states", "core"},
    "memory": set(),
    "version": set(),
    "whole": set(),
    "transitions": {"states"},
    "timeouts": {"states"},
    "core": {"core"},
    "upkeep": set(),
    "tracker": {"states", "errors", "transitions", "timeouts", "core", "memory", "upkeep"},
    "crew": set(),
    "sharded": {"core", "crew", "memory", "tracker", "upkeep"},
    "capture": {"states", "errors", "times", "memory", "whole", "core", "capture"},
    "detect": {*WORDS, "timeouts", "core", "tracker", "detect"},
    "export": {*WORDS, "core", "tracker", "detect", "export"},
    "explain": {*WORDS, "transitions", "timeouts", "core", "tracker", "explain"},
    "report": {*WORDS, "core", "tracker", "detect", "explain", "export", "report"},
    "generate": {"states", "errors", "core", "generate"},
    "host": {*WORDS, "core", "detect", "host"},
    "sockets": {"core", "tracker"},
    "pipeline": {*WORDS, "core", "tracker", "sharded", "capture", "detect", "explain", "report", "export"},
    "bench": {"capture", "generate", "pipeline", "sharded", "tracker"},
    "cluster": {
        *WORDS,
        "version",
        "whole",
        "memory",
        "core",
        "crew",
        "upkeep",
        "tracker",
        "sharded",
        "capture",
        "detect",
        "report",
        "export",
        "pipeline",
    },
    "compare": {*WORDS, "core", "tracker", "host", "compare"},
    "live": {*WORDS, "core", "memory", "tracker", "capture", "detect", "report", "pipeline", "live"},
    "metrics": {"errors"},
}
"""Which rooms of the package a room may import. What is not listed (cli, the package itself) may import every room;
nobody imports cli but the entry point."""
MAY_IMPORT_CLI = {"cli", "__main__"}

SOURCES = sorted(path for suffix in ("*.py", "*.pyi") for path in PACKAGE.rglob(suffix))
CYTHON = sorted([*PACKAGE.rglob("*.pyx"), *PACKAGE.rglob("*.pxd")])
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MODULES = sorted(PACKAGE.rglob("*.pyx"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else Path(parts[0]).stem


def rooms_of_module(module: str, names: list[str]) -> set[str]:
    """The rooms that `from module import names` reaches, for an absolute module name."""
    parts = module.split(".")
    if parts[0] != "conntrack":
        return set()
    if len(parts) > 1:
        return {parts[1]}
    return {name for name in names if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()} or {"__init__"}


def absolute(path: Path, level: int, module: str | None) -> str:
    """The absolute name of a relative import in a file of the package."""
    package = ["conntrack", *path.relative_to(PACKAGE).parts[:-1]]
    base = package[: len(package) - level + 1] if level else []
    return ".".join([*base, *([module] if module else [])])


def python_imports(path: Path) -> list[tuple[int, str]]:
    """(line, room) of every import of ours in a Python file, wherever it stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            rooms = {room for alias in node.names for room in rooms_of_module(alias.name, [])}
        elif isinstance(node, ast.ImportFrom):
            module = absolute(path, node.level, node.module)
            rooms = rooms_of_module(module, [alias.name for alias in node.names])
        else:
            continue
        found += [(node.lineno, room) for room in rooms]
    return found


CIMPORT = re.compile(r"^\s*(?:from\s+(?P<module>[.\w]+)\s+)?c?import\s+(?P<names>[\w.,\s*()]+)")


def cython_imports(path: Path) -> list[tuple[int, str, str]]:
    """(line, module, names) of every import and cimport in a Cython file, relative names made absolute."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = CIMPORT.match(line)
        if match:
            module = match["module"] or match["names"].split(",")[0].strip()
            if module.startswith("."):
                level = len(module) - len(module.lstrip("."))
                module = absolute(path, level, module.lstrip(".") or None)
            found.append((number, module, match["names"]))
    return found


def code_of(path: Path) -> list[tuple[int, str]]:
    """The lines of a Cython file without comments, strings and docstrings."""
    text = re.sub(r'"""(?:.|\n)*?"""', lambda match: "\n" * match[0].count("\n"), path.read_text())
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = re.sub(r"\"[^\"]*\"|'[^']*'", "''", line)
        lines.append((number, bare.split("#")[0]))
    return lines


class TestRooms:
    @pytest.mark.parametrize("path", SOURCES, ids=name_of)
    def test_a_room_imports_only_what_it_may(self, path: Path) -> None:
        room = room_of(path)
        for line, imported in python_imports(path):
            if imported == "cli":
                assert room in MAY_IMPORT_CLI, f"{name_of(path)}:{line}: nobody imports cli"
            if room in ROOMS:
                assert imported in ROOMS[room] | {room}, f"{name_of(path)}:{line}: {room} may not import {imported}"

    @pytest.mark.parametrize("path", CYTHON, ids=name_of)
    def test_the_core_imports_only_the_core(self, path: Path) -> None:
        for line, module, names in cython_imports(path):
            for room in rooms_of_module(module, [name.strip() for name in names.split(",")]):
                assert room == room_of(path), f"{name_of(path)}:{line}: the core may not import {room}"

    def test_every_room_is_known(self) -> None:
        known = set(ROOMS) | {"cli", "__init__", "__main__"}
        assert {room_of(path) for path in SOURCES} <= known

    def test_there_is_no_room_for_odds_and_ends(self) -> None:
        assert [name_of(path) for path in SOURCES if path.stem in ("utils", "util", "helpers", "misc")] == []


FORBIDDEN_IN_CORE = {
    r"\bprint\s*\(": "prints",
    r"\bopen\s*\(": "opens",
    r"\btime\s*\(|\bclock\w*\s*\(|\bmonotonic|\bdatetime\b|\bimport\s+time\b": "asks the time",
    r"\b(?:malloc|calloc|realloc)\b": "allocates",
    r"^\s*c?import\s+numpy\s+as\s+cnp|\bcimport\s+numpy": "needs the headers of numpy",
    r"\bwith\s+gil\b": "takes the GIL back",
}


class TestCore:
    @pytest.mark.parametrize("path", [path for path in CYTHON if room_of(path) == "core"], ids=name_of)
    def test_does_nothing_but_compute(self, path: Path) -> None:
        for number, line in code_of(path):
            for pattern, what in FORBIDDEN_IN_CORE.items():
                assert not re.search(pattern, line), f"{name_of(path)}:{number}: the core {what}: {line.strip()}"

    @pytest.mark.parametrize("path", CYTHON, ids=name_of)
    def test_names_no_state(self, path: Path) -> None:
        """The states reach the core as arrays, so that there is no second enumeration to keep in step."""
        names = "|".join(state.name for state in transitions.TRAITS)
        for number, line in code_of(path):
            assert not re.search(rf"\b(?:{names})\b", line), f"{name_of(path)}:{number}: {line.strip()}"

    @pytest.mark.parametrize("path", CYTHON, ids=name_of)
    def test_a_function_without_the_gil_cannot_raise(self, path: Path) -> None:
        """A nogil function that is not noexcept takes the GIL after every call, to look for an exception."""
        text = "\n".join(line for _, line in code_of(path))
        for match in re.finditer(r"\bcdef\s[^\n=]*?\((?:[^()]|\([^()]*\))*\)([^\n:]*)", text):
            if re.search(r"\bnogil\b", match[1]):
                assert re.search(r"\bnoexcept\b", match[1]), f"{name_of(path)}: {match[0].splitlines()[0]}"

    @pytest.mark.parametrize("path", MODULES, ids=name_of)
    def test_the_stub_has_the_public_names(self, path: Path) -> None:
        stub = path.with_suffix(".pyi")
        assert stub.exists(), f"{name_of(path)} has no stub"
        declared = set()
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                declared.add(node.target.id)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                declared.add(node.name)
        declared = {name for name in declared if not name.startswith("_")}
        sources = [path, *([path.with_suffix(".pxd")] if path.with_suffix(".pxd").exists() else [])]
        text = "\n".join(line for source in sources for _, line in code_of(source))
        defined = set(
            re.findall(r"^(?:def|class|cdef class|cpdef enum|cpdef\s[^(]*?)\s*(\w+)\s*[(:]", text, re.MULTILINE)
        )
        defined |= set(re.findall(r"^([A-Za-z]\w*)\s*=[^=]", text, re.MULTILINE))
        assert declared == {name for name in defined if not name.startswith("_")}


@pytest.mark.parametrize("path", [*SOURCES, *CYTHON, *TESTS], ids=name_of)
def test_a_file_is_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", [p for p in [*SOURCES, *TESTS] if p.suffix == ".py" and p.stat().st_size], ids=name_of)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_readme_shows_the_machine_as_it_is() -> None:
    text = (ROOT / "README.md").read_text()
    shown = text.split("<!-- states:begin -->")[1].split("<!-- states:end -->")[0]
    assert shown.strip() == transitions.render_markdown().strip()


TOOLS = {
    "ruff": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy", "--strict", "conntrack"],
    "cython-lint": ["cython_lint.cython_lint", *(str(p.relative_to(ROOT)) for p in CYTHON)],
}
if os.environ.get("CI") == "true" or all(importlib.util.find_spec(name) for name in ("ruff", "mypy", "cython_lint")):

    @pytest.mark.parametrize("tool", sorted(TOOLS))
    def test_the_tools_are_content(tool: str) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # cython-lint runs pycodestyle
        command = [sys.executable, "-m", *TOOLS[tool]]
        env = {**os.environ, "PATH": path}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
