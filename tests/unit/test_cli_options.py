"""Options that change what a command reads or writes: each is given, and its effect is looked at."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars
import pytest

from conntrack.cli import main
from conntrack.core.abi import FLOW_DTYPE
from conntrack.pipeline import analyze

Captured = pytest.CaptureFixture[str]
Compared = Callable[..., tuple[int, int]]


@pytest.fixture(scope="module")
def incident(root: Path) -> str:
    return str(root / "tests" / "captures" / "incident.pcap")


def test_flows_addresses(incident: str, tmp_path: Path) -> None:
    out = tmp_path / "flows.parquet"
    assert main(["flows", incident, "--addresses", "binary", "-o", str(out)]) == 0
    flows = analyze(incident).flows
    assert flows is not None and flows.dtype == FLOW_DTYPE
    addresses = dict(polars.read_parquet(out).select("flow_id", "client_ip").iter_rows())
    assert addresses == {int(row["flow_id"]): bytes(row["client_ip"]) for row in flows}


@pytest.mark.parametrize("command", ["report", "flows", "sockets", "info"])
def test_filter(command: str, incident: str, capfd: Captured) -> None:
    """Of the two services only one is left."""
    assert main([command, incident, "--filter", "tcp port 8080", "--format", "json" if command in ("report", "info")
                 else "ndjson"]) == 0  # fmt: skip
    out = capfd.readouterr().out
    if command == "report":
        assert [row["service"] for row in json.loads(out)["services"]] == ["10.9.0.2:8080"]
    elif command == "info":
        assert json.loads(out)["skipped"]["filtered"] == 6_057 - json.loads(out)["tcp_segments"] > 0
    else:
        rows = [json.loads(line) for line in out.splitlines()]
        ports = [row.get("server_port") or min(row["local_port"], row["remote_port"]) for row in rows]
        assert set(ports) == {8_080}


@pytest.mark.parametrize("command", ["flows", "info", "explain"])
def test_reader_and_display_filter(command: str, incident: str, capfd: Captured) -> None:
    options = {"explain": ["--flow", "4"], "flows": ["--format", "ndjson"], "info": ["--format", "json"]}[command]
    options += ["--reader", "pyshark", "--display-filter", "tcp.port == 54868"]
    assert main([command, incident, *options]) == 0
    out = capfd.readouterr().out
    if command == "flows":
        assert [json.loads(line)["client_port"] for line in out.splitlines()] == [54_868]
    elif command == "info":
        assert json.loads(out)["tcp_segments"] == 9
    else:
        assert "client 10.9.0.1:54868" in out and "FIN_WAIT_1 -> FIN_WAIT_2" in out


def test_info_output(incident: str, tmp_path: Path, capfd: Captured) -> None:
    out = tmp_path / "info.json"
    assert main(["info", incident, "-o", str(out)]) == 0
    assert json.loads(out.read_text())["packets"] == 6_057
    assert capfd.readouterr().out == ""


def test_states_output(tmp_path: Path, capfd: Captured) -> None:
    out = tmp_path / "states.md"
    assert main(["states", "-o", str(out)]) == 0
    assert main(["states", "--format", "markdown"]) == 0
    assert out.read_text() == capfd.readouterr().out
    assert out.read_text().startswith("| sent | SYN |")


def test_generate_seed(tmp_path: Path) -> None:
    made = [tmp_path / f"{number}.pcap" for number in range(3)]
    for path, seed in zip(made, ("4", "4", "5"), strict=True):
        assert main(["generate", str(path), "--connections", "50", "--seed", seed]) == 0
    same, again, other = (path.read_bytes() for path in made)
    assert same == again != other


def test_explain_epoch(incident: str, capfd: Captured) -> None:
    assert main(["explain", incident, "--flow", "4", "--epoch"]) == 0
    assert "start  1795241718.852446000\n" in capfd.readouterr().out


def test_explain_profile(incident: str, capfd: Captured) -> None:
    assert main(["explain", incident, "--flow", "4", "--profile", "linux"]) == 0
    assert capfd.readouterr().out.startswith("Connection 4\n")
    assert main(["explain", incident, "--flow", "4", "--profile", "vax"]) == 2
    assert "--profile: no 'vax'; there are linux" in capfd.readouterr().err


def test_explain_all(tmp_path: Path, capfd: Captured) -> None:
    """Data that says nothing new is folded, unless all of it is asked for."""
    path = str(tmp_path / "made.pcap")
    assert main(["generate", path, "--connections", "200"]) == 0
    flows = analyze(path).flows
    assert flows is not None
    longest = flows[np.argmax(flows["client_packets"] + flows["server_packets"])]
    shown = {}
    for options in ((), ("--all",)):
        assert main(["explain", path, "--flow", str(longest["flow_id"]), *options]) == 0
        shown[options] = capfd.readouterr().out.splitlines()
    assert len(shown[("--all",)]) >= int(longest["client_packets"] + longest["server_packets"])
    assert len(shown[()]) < len(shown[("--all",)])


@pytest.fixture
def compared(incident: str, tmp_path: Path, capfd: Captured) -> Compared:
    """Return what `compare` says of the incident's own sockets: how many rows, and its exit code."""
    sockets = tmp_path / "sockets.ndjson"
    assert main(["sockets", incident, "-o", str(sockets)]) == 0

    def run(*options: str, capture: str = incident) -> tuple[int, int]:
        command, *options_ = options
        code = main([command, capture, "--with", str(sockets), "--format", "ndjson", *options_])
        return len(capfd.readouterr().out.splitlines()), code

    return run


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ([], 0),
        (["--profile", "linux"], 0),
        (["--filter", "tcp port 443"], 152),
        (["--from", "2026-11-21T06:16:00Z"], 152),
        (["--reader", "pyshark", "--display-filter", "tcp.port == 443"], 152),
    ],
    ids=lambda part: part[0] if isinstance(part, list) and part else None,
)
def test_compare_reads_only_what_is_asked_for(compared: Compared, options: list[str], rows: int) -> None:
    """What is left out of the capture is in the snapshot alone: both ends of the 76 connections to port 8080."""
    assert compared("compare", *options) == (rows, 0)


def test_compare_to(compared: Compared) -> None:
    rows = compared("compare", "--to", "2026-11-21T06:15:30Z")
    assert rows[0] > 100
    assert compared("compare", "--follow", "--to", "2026-11-21T06:15:30Z") == rows  # its end is reached, not waited for


def test_compare_recursive_and_truncated(compared: Compared, incident: str, tmp_path: Path) -> None:
    folder = tmp_path / "captures"
    folder.mkdir()
    whole = Path(incident).read_bytes()
    (folder / "cut.pcap").write_bytes(whole[:-10])
    assert compared("compare", "--recursive", capture=str(folder))[1] == 3
    assert compared("compare", "--recursive", "--allow-truncated", capture=str(folder))[1] == 0


def test_compare_output(compared: Compared, tmp_path: Path) -> None:
    out = tmp_path / "differences.ndjson"
    assert compared("compare", "--filter", "tcp port 443", "-o", str(out)) == (0, 0)
    assert len(out.read_text().splitlines()) == 152


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--filter", "tcp port 8080"], r'"tcp_segments": 684\b.*"filtered": 5373\b'),
        (["--epoch"], r'"ts": 17952418\d\d'),
    ],
)
def test_live_filter_and_epoch(root: Path, options: list[str], told: str) -> None:
    command = [sys.executable, "-m", "conntrack", "live", "-", "--format", "ndjson", *options]
    with (root / "tests" / "captures" / "incident.pcap").open("rb") as capture:
        done = subprocess.run(
            command, stdin=capture, capture_output=True, text=True, timeout=120, check=False, cwd=root
        )
    assert re.search(told, done.stdout), done.stdout
