"""`ctrack bench`: it measures every stage of the same work, leaves nothing behind, and says what it measured."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from conntrack.bench import ROUNDS, measure
from conntrack.cli import main
from conntrack.version import VERSION


def test_every_stage_is_measured_on_the_same_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first, second = measure(1_000, threads=2), measure(1_000, threads=1)
    assert [stage.name for stage in first.stages] == ["read", "decode", "track", "rows", "report", "report, 2 threads"]
    assert [stage.name for stage in second.stages] == ["read", "decode", "track", "rows", "report"]
    assert (first.packets, first.bytes, first.connections) == (second.packets, second.bytes, second.connections)
    assert first.connections >= 1_000
    assert first.packets > 10 * first.connections
    for stage in first.stages:
        assert stage.ns_a_packet == pytest.approx(stage.seconds * 1e9 / first.packets)
    assert first.bytes_a_connection == second.bytes_a_connection > 128
    assert list(tmp_path.iterdir()) == []
    assert ROUNDS >= 3


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--connections", "1000", "--threads", "1", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["version"]) == (1, VERSION)
    assert [stage["name"] for stage in document["stages"]] == ["read", "decode", "track", "rows", "report"]
    assert {"packets", "bytes", "connections", "bytes_a_connection", "peak_bytes", "load_1m"} <= set(document)


def test_into_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    assert main(["bench", "--connections", "1000", "--threads", "1", "--format", "json", "-o", str(out)]) == 0
    assert json.loads(out.read_text())["schema"] == 1
    assert capsys.readouterr().out == ""


def test_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--connections", "1000", "--threads", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"ctrack {VERSION}: ")
    assert [line.split()[0] for line in lines[3:8]] == ["read", "decode", "track", "rows", "report"]
    assert "bytes a connection" in lines[-1]
