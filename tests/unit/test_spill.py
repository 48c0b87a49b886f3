"""Connections set aside on disk: the rows are those of one pass in memory, and nothing stays behind."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracked import sorted_bytes

from conntrack.capture import open_capture
from conntrack.cluster.spill import SpillTracker
from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.errors import ConntrackError
from conntrack.generate import SCENARIOS, generate, segments
from conntrack.pipeline import Analysis, analyze, flow_batches
from conntrack.report.json import render_json
from conntrack.tracker import Tracker


def in_memory(batches: Iterable[np.ndarray]) -> bytes:
    return sorted_bytes(flow_batches(batches, Tracker()))


def hold(batches: list[np.ndarray], directory: Path, buckets: int = 7, threads: int = 1) -> None:
    tracker = SpillTracker(str(directory), buckets=buckets, threads=threads)
    assert sorted_bytes(flow_batches(batches, tracker)) == in_memory(batches)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("ip_version", [4, 6])
@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_the_connections_are_those_of_one_pass(tmp_path: Path, scenario: str, ip_version: int, threads: int) -> None:
    batches = [part.copy() for part in segments(scenario=scenario, connections=3000, ip_version=ip_version)]
    hold(batches, tmp_path, threads=threads)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("buckets", [1, 2, 64])
def test_sweeps_change_nothing(tmp_path: Path, buckets: int, threads: int) -> None:
    """Long enough for connections to retire on the way, in memory and in each bucket."""
    batches = [part.copy() for part in segments(scenario="time-wait-client", connections=60_000)]
    tracker = Tracker()
    for batch in batches:
        tracker.process(batch)
    assert sum(len(rows) for rows in tracker.retired()) > 1000
    hold(batches, tmp_path, buckets, threads)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_in_any_order_of_time(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Segments that come late, and lone times of the far future, which the clock takes back."""
    rows = np.concatenate(list(segments(scenario="mixed", connections=150)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows = rows[np.argsort(np.arange(len(rows)) + rng.normal(0, data.draw(st.sampled_from([0, 5, 200])), len(rows)))]
    strange = rng.integers(0, len(rows), data.draw(st.integers(0, 5)))
    rows["ts_ns"][strange] += rng.choice([-(10**18), 10**12, 10**18], len(strange))
    cuts = np.sort(rng.integers(0, len(rows), 5))
    batches = [part for part in np.split(rows, cuts) if len(part)]
    hold(batches, tmp_path_factory.mktemp("spill"), 5, data.draw(st.sampled_from([1, 2, 4])))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_report_is_the_same(tmp_path: Path, threads: int) -> None:
    path = tmp_path / "a.pcap"
    with path.open("wb") as out:
        generate(out, scenario="mixed", connections=5000)
    analysis = Analysis()
    with open_capture([path]) as capture:
        analysis.follow(capture, SpillTracker(str(tmp_path), threads=threads))
        report = analysis.report(capture.info)
    assert render_json(report) == render_json(analyze(path, keep_flows=False))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pcap"]


def test_every_shared_capture(shared: Path, tmp_path: Path) -> None:
    paths = [path for path in sorted((shared / "captures").rglob("*.pcap*")) if path.is_file()]
    for path in paths:
        with open_capture([path]) as capture:
            batches = [batch.copy() for batch in capture]
        hold(batches, tmp_path, 3)
    assert len(paths) > 200


def test_no_segments_at_all(tmp_path: Path) -> None:
    assert list(flow_batches([], SpillTracker(str(tmp_path)))) == []


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConntrackError, match=r"none: no such file or directory; give --spill"):
        SpillTracker(str(tmp_path / "none"))


@pytest.mark.parametrize("threads", [1, 2])
def test_it_can_be_left_at_any_point(tmp_path: Path, threads: int) -> None:
    """Threads and file are gone then, also when most of the rows were not taken."""
    batches = [part.copy() for part in segments(scenario="mixed", connections=3000)]
    before = threading.active_count()
    for taken in (0, 1, 3):
        tracker = SpillTracker(str(tmp_path), threads=threads, buckets=16)
        flows = flow_batches(batches, tracker)
        assert len([next(flows) for _ in range(taken)]) == taken
        flows.close()
        tracker.close()
        assert threading.active_count() == before
        assert tracker._file._file.closed


def test_it_is_finished_once(tmp_path: Path) -> None:
    tracker = SpillTracker(str(tmp_path), threads=2)
    assert list(tracker.finish()) == []
    for again in (tracker.finish, partial(tracker.process, np.empty(0, SEGMENT_DTYPE))):
        with pytest.raises(RuntimeError, match="finished"):
            list(again() or ())
    tracker.close()


def test_followed_counts_every_bucket(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    tracker = SpillTracker(str(tmp_path), threads=3, buckets=7, followed=lambda *done: told.append(done))
    list(flow_batches(segments(scenario="mixed", connections=300), tracker))
    assert told == [(n, 7) for n in range(8)]


@pytest.mark.parametrize("command", ["report", "flows"])
@pytest.mark.parametrize("option", ["--spill", "--workers", "--checkpoint"])
def test_no_room_is_one_line_and_leaves_nothing(tmp_path: Path, command: str, option: str) -> None:
    """Files may have 200 kB, as with ulimit -f: to the program it is as a disk that fills."""
    capture, room = tmp_path / "a.pcap", tmp_path / "room"
    room.mkdir()
    with capture.open("wb") as out:
        generate(out, scenario="mixed", connections=5000)
    options = {
        "--spill": ["--spill", str(room)],
        "--workers": ["--workers", "2", "--spill", str(room)],
        "--checkpoint": ["--checkpoint", str(room / "a.ckpt")],
    }
    done = subprocess.run(
        [sys.executable, "-m", "conntrack", command, *options[option], str(capture)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and len(done.stdout.splitlines()) <= (command == "flows")  # names of columns
    assert done.stderr.startswith(f"ctrack: {room}: no room for more") and done.stderr.count("\n") == 1
    asked = "--checkpoint" if option == "--checkpoint" else "--spill"
    assert done.stderr.endswith(f"; give {asked} a directory with more\n")
    assert list(room.iterdir()) == []


@pytest.mark.parametrize("command", ["report", "flows"])
def test_the_command(root: Path, tmp_path: Path, command: str) -> None:
    outputs = []
    for spill in ([], ["--spill", str(tmp_path)]):
        done = subprocess.run(
            [sys.executable, "-m", "conntrack", command, *spill, "tests/captures/incident.pcap"],
            capture_output=True, text=True, cwd=root, check=True,
        )  # fmt: skip
        outputs.append(sorted(done.stdout.splitlines()))
    assert outputs[0] == outputs[1]
