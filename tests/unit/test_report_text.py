"""The text report: it answers first, it fits, and nothing from outside reaches the terminal as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from conntrack.detect.finding import Finding
from conntrack.report.format import evidence_text
from conntrack.report.glossary import EVIDENCE
from conntrack.report.model import CaptureSummary, ConnectionCounts, GroupSeries, Report, StateSeries
from conntrack.report.text import render_text
from conntrack.report.verdict import verdict
from conntrack.states import TcpState

NOON = 1_763_726_400 * 10**9
STATES = {state.name: 0 for state in TcpState}
CAPTURE = CaptureSummary(("a.pcap",), 1_000, 10, 10, NOON, NOON + 10**9)


def report(*findings: Finding, total: int = 1_234, **capture: Any) -> Report:
    return Report(replace(CAPTURE, **capture), ConnectionCounts(total, STATES | {"CLOSED": total}, STATES), findings)


def finding(kind: str, severity: Any = "critical", subject: str = "10.0.0.2:80", **evidence: Any) -> Finding:
    return Finding(kind, subject, severity, NOON, NOON + 60 * 10**9, 5_000, 4_000, evidence)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (report(), "No fault found in 1,234 connections."),
        (report(total=0), "No TCP connections in this capture (10 packets)."),
        (report(total=0, packets=0), "No packets in this capture."),
        (
            report(
                finding("syn_flood", half_open_peak_ts_ns=NOON + 195 * 10**9, attempts=9_000, completion_ratio=0.002)
            ),
            "10.0.0.2:80 is under a SYN flood: 4,000 half-open connections at the peak (12:03:15), "
            "99.8 % of 9,000 attempts never completed.",
        ),
        (
            report(finding("syn_flood", "warning", shape="slow")),
            "10.0.0.2:80 is under a slow SYN flood: 4,000 half-open connections at the peak.",
        ),
        (
            report(finding("syn_flood", shape="all_syn", unanswered=9_999)),
            "10.0.0.2:80 is under a SYN flood: 9,999 SYNs without an answer.",
        ),
        (
            report(finding("syn_flood", shape="syn_cookies", half_open_peak=7)),
            "10.0.0.2:80 is under a SYN flood: 5,000 SYN+ACKs that nobody acknowledged, absorbed by SYN cookies.",
        ),
        (
            report(finding("close_wait_leak", leaking=12, oldest_s=7_200)),
            "10.0.0.2:80 leaks CLOSE_WAIT: 12 connections that it never closes, the oldest for 2 h.",
        ),
        (
            report(finding("close_wait_leak", leaking=0)),
            "10.0.0.2:80 closes late: 5,000 connections stayed in CLOSE_WAIT for long, 4,000 of them at once.",
        ),
        (
            report(finding("time_wait_buildup", side="client", service="10.0.0.2:80", ephemeral_ports=28_232)),
            "10.0.0.2:80 runs out of ports towards 10.0.0.2:80: 4,000 of 28,232 ports in TIME_WAIT at the peak.",
        ),
        (
            report(finding("time_wait_buildup", "info", side="server")),
            "Nothing alarming in 1,234 connections. Worth knowing: 10.0.0.2:80 closes first: 4,000 connections in "
            "TIME_WAIT at the peak, which cost it memory only.",
        ),
        (
            report(finding("time_wait_buildup", "warning", side="client", ephemeral_ports=28_232)),
            "10.0.0.2:80 runs short of ports: 4,000 of 28,232 ports in TIME_WAIT at the peak.",
        ),
        (
            report(finding("accept_queue_overflow", never_served=7)),
            "10.0.0.2:80 accepts too slowly: 5,000 handshakes turned away by its full accept queue, "
            "7 of them never served.",
        ),
        (
            report(finding("unanswered_syn", "info", attempts=5_000, answered_before=0, distinct_clients=1)),
            "Nothing alarming in 1,234 connections. Worth knowing: 10.0.0.2:80 does not answer: "
            "5,000 attempts from 1 client in vain.",
        ),
        (
            report(finding("unanswered_syn", "warning", attempts=6_000, answered_before=900)),
            "10.0.0.2:80 stopped answering: 5,000 of 6,000 attempts in vain.",
        ),
        (
            report(finding("connection_refused", "warning", attempts=5_000)),
            "10.0.0.2:80 refuses connections: 5,000 attempts.",
        ),
        (
            report(finding("port_scan", "warning", "10.0.0.9", ports=5_000, hosts=1)),
            "10.0.0.9 scans 5,000 ports of 1 host: 5,000 probes.",
        ),
        (
            report(finding("reset_storm", window_s=10.0), finding("a_new_kind", "info")),
            "10.0.0.2:80: 5,000 open connections reset, 4,000 of them within 10.0 s. 1 more finding (info).",
        ),
        (
            report(finding("zero_window_stall", "warning")),
            "10.0.0.2:80 does not read: 5,000 connections stalled by its closed window.",
        ),
        (
            report(finding("fin_wait_2_stuck", "warning")),
            "10.0.0.2:80 waits in FIN_WAIT_2: 5,000 connections that the peers do not close.",
        ),
        (
            report(finding("last_ack_stuck", "warning")),
            "The peers of 10.0.0.2:80 are gone: 5,000 connections left in LAST_ACK.",
        ),
        (
            report(finding("one_sided_capture", "warning", "capture")),
            "The capture shows 5,000 connections in one direction only.",
        ),
        (
            report(finding("capture_loss", "warning", "capture", gap_bytes=3_000_000, gap_ratio=0.2)),
            "The capture lacks 3.00 MB (20 %) of what 5,000 connections sent.",
        ),
        (
            report(finding("duplicate_frames", "warning", "capture", copies_ratio=0.99999)),
            "The capture has frames twice: 99.9 % of all, in 5,000 connections.",
        ),
        (
            report(finding("a_new_kind"), finding("syn_flood", "warning"), finding("port_scan", "info")),
            "10.0.0.2:80: a new kind, 5,000 connections, 4,000 at the peak. 2 more findings (1 warning, 1 info).",
        ),
        (
            report(faults=("a.pcap: cut",), interrupted=True),
            "No fault found in 1,234 connections. The input is damaged: this is what came before the damage. "
            "Interrupted: this is what was read until then.",
        ),
    ],
)
def test_verdict(found: Report, sentence: str) -> None:
    assert verdict(found) == sentence


@given(
    st.text(max_size=200),
    st.dictionaries(
        st.text(min_size=1, max_size=40), st.integers() | st.text() | st.floats() | st.booleans() | st.none()
    ),
    st.integers(0, 200),
)
def test_any_strings_fit_and_are_harmless(text: str, evidence: dict[str, Any], width: int) -> None:
    hostile = replace(
        finding("syn_flood", subject=text), evidence=evidence, caveats=(text,), next_steps=(text,), flow_ids=(1,)
    )
    lines = render_text(
        report(hostile, files=(text.replace("\0", ""),), faults=(text,), skipped={text: 3}), width=width
    ).split("\n")
    assert all(line.isprintable() for line in lines)
    assert max(map(cell_len, lines)) <= max(width, 60)


def test_colour_repeats_what_the_words_say() -> None:
    plain = render_text(report(finding("syn_flood")))
    coloured = render_text(report(finding("syn_flood")), color=True)
    assert "\x1b[1;31m" in coloured
    assert "CRITICAL" in plain
    for code in ("\x1b[1;31m", "\x1b[1m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


def test_of_many_findings_the_worst_are_shown_and_the_others_counted() -> None:
    text = render_text(report(*[finding("syn_flood", subject=f"10.0.0.{number}:80") for number in range(25)]))
    assert "10. CRITICAL" in text and "11. CRITICAL" not in text
    assert "15 more findings, none worse: --format json has them" in text


def test_evidence_reads_by_the_unit_in_its_name() -> None:
    evidence = {
        "peak_ts_ns": NOON,
        "oldest_s": 7_200.0,
        "memory_bytes": 2_000_000,
        "completion_ratio": 0.0312,
        "growth_per_min": 33.333,
        "server_port": 60_999,
        "attempts": 1_000_000,
        "exact": True,
        "unknown": None,
        "cause": "accept_starvation",
    }
    text = render_text(report(replace(finding("x"), evidence=evidence)))
    assert "unknown" not in text
    for value in ("2 h", "2.00 MB", "3.12 %", "33.333 a minute", "60999", "1,000,000", "yes", "accept starvation"):
        assert any(line.endswith(f" {value}") for line in text.splitlines()), value
    assert "peak at" in text and "2025-11-21T12:00:00.000000000Z" in text


def test_every_name_of_evidence_fits_beside_its_value() -> None:
    """A label that is too long stands on a line of its own (`_wrap`), and then nobody sees which value is whose."""
    for key, term in EVIDENCE.items():
        label, _ = evidence_text(key, 1, epoch=False)
        assert label == term.name
        assert len(label) < 26, key
        assert "_" not in label.replace("CLOSE_WAIT", "").replace("TIME_WAIT", ""), key


def test_services_say_what_is_left_of_them() -> None:
    row = dict.fromkeys(("connections", "established", "refused", "reset", "unanswered"), 1_000)
    services = (
        row | {"service": "10.0.0.2:80", "handshake_p50_s": 0.012, "server_states": {"CLOSED": 9, "CLOSE_WAIT": 1_234}},
        row | {"service": "[2001:db8::2]:443", "handshake_p50_s": None, "server_states": {"CLOSED": 1_000}},
    )
    lines = render_text(replace(report(), services=services), width=100).splitlines()
    at = lines.index("Services")
    assert lines[at + 2].split() == ["10.0.0.2:80", *["1,000"] * 5, "12.0", "ms"]
    assert lines[at + 3].split() == ["[2001:db8::2]:443", *["1,000"] * 5]
    assert lines[at + 4 : at + 7] == [
        "", "  service      at the end, but for CLOSED", "  10.0.0.2:80  CLOSE_WAIT 1,234",
    ]  # fmt: skip
    assert "at the end, but" not in render_text(replace(report(), services=services[1:]))


def test_the_columns_that_say_nothing_are_given_up_first() -> None:
    row = dict.fromkeys(("connections", "established", "refused", "reset", "unanswered"), 0)
    name = "[2001:db8:1:2:3:4:5:6]:65535"
    service = row | {"service": name, "connections": 7, "unanswered": 7, "handshake_p50_s": None, "server_states": {}}
    lines = render_text(replace(report(), services=(service,))).splitlines()
    at = lines.index("Services")
    assert lines[at + 1].split() == ["service", "connections", "established", "refused", "unanswered"]
    assert lines[at + 2].split() == [name, "7", "0", "0", "7"]
    lines = render_text(replace(report(), services=(service | dict.fromkeys(row, 5),)), width=60).splitlines()
    assert lines[at + 1].split() == ["service", "connections", "established"]


def test_without_a_series_of_any_service_there_is_no_heading() -> None:
    series = GroupSeries(NOON, 10**9, {}, {}, 37, {})
    assert "by service" not in render_text(replace(report(), group_series=series))


def test_evidence_tells_no_zeros_and_how_it_was_counted() -> None:
    text = render_text(
        report(finding("syn_flood", unanswered=0, distinct_sources=70_000, distinct_sources_by="HyperLogLog"))
    )
    assert "unanswered" not in text
    assert "different sources         70,000 (HyperLogLog)\n" in text
    assert "sources, how" not in text


def test_every_finding_says_how_sure_it_is() -> None:
    assert "How sure:\n    - Nothing in the capture speaks against it.\n" in render_text(report(finding("syn_flood")))


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (finding("port_scan", ports=20, hosts=1), "10.0.0.2:80 scans 20 ports of 1 host: 5,000 probes."),
        (finding("port_scan"), "10.0.0.2:80 scans: 5,000 probes."),
        (
            finding("accept_queue_overflow", accept_queue=129, backlog=128, dropped=7),
            "10.0.0.2:80 accepts too slowly: 129 of 128 wait to be accepted, 7 dropped meanwhile.",
        ),
        (
            finding("accept_queue_overflow", accept_queue=129, backlog=128, dropped=0),
            "10.0.0.2:80 accepts too slowly: 129 of 128 wait to be accepted.",
        ),
    ],
)
def test_numbers_are_told_where_they_are_known(one: Finding, told: str) -> None:
    assert verdict(report(one)) == told


def test_who_was_given_up_is_said() -> None:
    counts = ConnectionCounts(7, STATES | {"CLOSED": 7}, STATES, evicted=3)
    text = " ".join(render_text(replace(report(), connections=counts)).split())
    assert "3 of them were given up to stay within the memory budget (--max-memory)" in text
    assert "given up" not in render_text(report())


def test_a_series_of_nothing_has_no_heading() -> None:
    series = StateSeries(NOON, 10**9, {"ESTABLISHED": [0, 0]}, {})
    assert "States over time" not in render_text(replace(report(), series=series))
    some = replace(series, server={"ESTABLISHED": [0, 2]})
    assert "server ESTABLISHED" in render_text(replace(report(), series=some))
