"""Any number of threads gives the same rows in the same order, eviction included; and eviction takes the idle ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conntrack import analyze
from conntrack.capture import open_capture
from conntrack.cli import main
from conntrack.core.abi import FLOW_DTYPE, SEGMENT_DTYPE
from conntrack.generate import segments
from conntrack.memory import half_of_memory
from conntrack.pipeline import Analysis, flow_batches
from conntrack.report.json import render_json
from conntrack.sharded import MOST_THREADS, ShardedTracker, default_threads, make_tracker
from conntrack.states import EndReason, TcpState
from conntrack.tracker import MOST_BYTES_EACH, Tracker
from conntrack.upkeep import LEAST_BUDGET, LOOK_SEGMENTS

THREADS = (1, 2, 3, 4)
START_NS = 1_763_000_000 * 10**9

Rows = np.ndarray[Any, Any]


def flood(count: int, *, step_ns: int = 10_000, batch: int = 40_000) -> Iterator[Rows]:
    """SYNs, each of another 4-tuple."""
    for at in range(0, count, batch):
        numbers = np.arange(at, min(at + batch, count))
        rows = np.zeros(len(numbers), SEGMENT_DTYPE)
        rows["src_ip"][:, 10:12] = rows["dst_ip"][:, 10:12] = 255
        rows["src_ip"][:, 12:] = numbers.astype(">u4").view("u1").reshape(-1, 4)
        rows["dst_ip"][:, 12:] = (10, 0, 0, 1)
        rows["src_port"], rows["dst_port"] = 1024 + numbers % 60_000, 443
        rows["ts_ns"] = START_NS + numbers * step_ns
        rows["frame"], rows["seq"], rows["ip_id"] = numbers + 1, numbers * 7919, 1 + numbers % 65_000
        for name, value in (
            ("flags", 2),
            ("window", 1024),
            ("wire_bytes", 60),
            ("ip_version", 4),
            ("window_scale", 255),
        ):
            rows[name] = value
        yield rows


def told(batches: Iterator[Rows], threads: int, *, ordered: bool = True, **options: Any) -> tuple[str, int, int]:
    """A digest of the rows with their cut into batches, how many they are, and how many were evicted."""
    tracker = make_tracker(threads=threads, **options)
    digest, count = hashlib.sha256(), 0
    for rows in flow_batches(batches, tracker, ordered=ordered):
        digest.update(rows.tobytes() + b"|")
        count += len(rows)
    return digest.hexdigest(), count, tracker.evicted


@pytest.mark.parametrize("scenario", ["mixed", "syn-flood", "time-wait-client"])
def test_the_rows_are_the_same_in_the_same_order(scenario: str) -> None:
    expected = told(segments(scenario=scenario, connections=30_000, seed=5), 1)
    assert expected[1] >= 30_000
    for threads in THREADS[1:]:
        assert told(segments(scenario=scenario, connections=30_000, seed=5), threads) == expected


def test_tiny_batches_and_many_threads() -> None:
    made = np.concatenate(list(segments(scenario="mixed", connections=300, seed=6)))
    expected = told(iter([made]), 1)
    for size in (1, 7, 1000):
        assert told((made[at : at + size] for at in range(0, len(made), size)), 4) == expected
    assert told(iter([made]), MOST_THREADS) == expected


def test_the_captures_of_others(shared: Path) -> None:
    """In batches of the usual size and of 13."""
    paths = sorted(path for path in (shared / "captures").rglob("*.pcap*") if path.is_file())
    assert len(paths) > 200
    for path in paths:
        expected, *others = (_of_file(path, threads, batch) for threads, batch in ((1, 8192), (2, 8192), (3, 13)))
        assert others == [expected, expected], path


def _of_file(path: Path, threads: int, batch_segments: int) -> tuple[str, int, int]:
    with open_capture([path], batch_segments=batch_segments) as capture:
        return told(iter(capture), threads)


def test_without_order_they_are_the_same_rows() -> None:
    parts = []
    for threads in (1, 3):
        batches = segments(scenario="mixed", connections=20_000, seed=8)
        rows = np.concatenate(list(flow_batches(batches, make_tracker(threads=threads), ordered=False)))
        parts.append(rows[np.argsort(rows["flow_id"])].tobytes())
    assert parts[0] == parts[1]


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_that_are_delivered_are_those_that_would_be_yielded(threads: int) -> None:
    """To each thread's own feed every row once: those evicted on the way, and those left at the end."""
    count = 500_000
    yielded = np.concatenate(list(flow_batches(flood(count), Tracker(max_memory=LEAST_BUDGET))))
    tracker = make_tracker(threads=threads, max_memory=LEAST_BUDGET)
    parts: list[list[Rows]] = [[] for _ in range(tracker.feeds)]
    tracker.deliver_to([lambda rows, part=part: part.append(rows.copy()) for part in parts])
    assert list(flow_batches(flood(count), tracker)) == []
    delivered = np.concatenate([rows for part in parts for rows in part])
    assert all(parts)
    assert tracker.evicted > 0
    assert delivered[np.argsort(delivered["flow_id"])].tobytes() == yielded[np.argsort(yielded["flow_id"])].tobytes()


def test_a_feed_that_fails_ends_all_of_it() -> None:
    def feed(rows: Rows) -> None:
        raise MemoryError(f"no room for {len(rows)} rows")

    for threads in THREADS:
        tracker = make_tracker(threads=threads)
        tracker.deliver_to([feed] * tracker.feeds)
        with pytest.raises(MemoryError, match="no room"):
            list(flow_batches(segments(scenario="mixed", connections=300, seed=4), tracker))


def test_what_threads_analyze_apart_is_what_one_does() -> None:
    from conntrack.capture import CaptureInfo

    reports = []
    for threads in (1, 3):
        for batches, most in (
            (flood(500_000), LEAST_BUDGET),
            (segments(scenario="mixed", connections=20_000, seed=9), None),
        ):
            analysis = Analysis(choose=True)
            analysis.follow(batches, make_tracker(threads=threads, max_memory=most))
            info = CaptureInfo(["made"], first_ts_ns=START_NS, last_ts_ns=START_NS + 60 * 10**9)
            reports.append(render_json(analysis.report(info)))
    assert reports[:2] == reports[2:]


def test_the_report_is_the_same(root: Path) -> None:
    path = root / "tests" / "captures" / "incident.pcap"
    pages = {analyze(path, threads=threads, keep_flows=False).to_html() for threads in THREADS}
    assert len(pages) == 1


class TestEviction:
    COUNT = 500_000

    def test_it_is_the_same_on_any_number_of_threads_and_in_any_batches(self) -> None:
        expected = told(flood(self.COUNT), 1, max_memory=LEAST_BUDGET)
        assert expected[1] == self.COUNT
        assert expected[2] > 50_000
        for threads, batch in ((1, 1_777), (2, 40_000), (3, 65_536)):
            assert told(flood(self.COUNT, batch=batch), threads, max_memory=LEAST_BUDGET) == expected

    def test_the_idle_leave_and_the_budget_is_kept(self) -> None:
        tracker = Tracker(max_memory=LEAST_BUDGET)
        rows = np.empty(0, FLOW_DTYPE)
        most = 0
        for batch in flood(self.COUNT):
            tracker.process(batch)
            rows = np.concatenate([rows, *tracker.retired()])
            most = max(most, tracker.bytes_used)
        assert LEAST_BUDGET < most <= LEAST_BUDGET + LOOK_SEGMENTS * MOST_BYTES_EACH
        assert len(rows) == tracker.evicted > 0
        assert set(rows["end_reason"]) == {EndReason.EVICTED}
        left = np.concatenate(list(tracker.finish()))
        assert rows["flow_id"].max() < left["flow_id"].min()
        assert len(rows) + len(left) == self.COUNT

    def test_of_equal_times_the_first_leave(self) -> None:
        tracker = Tracker(max_memory=LEAST_BUDGET)
        rows = np.concatenate(list(flow_batches(flood(self.COUNT, step_ns=0), tracker)))
        gone = rows["end_reason"] == EndReason.EVICTED
        assert gone.sum() == tracker.evicted > 0
        assert rows["flow_id"][gone].max() < rows["flow_id"][~gone].min()

    def test_memory_is_bounded_whatever_the_time_does(self) -> None:
        """One 4-tuple after the other is used again at once: rows come out though no time passes for a sweep."""
        tracker = Tracker()
        waiting = 0
        rows = next(flood(40_000, step_ns=0))
        for turn in range(20):
            rows["flags"] = 4 if turn % 2 else 2
            rows["seq"] += np.uint32(turn % 2 * 1_000_000 + 1)
            rows["frame"] += np.uint64(len(rows))
            rows["ip_id"] += np.uint16(1)
            tracker.process(rows)
            waiting = max(waiting, tracker.waiting_rows)
            list(tracker.retired())
        assert 0 < waiting <= 131_072 + LOOK_SEGMENTS

    def test_the_report_says_so_and_finds_the_flood(self) -> None:
        from conntrack.capture import CaptureInfo

        analysis = Analysis()
        for rows in flow_batches(flood(self.COUNT), make_tracker(threads=2, max_memory=LEAST_BUDGET), ordered=False):
            analysis.feed(rows)
        end_ns = START_NS + self.COUNT * 10_000
        report = analysis.report(CaptureInfo(["flood"], packets=self.COUNT, first_ts_ns=START_NS, last_ts_ns=end_ns))
        assert report.connections.evicted > 50_000
        assert [finding.kind for finding in report.findings if finding.severity != "info"] == ["syn_flood"]
        assert all("given up" in finding.caveats[-1] for finding in report.findings)

    def test_what_is_not_known_is_no_fault(self) -> None:
        """Connections evicted when their server had the client's FIN, an hour before the capture ends: no leak."""
        made = np.concatenate(list(segments(scenario="close-wait-leak", connections=2_000, seed=3)))
        rows = np.concatenate(list(flow_batches(iter([made]), Tracker())))
        assert (rows["server_state"] == TcpState.CLOSE_WAIT).any()

        def kinds() -> set[str]:
            from conntrack.capture import CaptureInfo

            analysis = Analysis()
            analysis.feed(rows)
            end_ns = int(rows["last_ts_ns"].max()) + 3_600 * 10**9
            info = CaptureInfo(["made"], first_ts_ns=int(rows["first_ts_ns"].min()), last_ts_ns=end_ns)
            return {finding.kind for finding in analysis.report(info).findings}

        assert {"close_wait_leak", "fin_wait_2_stuck"} <= kinds()
        rows["end_reason"][rows["end_reason"] == EndReason.OPEN_AT_END] = EndReason.EVICTED
        assert not {"close_wait_leak", "fin_wait_2_stuck"} & kinds()


class TestLimits:
    @pytest.mark.parametrize("threads", [0, 1, MOST_THREADS + 1])
    def test_threads(self, threads: int) -> None:
        with pytest.raises(ValueError, match="threads"):
            ShardedTracker(threads)

    @pytest.mark.parametrize("threads", [1, 2])
    def test_a_budget_that_is_too_small(self, threads: int) -> None:
        with pytest.raises(ValueError, match="is less than"):
            make_tracker(threads=threads, max_memory=LEAST_BUDGET - 1)

    def test_defaults(self) -> None:
        assert 1 <= default_threads() <= 8
        assert half_of_memory() > LEAST_BUDGET

    def test_it_finishes_once(self) -> None:
        tracker = ShardedTracker(2)
        assert list(tracker.finish()) == []
        with pytest.raises(RuntimeError, match="finished"):
            list(tracker.finish())
        with pytest.raises(RuntimeError, match="finished"):
            tracker.process(np.empty(0, SEGMENT_DTYPE))
        tracker.close()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--max-memory", "63M"], "--max-memory: at least 64M"),
        (["--max-memory", "much"], "'much' is no size"),
        (["--threads", "257"], "--threads: at most 256"),
    ],
)
def test_the_command_says_what_is_wrong(
    root: Path, capsys: pytest.CaptureFixture[str], option: list[str], words: str
) -> None:
    assert main(["report", str(root / "tests" / "captures" / "incident.pcap"), *option]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", ["report", "flows"])
def test_the_command_gives_the_same_bytes(root: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    path = str(root / "tests" / "captures" / "incident.pcap")
    outputs = []
    for options in (["--threads", "1"], ["--threads", "3", "--max-memory", "1.5g"], ["--max-memory", "none"], []):
        assert main([command, path, *options]) == 0
        outputs.append(capsys.readouterr().out)
    assert len(set(outputs)) == 1
