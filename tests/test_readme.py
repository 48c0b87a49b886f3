"""README.md is true: its report, tables and examples are what the package prints and does today."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from conntrack.cli import COMMANDS, main
from conntrack.export.columns import render_markdown


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text()


def between(text: str, marker: str) -> str:
    found = re.search(rf"<!-- {marker}:begin -->\n(.*?)<!-- {marker}:end -->", text, re.DOTALL)
    assert found, f"README.md has no {marker} markers"
    return found[1]


def test_the_columns_of_flows(readme: str) -> None:
    assert between(readme, "columns") == render_markdown()


def test_the_report(
    readme: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first block is what `ctrack tests/captures/incident.pcap` prints, word for word."""
    monkeypatch.chdir(root)
    assert main(["tests/captures/incident.pcap"]) == 0
    shown = re.search(r"```\n(.*?)\n```", readme, re.DOTALL)
    assert shown
    assert shown[1] == capsys.readouterr().out.rstrip()


def test_the_example_of_sockets(
    readme: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a terminal, where it is a table."""
    monkeypatch.chdir(root)
    found = re.search(r"```\n\$ ctrack (sockets .*)\n((?:.*\n)*?)```", readme)
    assert found
    assert main([*shlex.split(found[1]), "--format", "table"]) == 0
    assert capsys.readouterr().out == found[2]


def test_the_example_of_info(
    readme: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    found = re.search(r"```\n\$ ctrack (info .*)\n((?:.*\n)*?)```", readme)
    assert found
    assert main(shlex.split(found[1])) == 0
    assert capsys.readouterr().out == found[2]


def test_the_python_example_runs(readme: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    plain, with_polars = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(plain, "README.md", "exec"), names)
    assert len(names["leaks"]) == 76
    exec(compile(with_polars, "README.md", "exec"), names)
    assert names["leaks"]["len"].sum() == 76


def test_every_command_in_the_table_is_one(readme: str) -> None:
    assert set(re.findall(r"^\| `ctrack ([a-z]+)", readme, re.MULTILINE)) == set(COMMANDS)


def test_ci_runs_the_readmes_test_command(readme: str, root: Path) -> None:
    """.ci/run takes the command out of README.md, so that the two cannot differ."""
    found = re.search(r"<!-- test-command -->\n```sh\n(.*?)```", readme, re.DOTALL)
    assert found
    assert shlex.split(found[1])[-2:] == ["-m", "pytest"]
    assert "test-command" in (root / ".ci" / "run").read_text()


def test_the_example_of_compare(
    readme: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a terminal, where it is a table."""
    monkeypatch.chdir(root)
    found = re.search(r"```\n\$ ctrack (compare .*)\n((?:.*\n)*?)```", readme)
    assert found
    assert main([*shlex.split(found[1]), "--format", "table"]) == 0
    assert capsys.readouterr().out == found[2]
