"""--help teaches with examples that work, and the shells complete commands, options, their values and files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conntrack.cli import COMMANDS, main
from conntrack.cli.examples import EXAMPLES


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """A folder with big.pcap and ss.txt, and a command called ctrack."""
    shutil.copy(root / "tests" / "captures" / "incident.pcap", tmp_path / "big.pcap")
    shutil.copy(root / "tests" / "captures" / "incident_ss.txt", tmp_path / "ss.txt")
    command = tmp_path / "ctrack"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" -m conntrack "$@"\n')
    command.chmod(0o755)
    return tmp_path


def run(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line, _ in lines])
def test_every_example_works(line: str, folder: Path) -> None:
    before = set(folder.iterdir())
    done = run(line, folder)
    if "live -i" in line and os.geteuid() and done.returncode:  # then dumpcap must be one that this user may run
        assert done.returncode == 2 and "no permission to capture; join the group wireshark" in done.stderr
        return
    assert (done.returncode, done.stderr) == (0, "")
    written = set(folder.iterdir()) - before
    assert done.stdout or written
    for path in written:
        assert path.stat().st_size > 100


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_its_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    for line, what in EXAMPLES[command]:
        assert f"  {line}\n" in shown and f"      {what}\n" in shown
    assert max(map(len, shown.split("Scenarios:")[0].splitlines())) <= 80


def test_the_readme_says_how_to_complete_as_help_does(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    readme = (root / "README.md").read_text()
    for words in ('eval "$(_CTRACK_COMPLETE=bash_source ctrack)"', "_CTRACK_COMPLETE=fish_source ctrack >"):
        assert words in told and words in readme


def completions(words: str, folder: Path) -> set[tuple[str, str]]:
    at = len(words.split()) - (0 if words.endswith(" ") else 1)
    done = run("ctrack", folder, _CTRACK_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(at))
    assert done.stderr == ""
    return {(kind, value) for kind, _, value in (line.partition(",") for line in done.stdout.splitlines())}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ctrack ", {("plain", command) for command in COMMANDS} | {("file", "")}),
        ("ctrack re", {("plain", "report"), ("file", "re")}),
        ("ctrack ./b", {("file", "./b")}),
        ("ctrack --v", {("plain", "--version")}),
        ("ctrack report --form", {("plain", "--format")}),
        ("ctrack report big.pcap --format ", {("plain", name) for name in ("text", "json", "html")}),
        ("ctrack big.pcap --fail-on c", {("plain", "critical")}),
        ("ctrack generate x --scenario sy", {("plain", "syn-flood")}),
        ("ctrack flows b", {("file", "b")}),
        ("ctrack report -o r", {("file", "r")}),
    ],
)
def test_what_is_completed(words: str, expected: set[tuple[str, str]], folder: Path) -> None:
    assert completions(words, folder) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str, folder: Path) -> None:
    done = run("ctrack", folder, _CTRACK_COMPLETE=f"{shell}_source")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_CTRACK_COMPLETE={shell}_complete" in done.stdout


def test_bash_completes_with_it(folder: Path) -> None:
    """The way that a person takes: the line of the README, then the function that it defines, as bash calls it."""
    line = (
        'eval "$(_CTRACK_COMPLETE=bash_source ctrack)"; COMP_WORDS=(ctrack big.pcap --form); COMP_CWORD=2; '
        '_ctrack_completion ctrack --form big.pcap; echo "${COMPREPLY[@]}"'
    )
    assert run(line, folder).stdout == "--format\n"


def test_help_and_completion_import_neither_numpy_nor_jinja2(folder: Path) -> None:
    code = (
        "import sys; from conntrack.cli import main; main(['report', '--help']); "
        "print([name for name in ('numpy', 'jinja2', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.search(r"^\[\]$", done.stdout, re.MULTILINE)
