"""`ctrack sockets` as users meet it: formats, instants, notes, errors, and how it ends."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import HEADER, LEAK, NOON, ctrack

from conntrack.cli import main

COLUMNS = "state local_ip local_port remote_ip remote_port since_ts evidence at_ts flow_id schema".split()  # noqa: SIM905 (a list this long reads better so)


@pytest.fixture
def leak(tmp_path: Path) -> str:
    path = tmp_path / "leak.pcap"
    path.write_bytes(LEAK)
    return str(path)


def rows(text: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.splitlines()]


def test_ndjson_has_the_promised_keys_in_their_order(leak: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sockets", leak, "--at", str(NOON + 5), "--host", "10.0.0.2", "--format", "ndjson"]) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    first, *_, last = rows(captured.out)
    assert list(first) == COLUMNS
    assert first == {
        "state": "CLOSE_WAIT",
        "local_ip": "10.0.0.2",
        "local_port": 80,
        "remote_ip": "10.0.0.1",
        "remote_port": 40_000,
        "since_ts": "2025-11-21T12:00:01.000000000Z",
        "evidence": "seen",
        "at_ts": "2025-11-21T12:00:05.000000000Z",
        "flow_id": 1,
        "schema": 1,
    }
    assert last["remote_port"] == 40_002


@pytest.mark.parametrize("at", [(), ("--at", "12:00:04")], ids=["end", "instant"])
def test_a_host_that_is_not_in_the_capture_is_said_to_be_none(
    leak: str, capfd: pytest.CaptureFixture[str], at: tuple[str, ...]
) -> None:
    assert main(["sockets", leak, *at, "--host", "10.0.0.99", "--format", "tsv"]) == 0
    captured = capfd.readouterr()
    assert captured.out.splitlines() == ["\t".join(COLUMNS)]
    assert captured.err == (
        "ctrack: --host: no segment of 10.0.0.99 in what was read; 'ctrack report' lists the services\n"
    )


def test_several_instants_come_in_order_of_time_each_once(leak: str, capfd: pytest.CaptureFixture[str]) -> None:
    spellings = ["12:00:04", str(NOON), "2025-11-21T12:00:04Z", "12:00", "2025-11-21T14:00:02.5+02:00"]
    arguments = [part for text in spellings for part in ("--at", text)]
    assert main(["sockets", leak, "--format", "ndjson", "--epoch", *arguments]) == 0
    seen = [row["at_ts"] for row in rows(capfd.readouterr().out)]
    assert seen == sorted(seen)
    assert set(seen) == {NOON, NOON + 2.5, NOON + 4}


def test_without_an_instant_it_is_the_end_of_the_capture(leak: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sockets", leak, "--host", "10.0.0.1", "--format", "csv"]) == 0
    end = capfd.readouterr()
    assert end.err == ""
    lines = end.out.splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert [line.split(",")[0] for line in lines[1:]] == ["FIN_WAIT_2"] * 12 + ["TIME_WAIT"]
    assert main(["sockets", leak, "--host", "10.0.0.1", "--format", "csv", "--at", f"{NOON + 401.003}"]) == 0
    assert capfd.readouterr() == end


def test_piped_it_is_tsv(leak: str) -> None:
    done = ctrack("sockets", "-", input=LEAK)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert lines[0].split("\t") == COLUMNS
    assert len(lines) == 1 + 2 * 12 + 1


def test_the_table_names_each_instant_and_fits(leak: str, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--format", "table", "--host", "10.0.0.2", "--at", "12:00:01.5", "--at", "11:59:59", "--at", "12:00"]
    assert main(["sockets", leak, *arguments]) == 0
    captured = capfd.readouterr()
    assert captured.out.splitlines() == [
        "2025-11-21T11:59:59Z: 0 sockets of 10.0.0.2",
        "",
        "2025-11-21T12:00:00Z: 0 sockets of 10.0.0.2",
        "",
        "2025-11-21T12:00:01.5Z: 1 socket of 10.0.0.2",
        "state       local        remote          since       evidence  for_s  flow_id",
        "CLOSE_WAIT  10.0.0.2:80  10.0.0.1:40000  12:00:01.0  seen      0.500        1",
    ]
    assert captured.err == (
        "ctrack: --at: 2025-11-21T11:59:59.000000000Z is before the first packet, at 2025-11-21T12:00:00.000000000Z; "
        "nothing is known then\n"
    )


def test_an_instant_between_two_captures_is_said_to_be(
    leak: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    later = tmp_path / "later.pcap"
    packet = bytearray(LEAK[24:])
    seconds = struct.unpack_from("<I", packet)[0] + 86_400
    struct.pack_into("<I", packet, 0, seconds)
    captured = struct.unpack_from("<I", packet, 8)[0]
    later.write_bytes(LEAK[:24] + packet[: 16 + captured])
    after = NOON + 43_200
    assert main(["sockets", leak, str(later), "--format", "tsv", "--at", str(after)]) == 0
    text = capfd.readouterr().err
    assert text.startswith("ctrack: --at: 2025-11-22T00:00:00.000000000Z is 11 h 5")
    assert text.endswith("behind the packet before; nothing was captured between, only timers went on\n")
    several = ["--at", str(after), "--at", str(after + 1), "--at", str(NOON + 2)]
    assert main(["sockets", leak, str(later), "--format", "tsv", *several]) == 0
    assert capfd.readouterr().err.startswith("ctrack: --at: 2 instants are up to 11 h 5")


def test_the_longest_ipv4_fits_in_80_columns() -> None:
    import numpy as np

    from conntrack.core.abi import SOCKET_DTYPE
    from conntrack.export import make_exporter
    from conntrack.states import Evidence, TcpState

    row = np.zeros(1, SOCKET_DTYPE)
    row["local_ip"] = row["remote_ip"] = 255
    row["local_port"] = row["remote_port"] = 65_535
    row["ip_version"], row["state"], row["evidence"] = 4, TcpState.SYN_RECEIVED, Evidence.INFERRED
    row["at_ts_ns"], row["since_ts_ns"] = (NOON + 86_400) * 10**9, NOON * 10**9
    for epoch in (False, True):
        heading, line = make_exporter("table", of="sockets", epoch=epoch, width=80).rows(row).decode().splitlines()
        assert heading.split() == ["state", "local", "remote", "since", "evidence"]
        assert len(line) == 80
        assert line.split()[3] == ("1763726400" if epoch else "2025-11-21")


def test_an_instant_behind_the_end_lets_timers_run(leak: str, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--host", "10.0.0.1", "--format", "csv", "--where", "state=TIME-WAIT"]
    assert main(["sockets", leak, *arguments, "--at", "12:07:41", "--at", "12:07:42"]) == 0
    captured = capfd.readouterr()
    assert [line.split(",")[7] for line in captured.out.splitlines()[1:]] == ["2025-11-21T12:07:41.000000000Z"]
    assert captured.err == (
        "ctrack: --at: 2 instants are after the last packet, at 2025-11-21T12:06:41.003000000Z; only timers went on\n"
    )


def test_where_takes_the_spelling_of_ss_and_prints_its_own(leak: str, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--at", "12:00:00.5", "--at", "12:00:01.5", "--format", "csv"]
    assert main(["sockets", leak, *arguments, "--where", "state=ESTAB and local_port=80"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["ESTABLISHED"]
    assert main(["sockets", leak, *arguments, "--where", "state=FIN-WAIT-2 and remote_ip=10.0.0.0/30"]) == 0
    assert capfd.readouterr().out.splitlines()[1].startswith("FIN_WAIT_2,10.0.0.1,40000,10.0.0.2,80,")


def test_suffix_of_the_output_gives_the_format(leak: str, tmp_path: Path) -> None:
    for name, start in (("a.csv", "state,"), ("a.tsv", "state\t"), ("a.jsonl", '{"state":'), ("a.txt", "2025-11-21T")):
        assert main(["sockets", leak, "-o", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_text().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.pcap", "--at", "soon"], "ctrack: --at: 'soon' is not a time; "),
        (["x.pcap", "--at", "25:00"], "ctrack: --at: '25:00' is not a time; "),
        (["x.pcap", "--host", "router"], "ctrack: --host: 'router' is not an IP address; see 'ctrack sockets --help'"),
        (["x.pcap", "--where", "server_state=LISTEN"], "ctrack: --where: no column 'server_state'; "),
        (["x.pcap", "--profile", "vax"], "ctrack: --profile: no 'vax'; there are linux"),
        (["missing.pcap", "--at", "12:00"], "ctrack: missing.pcap: "),
    ],
)
def test_usage_ends_with_2_and_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sockets", *arguments]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(message)


def test_a_cut_capture_is_used_and_ends_with_3(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(LEAK[:-10])
    assert main(["sockets", str(cut), "--at", "12:30"]) == 3
    captured = capfd.readouterr()
    assert "CLOSE_WAIT" in captured.out
    first, second = captured.err.splitlines()
    assert "is after the last packet" in first
    assert second.startswith(f"ctrack: {cut}: ")
    assert main(["sockets", str(cut), "--at", "12:30", "--allow-truncated"]) == 0
    assert capfd.readouterr() == captured


def test_a_capture_without_tcp_or_without_packets(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "arp.pcap"
    frame = bytes(12) + b"\x08\x06" + bytes(28)
    path.write_bytes(HEADER + struct.pack("<IIII", NOON, 0, len(frame), len(frame)) + frame)
    assert main(["sockets", str(path), "--format", "table"]) == 0
    assert capfd.readouterr() == ("2025-11-21T12:00:00Z: 0 sockets\n", "")
    path.write_bytes(HEADER)
    for instant in ([], ["--at", str(NOON)]):
        assert main(["sockets", str(path), "--format", "csv", *instant]) == 0
        out, err = capfd.readouterr()
        assert out == ",".join(COLUMNS) + "\n"
        assert err == "ctrack: no packets in this capture; nothing is known at any time\n"


def test_a_closed_pipe_is_quiet(leak: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-m", "conntrack", "sockets", leak]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_many_instants_are_written_together_and_complete(leak: str, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = [part for second in range(400) for part in ("--at", str(NOON + second))]
    assert main(["sockets", leak, "--host", "10.0.0.2", "--format", "tsv", *arguments]) == 0
    lines = capfd.readouterr().out.splitlines()[1:]
    assert len(lines) > 1_024
    times = [line.split("\t")[7] for line in lines]
    assert times == sorted(times)
    assert len(set(times)) == 399  # at noon itself there is only a SYN
