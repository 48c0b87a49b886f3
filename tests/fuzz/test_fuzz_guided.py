"""Coverage-guided fuzzing, bounded: `python -m benches.guided` runs as long as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benches.guided import fuzz

RUNS = {"captures": 100_000, "frames": 150_000, "python": 15_000}
"""Half a minute together on a quiet machine."""
LEAST_EDGES = {"captures": 500, "frames": 700, "python": 500}


@pytest.mark.parametrize("target", RUNS)
def test_nothing_is_found(tmp_path: Path, target: str) -> None:
    account = fuzz(target, seed=20261121, runs=RUNS[target], keep=tmp_path)
    assert account["found"] == []
    assert account["inputs"] >= RUNS[target]
    assert account["edges"] > LEAST_EDGES[target]
    assert account["corpus"] > account["started_from"] / 2


def test_a_byte_too_many_would_be_found(tmp_path: Path) -> None:
    """The sanitizers are there and heard, and what they find is kept."""
    account = fuzz("canary", seed=1, runs=3_000_000, keep=tmp_path)  # it ends with the first, mostly within 100,000
    assert "heap-buffer-overflow" in "".join(account["found"])
    assert list(tmp_path.glob("found-*"))
