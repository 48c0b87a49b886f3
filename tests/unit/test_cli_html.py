"""`ctrack report` as a page: from files with ladders, from pipes without, and whatever happens in between."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conntrack.cli import main, reading


@pytest.fixture
def incident(root: Path) -> str:
    return str(root / "tests" / "captures" / "incident.pcap")


def ladders(text: str) -> int:
    return text.count('class="ladder"')


@pytest.mark.parametrize("name", ["r.html", "r.HTM"])
def test_the_suffix_makes_a_page_with_ladders(
    name: str, incident: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / name
    assert main([incident, "-o", str(out)]) == 0
    assert capfd.readouterr() == ("", "")
    text = out.read_text("utf-8")
    assert text.startswith("<!doctype html>") and text.endswith("</html>\n")
    assert "10.9.0.2:443 is under a SYN flood" in text
    assert "All 1,057 connections are in this table." in text
    assert ladders(text) >= 6


def test_a_page_from_a_pipe_has_no_ladders_and_says_so(incident: str, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    command = [sys.executable, "-m", "conntrack", "-", "--format", "html", "--epoch"]
    with Path(incident).open("rb") as capture, out.open("wb") as page:
        done = subprocess.run(
            ["sh", "-c", 'cat | "$@"', "sh", *command], stdin=capture, stdout=page, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")
    text = out.read_text("utf-8")
    assert ladders(text) == 0
    assert "they need a second reading of the capture, which a pipe does not allow" in text
    assert "standard input" in text and "1795241718.848456" in text


def test_several_captures_are_one_page(incident: str, tmp_path: Path) -> None:
    data = Path(incident).read_bytes()
    for number, name in enumerate(("<b>a<b>.pcap", 'b"\u202e&amp;.pcap')):
        (tmp_path / name).write_bytes(data[:24] + data[24:] * (number == 0))
    names = [str(path) for path in tmp_path.iterdir()]
    assert main([*names, "-o", str(tmp_path / "r.html")]) == 0
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "&lt;b&gt;a&lt;b&gt;.pcap" in text and "<b>a<b>" not in text
    assert "b&#34;\\u202e&amp;amp;.pcap" in text and "\u202e" not in text
    assert ladders(text) >= 6


def test_a_cut_capture_is_told_from_what_came_before(
    incident: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(Path(incident).read_bytes()[:-7])
    assert main([str(cut), "-o", str(tmp_path / "r.html")]) == 3
    assert len(capfd.readouterr().err.splitlines()) == 1, "said once, though it was read again"
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "<b>Damaged:</b>" in text and ladders(text) >= 6


def test_a_page_is_nothing_for_a_terminal(incident: str) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "conntrack", incident, "--format", "html"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert b"standard output is a terminal; give -o report.html" in done.stderr


def again(monkeypatch: pytest.MonkeyPatch, then: Any) -> None:
    """Have `then()` happen at the first batch of the second reading."""
    batches = reading.Reading.__iter__
    count = [0]

    def counted(self: reading.Reading) -> Iterator[Any]:
        count[0] += 1
        for batch in batches(self):
            if count[0] == 2:
                then()
            yield batch

    monkeypatch.setattr(reading.Reading, "__iter__", counted)


def test_ctrl_c_in_the_second_reading_keeps_the_report(
    incident: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    again(monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
    assert main([incident, "-o", str(tmp_path / "r.html")]) == 130
    assert capfd.readouterr().err == "ctrack: interrupted; the page has no ladders, everything else is complete\n"
    text = (tmp_path / "r.html").read_text("utf-8")
    assert ladders(text) == 0
    assert "All 1,057 connections are in this table." in text
    assert "this is what was read until then" not in text


def test_a_capture_that_goes_away_meanwhile_costs_the_ladders_only(
    incident: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.pcap"
    copy.write_bytes(Path(incident).read_bytes())
    again(monkeypatch, copy.unlink)
    assert main([str(copy), "-o", str(tmp_path / "r.html")]) == 0
    assert re.fullmatch(r"ctrack: .*copy\.pcap: .*; the page has no ladders\n", capfd.readouterr().err)
    assert ladders((tmp_path / "r.html").read_text("utf-8")) == 0


def test_text_and_json_load_no_jinja2(incident: str) -> None:
    code = "import sys; from conntrack.cli import main; main(sys.argv[1:]); print('jinja2' in sys.modules)"
    for given in ("text", "json"):
        command = [sys.executable, "-c", code, incident, "--format", given]
        assert subprocess.run(command, capture_output=True, check=True).stdout.endswith(b"False\n")
