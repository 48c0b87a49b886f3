"""Faults that begin while `ctrack live` captures and `ctrack host` is asked: both tell them (moments.py).

How many seconds it takes is measured by benches/host_soon.py; here it is asserted that they are told, within a minute.
Needs root, iproute2, dumpcap and /dev/net/tun. Where one is missing the tests are skipped, and under CI=true they fail.
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

MOMENTS = Path(__file__).with_name("moments.py")


@pytest.fixture(scope="module", autouse=True)
def possible() -> None:
    lack = network.missing() or (None if shutil.which("dumpcap") else "dumpcap is not installed")
    if lack:
        if os.environ.get("CI") == "true":
            pytest.fail(lack, pytrace=False)
        pytest.skip(lack)


def play(fault: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(MOMENTS), fault], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_leaking_process() -> None:
    told = play("leak")
    (process,) = told["host"]["finding"]["evidence"]["processes"]
    assert process.endswith(f"/{told['pid']}")
    assert told["host"]["finding"]["subject"] == told["live"]["finding"]["subject"] == "127.0.0.1:8080"
    assert told["others"] == {"host": [], "live": []}


def test_a_full_accept_queue() -> None:
    told = play("accept_queue")
    assert told["host"]["finding"]["kind"] == "accept_queue_overflow"
    assert told["live"]["finding"]["kind"] == "unanswered_syn", "the kernel drops the SYNs: it is all that the wire has"
    assert told["host"]["finding"]["subject"] == told["live"]["finding"]["subject"] == "127.0.0.1:8080"


def test_a_syn_flood() -> None:
    told = play("syn_flood")
    assert told["host"]["finding"]["subject"] == told["live"]["finding"]["subject"] == "10.77.0.2:8080"
    assert told["others"]["host"] == []


def test_time_wait_near_the_port_budget() -> None:
    told = play("time_wait")
    assert told["host"]["finding"]["subject"] == told["live"]["finding"]["subject"] == "127.0.0.1"
    assert told["host"]["finding"]["evidence"]["ephemeral_ports"] == 500
    assert told["others"] == {"host": [], "live": []}


def test_a_healthy_host_gives_none() -> None:
    assert play("healthy") == {"host": None, "live": None, "others": {"host": [], "live": []}, "pid": None}
