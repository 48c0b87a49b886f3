"""Which captures a command reads, and what part of them; `ctrack info`."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from frames import RST, SYN, eth_ipv4_tcp, ethernet, pcap_bytes, write_pcap

from conntrack.cli import main

NOON_NS = 1_763_726_400 * 10**9


def capture(path: Path, ports: range, start_s: int = 0) -> Path:
    """A refused attempt from each port, a second apart."""
    packets = []
    for n, port in enumerate(ports):
        at_ns = NOON_NS + (start_s + n) * 10**9
        packets.append((at_ns, eth_ipv4_tcp(sport=port, flags=SYN, seq=1, ack=0)))
        packets.append((at_ns + 10**6, eth_ipv4_tcp("10.0.0.2", 80, "10.0.0.1", port, flags=RST | 16, seq=0, ack=2)))
    return write_pcap(path, packets)


def ports_of(out: str) -> list[int]:
    return sorted(json.loads(line)["client_port"] for line in out.splitlines())


@pytest.mark.parametrize("command", ["report", "flows", "sockets", "explain", "info"])
def test_every_command_that_reads_takes_the_same_options(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capfd.readouterr().out
    for option in ("--recursive", "--follow", "--from TIME", "--to TIME"):
        assert option in shown


def test_from_and_to(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = str(capture(tmp_path / "a.pcap", range(1000, 1010)))
    begin, end = "2025-11-21T12:00:02Z", str(NOON_NS // 10**9 + 5)
    assert main(["flows", path, "--format", "ndjson", "--from", begin, "--to", end]) == 0
    assert ports_of(capfd.readouterr().out) == [1002, 1003, 1004, 1005]
    assert main(["report", path, "--from", begin, "--to", end, "--format", "json"]) == 0
    said = json.loads(capfd.readouterr().out)["capture"]
    assert (said["first_ts"], said["last_ts"]) == ("2025-11-21T12:00:02.000000000Z", "2025-11-21T12:00:05.000000000Z")
    assert said["packets"] == said["tcp_segments"] + sum(said["skipped"].values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "noon"], "ctrack: --from: 'noon' is not a time; write "),
        (["--from", "20", "--to", "10"], "ctrack: --from is after --to; see "),
    ],
)
def test_times_that_are_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["flows", str(capture(tmp_path / "a.pcap", range(1))), *arguments]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1


def test_a_directory(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capture(tmp_path / "b.pcap", range(2000, 2003))
    (tmp_path / "a.gz").write_bytes(gzip.compress(capture(tmp_path / "x", range(1000, 1003)).read_bytes()))
    (tmp_path / "x").write_text("words")
    assert main(["flows", str(tmp_path)]) == 2
    assert "is a directory; give -r" in capfd.readouterr().err
    assert main(["flows", "-r", str(tmp_path), "--format", "ndjson"]) == 0
    captured = capfd.readouterr()
    assert ports_of(captured.out) == [1000, 1001, 1002, 2000, 2001, 2002]
    assert captured.err == f"ctrack: {tmp_path}: 1 file was left out: x (not a capture (looks like plain text))\n"


def test_an_explained_connection_is_found_in_files_that_overlap(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [str(capture(tmp_path / f"{n}.pcap", range(1000 * n, 1000 * n + 5))) for n in (1, 2)]
    assert main(["flows", *paths, "--format", "ndjson", "--where", "client_port=2003"]) == 0
    flow_id = json.loads(capfd.readouterr().out)["flow_id"]
    assert main(["explain", *paths, "--flow", str(flow_id)]) == 0
    assert "client 10.0.0.1:2003" in capfd.readouterr().out


def test_follow_ends_with_the_report_on_ctrl_c(tmp_path: Path) -> None:
    path = tmp_path / "cap"
    with subprocess.Popen(
        [sys.executable, "-m", "conntrack", "report", "--follow", str(path), "--format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stderr is not None
        assert b"nothing there yet; waiting for it" in running.stderr.readline()
        capture(path, range(1000, 1005))
        capture(tmp_path / "cap1", range(2000, 2005), 10)
        # It has read a file when it has its offset there; where /proc is not, time has to do.
        time.sleep(2)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=20)
    assert running.returncode == 130
    said = json.loads(out)
    assert (said["capture"]["files"], said["connections"]["total"]) == ([str(path), str(tmp_path / "cap1")], 10)
    assert b"interrupted; the first 20 packets were used" in err


def test_info(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    packets = [(NOON_NS + ms * 10**6, eth_ipv4_tcp()) for ms in (0, 10, 5, 4000)]
    packets.append((NOON_NS + 5 * 10**9, ethernet(b"", 0x0806)))
    path = tmp_path / "a.pcap.gz"
    path.write_bytes(gzip.compress(pcap_bytes(packets)))
    assert main(["info", str(path), "--epoch"]) == 0
    shown = capfd.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for line in (
        f"packets         5 ({path.stat().st_size} B)",
        "TCP segments    4",
        "duration        5.0 s",
        "rate            1.0 packets a second",
        "out of order    1 packet with a time before the one before",
        "silence         4.0 s without a TCP segment from 1763726400.010000000",
        "not tracked     1 packet: ARP",
    ):
        assert line in shown.splitlines()
    assert main(["info", str(path), "--format", "json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["files"][0]["format"] == "pcap in gzip"
    assert (said["packets"], said["time_inversions"], said["skipped"]) == (5, 1, {"arp": 1})
    assert said["silences"] == [{"begin_ts": "2025-11-21T12:00:00.010000000Z", "length_s": 3.99}]


def test_info_of_a_damaged_capture_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_bytes([(NOON_NS, eth_ipv4_tcp())] * 2)[:-1])
    assert main(["info", str(path)]) == 3
    captured = capfd.readouterr()
    assert "damaged" in captured.out and "cut short in packet 2" in captured.out
    assert captured.err.startswith(f"ctrack: {os.fspath(path)}: cut short in packet 2")
    assert main(["info", str(path), "--allow-truncated"]) == 0
