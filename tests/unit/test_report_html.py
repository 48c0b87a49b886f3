"""The page as a file: whole, small, its policy true, its help complete. tests/browser shows it to a browser."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flow_rows import flow, flows, many
from hypothesis import given, settings
from hypothesis import strategies as st

import conntrack
from conntrack.detect import DETECTORS, Detection
from conntrack.detect.finding import Finding
from conntrack.detect.series import COUNTED_STATES
from conntrack.generate import segments
from conntrack.pipeline import flow_batches
from conntrack.report import glossary
from conntrack.report.chosen import SIGNS
from conntrack.report.html import render_html
from conntrack.report.model import CaptureSummary, ConnectionCounts, GroupSeries, Report, StateSeries
from conntrack.states import TcpState
from conntrack.tracker import Tracker

VOID = {"meta", "link", "br", "input", "img"}


class Page(HTMLParser):
    """What a page is made of; a tag that is closed by another one is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)
            if tag in ("script", "style"):
                self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.texts[self.open[-1]][-1] += data


@pytest.fixture(scope="module")
def report(root: Path) -> Report:
    return conntrack.analyze(root / "tests" / "captures" / "incident.pcap", ladders=True)


@pytest.fixture(scope="module")
def text(report: Report) -> str:
    return report.to_html()


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_it_is_well_formed_and_names_nothing_outside(text: str) -> None:
    page = Page(text)
    addresses = [value or "" for _, name, value in page.attributes if name in ("src", "href", "action", "srcset")]
    assert addresses
    assert all(address.startswith(("#", "data:,")) for address in addresses)
    for style in page.texts["style"]:
        assert "url(" not in style and "@import" not in style
    assert not [1 for _, name, _ in page.attributes if name == "style" or name.startswith("on")]
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_its_policy_allows_its_own_scripts_and_styles_alone(text: str) -> None:
    page = Page(text)
    (policy,) = [value for _, name, value in page.attributes if name == "content" and value and "default-src" in value]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert not re.search(r"unsafe|https?:|\*", policy)
    for tag in ("script", "style"):
        own = page.texts[tag][1:] if tag == "script" else page.texts[tag]  # the first script is the data block
        hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in own}
        assert set(rules[f"{tag}-src"].split()) == hashes


def test_the_same_report_makes_the_same_page(report: Report, text: str) -> None:
    assert report.to_html() == text


def test_a_tag_has_its_column_where_there_is_one(report: Report, text: str) -> None:
    assert report.flows is not None and report.chosen is None
    assert '<th data-key="tag">' not in text and "<dt>tag</dt>" not in text
    rows = report.flows.copy()
    rows["tag"] = 4_001
    tagged = render_html(replace(report, flows=rows))
    assert '<th data-key="tag">tag</th>' in tagged and "<dt>tag</dt>" in tagged
    assert tagged.count("<th>tag</th>") == len(report.findings)
    assert tagged.count('<td class="number">4001</td>') == 100 + 3 * len(report.findings)


def test_the_licence_of_uplot_comes_along(root: Path, text: str) -> None:
    folder = root / "conntrack" / "report" / "page" / "uplot"
    licence = (folder / "LICENSE").read_text()
    assert "MIT License" in licence and licence in text
    assert "https://github.com/leeoniya/uPlot (v1.6.32)" in text


def test_a_hundred_thousand_connections_make_less_than_two_megabytes() -> None:
    random = np.random.default_rng(1)
    n = 100_000
    rows = many(
        flow("10.0.0.1:1", "10.0.0.2:80", first_ts=0, last_ts=1),
        random.uniform(0, 3_600, n),
        random.integers(1 << 24, 3 << 29, n),
        random.integers(1, 65_536, n),
    )
    rows = flows(rows)
    for name in ("client_payload_bytes", "server_payload_bytes", "client_retransmits"):
        rows[name] = random.integers(0, 1 << 31, n)
    rows["last_ts_ns"] += random.integers(0, 10**11, n)
    counts = {state.name: random.integers(0, n, 2_000).tolist() for state in TcpState}
    series = StateSeries(int(rows["first_ts_ns"].min()), 2 * 10**9, counts, counts)
    groups = {f"10.0.0.{each}:80": counts for each in range(11)}
    group_series = GroupSeries(series.first_ts_ns, series.step_ns, groups, counts, 99, groups)
    totals = dict.fromkeys(counts, 0) | {"ESTABLISHED": n}
    capture = CaptureSummary(("a.pcap",), 1, n, n, int(rows["first_ts_ns"].min()), int(rows["last_ts_ns"].max()))
    findings = tuple(
        Finding("syn_flood", f"10.0.0.{each}:80", "critical", 0, 1, n, n, flow_ids=tuple(range(1, 101)))
        for each in range(100)
    )
    connections = ConnectionCounts(n, totals, totals)
    report = Report(capture, connections, findings, series, flows=rows, group_series=group_series)
    text = render_html(report)
    assert len(text.encode()) < 2_000_000
    assert "10,000 of 100,000 connections are in this table" in text
    assert "The other 90,000 are counted above" in text
    assert data_of(text)["table"]["rows"] == 10_000


@pytest.mark.parametrize("scenario", ["syn-flood", "close-wait-leak", "time-wait-client", "port-scan", "server-down"])
def test_every_number_is_explained(scenario: str) -> None:
    """Whatever evidence the detectors give has its entry, and the page has those of its findings."""
    detection = Detection(DETECTORS)
    last_ns = 0
    for batch in flow_batches(segments(scenario=scenario, connections=1), Tracker()):
        last_ns = max(last_ns, int(batch["last_ts_ns"].max()))
        detection.feed(batch)
    findings = tuple(detection.findings(last_ns))
    assert findings
    none = dict.fromkeys((state.name for state in TcpState), 0)
    text = render_html(Report(CaptureSummary((), 1, 1, 1, 0, 1), ConnectionCounts(0, none, none), findings))
    for finding in findings:
        assert set(finding.evidence) <= set(glossary.EVIDENCE)
        for key in finding.evidence:
            assert f"<dd>{glossary.EVIDENCE[key].means.split(chr(39))[0]}" in text


def named_evidence(source: str) -> set[str]:
    """The names in the dicts that a detector's source gives as evidence."""
    named = set()
    for node in ast.walk(ast.parse(source)):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        given = (isinstance(target, ast.Name) and target.id == "evidence") or getattr(node, "arg", None) == "evidence"
        value = getattr(node, "value", None)
        if given and isinstance(value, ast.Dict):
            named |= {key.value for key in value.keys if isinstance(key, ast.Constant)}
        if isinstance(target, ast.Subscript) and ast.unparse(target.value) == "evidence":
            named.add(ast.literal_eval(target.slice))
    return named


def test_the_help_is_complete_and_has_nothing_left_over(root: Path) -> None:
    sources = [path.read_text() for path in sorted((root / "conntrack" / "detect").glob("*.py"))]
    named = set().union(*map(named_evidence, sources))
    assert len(named) > 20
    assert named - set(glossary.EVIDENCE) == set()
    assert [key for key in glossary.EVIDENCE if f'"{key}"' not in "".join(sources)] == []
    assert set(glossary.SIGNS) == set(SIGNS)
    states = " ".join(term.name for term in glossary.STATES)
    assert [state.name for state in COUNTED_STATES if state.name not in states] == []


def test_what_the_findings_say_stands_in_the_page(report: Report, text: str) -> None:
    for finding in report.findings:
        for words in (finding.subject, *finding.caveats):
            assert words in text
    assert "06:16:00.9" in text and "8.66 %" in text
    assert "SYN flood" in text and "CLOSE_WAIT leak" in text
    data = data_of(text)
    assert data["findings"][1]["ids"] == list(report.findings[1].flow_ids)
    assert data["series"][0]["steps"] == 107


def test_unix_seconds_on_request(report: Report) -> None:
    text = report.to_html(epoch=True)
    assert "1795241718.848456" in text
    assert "2026-11-21" not in text


def test_findings_without_their_rows_name_them(report: Report) -> None:
    text = replace(report, flows=None, chosen=None, stories=()).to_html()
    assert "Not in the table: flow_id 2202, 2204" in text
    assert "0 of 1,057 connections are in this table" in text


@settings(max_examples=30)
@given(st.text(max_size=80))
def test_any_string_is_only_text(words: str) -> None:
    finding = Finding(words, words, "info", 0, 1, 1, 1, {words: words}, (words,), (words,))
    capture = CaptureSummary((words.replace("\0", ""),), 1, 1, 1, 0, 1, {words: 1}, 0, (words,))
    before = Page(render_html(Report(capture, ConnectionCounts(1, {}, {}), (replace(finding, kind="x"),))))
    after = Page(render_html(Report(capture, ConnectionCounts(1, {}, {}), (finding,))))
    assert [each[:2] for each in before.attributes] == [each[:2] for each in after.attributes]
    assert before.texts["script"][1:] == after.texts["script"][1:]


def test_a_notebook_gets_a_frame(report: Report, text: str) -> None:
    frame = report._repr_html_()
    page = Page(frame)
    assert [(tag, name) for tag, name, _ in page.attributes if name in ("srcdoc", "sandbox")] == [
        ("iframe", "sandbox"),
        ("iframe", "srcdoc"),
    ]
    assert {name: value for _, name, value in page.attributes}["srcdoc"] == text
    assert {name: value for _, name, value in page.attributes}["sandbox"] == "allow-scripts"


def test_series_by_service_are_there_without_javascript(report: Report, text: str) -> None:
    """A chart for each state of each service, in the markup; left out where there is one service, as in the text."""
    assert report.group_series is not None
    services = report.group_series.services
    shown = text[text.index('<details id="services-over-time">') :]
    shown = shown[: shown.index("</details>")]
    assert shown.count("<polyline") == sum(any(counts) for states in services.values() for counts in states.values())
    for name, states in services.items():
        assert name in shown
        for counts in states.values():
            assert f'<td class="number">{max(counts):,}</td>' in shown
    one = replace(report.group_series, services_total=1)
    assert "services-over-time" not in replace(report, group_series=one).to_html()
    more = replace(report.group_series, services_total=1234)
    assert "the 2 of 1,234 with the most ends at once" in replace(report, group_series=more).to_html()
