"""The guide is true: every command in it runs, and prints what it says: `--update-golden` writes what is printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def printed(block: str, root: Path) -> str:
    """The block with the output of its commands as it is now."""
    parts = []
    for line in block.splitlines():
        if not line.startswith("$ "):
            continue
        command = f'set -e; ctrack() {{ {sys.executable} -m conntrack "$@"; }}; {line[2:]}'
        done = subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and not done.stderr, f"{line}\n{done.stderr}"
        parts.append(f"{line}\n{done.stdout}")
    return "".join(parts)


def test_every_command_prints_what_the_guide_says(root: Path, pytestconfig: pytest.Config) -> None:
    path = root / "conntrack" / "guide.md"
    text = path.read_text()
    assert len(BLOCK.findall(text)) >= 7
    now = BLOCK.sub(lambda block: f"```console\n{printed(block[1], root)}```", text)
    if pytestconfig.getoption("--update-golden", default=False):
        path.write_text(now)
    assert now == text, "the guide differs from what is printed; if that is meant: pytest tests/golden --update-golden"
