"""A Chromium for the tests of the page, and the page. Under CI=true a missing one is a failure, elsewhere a skip."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from devtools import Browser, find_chromium

import conntrack
from conntrack.report.model import Report

NO_CHROMIUM = "no Chromium is installed (apt install chromium)"


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail(NO_CHROMIUM)
        pytest.skip(NO_CHROMIUM)
    with Browser(program, tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="session")
def report(root: Path) -> Report:
    """The incident of the README: a SYN flood and a CLOSE_WAIT leak, with ladders."""
    return conntrack.analyze(root / "tests" / "captures" / "incident.pcap", ladders=True)


@pytest.fixture(scope="session")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of its page."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report.to_html())
    return path.as_uri()
