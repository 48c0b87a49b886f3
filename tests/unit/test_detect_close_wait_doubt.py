"""What looks like a leak of CLOSE_WAIT and is none: cut captures, lossy captures, programs that close late.

Segments of a service are made one by one, as a capture beside it has them, and cut or dropped as captures are.
"""

from __future__ import annotations

import detected
import numpy as np
import pytest
from flow_rows import at, completed, flows, many, stuck_in_close_wait
from segments import START_NS, Exchange, merge
from tracked import track

from conntrack.detect import DETECTORS, Detection, Finding
from conntrack.detect.close_wait import CloseWaitLeak
from conntrack.report.verdict import sentence
from conntrack.states import FlowFlag

S = 10**9
SERVICE, LEAKY = "10.9.0.2:443", "10.9.0.2:9000"


def conversation(number: int, start_s: float, server: str, end: str, rtt_s: float = 0.03) -> Exchange:
    """One request, one reply; closed by the client and half a second later by the server, or never by the server."""
    talk = Exchange(
        f"10.1.{number % 40}.{number % 7 + 1}:{20_000 + number}", server, step_s=0.0002,
        start_ns=START_NS + round(start_s * S), client_iss=number * 7919, server_iss=number * 104_729,
    )  # fmt: skip
    talk.client("S").server("S.").wait(rtt_s).client(".").client("P.", 200).server("P.", 1000).wait(rtt_s)
    talk.client(".").wait(0.4).client("F.").server(".")
    if end == "late":
        talk.wait(0.5).server("F.").wait(rtt_s).client(".")
    return talk


def healthy(seconds: int, per_s: int, seed: int = 1) -> list[Exchange]:
    dice = np.random.default_rng(seed)
    starts = np.sort(dice.uniform(0, seconds, seconds * per_s))
    return [conversation(number, start, SERVICE, "late") for number, start in enumerate(starts)]


def found(segments: np.ndarray) -> list[Finding]:
    detection = Detection(DETECTORS)
    detection.feed(track(segments))
    return detection.findings(int(segments["ts_ns"].max()))


def told(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(one.severity, one.kind, one.subject) for one in findings]


@pytest.fixture(scope="module")
def busy() -> np.ndarray:
    """Four minutes of a healthy service, whose server is half a second behind its clients with the FIN."""
    return merge(*healthy(240, 8))


@pytest.mark.parametrize("cut_at_s", [40.05, 80.3, 119.9])
def test_a_capture_that_begins_in_the_middle_of_closing_says_nothing(busy: np.ndarray, cut_at_s: float) -> None:
    """The FIN that comes first in the capture may be the second one of its connection."""
    assert told(found(busy[busy["ts_ns"] > START_NS + round(cut_at_s * S)])) == []


@pytest.mark.parametrize(("share", "row"), [(0.05, 20), (0.1, 50), (0.2, 50), (0.01, 1), (0.05, 1), (0.1, 1), (0.2, 1)])
def test_a_capture_that_loses_frames_makes_no_leak(busy: np.ndarray, share: float, row: int) -> None:
    """Frames are lost one by one, or many in a row as where the buffer overflows, often enough to be counted."""
    dice = np.random.default_rng(5)
    kept = np.repeat(dice.random(len(busy) // row + 1) >= share, row)[: len(busy)]
    findings = found(busy[kept])
    assert [one for one in told(findings) if one[0] != "info"] == []
    assert not any("leaks" in sentence(one) for one in findings)
    assert not any(one.kind == "fin_wait_2_stuck" for one in findings)


@pytest.mark.parametrize(("share", "row"), [(0.05, 20), (0.05, 1), (0.1, 50), (0.2, 1)])
def test_a_leak_is_found_beside_it_all_the_same(busy: np.ndarray, share: float, row: int) -> None:
    leaking = [conversation(5000 + number, 2 * number, LEAKY, "never") for number in range(80)]
    segments = merge(busy, *leaking)
    kept = np.repeat(np.random.default_rng(5).random(len(segments) // row + 1) >= share, row)[: len(segments)]
    assert [one for one in told(found(segments[kept])) if one[0] != "info"] == [("warning", "close_wait_leak", LEAKY)]


def test_a_leak_is_found_where_the_capture_begins_in_its_middle(busy: np.ndarray) -> None:
    leaking = [conversation(5000 + number, 2 * number, LEAKY, "never") for number in range(60)]
    segments = merge(busy, *leaking)
    findings = found(segments[segments["ts_ns"] > START_NS + 60 * S])
    assert told(findings)[0] == ("warning", "close_wait_leak", LEAKY)
    assert findings[0].evidence["leaking"] == 30


def test_a_pool_that_was_open_before_leaks_once_a_fin_wait_2_would_be_over() -> None:
    rows = many(stuck_in_close_wait(side="client", flags=FlowFlag.MIDSTREAM, client_payload_bytes=0), np.arange(12.0))
    rows["first_ts_ns"] = at(0)
    assert detected.found(CloseWaitLeak, rows, at(600)) == []
    rows["server_fin_ts_ns"] += 61 * S
    for name in ("client_since", "server_fin_received", "server_fin_acked"):
        rows[f"{name}_ts_ns"] = rows["server_fin_ts_ns"]
    assert [one.severity for one in detected.found(CloseWaitLeak, rows, at(600))] == ["warning"]


@pytest.mark.parametrize("until_s", [600, 150])
def test_a_program_that_closes_late_forgets_nothing(until_s: int) -> None:
    """100 connections, each closed 61 to 80 s after its client left; the capture may end before the last of them."""
    waits = 61 + np.arange(100) * 7 % 20
    rows = flows(*(completed(2.0 * n, 0.5, server_fin_ts=2.0 * n + wait, client_fin_received_ts=2.0 * n + 0.6,
                             client_fin_acked_ts=2.0 * n + 0.6, server_since_ts=2.0 * n + wait + 0.1,
                             closed_ts=2.0 * n + wait + 0.1) for n, wait in enumerate(waits)))  # fmt: skip
    (finding,) = detected.found(CloseWaitLeak, rows, at(until_s))
    assert (finding.severity, finding.evidence["leaking"]) == ("info", 0)
    assert "closes late" in sentence(finding)
    assert "one by one" in finding.caveats[0]


def test_a_restart_is_no_closing_late() -> None:
    """What a program had forgotten over 200 s is closed within a second, and it begins to forget anew."""
    closed = flows(*(completed(5.0 * n, 0.5, server_fin_ts=200 + n / 100, client_fin_received_ts=5.0 * n + 0.6,
                               client_fin_acked_ts=5.0 * n + 0.6, server_since_ts=200.5,
                               closed_ts=200.5) for n in range(25)))  # fmt: skip
    again = many(stuck_in_close_wait(), 220 + 5.0 * np.arange(12))
    (finding,) = detected.found(CloseWaitLeak, flows(closed, again), at(400))
    assert (finding.severity, finding.evidence["leaking"], finding.evidence["closed_late"]) == ("warning", 12, 25)
    (finding,) = detected.found(CloseWaitLeak, closed, at(400))
    assert finding.severity == "warning"
    assert "same time" in finding.caveats[0]
