"""Limits: what is let go where there is more than is kept, what of it is still told, that what is kept is bounded."""

from __future__ import annotations

import pickle
from typing import Any

import detected
import numpy as np
import pytest
from flow_rows import at, completed, flows, many, refused, stuck_in_close_wait, vanished

from benches.live_memory import Traffic
from conntrack.capture import CaptureInfo
from conntrack.detect import DETECTORS, CloseWaitLeak, Detection, DetectOptions
from conntrack.detect.limits import WHOLE, Limits
from conntrack.live import Session
from conntrack.live.window import Window
from conntrack.pipeline import Analysis
from conntrack.report.json import render_json
from conntrack.report.text import render_text
from conntrack.tracker import Tracker

S = 10**9


def to(port: int, rows: np.ndarray) -> np.ndarray:
    rows["server_port"] = port
    return rows


def test_the_busiest_services_stay_and_those_with_a_finding() -> None:
    rows = flows(
        *(to(1000 + n, many(completed(), np.arange(20 - n))) for n in range(20)),
        to(9999, many(stuck_in_close_wait(), [0.0])),  # one connection, and it leaks
    )
    detection = detected.everything(rows, limits=Limits(services=10))
    kept = detection.narrowed(at(500))
    assert [row["service"] for row in kept.services()] == [
        *(f"10.0.0.2:{1000 + n}" for n in range(5)),
        "10.0.0.2:9999",
    ]
    assert [row["connections"] for row in kept.services()] == [20, 19, 18, 17, 16, 1]
    assert kept.overflow_connections == sum(range(1, 16))
    assert [(one.kind, one.subject) for one in kept.findings(at(500))] == [
        (one.kind, one.subject) for one in detection.findings(at(500))
    ]
    assert (kept.states() == detection.states()).all()
    assert kept.series() == detection.series(), "the whole has all of them"
    assert kept.reduced() == [
        "120 connections of services that had few are counted by state and time, and not by service."
    ]
    assert detection.reduced() == []


def test_there_is_room_again_for_services() -> None:
    detection = detected.everything(many_services(30, 1), limits=Limits(services=10)).narrowed(at(500))
    detection.feed(many_services(30, 2, first=5000))
    busiest = [row["service"] for row in detection.services()]
    assert len(busiest) == 35
    assert {row["connections"] for row in detection.services() if row["service"] >= "10.0.0.2:5"} == {2}


def many_services(services: int, each: int, first: int = 1000) -> np.ndarray:
    return flows(*(to(first + n, many(completed(), np.arange(each))) for n in range(services)))


def test_with_as_many_services_as_are_kept_nothing_is_let_go() -> None:
    detection = detected.everything(many_services(10, 1), limits=Limits(services=10))
    assert detection.narrowed(at(500)) is detection


def test_hosts_with_the_fewest_cases_are_let_go_and_counted() -> None:
    parts = [
        detected.everything(
            *(many(vanished(), np.arange(12 + n), client_ips=0x0A000100 + 10 * half + n) for n in range(10)),
            options=DetectOptions(lone_subjects_max=100),
            limits=Limits(subjects=8),
        )
        for half in range(2)
    ]
    parts[0].merge(parts[1])
    told = [one for one in parts[0].findings(at(500)) if one.kind == "last_ack_stuck"]
    assert [(one.subject, one.count) for one in told] == [("10.0.0.2:80", 330)], "the service had the most"
    stuck = next(part for part in parts[0]._detectors if part.kind == "last_ack_stuck")
    assert len(stuck._cases.subjects) <= 8
    # Their clients waited in FIN_WAIT_2: 82 of these cases are of the four that had most.
    assert parts[0].reduced() == [f"{330 - 82} connections of hosts that had few are in no finding."]


def test_what_is_found_of_time_wait_after_most_of_its_groups_were_let_go() -> None:
    busy = many(completed(), np.zeros(20_000), client_ips=0x0A000063, client_ports=1024 + np.arange(20_000))
    rows = [
        flows(many(completed(), np.arange(6000) / 10, client_ips=0x0B000000 + 6000 * part + np.arange(6000)), busy[:0])
        for part in range(3)
    ]
    options = DetectOptions(time_wait_server_min=400)
    whole = detected.everything(*rows, flows(busy), options=options, limits=Limits(subjects=16, lowest=1000))
    for part in rows:
        whole.merge(detected.everything(part, options=options, limits=Limits(subjects=16, lowest=1000)))
    told = [one for one in whole.findings(at(900)) if one.kind == "time_wait_buildup"]
    assert [(one.subject, one.peak) for one in told if one.evidence["side"] == "client"] == [("10.0.0.99", 20_000)]
    ends = next(part for part in whole._detectors if part.kind == "time_wait_buildup")._clients
    assert len(ends._index) <= 16


def test_coarser_times_are_told() -> None:
    rows = many(refused(), np.arange(400) * 1.0)
    detection = detected.everything(rows, limits=Limits(cells=40))
    assert detection.reduced() == ["What happened when is kept to 100 s: peaks may have been higher in between."]
    assert detected.everything(rows).reduced() == []


SMALL = Limits(services=40, subjects=40, hosts=40, cells=400, spans=400, values=1000, lowest=400, ends=100, pairs=100)


def kept_bytes(window: Window) -> int:
    """How large the rest of a window is, as another process would get it; the series of all has its own bound."""
    rest = window._rest.settled().detection
    rest._settle()
    return len(pickle.dumps((rest._detectors, rest._summary, rest._attempts, rest._series._breakdown, rest._services)))


@pytest.mark.parametrize("services", [1, 30])
def test_what_is_kept_of_what_is_behind_the_window_is_bounded(monkeypatch: pytest.MonkeyPatch, services: int) -> None:
    monkeypatch.setattr("conntrack.live.window.RUNNING", SMALL)
    window = Window(60 * S)
    sizes = []
    for minute in range(40):
        rows = flows(
            *(
                to(
                    1000 + services * minute + n,
                    many(row, minute * 60.0 + np.arange(10), client_ips=0x0B000000 + at_ip),
                )
                for n in range(services)
                for row, at_ip in (
                    (completed(), minute * 100 + np.arange(10)),
                    (refused(), minute),
                    (stuck_in_close_wait(), n),
                )
            )
        )
        rows["flow_id"] += minute << 32
        rows["closed_ts_ns"] = np.minimum(rows["closed_ts_ns"], at(minute * 60 + 30))
        window.feed(rows)
        window.look(at(minute * 60 + 59), [])
        sizes.append(kept_bytes(window))
    assert max(sizes[20:]) < 1.2 * max(sizes[8:20])
    if services > 1:
        assert window.reduced()
    total = int(window.finish([]).detection.states()[0].sum())
    assert total == 40 * services * 30


@pytest.mark.parametrize("cells", [10, 1 << 16])
def test_a_report_says_what_was_summarised(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    """What was seen minutes ago is kept more coarsely; where nothing had to be, the report is that of all of it."""
    monkeypatch.setattr("conntrack.live.window.RUNNING", Limits(cells=cells))
    traffic = Traffic(100, 1, 10)
    seconds = [traffic.second() for _ in range(200)]
    session, analysis = Session(window_s=6.0, clock=lambda: 0.0), Analysis()
    for segments in seconds:
        session.feed(segments)
    assert session.look().connections == 20_000
    info = CaptureInfo(["veth0"])
    report = session.report(info)
    analysis.follow(iter(seconds), Tracker())
    whole = analysis.report(info)
    assert report.connections == whole.connections
    assert [(one.kind, one.count) for one in report.findings] == [(one.kind, one.count) for one in whole.findings]
    if cells == 10:
        assert report.summarised == ("What happened when is kept to 100 s: peaks may have been higher in between.",)
        assert report.summarised[0] in " ".join(render_text(report).split())
        assert report.summarised[0] in render_json(report) and report.summarised[0] in report.to_html()
    else:
        assert report.summarised == () and "summarised" not in render_json(report)
        assert report.findings == whole.findings


def test_every_limit_is_used() -> None:
    """A limit that nobody asks for would be a promise and nothing else."""
    asked: set[str] = set()

    class Watched(Limits):
        def __getattribute__(self, name: str) -> Any:
            asked.add(name)
            return super().__getattribute__(name)

    detection = Detection(DETECTORS, limits=Watched())
    detection.feed(many(completed(), [0.0], client_ips=1))
    other = Detection(DETECTORS, limits=Watched())
    other.merge(detection)
    other.narrowed(at(1))
    assert set(WHOLE.__slots__) <= asked
    assert CloseWaitLeak(limits=Limits(ends=3))._limit == 3
