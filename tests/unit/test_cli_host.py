"""`ctrack host` as users meet it, on whatever host this is: formats, options, errors, Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from conntrack.cli import host as cli_host
from conntrack.cli import main
from conntrack.cli.thresholds import SEVERITIES
from conntrack.detect import finding
from conntrack.host.watch import RULES
from conntrack.report.host import HostReport, render_host_text

REPORT = HostReport(
    host="web1",
    first_ts_ns=1_763_726_400 * 10**9,
    last_ts_ns=1_763_726_402 * 10**9,
    looks=3,
    source="netlink",
    states={"LISTEN": 1, "ESTABLISHED": 1234, "CLOSED": 0},
    services=(
        {
            "service": "0.0.0.0:80",
            "processes": {"nginx/812": 1},
            "unit": "nginx.service",
            "accept_queue": 0,
            "backlog": 511,
            "states": {"ESTABLISHED": 1234},
        },
    ),
    counters={"Tcp.OutSegs": (5000, 12), "Tcp.RetransSegs": (0, 0), "TcpExt.ListenDrops": (7, None)},
    findings=(),
    notes=("something; as root it would be",),
)


def test_the_text_of_a_healthy_host() -> None:
    assert render_host_text(REPORT) == (
        "No fault found on web1: 1,235 sockets.\n"
        "\n"
        "Sockets: 1,235\n"
        "  LISTEN           1\n"
        "  ESTABLISHED  1,234\n"
        "\n"
        "Services\n"
        "  service        queue  SYN_RECEIVED  ESTABLISHED  CLOSE_WAIT  TIME_WAIT\n"
        "  0.0.0.0:80  0 of 511             0        1,234           0          0\n"
        "\n"
        "  service     held by\n"
        "  0.0.0.0:80  nginx/812, nginx.service\n"
        "\n"
        "Counters of the kernel\n"
        "                      since its start  meanwhile\n"
        "  Tcp.OutSegs                   5,000         12\n"
        "  TcpExt.ListenDrops                7\n"
        "\n"
        "Host\n"
        "  web1, 3 looks, sockets from netlink\n"
        "  2025-11-21T12:00:00.000000000Z to 2025-11-21T12:00:02.000000000Z (2.0 s)\n"
        "  not seen: something; as root it would be\n"
    )


def test_of_a_single_look_no_growth_is_told() -> None:
    text = render_host_text(replace(REPORT, counters={"Tcp.OutSegs": (5000, None)}))
    assert "  Tcp.OutSegs            5,000\n" in text and "meanwhile" not in text
    many = tuple(REPORT.services[0] | {"service": f"0.0.0.0:{port}"} for port in range(1, 1_235))
    assert "Services: the 10 busiest of 1,234\n" in render_host_text(replace(REPORT, services=many))


def test_the_verdict_is_that_of_the_worst_finding() -> None:
    leak = finding.Finding(
        "close_wait_leak",
        "0.0.0.0:80",
        "warning",
        0,
        1,
        12,
        12,
        {"leaking": 12, "processes": {"web/7": 12}, "oldest_s": 61},
    )
    other = finding.Finding("retransmissions", "web1", "info", 0, 1, 5, 5, {"retransmit_ratio": 0.02})
    text = render_host_text(replace(REPORT, findings=(leak, other), interrupted=True), width=200)
    assert " ".join(text.splitlines()[:2]).startswith(
        "0.0.0.0:80 (web/7) leaks CLOSE_WAIT: 12 connections that it never closes, the oldest for 1 min 1 s. 1 more "
        "finding (1 info)."
    )
    assert "Interrupted: this is what was seen until then." in " ".join(text.splitlines()[:4])
    text = render_host_text(replace(REPORT, findings=(other,)))
    assert " ".join(text.splitlines()[:2]) == (
        "Nothing alarming in 1,235 sockets. Worth knowing: web1 sends 2 % of its segments again."
    )


@pytest.mark.parametrize("kind", [rule.kind for rule in RULES])
def test_every_kind_has_a_sentence_even_without_evidence(kind: str) -> None:
    from conntrack.report.verdict import _SENTENCES, sentence

    assert kind in _SENTENCES
    assert sentence(finding.Finding(kind, "web1", "warning", 0, 1, 5, 5)).startswith(("web1", "the peers of web1"))


def test_json_has_the_same_keys_always(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert main(["host", "--for", "0s", "--format", "json"]) == 0
        document = json.loads(capfd.readouterr().out)
        name = f"127.0.0.1:{server.getsockname()[1]}"
        (mine,) = [service for service in document["services"] if service["service"] == name]
    assert list(document) == ["schema", "host", "sockets", "services", "counters", "findings"]
    assert list(document["host"]) == [
        "name", "first_ts", "last_ts", "looks", "source", "compared_with", "notes", "interrupted",
    ]  # fmt: skip
    assert document["schema"] == 1
    assert document["host"]["looks"] == 1
    assert document["sockets"]["total"] == sum(document["sockets"]["states"].values()) >= 1
    assert list(mine) == ["service", "processes", "unit", "accept_queue", "backlog", "states"]
    assert (mine["backlog"], list(mine["processes"].values())) == (128, [1])
    assert document["counters"]["Tcp.OutSegs"]["growth"] is None


def test_what_grows_meanwhile_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["host", "--for", "0.1s", "--format", "json", "--epoch"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["host"]["looks"] == 2
    assert document["counters"]["Tcp.OutSegs"]["growth"] >= 0
    assert document["host"]["last_ts"] - document["host"]["first_ts"] >= 0.1


def test_the_file_s_suffix_gives_the_format(tmp_path: Path) -> None:
    for name, start in (("a.json", "{"), ("a.txt", "N")):
        assert main(["host", "--for", "0s", "-o", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_text().lstrip()[0] in start + "0123456789["


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--for", "soon"],
            "ctrack: --for: 'soon' is not a length of time; write 60s, 5min or 2h; see 'ctrack host --help'\n",
        ),
        (["--for", "-1"], "ctrack: --for: '-1' is not a length of time; "),
        (
            ["--threshold", "close_wait_age=1"],
            "ctrack: --threshold: no 'close_wait_age'; did you mean 'close_wait_age_s'?",
        ),
        (["--threshold", "syn_half_open_min=x"], "ctrack: --threshold: syn_half_open_min takes a number, not 'x'; "),
        (["--since", "missing.ndjson"], "ctrack: missing.ndjson: no such file or directory\n"),
        (["--fail-on", "bad"], "ctrack: invalid value for '--fail-on'"),
        (["-o", "x.html"], "ctrack: x.html: no format for '.html'; use .txt, .json, or give --format\n"),
        (["big.pcap"], "ctrack: got unexpected extra argument (big.pcap); see 'ctrack host --help'\n"),
    ],
)
def test_usage_ends_with_2_and_one_line(arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["host", *arguments]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(message)


def test_a_snapshot_is_not_written_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "before.json")
    with socket.create_server(("127.0.0.1", 0)):
        assert main(["sockets", "--format", "ndjson", "-o", path]) == 0
    assert main(["host", "--since", path, "-o", path]) == 2
    assert "give another name to -o" in capfd.readouterr().err


def test_ctrl_c_ends_the_watching_and_gives_the_report(tmp_path: Path) -> None:
    out = tmp_path / "host.json"
    command = [sys.executable, "-m", "conntrack", "host", "--for", "1h", "-o", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.iterdir()):  # it is opened beside its place when the watching begins
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=60)
    assert (process.returncode, *printed) == (130, "", "")
    assert json.loads(out.read_text())["host"]["interrupted"] is True


def test_a_probe(root: Path, tmp_path: Path) -> None:
    """It serves the names that README lists until it is told to end, and ends with the report."""
    out = tmp_path / "host.json"
    command = [sys.executable, "-m", "conntrack", "host", "--listen", "0", "-o", str(out)]
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        url = process.stderr.readline().removeprefix("ctrack: metrics at ").strip()
        assert url.startswith("http://127.0.0.1:")
        name, text, deadline = f"127.0.0.1:{server.getsockname()[1]}", "", time.monotonic() + 60
        while "ctrack_host_sockets{" not in text and time.monotonic() < deadline:
            text = urllib.request.urlopen(url, timeout=10).read().decode()
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
    assert f'ctrack_host_accept_queue_limit{{service="{name}"}} 128.0' in text
    assert f'ctrack_host_service_sockets{{service="{name}",state="ESTABLISHED"}} 0.0' in text
    types = dict(re.findall(r"^# TYPE (ctrack_\w+) (\w+)$", text, re.MULTILINE))
    listed = dict(
        re.findall(r"^\| `(ctrack_host_\w+)[{`].*?\| (counter|gauge) \|", (root / "README.md").read_text(), re.M)
    )
    findings = {"ctrack_finding_severity", "ctrack_finding_connections", "ctrack_finding_last_seen_timestamp_seconds"}
    assert types == listed | dict.fromkeys(findings, "gauge")
    assert json.loads(out.read_text())["host"]["interrupted"] is False


def test_a_probe_takes_no_snapshot(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["host", "--listen", "0", "--since", "before.ndjson"]) == 2
    assert "--since does not go with --listen" in capfd.readouterr().err


def test_severities_are_those_of_the_detectors() -> None:
    assert SEVERITIES == finding.SEVERITIES


def test_what_there_is_nothing_of_has_no_heading() -> None:
    empty = replace(REPORT, services=(), counters={"Tcp.RetransSegs": (0, 0)}, compared_with="before.ndjson")
    lines = [line.strip() for line in render_host_text(empty).splitlines()]
    assert not {"Services", "Counters of the kernel"} & set(lines)
    assert "compared with before.ndjson" in lines


@pytest.mark.parametrize(("severity", "code"), [("info", 0), ("warning", 1), ("critical", 1)])
def test_fail_on_is_at_least_that_severity(
    severity: str, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found = finding.Finding("retransmissions", "web1", severity, 0, 1, 5, 5, {})  # type: ignore[arg-type]
    monkeypatch.setattr(cli_host, "_report", lambda *_, **__: replace(REPORT, findings=(found,)))
    assert main(["host", "--for", "0s", "--fail-on", "warning"]) == code
    assert "web1" in capfd.readouterr().out
