"""How commands end within this process: Ctrl-C at a chosen moment, nobody who reads, a pipe that stays open."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conntrack.cli import live, main, reading
from conntrack.host import looks
from conntrack.live import Session

INCIDENT = str(Path(__file__).parent.parent / "captures" / "incident.pcap")
USED = re.compile(r"ctrack: interrupted; the first [\d,]+ packets were used\n")


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has so many come after the first batch of segments was read."""

    def arrange(times: int) -> None:
        left = [times]

        def noticed(_: object) -> bool:
            while left[0]:
                left[0] -= 1
                signal.raise_signal(signal.SIGINT)
            return False

        monkeypatch.setattr(reading, "nobody_reads", noticed)

    return arrange


COMMANDS = {
    "report": ["report", INCIDENT],
    "flows": ["flows", INCIDENT, "--format", "csv"],
    "sockets": ["sockets", INCIDENT],
    "info": ["info", INCIDENT],
    "explain": ["explain", INCIDENT, "--flow", "999999999"],
    "between": ["explain", INCIDENT, "--between", "192.0.2.1:1", "192.0.2.2:2"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_ends_the_reading(name: str, ctrl_c: Callable[[int], None], capfd: pytest.CaptureFixture[str]) -> None:
    ctrl_c(1)
    assert main(COMMANDS[name]) == 130
    assert USED.fullmatch(capfd.readouterr().err)


def test_a_second_ctrl_c_ends_the_command(ctrl_c: Callable[[int], None], capfd: pytest.CaptureFixture[str]) -> None:
    ctrl_c(2)
    assert main(COMMANDS["report"]) == 130
    assert capfd.readouterr() == ("", "ctrack: interrupted\n")


def test_nobody_who_reads_ends_it_in_silence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reading, "nobody_reads", lambda _: True)
    with io.TextIOWrapper(io.BytesIO()) as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)
        assert main(COMMANDS["flows"]) == 141
    assert capfd.readouterr().err == ""


def test_another_thread_leaves_signals_alone(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    codes: list[int] = []
    seen: list[object] = []

    def run() -> None:
        for arguments in (COMMANDS["report"], ["live", INCIDENT], ["host", "--for", "0s"]):
            codes.append(main(arguments))
            seen.append((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert (codes, seen) == ([0, 0, 0], [before] * 3)


# --- live -------------------------------------------------------------------------------------------------------------


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_last_event_of_live_is_its_end(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["live", INCIDENT, "--format", "ndjson", "--epoch"]) == 0
    found = events(capfd.readouterr().out)
    assert main(["report", INCIDENT, "--format", "json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert found[-1]["event"] == "stopped"
    assert found[-1]["packets"] == report["capture"]["packets"]
    assert {event["event"] for event in found[:-1]} >= {"opened"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give an interface with -i, or - for a capture on standard input"),
        (["-", "-i", "lo"], "give an interface with -i, or - for a capture on standard input"),
        (["-", "--snap", "96"], "--snap is for -i; whoever writes into the pipe has cut the frames"),
    ],
)
def test_what_live_cannot_know(arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["live", *arguments]) == 2
    assert capfd.readouterr().err == f"ctrack: {message}; see 'ctrack live --help'\n"


@pytest.mark.parametrize(("times", "code", "said"), [(1, 0, ""), (2, 130, "ctrack: interrupted\n")])
def test_live_ends_with_its_report_at_the_first_ctrl_c(
    times: int, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    feed, left = Session.feed, [times]

    def fed(session: Session, segments: object) -> None:
        feed(session, segments)  # type: ignore[arg-type]
        while left[0]:
            left[0] -= 1
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Session, "feed", fed)
    assert main(["live", INCIDENT]) == code
    written = capfd.readouterr()
    assert written.err == said
    assert ("States over time" in written.out) == (code == 0)


@pytest.fixture
def open_pipe() -> Iterator[str]:
    """A pipe with a capture in it, into which more may come."""
    reader, writer = os.pipe()
    feeder = threading.Thread(target=lambda: os.write(writer, Path(INCIDENT).read_bytes()[:60_000]))
    feeder.start()
    yield f"/dev/fd/{reader}"
    feeder.join()
    os.close(writer)
    os.close(reader)


def test_live_does_not_wait_for_a_pipe_beyond_its_time(
    open_pipe: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "_PIPE_ENDS_WITHIN_S", 0.0)
    assert main(["live", open_pipe, "--for", "0.01", "--every", "0.1"]) == 0
    assert "Connections:" in capfd.readouterr().out


def test_live_tells_damage_and_ends_with_its_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(Path(INCIDENT).read_bytes()[:-7])
    assert main(["live", str(path), "--format", "ndjson"]) == 3
    written = capfd.readouterr()
    assert written.err.startswith(f"ctrack: {path}: cut short") and written.err.count("\n") == 1
    assert events(written.out)[-1]["event"] == "stopped"


def test_live_draws_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alternate screen is left before the report."""
    for term, drawn in (("xterm", True), ("dumb", False)):
        raw = type("Raw", (io.BytesIO,), {"isatty": lambda _: True})()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "utf-8"))
        monkeypatch.setenv("TERM", term)
        assert main(["live", INCIDENT]) == 0
        screen, left, rest = raw.getvalue().partition(b"\x1b[?1049l")
        assert (b"\x1b[?1049h" in screen, bool(left), b"States over time" in rest) == (drawn,) * 3


# --- host -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("times", "said"), [(1, ""), (2, "ctrack: interrupted\n")])
def test_ctrl_c_ends_the_watching_of_the_host(
    times: int, said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With what was seen until then; the second one without."""
    look = looks.look

    def looked() -> looks.Look:
        for _ in range(times):
            signal.raise_signal(signal.SIGTERM if times == 1 else signal.SIGINT)
        return look()

    monkeypatch.setattr(looks, "look", looked)
    assert main(["host", "--for", "1h"]) == 130
    written = capfd.readouterr()
    assert written.err == said
    told = " ".join(written.out.split())
    assert ("Interrupted: this is what was seen until then." in told) == (times == 1) == bool(told)


# --- compare and explain ----------------------------------------------------------------------------------------------


def test_compare_with_this_host(capfd: pytest.CaptureFixture[str]) -> None:
    """A connection within it is in no capture; what listens is none."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, (_, port) = server.accept()
        with accepted:
            arguments = ["--with", "host", "--host", "127.0.0.1", "--format", "ndjson"]
            assert main(["compare", INCIDENT, *arguments]) == 0
            assert client.getsockname()[1] == port
    written = capfd.readouterr()
    ours = [row for row in events(written.out) if port in (row["local_port"], row["remote_port"])]
    told = {(row["local_port"], row["kernel_state"], row["wire_state"], row["reason"]) for row in ours}
    (other,) = {row["local_port"] for row in ours} - {port}
    assert told == {(end, "ESTABLISHED", None, "not_captured") for end in (port, other)}
    assert "against this host" in written.err


def test_compare_counts_lines_and_says_that_nothing_was_captured(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capture, snapshot = tmp_path / "empty.pcap", tmp_path / "ss.txt"
    capture.write_bytes(Path(INCIDENT).read_bytes()[:24])
    snapshot.write_text(
        "State Recv-Q Send-Q Local Address:Port Peer Address:Port\n"
        "ESTAB 0 0 10.0.0.1:1 nowhere\n"
        "ESTAB 0 0 10.0.0.1:1 10.0.0.2:2\n"
    )
    assert main(["compare", str(capture), "--with", str(snapshot), "--format", "tsv"]) == 0
    said = capfd.readouterr().err.splitlines()
    assert any(re.fullmatch(rf"ctrack: {re.escape(str(snapshot))}: 1 line not used: .*", line) for line in said)
    assert "ctrack: no packets in this capture; nothing is known of the wire" in said


def test_explain_reads_a_pipe_once(capfd: pytest.CaptureFixture[str]) -> None:
    told = {}
    for name in ("a pipe", "the file"):
        reader, writer = os.pipe()

        def feed(writer: int = writer) -> None:
            with os.fdopen(writer, "wb") as stream:
                stream.write(Path(INCIDENT).read_bytes())

        feeder = threading.Thread(target=feed)
        feeder.start()
        path = f"/dev/fd/{reader}" if name == "a pipe" else INCIDENT
        try:
            assert main(["explain", path, "--flow", "4", "--format", "json"]) == 0
            while name == "the file" and os.read(reader, 1 << 20):
                pass
        finally:
            feeder.join()
            os.close(reader)
        (told[name],) = json.loads(capfd.readouterr().out)["connections"]
    assert told["a pipe"]["notes"] == ["Read from a pipe: what was on these ports before is not known."]
    assert told["a pipe"]["steps"] == told["the file"]["steps"]
