"""The package as a library: its names, what importing it loads, and captures in, reports and connections out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import conntrack
from conntrack.generate import generate


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """A made-up capture of a CLOSE_WAIT leak."""
    path = tmp_path / "leak.pcap"
    with path.open("wb") as out:
        generate(out, scenario="close-wait-leak", connections=200, seed=3)
    return path


@pytest.fixture
def cut(leaking: Path, tmp_path: Path) -> Path:
    path = tmp_path / "cut.pcap"
    path.write_bytes(leaking.read_bytes()[:-7])
    return path


def test_every_name_is_there_and_no_other() -> None:
    assert all(getattr(conntrack, name) is not None for name in conntrack.__all__)
    assert conntrack.CLOSE_WAIT is conntrack.TcpState.CLOSE_WAIT
    assert sorted(conntrack.__all__) == dir(conntrack)
    with pytest.raises(AttributeError, match="no attribute 'Trakcer'"):
        conntrack.Trakcer  # noqa: B018  (the look-up itself must fail)


@pytest.mark.parametrize(
    ("statement", "absent"),
    [("import conntrack", "numpy"), ("import conntrack.pipeline", "click"), ("import conntrack.pipeline", "rich")],
)
def test_importing_loads_no_more_than_needed(statement: str, absent: str) -> None:
    code = f"{statement}; import sys; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_analyze_keeps_the_connections_it_reports(leaking: Path) -> None:
    report = conntrack.analyze(leaking)
    assert [finding.kind for finding in report.findings] == ["close_wait_leak"]
    assert report.flows is not None and report.flows.dtype == conntrack.FLOW_DTYPE
    assert len(report.flows) == report.connections.total == len(np.unique(report.flows["flow_id"]))
    in_close_wait = report.flows["server_state"] == conntrack.CLOSE_WAIT
    assert in_close_wait.sum() == report.connections.server_states["CLOSE_WAIT"] == report.findings[0].count
    assert set(report.findings[0].flow_ids) <= set(report.flows["flow_id"][in_close_wait].tolist())
    assert conntrack.analyze(leaking, keep_flows=False).flows is None


def test_options_reach_the_detectors(leaking: Path) -> None:
    options = conntrack.DetectOptions(close_wait_age_s=100_000)
    assert conntrack.analyze(leaking, options=options).findings == ()


def test_track_yields_each_connection_once(leaking: Path) -> None:
    ids = np.concatenate([batch["flow_id"].copy() for batch in conntrack.track(leaking)])
    report = conntrack.analyze(leaking)
    assert report.flows is not None
    assert sorted(ids.tolist()) == sorted(report.flows["flow_id"].tolist())


def test_read_segments_feeds_a_tracker(leaking: Path) -> None:
    tracker = conntrack.Tracker(profile="linux")
    read = 0
    for segments in conntrack.read_segments(leaking):
        tracker.process(segments)
        read += len(segments)
    assert read == conntrack.analyze(leaking).capture.tcp_segments == tracker.segments


def test_damage_is_never_silent(cut: Path) -> None:
    report = conntrack.analyze(cut)
    assert len(report.capture.faults) == 1 and report.connections.total > 0
    seen = 0
    with pytest.raises(conntrack.CaptureError, match=r"cut\.pcap: "):
        for batch in conntrack.track(cut):
            seen += len(batch)
    assert seen == report.connections.total
    with pytest.raises(conntrack.CaptureError):
        list(conntrack.read_segments(cut))


def test_what_is_no_capture_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(conntrack.InputError, match=r"missing\.pcap: "):
        conntrack.analyze(tmp_path / "missing.pcap")
    assert isinstance(conntrack.InputError("x"), conntrack.ConntrackError)
