"""benches/mutants.toml fits the sources: each detector has tests that are there, and no reason outlives its line."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

FILE = "benches/mutants.toml"


@pytest.fixture(scope="module")
def known(root: Path) -> dict[str, dict[str, list]]:
    return tomllib.loads((root / FILE).read_text())


def test_the_table_and_every_detector_are_tried(root: Path, known: dict[str, dict[str, list]]) -> None:
    sources = [path for path in (root / "conntrack" / "detect").glob("*.py") if "def findings(" in path.read_text()]
    wanted = {str(path.relative_to(root)) for path in sources} | {"conntrack/transitions.py"}
    assert len(wanted) > 14
    assert wanted - {"conntrack/detect/detection.py"} <= set(known["tests"])
    for name, tests in known["tests"].items():
        assert tests, name
        paths = [name, *(f"tests/unit/{test}" for test in tests)]
        assert [path for path in paths if not (root / path).is_file()] == []


def test_every_reason_is_of_a_line_that_is_there(root: Path, known: dict[str, dict[str, list]]) -> None:
    for name, survivors in known["survives"].items():
        assert name in known["tests"]
        lines = {line.strip() for line in (root / name).read_text().splitlines()}
        assert [one["was"] for one in survivors if one["was"] not in lines] == []
        assert [one for one in survivors if len(one["reason"]) < 10 or one["was"] == one["becomes"]] == []


def test_tests_run_without_plugins_as_they_do_over_mutants(root: Path) -> None:
    """Or else each mutant would seem to be killed, or none could be tried."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
    done = subprocess.run(
        [*command, "tests/unit/test_detect_episodes.py", "-k", "events"],
        cwd=root,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
