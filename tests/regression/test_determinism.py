"""The same input and options give the same bytes, over threads, keys, batches, workers, memory, hash seeds and Pythons.

`CONNTRACK_PYTHONS=/a/python3.12:/b/python3.13` asks further interpreters in which this version is installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from digests import RECORDED, REPORTS, digest, digests, make_captures

from conntrack.capture import Capture, open_capture
from conntrack.core.abi import FLOW_DTYPE
from conntrack.pipeline import Analysis, flow_batches
from conntrack.report.json import render_json
from conntrack.sharded import make_tracker
from conntrack.tracker import Tracker

ROOT = str(Path(__file__).parent.parent.parent)
PROGRAM = str(Path(__file__).with_name("digests.py"))
FLOWS = ("flows.csv", "flows.zeek")


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our captures."""
    folder = tmp_path_factory.mktemp("captures")
    make_captures(folder)
    return folder


RECORDS = json.loads(RECORDED.read_text())
NAMES = ("incident.pcap", "mixed.pcap")


@pytest.fixture(scope="module")
def written(captures: Path) -> dict[str, dict[str, str]]:
    """What is written here, by capture and output."""
    return {name: digests(name, captures) for name in NAMES}


@pytest.mark.parametrize("name", RECORDS)
def test_what_was_recorded(name: str, captures: Path) -> None:
    """On another machine, with another Python. What was changed on purpose is recorded anew: digests.py --record."""
    recorded = dict(RECORDS[name])
    assert digest(captures / name) == recorded.pop("capture"), "the capture itself: numpy generates other numbers"
    assert digests(name, captures) == recorded


def test_every_capture_was_recorded(captures: Path) -> None:
    assert {path.name for path in captures.iterdir()} == set(RECORDS)


VARIANTS = {
    "one thread": (REPORTS + FLOWS, ["--threads", "1"]),
    "three threads": (REPORTS + FLOWS, ["--threads", "3"]),
    "seven threads": (REPORTS + FLOWS, ["--threads", "7"]),
    "memory": (REPORTS + FLOWS, ["--max-memory", "64M"]),
    "on disk": (("report.json", "report.txt"), ["--spill", "."]),  # rows come in another order
    "workers": (("report.json", "report.txt"), ["--workers", "2"]),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_however_it_is_done(variant: str, captures: Path, written: dict[str, dict[str, str]]) -> None:
    outputs, options = VARIANTS[variant]
    for name in NAMES:
        assert digests(name, captures, outputs, *options) == {one: written[name][one] for one in outputs}


def rows_and_report(path: Path, tracker: Tracker, batch_segments: int) -> tuple[bytes, str]:
    """The connections, and the report, read in batches of so many segments."""
    analysis = Analysis()
    parts = [np.empty(0, FLOW_DTYPE)]
    with open_capture([path], batch_segments=batch_segments) as capture:
        assert isinstance(capture, Capture)
        for rows in flow_batches(capture, tracker):
            analysis.feed(rows)
            parts.append(rows.copy())
        return np.concatenate(parts).tobytes(), render_json(analysis.report(capture.info))


@pytest.mark.parametrize("batch_segments", [64, 1000, 8192, 100_000])
def test_whatever_the_batches_and_the_key(batch_segments: int, captures: Path) -> None:
    path = captures / "mixed.pcap"
    expected = rows_and_report(path, Tracker(key=np.arange(1, 5, dtype=np.uint64)), 8192)
    keys = np.random.default_rng(batch_segments).integers(0, 2**64, (3, 4), dtype=np.uint64)
    for key in (np.zeros(4, np.uint64), *keys):
        assert rows_and_report(path, Tracker(key=key), batch_segments) == expected
    assert rows_and_report(path, make_tracker(threads=2), batch_segments) == expected


@pytest.mark.parametrize("seed", ["0", "1", "4294967295", "random"])
def test_whatever_the_hash_seed_of_python(seed: str, captures: Path, written: dict[str, dict[str, str]]) -> None:
    ask([sys.executable], {"PYTHONHASHSEED": seed}, captures, written)


@pytest.mark.parametrize("words", [["-O"], ["-X", "dev"], ["-X", "utf8=0"]], ids="".join)
def test_whatever_the_options_of_python(words: list[str], captures: Path, written: dict[str, dict[str, str]]) -> None:
    ask([sys.executable, *words], {"LC_ALL": "C", "TZ": "Asia/Kathmandu"}, captures, written)


if os.environ.get("CONNTRACK_PYTHONS"):

    @pytest.mark.parametrize("python", os.environ["CONNTRACK_PYTHONS"].split(":"))
    def test_whatever_the_python(python: str, captures: Path, written: dict[str, dict[str, str]]) -> None:
        ask([python], {}, captures, written)


def ask(command: list[str], env: dict[str, str], captures: Path, written: dict[str, dict[str, str]]) -> None:
    """Another process writes the same."""
    path = {"PYTHONPATH": ROOT} if command[0] == sys.executable else {}
    words = [*command, PROGRAM, *(str(captures / name) for name in NAMES)]
    done = subprocess.run(words, env={**os.environ, **path, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {Path(name).name: each for name, each in json.loads(done.stdout).items()}
    assert found == written


OF_SHARED = RECORDED.with_name("digests_shared.json")


def test_the_public_captures(shared: Path) -> None:
    """Their connections, in three threads as in one; and the digest of all of them that was recorded."""
    whole = hashlib.sha256()
    for entry in json.loads((shared / "captures" / "MANIFEST.json").read_text()):
        path = shared / "captures" / entry["file"]
        found = {}
        for threads in (1, 3):
            digest_of = hashlib.sha256()
            try:
                with open_capture([path]) as capture:
                    for rows in flow_batches(capture, make_tracker(threads=threads)):
                        digest_of.update(rows.tobytes())
            except Exception as error:
                digest_of.update(type(error).__name__.encode())
            found[threads] = digest_of.hexdigest()
        assert found[1] == found[3], entry["file"]
        whole.update(found[1].encode())
    assert whole.hexdigest() == json.loads(OF_SHARED.read_text())["connections"]
