"""`ctrack sockets` on a host that has so many: the kernel's table into an array, the whole command, and `ss` beside.

    python -m benches.host_sockets --sockets 100000

By root: a network namespace of its own, in which processes hold connections over loopback. Told are best and median
times of reading the table (`host.sockets()`), the same with processes and units, the command from start to end, and
`ss -tan`, all measured in turn. The account is kept in benches/results/.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from benches.record import RESULTS, commit, machine
from conntrack import host

__all__ = ["measure"]

_EACH = 18_000
"""Sockets that a process holds: its clients have one address, and so 28,000 ports."""
_PORT = 8080
_ROUNDS = 5
_CLONE_NEWNET, _PR_SET_PDEATHSIG = 0x40000000, 1


def _hold(number: int, pairs: int, ready: int) -> None:
    """Be a process with so many connections to itself."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    address = (f"127.0.0.{number + 2}", _PORT)
    held = [server := socket.create_server(address, backlog=512)]
    for _ in range(pairs):
        held += [socket.create_connection(address), server.accept()[0]]
    os.write(ready, b".")
    signal.pause()


def _processes(sockets: int) -> list[int]:
    """Start those that hold `sockets` sockets; return their pids when they do."""
    ready, done = os.pipe()
    pids = []
    for number in range(-(-sockets // _EACH)):
        pid = os.fork()
        if not pid:
            _hold(number, min(_EACH, sockets - number * _EACH) // 2, done)
        pids.append(pid)
    for _ in pids:
        os.read(ready, 1)
    return pids


def measure(sockets: int) -> dict[str, Any]:
    """Make them, and measure.

    Returns:
        "sockets" in the table; and by what was measured "best_ms" and "median_ms".
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "a network namespace needs root")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    pids = _processes(sockets)
    try:
        whole = [sys.executable, "-m", "conntrack", "sockets", "--format", "tsv"]
        works: dict[str, Callable[[], Any]] = {
            "table": host.sockets,
            "table, processes and units": lambda: host.sockets(with_owners=True),
            "ctrack sockets": lambda: subprocess.run(whole, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
            "ss -tan": lambda: subprocess.run(["ss", "-tan"], stdout=subprocess.DEVNULL, check=True),
            "ss -tanpie": lambda: subprocess.run(["ss", "-tanpie"], stdout=subprocess.DEVNULL, check=True),
        }
        times: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(_ROUNDS):
            for name, work in works.items():
                begun_s = time.perf_counter()
                work()
                times[name].append(1e3 * (time.perf_counter() - begun_s))
        return {
            "sockets": len(host.sockets()),
            **{
                name: {"best_ms": round(min(found), 1), "median_ms": round(sorted(found)[_ROUNDS // 2], 1)}
                for name, found in times.items()
            },
        }
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@click.command()
@click.option("--sockets", default=16_000, show_default=True)
def command(sockets: int) -> None:
    """Measure, print the account and keep it."""
    account = measure(sockets)
    now = datetime.now(UTC)
    about = {"schema": 1, "date": now.isoformat(timespec="seconds"), "commit": commit(), "machine": machine()}
    text = json.dumps({**about, **account}, indent=1) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"sockets-{now:%Y-%m-%d}-{commit()}-{sockets}.json").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    command()
