"""What the HTML report costs beyond the text: choosing connections, the second look at the capture, the page itself."""

from __future__ import annotations

from typing import Any

import pytest

import conntrack
from benches.traffic import CaptureFile
from conntrack.capture import open_capture
from conntrack.pipeline import look_again
from conntrack.report.chosen import choose


@pytest.fixture(scope="module")
def analyzed(capture: CaptureFile) -> conntrack.Report:
    return conntrack.analyze(str(capture.path))


def test_choose(benchmark: Any, report: Any, analyzed: conntrack.Report) -> None:
    benchmark.pedantic(choose, args=(analyzed.flows,), rounds=5, warmup_rounds=1)
    report(connections=analyzed.connections.total)


def test_look_again(benchmark: Any, report: Any, analyzed: conntrack.Report, capture: CaptureFile) -> None:
    benchmark.pedantic(look_again, args=(analyzed, lambda: open_capture([str(capture.path)])), rounds=5)
    report(packets=capture.packets, bytes=capture.bytes)


def test_render(benchmark: Any, report: Any, analyzed: conntrack.Report) -> None:
    page = benchmark.pedantic(analyzed.to_html, rounds=5, warmup_rounds=1)
    benchmark.extra_info["page_bytes"] = len(page.encode())
    report(connections=analyzed.connections.total)
