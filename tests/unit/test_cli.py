"""The command as users meet it: what goes where, in which form, and how it ends. Captures are made here."""

from __future__ import annotations

import array
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conntrack.cli import main

NOON = 1_763_726_400
FIN, SYN, RST, ACK = 1, 2, 4, 16
HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)


def packet(at_s: float, source: tuple[str, int], target: tuple[str, int], flags: int, seq: int, ack: int) -> bytes:
    """One record of a pcap: Ethernet, IPv4, TCP without payload."""
    addresses = bytes(int(octet) for end in (source, target) for octet in end[0].split("."))
    tcp = struct.pack(">HHIIBBHHH", source[1], target[1], seq, ack, 5 << 4, flags, 65_535, 0, 0)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + addresses + tcp
    frame = bytes(12) + b"\x08\x00" + ip
    return struct.pack("<IIII", NOON + int(at_s), round(at_s % 1 * 1e6), len(frame), len(frame)) + frame


def connection(client_port: int, at_s: float, *, server_closes: bool = True) -> list[bytes]:
    """A handshake, and a close that the server leaves half done if it is asked to."""
    client, server = ("10.0.0.1", client_port), ("10.0.0.2", 80)
    packets = [
        packet(at_s, client, server, SYN, 100, 0),
        packet(at_s + 0.001, server, client, SYN | ACK, 500, 101),
        packet(at_s + 0.002, client, server, ACK, 101, 501),
        packet(at_s + 1, client, server, FIN | ACK, 101, 501),
        packet(at_s + 1.001, server, client, ACK, 501, 102),
    ]
    if server_closes:
        packets += [
            packet(at_s + 1.002, server, client, FIN | ACK, 501, 102),
            packet(at_s + 1.003, client, server, ACK, 102, 502),
        ]
    return packets


LEAK = b"".join(
    [
        HEADER,
        *(
            each
            for port in range(40_000, 40_012)
            for each in connection(port, 2 * (port - 40_000), server_closes=False)
        ),
        *connection(50_000, 400),
    ]
)
"""Twelve connections that the server never closes, and a good one six minutes later."""


@pytest.fixture
def leak(tmp_path: Path) -> str:
    path = tmp_path / "leak.pcap"
    path.write_bytes(LEAK)
    return str(path)


def ctrack(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "COLUMNS": "80"} | options.pop("env", {})
    command = [sys.executable, "-m", "conntrack", *arguments]
    return subprocess.run(command, capture_output=True, env=environment, timeout=60, check=False, **options)


# --- What is said, and where ------------------------------------------------------------------------------------------


def test_a_file_alone_is_reported(leak: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([leak]) == 0
    alone = capfd.readouterr()
    assert main(["report", leak]) == 0
    assert capfd.readouterr() == alone
    assert alone.err == ""
    assert alone.out.startswith("10.0.0.2:80 seems not to accept: 12 connections in CLOSE_WAIT")
    assert "Connections: 13" in alone.out
    assert max(map(len, alone.out.splitlines())) <= 80
    assert "\x1b" not in alone.out


def test_options_may_come_before_the_file(leak: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--format", "json", leak]) == 0
    assert json.loads(capfd.readouterr().out)["connections"]["total"] == 13


def test_json_has_the_promised_keys(leak: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", leak, "--format", "json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert list(document) == ["schema", "capture", "connections", "findings", "services", "series"]
    assert document["schema"] == 1
    assert document["capture"]["files"] == [leak]
    assert document["capture"]["tcp_segments"] == document["capture"]["packets"] == 12 * 5 + 7
    assert document["connections"]["server_states"]["CLOSE_WAIT"] == 12
    assert [finding["kind"] for finding in document["findings"]] == ["close_wait_leak", "fin_wait_2_stuck"]
    assert document["findings"][0]["subject"] == "10.0.0.2:80"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--where", "client_port=9"],
            "ctrack: --where: holds for none of 13 connections; see 'ctrack flows --help'\n",
        ),
        (["--filter", "udp"], "ctrack: no TCP connection in this capture; 'ctrack info' says what is in it\n"),
    ],
)
def test_flows_with_no_row_says_so_to_a_person_alone(
    leak: str, options: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["flows", leak, *options]) == 0
    piped, err = capsys.readouterr()
    assert len(piped.splitlines()) == 1 and told not in err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["flows", leak, *options]) == 0
    out, err = capsys.readouterr()
    assert out == piped and err.endswith(told)


def test_flows_when_piped_are_tsv_with_every_column(leak: str) -> None:
    done = ctrack("flows", leak)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 1 + 13
    rows = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]
    assert sorted({row["server_state"] for row in rows}) == ["CLOSED", "CLOSE_WAIT"]
    assert {row["client_ip"] for row in rows} == {"10.0.0.1"}
    assert rows[0]["first_ts"].startswith("2025-11-21T12:") and rows[0]["first_ts"].endswith("000Z")


def test_where_chooses_rows(leak: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["flows", leak, "--format", "ndjson", "--where", "server_state!=CLOSE_WAIT and client_port=50000"]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    flow = json.loads(line)
    assert (flow["client_state"], flow["closed_by"], flow["zeek_conn_state"]) == ("TIME_WAIT", "client", "SF")
    assert main(["flows", leak, "--where", f"flow_id={flow['flow_id']}"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 2


def test_suffix_of_the_output_gives_the_format(leak: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, start in (
        ("a.csv", "flow_id,"),
        ("a.tsv", "flow_id\t"),
        ("a.jsonl", '{"flow_id":'),
        ("a.txt", "flow_id  "),
    ):
        assert main(["flows", leak, "-o", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_text().startswith(start)
    assert main(["report", leak, "-o", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["schema"] == 1
    assert main(["report", leak, "-o", str(tmp_path / "r.xml")]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "no format for '.xml'; use .txt, .json, .html, .htm" in captured.err


def test_epoch_gives_unix_seconds_everywhere(leak: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["flows", leak, "--epoch", "--format", "csv"]) == 0
    assert f",{NOON}.000000000," in capfd.readouterr().out
    assert main(["report", leak, "--epoch", "--format", "json"]) == 0
    assert json.loads(capfd.readouterr().out)["capture"]["first_ts"] == NOON
    assert main(["report", leak, "--epoch"]) == 0
    assert "T12:" not in capfd.readouterr().out


def test_standard_input_and_several_captures(leak: str, tmp_path: Path) -> None:
    done = ctrack("flows", "-", input=LEAK)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 14
    more = tmp_path / "more.pcap"
    more.write_bytes(HEADER + b"".join(connection(51_000, 500)))
    assert len(ctrack("flows", str(more), leak).stdout.splitlines()) == 15


def test_colour_only_where_it_is_wanted(leak: str) -> None:
    assert b"\x1b[" not in ctrack(leak).stdout
    assert b"\x1b[" in ctrack(leak, env={"FORCE_COLOR": "1"}).stdout
    assert b"\x1b[" not in ctrack(leak, env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).stdout


def test_an_encoding_without_the_bars_gets_ascii(leak: str) -> None:
    done = ctrack(leak, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout.isascii() and b"@@" in done.stdout


def test_states_prints_the_machine(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["states"]) == 0
    assert "CLOSE_WAIT" in capfd.readouterr().out
    assert main(["states", "--format", "markdown"]) == 0
    assert capfd.readouterr().out.startswith("|")


def test_generated_captures_hold_what_is_said_of_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, truth = tmp_path / "made.pcap", tmp_path / "truth.json"
    arguments = ["generate", str(out), "--scenario", "close-wait-leak", "--connections", "200", "--truth", str(truth)]
    assert main(arguments) == 0
    said = json.loads(truth.read_text())
    assert main(["report", str(out), "--format", "json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["connections"]["total"] == said["connections"]
    assert [finding["kind"] for finding in report["findings"]] == [finding["kind"] for finding in said["findings"]]


# --- How it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["flws"], "ctrack: no command and no file 'flws'; did you mean 'flows'? see 'ctrack --help'"),
        (["report"], "ctrack: missing argument 'CAPTURE...'; see 'ctrack report --help'"),
        (["flows", "x.pcap", "--fromat", "csv"], "did you mean one of: '--format', '--from'"),
        (["flows", "x.pcap", "--where", "state=1"], "ctrack: --where: no column 'state'; "),
        (["flows", "x.pcap", "--profile", "vax"], "ctrack: --profile: no 'vax'; there are linux"),
        (
            ["x.pcap", "--threshold", "syn_baklog=1"],
            "ctrack: --threshold: no 'syn_baklog'; did you mean 'syn_backlog'?",
        ),
        (["x.pcap", "--threshold", "syn_backlog=few"], "ctrack: --threshold: syn_backlog takes a number, not 'few'"),
        (["x.pcap", "--format", "xml"], "'xml' is not one of 'text', 'json', 'html'"),
        (["generate", "x", "--scenario", "peace"], "'peace' is not one of "),
        (["missing.pcap"], "ctrack: missing.pcap: "),
        (["evil\x1b[31m\udcff.pcap"], "ctrack: evil\\x1b[31m\\xff.pcap: "),
        (["."], "ctrack: .: "),
        (["empty"], "ctrack: empty: "),
        (["text"], "ctrack: text: "),
    ],
)
def test_usage_and_unsupported_input_end_with_2_and_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").write_bytes(b"")
    Path("text").write_text("no capture at all\n" * 10)
    assert main(arguments) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message.lower() in captured.err.lower()


def test_no_arguments_show_the_help_and_end_with_2(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Usage: ctrack")


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["report", "-h"], ["flows", "--help"], ["--version"]])
def test_help_is_data_and_ends_with_0(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    captured = capfd.readouterr()
    assert captured.out
    assert captured.err == ""


@pytest.mark.parametrize("command", ["report", "flows"])
def test_a_cut_capture_is_used_and_ends_with_3(command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(LEAK[:-10])
    assert main([command, str(cut)]) == 3
    captured = capfd.readouterr()
    assert "10.0.0.2" in captured.out
    assert captured.err.startswith(f"ctrack: {cut}: ")
    assert captured.err.count("\n") == 1
    assert main([command, str(cut), "--allow-truncated"]) == 0
    assert capfd.readouterr() == captured


def test_fail_on_ends_with_1_from_that_severity_up(leak: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([leak, "--fail-on", "info"]) == 1
    assert main([leak, "--fail-on", "warning"]) == 1
    assert main([leak, "--fail-on", "critical"]) == 0
    assert main([leak, "--fail-on", "critical", "--threshold", "close_wait_critical_count=12"]) == 1
    assert capfd.readouterr().err == ""


def test_no_tcp_is_a_true_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "arp.pcap"
    frame = bytes(12) + b"\x08\x06" + bytes(28)
    path.write_bytes(HEADER + struct.pack("<IIII", NOON, 0, len(frame), len(frame)) + frame)
    assert main([str(path)]) == 0
    assert capfd.readouterr().out.startswith("No TCP connections in this capture (1 packet).")
    assert main(["flows", str(path), "--format", "csv"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 1
    path.write_bytes(HEADER)
    assert main([str(path)]) == 0
    assert capfd.readouterr().out.startswith("No packets in this capture.")


@pytest.mark.parametrize("command", ["report", "flows"])
def test_a_closed_pipe_is_quiet(command: str, leak: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "conntrack", command, leak], stdout=writing, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "conntrack", "states"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (2, b"ctrack: standard output: no space left on device\n")


def test_the_capture_is_never_written_over(leak: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["flows", leak, "--format", "csv", "-o", leak]) == 2
    assert "is the capture itself" in capfd.readouterr().err
    assert Path(leak).read_bytes() == LEAK


def test_an_output_that_cannot_be_made_is_one_line(
    leak: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "no" / "such" / "folder.csv"
    assert main(["flows", leak, "-o", str(target)]) == 2
    assert capfd.readouterr().err == f"ctrack: {target}: no such file or directory\n"


def unread(pipe: int) -> int:
    """Return how many bytes of a pipe nobody has taken yet."""
    waiting = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, waiting)
    return waiting[0]


@pytest.mark.parametrize("command", ["report", "flows"])
def test_ctrl_c_reports_what_is_known_and_ends_with_130(command: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "conntrack", command, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(LEAK)
    process.stdin.flush()
    deadline_s = time.monotonic() + 60
    while unread(process.stdin.fileno()) and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.05)
    time.sleep(0.3)  # from having read all to waiting for more
    assert process.poll() is None, "ended on its own, though its input is open"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"10.0.0.2" in out
    assert err == b"ctrack: interrupted; the first 67 packets were used\n"


def test_a_traceback_only_with_debug(
    leak: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr("conntrack.pipeline.Analysis.feed", fails)
    assert main([leak]) == 2
    assert capfd.readouterr().err == "ctrack: internal error: KeyError: 'lost'; --debug shows where, please report it\n"
    assert main([leak, "--debug"]) == 2
    captured = capfd.readouterr().err
    assert captured.startswith("Traceback")
    assert captured.endswith("ctrack: internal error: KeyError: 'lost'\n")


# --- What it loads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--help"], {}),
        (["--version"], {}),
        (["report", "--help"], {}),
        (["flows", "--help"], {}),
        (["states", "--help"], {}),
        (["generate", "--help"], {}),
        ([], {"_CTRACK_COMPLETE": "bash_source"}),
        ([], {"_CTRACK_COMPLETE": "bash_complete", "COMP_WORDS": "ctrack flows --fo", "COMP_CWORD": "2"}),
    ],
)
def test_help_and_completion_load_neither_numpy_nor_rich(arguments: Sequence[str], environment: dict[str, str]) -> None:
    probe = (
        "import sys; from conntrack.cli import main; code = main(sys.argv[1:]);"
        "print(sorted({'numpy', 'rich'} & set(sys.modules)), code, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, *arguments],
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
        timeout=60,
    )
    assert done.stderr == b"[] 0\n"
    assert done.stdout


def test_completion_offers_the_options(leak: str) -> None:
    words = {"_CTRACK_COMPLETE": "bash_complete", "COMP_WORDS": "ctrack flows --fo", "COMP_CWORD": "2"}
    assert b"--format" in ctrack(env=words).stdout


def test_both_commands_and_the_module_are_the_same() -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"
    scripts = [line for line in project.read_text().splitlines() if line.endswith('= "conntrack.__main__:start"')]
    assert [line.split(" = ")[0] for line in scripts] == ["ctrack", "tcp-conntrack"]


class TestFilter:
    def test_frames_that_do_not_pass_are_counted(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "leak.pcap"
        path.write_bytes(LEAK)
        assert main(["report", str(path), "--filter", "tcp port 40000", "--format", "json"]) == 0
        capture = json.loads(capsys.readouterr().out)["capture"]
        assert (capture["tcp_segments"], capture["skipped"]) == (5, {"filtered": capture["packets"] - 5})
        for command in (["flows"], ["sockets"], ["explain", "--flow", "1"]):
            assert main([command[0], str(path), *command[1:], "--filter", "tcp port 40000"]) == 0
            assert "40000" in capsys.readouterr().out

    def test_what_is_no_expression(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "leak.pcap"
        path.write_bytes(LEAK)
        assert main(["flows", str(path), "--filter", "tcp prt 1"]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("ctrack: --filter: can't parse filter expression: syntax error, in 'tcp prt 1'")
        assert said.err.count("\n") == 1
