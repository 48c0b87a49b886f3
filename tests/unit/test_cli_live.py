"""`ctrack live`: lines, events and the screen, from a pipe; how it ends. Interfaces are met in tests/kernel."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from reported import meet_the_schema

from conntrack.cli import main
from conntrack.cli.live_status import Status, change_line, screen, status_line
from conntrack.detect import Finding
from conntrack.errors import InputError
from conntrack.live import Change, Look
from conntrack.metrics import parse_listen

INCIDENT = "tests/captures/incident.pcap"
LIVE = [sys.executable, "-m", "conntrack", "live"]


def run(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    with (root / INCIDENT).open("rb") as capture:
        return subprocess.run(
            [*LIVE, "-", *options], cwd=root, stdin=capture, capture_output=True, text=True, timeout=120, check=False
        )


def report(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["report", str(root / INCIDENT), *options]) == 0
    return capsys.readouterr().out


class Feeding:
    """A `ctrack live -` with a pipe into it that stays open."""

    def __init__(self, root: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [*LIVE, "-", "--every", "0.1", *options],
            cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False,
        )  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write((root / INCIDENT).read_bytes())
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode()

    def end(self, number: int) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, words = self.process.communicate(timeout=120)
        return self.process.returncode, out.decode(), words.decode()


@pytest.fixture
def feeding(root: Path) -> Iterator[type[Feeding]]:
    made: list[Feeding] = []

    class Kept(Feeding):
        def __init__(self, *options: str) -> None:
            super().__init__(root, *options)
            made.append(self)

    yield Kept
    for one in made:
        one.process.kill()
        one.process.communicate()


def test_events_are_those_of_the_report(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(root, "--format", "ndjson")
    assert (done.returncode, done.stderr) == (0, "")
    *events, stopped = [json.loads(line) for line in done.stdout.splitlines()]
    for event in (*events, stopped):
        meet_the_schema(event, "live")
    findings = json.loads(report(root, capsys, "--format", "json"))["findings"]
    assert [(event["schema"], event["event"]) for event in events] == [(1, "opened")] * len(findings)
    for event, finding in zip(events, findings, strict=True):
        assert set(event["finding"]) == set(finding)
        told = ("kind", "subject", "severity", "count", "peak", "flow_ids", "next_steps")
        assert [event["finding"][key] for key in told] == [finding[key] for key in told]
        assert re.fullmatch(r"2026-11-21T06:17:03\.\d{9}Z", event["ts"])
    assert (stopped["event"], stopped["packets"], stopped["open_findings"]) == ("stopped", 6057, len(findings))


def test_the_end_of_the_pipe_gives_the_report(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(root)
    assert (done.returncode, done.stderr) == (0, "")
    expected = report(root, capsys).replace(f"  {root / INCIDENT}\n", "  standard input\n")
    lines, _, rest = done.stdout.partition("\n\n")
    assert rest == expected
    assert "opened: WARNING syn flood 10.9.0.2:443, 296 connections (193 at once)" in lines
    assert re.search(
        r"^2026-11-21T06:17:03Z  .* segments/s, .* 3 findings, dropped told at the end, memory ", lines, re.M
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_gives_the_report(feeding: type[Feeding], number: int) -> None:
    live = feeding()
    while "close wait leak" not in live.line():
        pass
    code, out, words = live.end(number)
    assert (code, words) == (0, "")
    assert "\nConnections: 1,057\n" in out and "6,057 packets" in out


def test_events_come_as_they_happen_and_it_ends_by_itself(feeding: type[Feeding]) -> None:
    live = feeding("--format", "ndjson", "--window", "600", "--for", "600")
    opened: set[str] = set()
    while len(opened) < 3:  # on a slow machine some of them grow between
        event = json.loads(live.line())
        assert event["event"] in ("opened", "grew")
        opened.add(event["finding"]["kind"])
    code, out, _ = live.end(signal.SIGINT)
    assert code == 0
    assert [json.loads(line)["event"] for line in out.splitlines()][-1:] == ["stopped"]


def test_what_passes_is_kept(root: Path, tmp_path: Path) -> None:
    kept, page = tmp_path / "kept.pcap", tmp_path / "report.json"
    done = run(root, "-w", str(kept), "-o", str(page))
    assert (done.returncode, done.stderr) == (0, "")
    assert kept.read_bytes() == (root / INCIDENT).read_bytes()
    assert json.loads(page.read_text())["connections"]["total"] == 1057
    assert "Connections:" not in done.stdout


def test_a_damaged_pipe_is_told_and_reported(root: Path) -> None:
    data = (root / INCIDENT).read_bytes()[:100_001]
    done = subprocess.run([*LIVE, "-"], cwd=root, input=data, capture_output=True, timeout=120, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith(b"ctrack: -: cut short in packet ")
    assert b"Connections: " in done.stdout


def test_a_closed_output_ends_it_silently(root: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f'cat {INCIDENT} | {sys.executable} -m conntrack live - | head -1; echo "${{PIPESTATUS[1]}}"'],
        cwd=root, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "141" and done.stderr == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give an interface with -i, or - for a capture on standard input; see 'ctrack live --help'"),
        (
            ["-", "-i", "lo"],
            "give an interface with -i, or - for a capture on standard input; see 'ctrack live --help'",
        ),
        (["-", "--snap", "64"], "--snap is for -i; whoever writes into the pipe has cut the frames; see "),
        (["-i", "no0"], "no0: no such interface; there are "),
        (["-", "--listen", "everywhere"], "--listen: 'everywhere' is no address; write 9100, "),
        (["-", "--threshold", "nope=1"], "--threshold: no 'nope'; "),
        (["-", "--max-memory", "1M"], "--max-memory: at least 64M; see "),
        (["-", "--profile", "os2"], "--profile: no 'os2'; "),
        (["-", "-o", "x.docx"], "x.docx: no format for '.docx'; use "),
    ],
)
def test_usage(options: list[str], message: str, root: Path) -> None:
    done = subprocess.run(
        [*LIVE, *options], cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"ctrack: {message}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9100", ("127.0.0.1", 9100)),
        (":9100", ("127.0.0.1", 9100)),
        ("0.0.0.0:9100", ("0.0.0.0", 9100)),
        ("[::]:0", ("::", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_listen(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize("text", ["", ":", "x", "1.2.3.4", "::1:9100", "[1.2.3.4]:80", "9.9.9.9:65536", "a:80", ":²"])
def test_no_listen(text: str) -> None:
    with pytest.raises(
        InputError, match=r"^--listen: .* is no address; write 9100, 127\.0\.0\.1:9100 or \[::1\]:9100$"
    ):
        parse_listen(text)


def test_metrics(feeding: type[Feeding], root: Path) -> None:
    """Every name that README lists is there, and none besides; the numbers are those of the report."""
    live = feeding("--format", "ndjson", "--listen", "0")
    for _ in range(3):
        live.line()
    assert live.process.stderr is not None
    url = live.process.stderr.readline().decode().removeprefix("ctrack: metrics at ").strip()
    assert url.startswith("http://127.0.0.1:")
    deadline = time.monotonic() + 60
    text = ""
    while "ctrack_finding_severity{" not in text and time.monotonic() < deadline:
        text = urllib.request.urlopen(url, timeout=10).read().decode()
    assert 'ctrack_ends{end="server",state="CLOSE_WAIT"} 76.0' in text
    assert 'ctrack_finding_severity{kind="syn_flood",subject="10.9.0.2:443"} 2.0' in text
    assert 'ctrack_findings_opened_total{kind="close_wait_leak"} 1.0' in text
    assert "ctrack_segments_total 6057.0" in text and "process_resident_memory_bytes" in text
    types = dict(re.findall(r"^# TYPE (ctrack_\w+) (\w+)$", text, re.MULTILINE))
    listed = dict(
        re.findall(r"^\| `(ctrack_(?!host_)\w+)[{`].*?\| (counter|gauge) \|", (root / "README.md").read_text(), re.M)
    )
    assert types == {name: kind for name, kind in listed.items() if name != "ctrack_capture_dropped_packets_total"}
    second = subprocess.run(
        [*LIVE, "-", "--listen", url.removeprefix("http://").removesuffix("/metrics")],
        cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert second.returncode == 2 and "address already in use; give another one" in second.stderr


def test_without_the_library_of_metrics(root: Path) -> None:
    code = "import sys; sys.modules['prometheus_client'] = None; from conntrack.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "live", "-", "--listen", "0"],
        cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "ctrack: --listen: prometheus_client is not installed; pip install 'tcp-conntrack[metrics]'\n"


def status(findings: int = 2, services: int = 30, **changed: object) -> Status:
    at_ns = 1_763_726_400 * 10**9
    found = [
        Finding(
            "syn_flood", f"10.0.0.{n}:443", "critical" if n == 0 else "info", at_ns - 10**10, at_ns, 1000 + n, n + 1
        )
        for n in range(findings)
    ]
    keys = ("connections", "established", "refused", "reset", "unanswered")
    rows = [{"service": f"10.0.0.{n}:443", **dict.fromkeys(keys, 12_345_678)} for n in range(services)]
    look = Look(
        at_ns, tuple(found), (), tuple(rows), {"SYN_SENT": 5}, {"CLOSE_WAIT": 7}, 12, 34, 56, 7.8, 9.1, {}, 0, 0.01
    )
    return Status(look, **{"source": "eth0", "running_s": 61.0, "window_s": 300.0, **changed})


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (20, 5), (1, 1)])
@pytest.mark.parametrize("findings", [0, 3, 100])
def test_the_screen_fits(width: int, height: int, findings: int) -> None:
    lines = screen(status(findings), width, height)
    assert len(lines) <= height and max(map(len, lines)) <= width
    colored = screen(status(findings), width, height, color=True)
    assert [re.sub("\x1b\\[[0-9;]*m", "", line) for line in colored] == lines


def test_what_the_screen_says() -> None:
    text = "\n".join(screen(status(dropped=3, source="e\x1b[31m"), 80, 24))
    for words in (
        "ctrack live  e\\x1b[31m  2025-11-21T12:00:00Z",
        "8 segments/s, 9 connections/s, 12 open, 34 since the start",
        "dropped 3",
        "Findings of the last 5 min: 2",
        "  CRITICAL  syn flood 10.0.0.0:443  1,000 connections, since 11:59:50",
        "  INFO      syn flood 10.0.0.1:443  1,001 connections, since 11:59:50",
        "  clients  SYN_SENT 5",
        "  servers  CLOSE_WAIT 7",
        "  connections  established     refused       reset  unanswered\n",
        "   12,345,678   12,345,678  12,345,678  12,345,678  12,345,678\n",
    ):
        assert words in text
    assert "(2 at once), since 11:59:50" in "\n".join(screen(status(), 100, 24))
    assert "and 95 more, none worse" in "\n".join(screen(status(100), 80, 24))
    assert "Findings of the last 5 min: none" in "\n".join(screen(status(0), 80, 24))


def test_lines() -> None:
    line = status_line(status(memory_bytes=10**8))
    assert line == (
        "2025-11-21T12:00:00Z  8 segments/s, 9 connections/s, 12 open, 2 findings, dropped told at the end, "
        "memory 100 MB"
    )
    finding = status().look.findings[0]
    at_ns = finding.last_ts_ns
    assert change_line(Change("ended", at_ns, finding), epoch=True) == (
        "1763726400  ended: CRITICAL syn flood 10.0.0.0:443, 1,000 connections"
    )


def test_the_terminal_is_as_it_was_before(root: Path) -> None:
    """The screen in a terminal of 80 by 24: the alternate one while it runs, the report after it."""
    pid, terminal = pty.fork()
    if not pid:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # in the background of a shell it is ignored
        os.environ["TERM"] = "xterm"
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            os.environ.pop(name, None)
        os.chdir(root)
        command = f"(cat {INCIDENT}; exec sleep 600) | exec {sys.executable} -m conntrack live - --every 0.2"
        os.execvp("bash", ["bash", "-c", command])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    shown = b""
    deadline = time.monotonic() + 60
    sent = False
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                part = os.read(terminal, 65536)
            except OSError:
                break
            if not part:
                break
            shown += part
        if not sent and b"close wait leak" in shown:
            os.write(terminal, b"\x03")  # Ctrl-C
            sent = True
    os.close(terminal)
    os.waitpid(pid, 0)
    before, _, drawn = shown.partition(b"\x1b[?1049h\x1b[?25l")
    drawn, _, after = drawn.partition(b"\x1b[?25h\x1b[?1049l")
    assert before == b"" and drawn.startswith(b"\x1b[H")
    assert b"\x1b[1;33m  WARNING   syn flood 10.9.0.2:443" in drawn
    assert b"10.9.0.2:443 is under a SYN flood" in after and b"Connections: 1,057" in after
