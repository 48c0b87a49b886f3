"""`ctrack explain` as users meet it: which connection, which form, and what is said where there is none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conntrack.cli import main

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def incident(root: Path) -> str:
    return str(root / "tests" / "captures" / "incident.pcap")


@pytest.fixture
def made(tmp_path: Path) -> str:
    """A made-up capture with clean connections."""
    path = tmp_path / "made.pcap"
    assert main(["generate", str(path), "--connections", "20"]) == 0
    return str(path)


def first_flow(capture: str, capfd: Captured) -> dict[str, object]:
    assert main(["flows", capture, "--format", "ndjson"]) == 0
    flow: dict[str, object] = json.loads(capfd.readouterr().out.splitlines()[0])
    return flow


def test_a_leaked_connection_of_the_incident(incident: str, capfd: Captured) -> None:
    assert main(["flows", incident, "--format", "ndjson", "--where", "server_state=CLOSE_WAIT"]) == 0
    flow = json.loads(capfd.readouterr().out.splitlines()[0])
    assert main(["explain", incident, "--flow", str(flow["flow_id"])]) == 0
    done = capfd.readouterr()
    assert done.err == ""
    assert "\x1b" not in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert "server ESTABLISHED -> CLOSE_WAIT: the peer closed first" in done.out
    assert "server: CLOSE_WAIT since" in done.out


def test_both_ways_to_name_it_tell_the_same(made: str, capfd: Captured) -> None:
    flow = first_flow(made, capfd)
    ends = [f"{flow[f'{side}_ip']}:{flow[f'{side}_port']}" for side in ("server", "client")]
    assert main(["explain", made, "--flow", str(flow["flow_id"])]) == 0
    by_id = capfd.readouterr().out
    assert main(["explain", made, "--between", *ends]) == 0
    assert by_id in capfd.readouterr().out


def test_json_has_the_row_of_flows_and_every_segment(made: str, tmp_path: Path, capfd: Captured) -> None:
    flow = first_flow(made, capfd)
    out = tmp_path / "out.json"
    assert main(["explain", made, "--flow", str(flow["flow_id"]), "-o", str(out)]) == 0
    (told,) = json.loads(out.read_text())["connections"]
    assert told["connection"] == flow
    segments = [step for step in told["steps"] if step["kind"] == "segment"]
    assert len(segments) == flow["client_packets"] + flow["server_packets"]
    assert all(re.fullmatch(r"\d{4}-.*Z", step["ts"]) for step in segments)


def test_a_frame_in_the_middle_names_its_connection(incident: str, capfd: Captured) -> None:
    assert main(["explain", incident, "--flow", "5"]) == 2
    assert capfd.readouterr().err == ("ctrack: --flow 5: the frame is not the first of its connection; give --flow 4\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--flow", "99999999"], "--flow 99999999: no TCP segment has this frame number; 'ctrack flows CAPTURE' lists"),
        (["--between", "10.9.9.9:1", "10.9.0.2:443"], "--between 10.9.9.9:1 10.9.0.2:443: no such connection"),
        (["--between", "nonsense", "10.9.0.2:443"], "'nonsense' is no endpoint; write 10.0.0.1:80"),
        (["--between", "[::1]:1", "10.9.0.2:443"], "are of different IP versions"),
        (["--flow", "0"], "0 is not in the range"),
        ([], "name a connection by one of --flow ID and --between A:P B:P"),
        (["--flow", "1", "--between", "10.0.0.1:1", "10.0.0.1:2"], "name a connection by one of"),
    ],
)
def test_no_such_connection_is_one_line(incident: str, arguments: list[str], error: str, capfd: Captured) -> None:
    assert main(["explain", incident, *arguments]) == 2
    done = capfd.readouterr()
    assert done.out == ""
    assert len(done.err.splitlines()) == 1
    assert error in done.err


def test_standard_input(incident: str) -> None:
    command = [sys.executable, "-m", "conntrack", "explain", "-", "--flow", "4"]
    environment = {**os.environ, "COLUMNS": "80"}
    with Path(incident).open("rb") as capture:
        piped = subprocess.run(["cat"], stdin=capture, capture_output=True, check=True).stdout
    done = subprocess.run(command, input=piped, capture_output=True, env=environment, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Read from a pipe" in done.stdout
    assert b"server: CLOSE_WAIT since" in done.stdout


def test_a_cut_capture_is_told_as_far_as_it_goes(incident: str, tmp_path: Path, capfd: Captured) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(Path(incident).read_bytes()[:1500])
    assert main(["explain", str(cut), "--flow", "4"]) == 3
    done = capfd.readouterr()
    assert "SYN_SENT: active open" in done.out
    assert "cut short" in done.err
    assert main(["explain", str(cut), "--flow", "4", "--allow-truncated"]) == 0


def test_what_is_said_of_the_input_is_said_once(tmp_path: Path, capfd: Captured) -> None:
    """It is read twice: for the 4-tuple of the frame, and for the story."""
    pasted = tmp_path / "pasted.txt"
    pasted.write_text("12:00:00.000001 IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [S], seq 7, win 1000, length 0\n")
    assert main(["explain", str(pasted), "--flow", "1"]) == 0
    assert capfd.readouterr().err.count("no date is printed") == 1


def test_colours_only_where_they_are_asked_for(incident: str, capfd: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["explain", incident, "--flow", "4"]) == 0
    assert "\x1b[" in capfd.readouterr().out


def test_the_readme_shows_what_is_printed(root: Path) -> None:
    text = (root / "README.md").read_text()
    shown = text.split("<!-- explain:begin -->\n```\n")[1].split("```\n<!-- explain:end -->")[0]
    command = re.search(r"`ctrack (explain tests/\S+ --flow \d+)`", text)
    assert command is not None
    environment = {**os.environ, "COLUMNS": "80"}
    arguments = [sys.executable, "-m", "conntrack", *command[1].split()]
    done = subprocess.run(arguments, cwd=root, capture_output=True, env=environment, timeout=60, check=False)
    assert done.stdout.decode() == shown
