"""conntrack.live: looks at a capture that goes on, what changes from one to the next, and the report at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frames import ACK, SYN, eth_ipv4_tcp, write_pcap

import conntrack
import conntrack.capture
from conntrack.detect import DetectOptions, Finding
from conntrack.live import Change, Changes, Intake, Look, Session
from conntrack.live.intake import MOST_WAITING
from conntrack.live.window import Window
from conntrack.pipeline import Analysis
from conntrack.upkeep import ROWS

INCIDENT = "tests/captures/incident.pcap"
S = 10**9


class Clock:
    """Seconds that a test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def segments(root: Path) -> np.ndarray[Any, Any]:
    return np.concatenate([batch.copy() for batch in conntrack.read_segments(root / INCIDENT)])


def kinds(look: Look) -> set[str]:
    return {finding.kind for finding in look.findings}


def events(look: Look) -> set[tuple[str, str]]:
    return {(change.event, change.finding.kind) for change in look.changes}


def test_a_look_at_the_end_says_what_the_report_says(root: Path, segments: np.ndarray[Any, Any]) -> None:
    session = Session(clock=Clock())
    session.feed(segments)
    look = session.look()
    report = conntrack.analyze(root / INCIDENT)
    assert look.ts_ns == segments["ts_ns"].max()
    assert look.findings == report.findings
    assert look.services == report.services
    assert look.connections == report.connections.total
    for states, expected in (
        (look.client_states, report.connections.client_states),
        (look.server_states, report.connections.server_states),
    ):
        assert states == {state: n for state, n in expected.items() if state not in ("CLOSED", "LISTEN")}


def test_looking_changes_nothing_of_the_report(root: Path, segments: np.ndarray[Any, Any]) -> None:
    """Many looks over a window that is much shorter than the capture, then the report of all of it."""
    clock = Clock()
    session = Session(window_s=6, clock=clock)
    looks = []
    for part in np.array_split(segments, 200):
        session.feed(part)
        clock.now_s += 0.01
        looks.append(session.look())
    with conntrack.capture.open_capture([str(root / INCIDENT)]) as capture:
        for _ in capture:
            pass
        report = session.report(capture.info)
    expected = conntrack.analyze(root / INCIDENT)
    for name in ("findings", "connections", "services", "series", "group_series"):
        assert getattr(report, name) == getattr(expected, name), name
    assert {change.event for look in looks for change in look.changes} == {"opened", "grew", "ended"}


def test_what_is_fed_while_it_is_looked_is_in_the_report(root: Path, segments: np.ndarray[Any, Any]) -> None:
    """Segments come between the pieces of every look, through a window that is much shorter than the capture."""
    clock = Clock()
    session = Session(window_s=6, clock=clock)
    waiting = list(np.array_split(segments, 200))
    session.feed(waiting.pop(0))
    during = 0

    def between() -> None:
        nonlocal during
        if waiting:
            session.feed(waiting.pop(0))
            during += 1

    looks = []
    while waiting:
        looks.append(session.look(between))
    assert during == 199 and len(looks) < 150, "more than one piece a look"
    counts = [look.connections for look in looks]
    assert counts == sorted(counts)
    with conntrack.capture.open_capture([str(root / INCIDENT)]) as capture:
        for _ in capture:
            pass
        report = session.report(capture.info)
    expected = conntrack.analyze(root / INCIDENT)
    for name in ("findings", "connections", "services", "series", "group_series"):
        assert getattr(report, name) == getattr(expected, name), name


def syns(count: int, net: int, ts_ns: int) -> np.ndarray[Any, Any]:
    """So many SYNs to one service, each of another connection, a nanosecond apart."""
    rows = np.zeros(count, conntrack.SEGMENT_DTYPE)
    number = np.arange(count)
    rows["ip_version"], rows["flags"], rows["dst_port"] = 4, SYN, 443
    for address in ("src_ip", "dst_ip"):
        rows[address][:, 10:13] = 255, 255, 10
    rows["src_ip"][:, 13], rows["src_ip"][:, 14], rows["src_ip"][:, 15] = net, number >> 8 & 255, number & 255
    rows["src_port"] = 1024 + (number >> 16)
    rows["ts_ns"] = ts_ns + number
    return rows


def test_no_connection_is_twice_in_a_look_at_a_table_that_moves_on() -> None:
    """After the first piece of the table all of it runs out, retires, and others take its place."""
    clock = Clock()
    session = Session(clock=clock, window_s=1000)
    first, later = 70_000, 140_000
    session.feed(syns(first, 1, 1_763_726_400 * S))
    clock.now_s = 2.0  # no handshakes in flight any more
    pieces = []

    def between() -> None:
        pieces.append(len(session._tracker))
        if len(pieces) == 2:
            session.feed(syns(later, 2, 1_763_726_700 * S))

    (service,) = session.look(between).services
    assert pieces[:3] == [first, first, later], "those that were there have retired"
    assert service["connections"] == ROWS, "the others are in the next look"
    clock.now_s = 4.0
    (service,) = session.look().services
    assert service["connections"] == first + later


def test_a_few_rows_at_a_time_are_no_batch_for_the_detectors(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch leaves some arrays behind in every detector: in days of a connection now and then, they add up."""
    flows = np.concatenate([batch.copy() for batch in conntrack.track(root / INCIDENT)])
    batches: list[int] = []
    feed = Analysis.feed

    def counted(self: Analysis, rows: np.ndarray[Any, Any]) -> None:
        batches.append(len(rows))
        feed(self, rows)

    monkeypatch.setattr(Analysis, "feed", counted)
    window = Window(10**6 * S)
    for _ in range(8):
        for row in range(len(flows)):
            window.feed(flows[row : row + 1])
    window.look(int(flows["last_ts_ns"].max()), [])
    assert batches == [4096, 4096]
    window.finish([])
    assert sum(batches) == 8 * len(flows) and len(batches) == 3


def test_a_finding_opens_and_ends_as_time_goes_on_without_segments(segments: np.ndarray[Any, Any]) -> None:
    clock = Clock()
    session = Session(window_s=120, clock=clock)
    session.feed(segments)
    first = session.look()
    assert events(first) == {("opened", "syn_flood"), ("opened", "close_wait_leak"), ("opened", "fin_wait_2_stuck")}
    assert first.server_states["SYN_RECEIVED"] == 78 and first.client_states["TIME_WAIT"] == 208
    clock.now_s = 1.0
    assert session.look().changes == ()
    clock.now_s = 300.0  # half-open connections and TIME_WAIT have run out, and have left the window
    later = session.look()
    assert events(later) == {("ended", "syn_flood")}
    assert kinds(later) == {"close_wait_leak", "fin_wait_2_stuck"}
    assert later.server_states["SYN_RECEIVED"] == 0 and later.client_states["TIME_WAIT"] == 0
    assert later.server_states["CLOSE_WAIT"] == 76, "which no timer ends"
    leak = next(finding for finding in later.findings if finding.kind == "close_wait_leak")
    assert leak.evidence["oldest_s"] == pytest.approx(404.5, abs=0.1), "ages go on"


def test_a_handshake_in_flight_is_no_failure(tmp_path: Path) -> None:
    """SYNs of the last second to 30 ports: a scan only once they have waited."""
    at_ns = 1_763_726_400 * S
    packets = [(at_ns + n, eth_ipv4_tcp(sport=40000 + n, dport=1000 + n, flags=SYN, seq=n, ack=0)) for n in range(30)]
    clock = Clock()
    session = Session(clock=clock)
    for batch in conntrack.read_segments(write_pcap(tmp_path / "a.pcap", packets)):
        session.feed(batch)
    assert session.look().findings == ()
    clock.now_s = 1.1
    assert "port_scan" in kinds(session.look())


def test_nothing_is_known_before_the_first_segment() -> None:
    look = Session().look()
    assert (look.ts_ns, look.findings, look.connections, look.open_connections) == (None, (), 0, 0)


@pytest.mark.parametrize("jump_s", [-(10**6), 10**9])
def test_a_clock_that_is_set_starts_the_window_anew(tmp_path: Path, jump_s: int) -> None:
    """Segments from another time, then again from before: what is found later is found."""
    begin_ns = 1_763_726_400 * S
    packets = [(begin_ns + n * S // 10, eth_ipv4_tcp(sport=1000 + n, flags=ACK)) for n in range(20)]
    packets += [(begin_ns + jump_s * S + n * S, eth_ipv4_tcp(sport=2000 + n, flags=ACK)) for n in range(3)]
    after_ns = begin_ns + 3 * S
    packets += [
        (after_ns + n * 10**6, eth_ipv4_tcp(sport=40000 + n, dport=1000 + n, flags=SYN, seq=n, ack=0))
        for n in range(60)
    ]
    packets += [(after_ns + 3 * S + n * S, eth_ipv4_tcp(sport=3000 + n, flags=ACK)) for n in range(5)]
    session = Session(window_s=60, clock=Clock())
    seen = set()
    rows = np.concatenate([b.copy() for b in conntrack.read_segments(write_pcap(tmp_path / "a.pcap", packets))])
    rows = rows[np.argsort(rows["frame"])]
    for at in range(0, len(rows), 5):
        session.feed(rows[at : at + 5])
        seen |= kinds(session.look())
    assert "port_scan" in seen


def finding(subject: str = "a", *, count: int = 10, peak: int = 5, severity: Any = "info") -> Finding:
    return Finding("syn_flood", subject, severity, 0, 0, count, peak)


def test_changes() -> None:
    changes = Changes()

    def told(*findings: Finding) -> list[tuple[str, str, int]]:
        return [(c.event, c.finding.subject, c.finding.count) for c in changes.look(findings, 7)]

    assert told(finding("a"), finding("b")) == [("opened", "a", 10), ("opened", "b", 10)]
    assert told(finding("a", count=19), finding("b", peak=9)) == []
    assert told(finding("a", count=20), finding("b", peak=10)) == [("grew", "a", 20), ("grew", "b", 10)]
    assert told(finding("a", count=25, severity="warning"), finding("b")) == [("grew", "a", 25)]
    assert told(finding("b", count=13)) == [("ended", "a", 25)]
    assert told() == [("ended", "b", 13)], "as it was seen last"
    assert told(finding("a")) == [("opened", "a", 10)]
    assert changes.opened == {"syn_flood": 3}
    assert Changes().look([finding()], 7) == [Change("opened", 7, finding())]


def test_thresholds_hold(segments: np.ndarray[Any, Any]) -> None:
    session = Session(options=DetectOptions(close_wait_age_s=1000, fin_wait_2_age_s=1000), clock=Clock())
    session.feed(segments)
    assert kinds(session.look()) == {"syn_flood"}


class TestIntake:
    def rows(self, n: int) -> np.ndarray[Any, Any]:
        return np.zeros(n, conntrack.SEGMENT_DTYPE)

    def test_batches_come_in_order_and_are_copies(self) -> None:
        one = self.rows(3)

        def batches() -> Iterator[np.ndarray[Any, Any]]:
            for n in range(5):
                one["frame"] = n
                yield one

        intake = Intake(batches())
        taken = []
        while not intake.ended:
            batch = intake.take(1.0)
            if batch is not None:
                taken.append(batch["frame"].tolist())
        assert taken == [[n] * 3 for n in range(5)]

    def test_what_waits_is_bounded(self) -> None:
        made = []

        def batches() -> Iterator[np.ndarray[Any, Any]]:
            for n in range(20):
                made.append(n)
                yield self.rows(MOST_WAITING // 4)

        intake = Intake(batches())
        while intake.waiting < MOST_WAITING:
            time.sleep(0.001)
        assert len(made) <= 5
        while not intake.ended:
            intake.take(1.0)
        assert len(made) == 20

    def test_an_error_comes_after_what_came_before_it(self) -> None:
        def batches() -> Iterator[np.ndarray[Any, Any]]:
            yield self.rows(2)
            raise conntrack.InputError("it broke")

        intake = Intake(batches())
        assert len(intake.take(5.0)) == 2
        intake._thread.join()
        assert not intake.ended, "before it was told"
        with pytest.raises(conntrack.InputError, match="it broke"):
            intake.take(0.1)
        assert intake.ended

    def test_a_wait_ends_with_its_time(self) -> None:
        stop = threading.Event()

        def batches() -> Iterator[np.ndarray[Any, Any]]:
            stop.wait(60)
            yield self.rows(1)

        intake = Intake(batches())
        assert intake.take(0.01) is None
        assert not intake.ended
        assert not intake.abandon(0.0)
        stop.set()
        assert intake.abandon(60.0)
