"""Progress: for those who watch, after two seconds, on standard error."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from conntrack.cli import main, progress
from conntrack.cli.progress import Progress


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("TERM", "xterm")
    return now


def test_nothing_is_drawn_where_nobody_watches(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = Progress()
    clock[0] += 60
    bar.read(1, 2, 3)
    bar.close()
    assert capsys.readouterr() == ("", "")


def test_a_bar_after_two_seconds_that_goes_away(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    bar = Progress()
    clock[0] += 1.9
    bar.read(500, 1_000, 7)
    assert screen.getvalue() == ""
    clock[0] += 0.2
    bar.read(500, 1_000, 1_234)
    bar.close()
    bar.close()
    assert "reading, 1,234 packets" in screen.getvalue()


def test_a_pipe_has_no_total(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    bar = Progress()
    clock[0] += 3
    bar.read(500, None, 1)
    bar.close()
    assert "reading, 1 packets" in screen.getvalue()


def test_what_follows_reading_is_counted_in_parts(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    bar = Progress()
    clock[0] += 3
    bar.read(500, 1_000, 7)
    clock[0] += 3
    bar.followed(17, 256)
    bar.close()
    assert "following connections, by parts" in screen.getvalue() and "17/256" in screen.getvalue()


@pytest.mark.parametrize("options", [["--spill", "."], ["--workers", "1"], ["--checkpoint", "a"]])
def test_every_way_of_working_is_shown(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """Nobody is patient here: all that would be drawn is."""
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_PATIENCE_S", 0)
    monkeypatch.setattr(progress, "_EVERY_S", 0)
    monkeypatch.chdir(tmp_path)
    assert (
        main(["report", *options, "-o", "a.txt", "--format", "text", str(root / "tests/captures/incident.pcap")]) == 0
    )
    assert "6,057 packets" in screen.getvalue() and "following connections, by parts" in screen.getvalue()
