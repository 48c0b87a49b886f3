"""`ctrack live` on a real cable, and `ctrack compare` against the real `ss`: what live_scene.py leaves behind.

Needs root, iproute2 and dumpcap. Where one is missing the test is skipped, and under CI=true it fails.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import network
import pytest
from live_scene import CLIENT, FIRST, IDLE, LEAKS, MORE, SERVER
from reported import meet_the_schema

import conntrack
from conntrack.cli import main
from conntrack.times import parse_time


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the scene was played."""
    lack = network.missing() or (None if shutil.which("dumpcap") else "dumpcap is not installed")
    if lack:
        if os.environ.get("CI") == "true":
            pytest.fail(lack, pytrace=False)
        pytest.skip(lack)
    folder = tmp_path_factory.mktemp("live")
    script = Path(__file__).with_name("live_scene.py")
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, timeout=300, check=False)
    said = (folder / "stderr.txt").read_text() if (folder / "stderr.txt").exists() else ""
    assert done.returncode == 0, done.stdout + done.stderr + said
    return folder


@pytest.fixture(scope="module")
def events(scene: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (scene / "events.ndjson").read_text().splitlines()]
    for event in found:
        meet_the_schema(event, "live")
    return found


def test_the_leak_opens_grows_and_ends(events: list[dict[str, Any]]) -> None:
    leaks = [event for event in events[:-1] if event["finding"]["kind"] == "close_wait_leak"]
    assert leaks[0]["event"] == "opened" and leaks[-1]["event"] == "ended"
    assert {event["event"] for event in leaks[1:-1]} == {"grew"}
    assert {event["finding"]["subject"] for event in leaks} == {f"{SERVER}:{LEAKS}"}
    assert leaks[-1]["finding"]["peak"] >= FIRST + MORE
    times = [parse_time(event["ts"]) for event in events]
    assert times == sorted(times)
    worse = [event for event in events[:-1] if event["finding"]["severity"] != "info"]
    assert {event["finding"]["kind"] for event in worse} == {"close_wait_leak"}


def test_ctrl_c_gives_the_report_of_what_was_kept(
    scene: Path, events: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The file of -w is what was tracked: the report of it is the report, to the last number."""
    assert json.loads((scene / "times.json").read_text())["code"] == 0
    assert main(["report", str(scene / "kept.pcapng"), "--format", "json", "--threshold", "close_wait_age_s=1"]) == 0
    again, live = json.loads(capsys.readouterr().out), json.loads((scene / "report.json").read_text())
    assert again["capture"].pop("files") == [str(scene / "kept.pcapng")] and live["capture"].pop("files") == ["cable0"]
    assert live == again
    stopped = events[-1]
    assert stopped["event"] == "stopped" and stopped["dropped_packets"] == 0
    assert stopped["packets"] == live["capture"]["packets"] == stopped["tcp_segments"] > 4 * (FIRST + MORE)
    assert stopped["connections"] == live["connections"]["total"]


def test_metrics(scene: Path) -> None:
    text = (scene / "metrics.txt").read_text()
    assert f'ctrack_finding_connections{{kind="close_wait_leak",subject="{SERVER}:{LEAKS}"}} ' in text
    assert 'ctrack_ends{end="server",state="CLOSE_WAIT"} ' in text


def test_the_wire_agrees_with_ss(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = str(json.loads((scene / "times.json").read_text())["leak"])
    code = main(["compare", str(scene / "kept.pcapng"), "--with", str(scene / "ss_leak.txt"), "--at", at])
    out, err = capsys.readouterr()
    assert code == 0 and len(out.splitlines()) == 1, out
    assert f"sockets of {SERVER} against" in err and "the wire and the kernel agree on all of them" in err
    assert (scene / "ss_leak.txt").read_text().count("CLOSE-WAIT") >= FIRST


def test_the_wire_agrees_with_the_host_itself(scene: Path) -> None:
    """`--with host`, run on the server while it held the leak."""
    code, out, err = json.loads((scene / "host.json").read_text())
    assert (code, out) == (0, "")
    assert f"{FIRST} sockets of {SERVER} against this host: the wire and the kernel agree on all of them" in err


def test_a_fin_that_never_arrived(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = str(json.loads((scene / "times.json").read_text())["deaf"])
    options = ["--with", str(scene / "ss_deaf.txt"), "--at", at, "--format", "ndjson"]
    assert main(["compare", str(scene / "kept.pcapng"), *options]) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    meet_the_schema(row, "compare")
    assert (row["local_ip"], row["local_port"], row["remote_ip"]) == (SERVER, IDLE, CLIENT)
    assert (row["wire_state"], row["kernel_state"]) == ("CLOSE_WAIT", "ESTABLISHED")
    assert row["reason"] == "not_arrived" and "the peer's FIN" in row["explanation"]
    flow_ids = {int(flow) for batch in conntrack.track(scene / "kept.pcapng") for flow in batch["flow_id"]}
    assert row["flow_id"] in flow_ids
