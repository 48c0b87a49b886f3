"""What users see, in full: a change of any of it shows up here as the difference of two texts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import samples

from conntrack.export import BINARY, FLOW_FORMATS, make_exporter
from conntrack.report.json import render_json
from conntrack.report.model import Report
from conntrack.report.text import render_text

Golden = Callable[[str, str], None]
REPORTS = {"trouble": samples.TROUBLE, "clean": samples.CLEAN, "no_tcp": samples.NO_TCP}


@pytest.mark.parametrize(("name", "report"), REPORTS.items())
def test_report_as_text(golden: Golden, name: str, report: Report) -> None:
    golden(f"report_{name}.txt", render_text(report))


def test_report_as_text_without_unicode_in_unix_seconds(golden: Golden) -> None:
    golden("report_trouble_ascii_epoch.txt", render_text(samples.TROUBLE, ascii_only=True, epoch=True))


@pytest.mark.parametrize(("name", "report"), REPORTS.items())
def test_report_as_json(golden: Golden, name: str, report: Report) -> None:
    golden(f"report_{name}.json", render_json(report))


@pytest.mark.parametrize("name", [name for name in FLOW_FORMATS if name not in BINARY])
def test_flows(golden: Golden, name: str) -> None:
    exporter = make_exporter(name, width=200)
    text = exporter.header() + exporter.rows(samples.sample_flows()) + exporter.finish()
    golden(f"flows.{name}", text.decode("ascii"))


def test_flows_in_unix_seconds(golden: Golden) -> None:
    exporter = make_exporter("ndjson", epoch=True)
    golden("flows_epoch.ndjson", exporter.rows(samples.sample_flows()).decode("ascii"))
