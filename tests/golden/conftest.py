"""Golden files: `pytest tests/golden --update-golden` writes what is said now; read the difference first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Write the golden files instead of comparing.")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with tests/golden/NAME in full."""

    def compare(name: str, got: str) -> None:
        path = HERE / name
        if request.config.getoption("--update-golden", default=False):
            path.write_text(got, encoding="utf-8", newline="")
        with path.open(encoding="utf-8", newline="") as file:
            expected = file.read()
        assert got == expected, f"{name} differs; if that is meant: pytest tests/golden --update-golden"

    return compare
