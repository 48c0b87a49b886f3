"""Every threshold of the detectors does what it says: told at one value, and not at the next.

A case has connections whose numbers are known, and two values of one threshold between which the answer must change.
The values go the way of `--threshold NAME=VALUE`. A threshold without a case fails the first test here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
from flow_rows import (
    at,
    completed,
    cut,
    flow,
    flows,
    half_open,
    many,
    queue_full,
    refused,
    stuck_in_close_wait,
    unanswered,
    vanished,
)  # fmt: skip

from conntrack import detect
from conntrack.cli.thresholds import set_thresholds
from conntrack.detect import DetectOptions, Finding
from conntrack.states import FlowFlag, TcpState

FORGED = 0x0B000000
"""The first of addresses that each come once."""
KNOWN = {"syn_backlog": 1000, "orphans_max": 24, "ephemeral_ports": 200}
"""Where a case says nothing else: limits of the host that its connections are counted against."""


class Case(NamedTuple):
    """What `ask` answers of the findings of `detector` in `rows`, by value of the threshold."""

    name: str
    detector: Any
    rows: np.ndarray
    answers: dict[float, Any]
    ask: Any = len
    others: Mapping[str, float] = MappingProxyType({})
    end_s: float = 600.0


def severities(findings: list[Finding]) -> list[str]:
    return [finding.severity for finding in findings]


def evidence(name: str) -> Any:
    return lambda findings: [finding.evidence[name] for finding in findings]


def peaks(findings: list[Finding]) -> list[int]:
    return [finding.peak for finding in findings]


def steady(row: np.ndarray, count: int, per_tick: int = 1, each: int = 1, start: float = 0.0) -> np.ndarray:
    """Return `count` connections, `per_tick` at once every 0.1 s, from sources that come `each` times."""
    return many(row, start + np.arange(count) // per_tick / 10, FORGED + np.arange(count) // each)


def to_ports(rows: np.ndarray, ports: Any) -> np.ndarray:
    rows["server_port"] = ports
    return rows


ALIVE = {
    "server_state": TcpState.SYN_RECEIVED, "server_state_evidence": 0, "server_since_ts": 0.01, "closed_ts": None,
    "client_state": TcpState.SYN_SENT, "client_state_evidence": 0, "client_since_ts": 0.0, "end_reason": 0,
}  # fmt: skip
ABANDONED = many(half_open(), np.zeros(100), FORGED + np.arange(100))
SILENCE = steady(unanswered(), 100)
BACK_AGAIN = steady(unanswered(), 300, per_tick=10, each=3)
ONE_SOURCE = many(unanswered(), np.arange(500) // 10 / 10)
SOME_REPEAT = flows(steady(unanswered(), 300, per_tick=10), steady(unanswered(syns=2), 100, per_tick=4))
COOKIES = flows(steady(half_open(synacks=1), 450, per_tick=9), steady(half_open(), 50))
FULL = flows(many(queue_full(), np.arange(5)), many(completed(), np.arange(5) / 2))
DEAD = flows(many(unanswered(syns=3), np.arange(4)), many(completed(), np.arange(4) / 2))
LEAKING = flows(many(stuck_in_close_wait(), np.zeros(5)), many(completed(), np.arange(95)))
NOTHING_UNIQUE = {"client_unique_bytes": 0, "server_unique_bytes": 0}
LEAKING_OR_LOST = flows(
    many(stuck_in_close_wait(**NOTHING_UNIQUE), np.zeros(10)),
    many(completed(**NOTHING_UNIQUE), np.arange(189)),
    completed(flags=FlowFlag.CAPTURE_LOSS, client_unique_bytes=900, server_unique_bytes=100, server_gap_bytes=1000),
)
"""200 connections, half of whose payload is not in the capture."""
HEADLESS = flows(LEAKING_OR_LOST, many(completed(flags=FlowFlag.MIDSTREAM, **NOTHING_UNIQUE), 100 + np.arange(10)))
STARVED = flows(
    many(stuck_in_close_wait(server_payload_bytes=0), np.zeros(4)), many(stuck_in_close_wait(), np.zeros(4))
)
WAITING = many(stuck_in_close_wait(), np.zeros(12))
GONE = many(vanished(), np.zeros(12))
CUT = flows(many(cut(), np.arange(50) / 10), many(completed(), np.arange(50)))
STALLED = flows(many(completed(server_zero_windows=5), np.arange(12)), many(completed(), np.arange(12)))
ONE_WAY = flows(
    many(flow(syn_ts=0.0, client_packets=4, flags=FlowFlag.ONE_SIDED), np.arange(4)), many(completed(), np.arange(6))
)
LOSSY = flows(
    many(completed(flags=FlowFlag.CAPTURE_LOSS, client_gap_bytes=100), np.arange(2)),
    many(completed(client_unique_bytes=10**6), np.arange(98)),
)
COPIED = many(completed(client_duplicates=5, server_duplicates=4), np.arange(10))
BURST = many(completed(0, 0.01, 0.001), np.zeros(100))
OFTEN = many(
    completed(0, 0.01, 0.001, client_state=TcpState.TIME_WAIT, client_since_ts=0.0125, closed_ts=None),
    np.arange(2000) / 10,
)
SCAN = to_ports(many(refused(), np.arange(30) * 10.0), 1 + np.arange(30))
SERVICES = to_ports(many(refused(), np.arange(8)), 80 + np.arange(8) % 4)
HOSTS = many(refused(), np.arange(5))
HOSTS["server_ip"][:, 15] = np.arange(5)
NARROW = many(completed(0, 0.01, 0.001), np.arange(3000) / 18, client_ports=40_000 + np.arange(3000) % 1200)
FORGETFUL = many(stuck_in_close_wait(side="client"), np.arange(10), FORGED + np.arange(10))
CLIENTS = many(stuck_in_close_wait(), np.arange(24), FORGED + np.arange(24) % 2)

CASES = [
    Case("syn_received_timeout_s", detect.SynFlood, many(half_open(**ALIVE), np.arange(400) / 2, FORGED),
         {63.0: [126], 30.0: [60]}, evidence("half_open_peak"), {"syn_half_open_min": 2}),
    Case("time_wait_s", detect.TimeWaitBuildup, OFTEN, {60.0: [600], 30.0: [300]}, peaks),
    Case("handshake_wait_s", detect.SynFlood, many(half_open(**ALIVE), np.zeros(100), FORGED), {4.9: 1, 5.1: 0},
         end_s=5.0),
    Case("syn_retry_wait_s", detect.UnansweredSyn, many(unanswered(), np.zeros(3), FORGED + np.arange(3)),
         {3.0: 1, 3.1: 0}, end_s=3.0),
    Case("syn_backlog", detect.SynFlood, ABANDONED, {100: ["critical"], 101: ["warning"]}, severities),
    Case("syn_backlog_warning_ratio", detect.SynFlood, ABANDONED, {0.1: 1, 0.101: 0},
         others={"syn_half_open_min": 1000}),
    Case("syn_half_open_min", detect.SynFlood, ABANDONED, {100: 1, 101: 0}),
    Case("syn_completion_ratio_max", detect.SynFlood, flows(ABANDONED, many(completed(), np.zeros(300))),
         {0.75: 1, 0.749: 0}),
    Case("syn_window_s", detect.SynFlood, SILENCE, {5.0: 1, 4.9: 0}, others={"syn_window_syns": 50}),
    Case("syn_window_syns", detect.SynFlood, SILENCE, {50: 1, 51: 0}),
    Case("syn_sources_min", detect.SynFlood, BACK_AGAIN, {100: 1, 101: 0}),
    Case("syn_tries_per_source_max", detect.SynFlood, BACK_AGAIN, {3.0: 1, 2.99: 0}),
    Case("syn_source_rate_per_s", detect.SynFlood, ONE_SOURCE, {100: 1, 101: 0}),
    Case("syn_rate_critical_per_s", detect.SynFlood, steady(unanswered(), 500, per_tick=10),
         {100: ["critical"], 101: ["warning"]}, severities),
    Case("syn_once_ratio", detect.SynFlood, SOME_REPEAT, {0.75: 1, 0.76: 0}),
    Case("syn_once_ratio", detect.UnansweredSyn, SOME_REPEAT, {0.75: 1, 0.74: 0}),
    Case("syn_cookie_ratio", detect.SynFlood, COOKIES, {0.9: ["syn_cookies"], 0.91: ["fast"]}, evidence("shape")),
    Case("unanswered_min", detect.UnansweredSyn, SILENCE, {100: 1, 101: 0}),
    Case("unanswered_ratio_min", detect.UnansweredSyn, DEAD, {0.49: 1, 0.5: 0}),
    Case("refused_ratio_min", detect.ConnectionRefused,
         flows(many(refused(), np.arange(4)), many(completed(), np.arange(4) / 2)), {0.49: 1, 0.5: 0}),
    Case("host_services_max", detect.ConnectionRefused, SERVICES, {4: 4, 3: 1}),
    Case("host_services_max", detect.UnansweredSyn, to_ports(many(unanswered(syns=3), np.arange(8)),
         80 + np.arange(8) % 4), {4: 4, 3: 1}),
    Case("lone_subjects_max", detect.ConnectionRefused, HOSTS, {5: 5, 4: 0}),
    Case("lone_subjects_max", detect.FinWait2Stuck, CLIENTS, {2: 2, 1: 0}, others={"orphans_max": 100}),
    Case("accept_queue_min", detect.AcceptQueueOverflow, FULL, {5: 1, 6: 0}),
    Case("accept_queue_ratio_min", detect.AcceptQueueOverflow, FULL, {0.5: 1, 0.51: 0}),
    Case("accept_queue_critical_count", detect.AcceptQueueOverflow, FULL, {5: ["critical"], 6: ["warning"]},
         severities),
    Case("scan_targets_min", detect.PortScan, SCAN, {30: 1, 31: 0}),
    Case("scan_window_s", detect.PortScan, SCAN, {290.1: 1, 290.0: 0}, others={"scan_targets_min": 30}),
    Case("sources_exact", detect.UnansweredSyn, steady(unanswered(), 300),
         {300: ["exact"], 299: ["HyperLogLog"]}, evidence("distinct_clients_by"), {"syn_once_ratio": 1.0}),
    Case("close_wait_age_s", detect.CloseWaitLeak, LEAKING, {60.49: 1, 60.5: 0}, end_s=61.5),
    Case("close_wait_warning_count", detect.CloseWaitLeak, LEAKING, {5: ["warning"], 6: ["info"]}, severities,
         {"close_wait_warning_ratio": 1.0}),
    Case("close_wait_critical_count", detect.CloseWaitLeak, LEAKING, {5: ["critical"], 6: ["warning"]}, severities),
    Case("close_wait_warning_ratio", detect.CloseWaitLeak, LEAKING, {0.05: ["warning"], 0.051: ["info"]}, severities),
    Case("close_wait_ratio_min_count", detect.CloseWaitLeak, LEAKING, {5: ["warning"], 6: ["info"]}, severities),
    Case("close_wait_starved_ratio", detect.CloseWaitLeak, STARVED,
         {0.5: ["accept_starvation"], 0.51: ["application_leak"]}, evidence("cause")),
    Case("close_wait_loss_factor", detect.CloseWaitLeak, LEAKING_OR_LOST, {0.099: ["warning"], 0.101: ["info"]},
         severities),
    Case("close_wait_headless_factor", detect.CloseWaitLeak, HEADLESS, {0.99: ["warning"], 1.0: ["info"]},
         severities, {"close_wait_loss_factor": 0.0}),
    Case("lone_subjects_max", detect.CloseWaitLeak, FORGETFUL, {10: 10, 9: 0}),
    Case("stuck_ends_min", detect.FinWait2Stuck, WAITING, {12: 1, 13: 0}),
    Case("stuck_ends_min", detect.LastAckStuck, GONE, {12: 1, 13: 0}),
    Case("orphans_max", detect.FinWait2Stuck, WAITING, {24: ["warning"], 25: ["info"]}, severities),
    Case("orphans_max", detect.LastAckStuck, GONE, {24: ["warning"], 25: ["info"]}, severities),
    Case("orphans_warning_ratio", detect.FinWait2Stuck, WAITING, {0.5: ["warning"], 0.51: ["info"]}, severities),
    Case("orphans_warning_ratio", detect.LastAckStuck, GONE, {0.5: ["warning"], 0.51: ["info"]}, severities),
    Case("fin_wait_2_age_s", detect.FinWait2Stuck, WAITING, {60.0: 1, 60.01: 0}),
    Case("last_ack_fins_min", detect.LastAckStuck, GONE, {5: 1, 6: 0}),
    Case("reset_storm_count", detect.ResetStorm, CUT, {50: 1, 51: 0}),
    Case("reset_storm_window_s", detect.ResetStorm, CUT, {5.0: 1, 4.9: 0}, others={"reset_storm_count": 50}),
    Case("reset_storm_ratio_min", detect.ResetStorm, CUT, {0.5: 1, 0.51: 0}, others={"reset_storm_count": 50}),
    Case("zero_windows_min", detect.ZeroWindowStall, STALLED, {5: 1, 6: 0}),
    Case("zero_window_warning_count", detect.ZeroWindowStall, STALLED, {12: ["warning"], 13: ["info"]}, severities),
    Case("zero_window_warning_ratio", detect.ZeroWindowStall, STALLED, {0.5: ["warning"], 0.51: ["info"]}, severities),
    Case("one_sided_packets_min", detect.OneSidedCapture, ONE_WAY, {4: 1, 5: 0}),
    Case("one_sided_ratio_min", detect.OneSidedCapture, ONE_WAY, {0.4: 1, 0.41: 0}),
    Case("capture_loss_ratio_min", detect.CaptureLoss, LOSSY, {0.02: 1, 0.021: 0}),
    Case("duplicates_ratio_min", detect.DuplicateFrames, COPIED, {0.5: 1, 0.51: 0}),
    Case("ephemeral_ports", detect.TimeWaitBuildup, BURST, {200: 1, 202: 0}),
    Case("time_wait_warning_ratio", detect.TimeWaitBuildup, BURST, {0.5: 1, 0.505: 0}),
    Case("time_wait_critical_ratio", detect.TimeWaitBuildup, BURST, {0.5: ["critical"], 0.51: ["warning"]}, severities),
    Case("time_wait_client_min", detect.TimeWaitBuildup, NARROW, {1080: 1, 1081: 0},
         others={"ephemeral_ports": 28_232}),
    Case("time_wait_server_min", detect.TimeWaitBuildup, many(completed(0, 0.01, 0.001, by="server"), np.zeros(100)),
         {100: 1, 101: 0}),
    Case("subjects_max", detect.ConnectionRefused, HOSTS, {5: 5, 4: 4}),
]  # fmt: skip
INSTANT = many(cut(), np.repeat(np.arange(10) / 10, 60))
"""60 connections that are reset at each of ten instants of the grid."""
THRESHOLDS = {field.name: field.default for field in fields(DetectOptions)}


def findings_of(case: Case, rows: np.ndarray, **values: float) -> list[Finding]:
    given = {**KNOWN, **case.others, **values}
    options = set_thresholds(DetectOptions, tuple(f"{name}={value}" for name, value in given.items()))
    detection = detect.Detection([case.detector], options)
    detection.feed(rows)
    return detection.findings(at(case.end_s))


def test_every_threshold_has_a_case() -> None:
    assert {case.name for case in CASES} == set(THRESHOLDS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.detector.kind}")
def test_the_answer_changes_at_the_threshold(case: Case) -> None:
    answers = {value: case.ask(findings_of(case, case.rows, **{case.name: value})) for value in case.answers}
    assert answers == case.answers
    first, second = answers.values()
    assert first != second


def test_a_window_is_one_instant_of_the_grid_at_least() -> None:
    case = Case("reset_storm_count", detect.ResetStorm, INSTANT, {})
    for window_s in (0.0, 0.05, 0.1):
        (finding,) = findings_of(case, INSTANT, reset_storm_count=60, reset_storm_window_s=window_s)
        assert finding.peak == 60
        assert findings_of(case, INSTANT, reset_storm_count=61, reset_storm_window_s=window_s) == []


SUBJECTS = {case.detector: case for case in reversed(CASES) if "subjects" not in case.name}
OF_THE_CAPTURE = {detect.OneSidedCapture, detect.CaptureLoss, detect.DuplicateFrames}


def test_every_detector_has_a_threshold() -> None:
    assert set(SUBJECTS) == set(detect.DETECTORS)


@pytest.mark.parametrize("detector", [one for one in detect.DETECTORS if one not in OF_THE_CAPTURE])
def test_the_worst_subjects_are_kept(detector: Any) -> None:
    """The same connections again, and some of them a third time, at other hosts: that one is worst."""
    case = SUBJECTS[detector]
    value = next(iter(case.answers))
    others = case.rows.copy()
    others["server_ip"][:, 13] = others["client_ip"][:, 13] = 77
    rows = flows(case.rows, others)
    assert len(findings_of(case, rows, **{case.name: value})) == 2
    (kept,) = findings_of(case, rows, **{case.name: value, "subjects_max": 1})
    assert kept == findings_of(case, rows, **{case.name: value})[0]


def test_the_text_tells_every_default() -> None:
    entries = re.split(r"^ {8}(?=\w)", (DetectOptions.__doc__ or "").partition("Attributes:")[2], flags=re.MULTILINE)
    told = {}
    for names, _, text in (" ".join(entry.split()).partition(": ") for entry in entries[1:]):
        told.update(dict.fromkeys(names.split(", "), text.replace(",", "")))
    for name, default in THRESHOLDS.items():
        assert re.search(rf"(?<![\d.]){default:g}(?![\d.]*\d)", told[name]), (name, default, told[name])
