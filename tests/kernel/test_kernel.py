"""The tracker's states against the Linux kernel's own, at every instant and at both ends of real connections.

Two runs at the same time: one over a path that loses 2 % of the segments, one that loses 10 % and delays each by up to
150 ms more than the next. How a run is made is in oracle.py, what happens in it in scenarios.py, what counts as
agreement in compare.py. The suite takes 70 s for it; for longer runs, which are kept:

    CONNTRACK_KERNEL_SECONDS=600 pytest tests/kernel -s --basetemp=kernel-runs
    python tests/kernel/compare.py kernel-runs/kernel*

Needs root, iproute2, tcpdump and /dev/net/tun. Where one is missing the test is skipped, and under CI=true it fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import network
import pytest
from compare import Account, compare
from network import CLIENT, SERVER
from seen import seen

SECONDS = float(os.environ.get("CONNTRACK_KERNEL_SECONDS", "70"))
"""By default longer than TIME_WAIT and the 63 s of SYN_RECEIVED, so that timers run out too."""
PATHS = {
    "2 % loss": ["--loss", "0.02", "--delay", "0.02", "--jitter", "0.01"],
    "10 % loss, 150 ms jitter": ["--loss", "0.1", "--delay", "0.05", "--jitter", "0.15", "--seed", "2"],
}
MOST_LEFT_OUT = 0.05
LEAST_SAMPLES = 200_000
"""At both ends of a path together. A run has about 350,000."""
ENDING_S = 120.0
"""Most time that a run may take on top: two hosts that come up and wind down on a machine that is busy."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each path's run; all were made side by side."""
    if lack := network.missing():
        if os.environ.get("CI") == "true":
            pytest.fail(lack, pytrace=False)
        pytest.skip(lack)
    oracle = Path(__file__).with_name("oracle.py")
    started = {}
    try:
        for name, options in PATHS.items():
            folder = tmp_path_factory.mktemp("kernel")
            command = [sys.executable, str(oracle), str(folder), "--seconds", str(SECONDS), *options]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            started[name] = (folder, process)
        for name, (_, process) in started.items():
            words, _ = process.communicate(timeout=SECONDS + ENDING_S)
            assert process.returncode == 0, f"{name}: {words}"
    finally:
        for _, process in started.values():
            process.terminate()
            process.wait()
    return {name: folder for name, (folder, _) in started.items()}


@pytest.fixture(scope="module")
def accounts(runs: dict[str, Path]) -> dict[tuple[str, str], Account]:
    """What became of every sample, by path and end."""
    return {(path, end.name): compare(folder, end) for path, folder in runs.items() for end in (CLIENT, SERVER)}


@pytest.mark.parametrize("end", [CLIENT.name, SERVER.name])
@pytest.mark.parametrize("path", PATHS)
def test_every_state_is_the_kernels(accounts: dict[tuple[str, str], Account], path: str, end: str) -> None:
    account = accounts[path, end]
    print(f"{path}, {end}:", *account.lines(5), sep="\n  ")
    assert not account.disagreements, "\n".join(account.lines(20))
    assert account.share_left_out < MOST_LEFT_OUT, "\n".join(account.lines(0))


@pytest.mark.parametrize("path", PATHS)
def test_there_was_much_to_compare(accounts: dict[tuple[str, str], Account], path: str) -> None:
    """Few samples would say something of the machine, not of the tracker."""
    both = [accounts[path, end.name] for end in (CLIENT, SERVER)]
    assert sum(account.samples for account in both) >= LEAST_SAMPLES
    assert all(account.looks_set_aside < account.looks / 2 for account in both)


@pytest.mark.parametrize("path", PATHS)
def test_everything_that_was_to_happen_did(runs: dict[str, Path], path: str) -> None:
    happened = seen(runs[path])
    print(path, *(f"{count:8} {name}" for name, count in happened.items()), sep="\n  ")
    assert [name for name, count in happened.items() if not count] == []


@pytest.mark.parametrize("path", PATHS)
def test_the_captures_are_whole(runs: dict[str, Path], path: str) -> None:
    """A segment that tcpdump missed would be a wrong state of ours through no fault of ours."""
    for host in (CLIENT, SERVER):
        counters = json.loads((runs[path] / f"{host.name}.counters.json").read_text())
        assert counters["tcpdump.dropped"] == 0
