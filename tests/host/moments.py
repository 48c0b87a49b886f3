"""How soon a fault is told: from the moment at which the kernel crosses a threshold to the line that says so.

    python moments.py NAME

makes a fault in a network namespace of its own, with real servers, while `ctrack live --format ndjson` captures there
and `ctrack host --for 1s` is asked again and again, as somebody who watches would. Prints a line of JSON: of each the
seconds until it told the fault and the finding it told ("host", "live"), or null; what else either of them told
("others"); and the process at fault where it is one of its own ("pid"). Thresholds are those of FAULTS, else the
defaults. Needs root, iproute2, dumpcap, and /dev/net/tun for forged SYNs.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import scenes
from network import enter_namespace, tie_to_parent
from scenes import HOME, child, connect, keep, listen, set_sysctl

GIVEN_UP_S = 60.0
HEALTHY_S = 12.0
_AGE_S = 2.0
_PORTS, _WARNING = 500, 0.5


pids: list[int] = []
"""The process at fault, where it is not this one."""


def leak() -> float:
    """A process of its own accepts and never closes; crossed when the first CLOSE_WAIT is as old as counts."""
    server = listen()

    def serve(ready: int) -> None:
        os.write(ready, b"r")
        for _ in range(100):
            keep(server.accept()[0])
        time.sleep(600)

    pids.append(child(serve))
    for _ in range(12):
        connect().shutdown(socket.SHUT_WR)
    return time.monotonic() + _AGE_S


def accept_queue() -> float:
    """A server that does not accept, with clients that go on coming; crossed when its queue is full."""
    listen(backlog=3)
    for _ in range(4):
        connect()
    crossed = time.monotonic()

    def come() -> None:
        while True:
            one = keep(socket.socket())
            one.setblocking(False)
            one.connect_ex(HOME)
            time.sleep(0.1)

    threading.Thread(target=come, daemon=True).start()
    return crossed


def syn_flood() -> float:
    """SYNs that nobody finishes; crossed when as many are half-open as are worth a look (syn_half_open_min)."""
    address = scenes._host(backlog=512, cookies=0)
    scenes._flood(address, 64, 0.005)
    crossed = time.monotonic()
    threading.Thread(target=scenes._flood, args=(address, 10_000, 0.01, 64), daemon=True).start()
    return crossed


def time_wait() -> float:
    """A client that closes first and has few ports; crossed when half of them wait."""
    set_sysctl("net.ipv4.ip_local_port_range", f"40000 {40000 + _PORTS - 1}")
    set_sysctl("net.ipv4.tcp_tw_reuse", 0)
    server = listen()
    crossed = 0.0
    for number in range(300):
        with socket.create_connection(HOME) as one:
            accepted, _ = server.accept()
            one.shutdown(socket.SHUT_WR)
            assert accepted.recv(1) == b""
            accepted.close()
        if number == _PORTS * _WARNING - 1:
            crossed = time.monotonic()
    return crossed


def healthy() -> float:
    scenes.healthy()
    return time.monotonic()


@dataclass(frozen=True)
class Fault:
    """What is made, what `host` and `live` call it, and the thresholds of each."""

    make: Callable[[], float]
    host: str | None
    live: str | None
    of_host: tuple[str, ...] = ()
    of_live: tuple[str, ...] = ()
    interface: str = "lo"


_AGE = (f"close_wait_age_s={_AGE_S}",)
FAULTS: dict[str, Fault] = {
    "leak": Fault(leak, "close_wait_leak", "close_wait_leak", _AGE, _AGE),
    # Behind a full queue the kernel answers no SYN: that is what can be seen on the wire.
    "accept_queue": Fault(accept_queue, "accept_queue_overflow", "unanswered_syn"),
    "syn_flood": Fault(syn_flood, "syn_flood", "syn_flood", interface="any"),  # the answers go into a device
    "time_wait": Fault(time_wait, "time_wait_buildup", "time_wait_buildup", (), (f"ephemeral_ports={_PORTS}",)),
    "healthy": Fault(healthy, None, None),
}


class Told:
    """What one of the two told, and when."""

    def __init__(self, kind: str | None) -> None:
        self.kind = kind
        self.at: float | None = None
        self.finding: dict[str, Any] | None = None
        self.others: set[str] = set()

    def hear(self, finding: dict[str, Any]) -> None:
        if finding["kind"] != self.kind:
            self.others.add(finding["kind"])
        elif self.at is None:
            self.at, self.finding = time.monotonic(), finding


def _thresholds(values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in ("--threshold", value)]


def _ask_host(fault: Fault, told: Told, over: threading.Event) -> None:
    while not over.is_set() and (told.at is None or fault.host is None):
        command = [sys.executable, "-m", "conntrack", "host", "--for", "1s", "--format", "json"]
        done = subprocess.run([*command, *_thresholds(fault.of_host)], capture_output=True, check=True)
        for finding in json.loads(done.stdout)["findings"]:
            told.hear(finding)


def _hear_live(live: subprocess.Popen[str], told: Told) -> None:
    assert live.stdout is not None
    for line in live.stdout:
        event = json.loads(line)
        if event["event"] == "opened":
            told.hear(event["finding"])


def run(name: str) -> dict[str, Any]:
    """Make the fault and wait until both have told it."""
    fault = FAULTS[name]
    tie_to_parent()
    enter_namespace()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "kept.pcapng")
        words = ["live", "-i", fault.interface, "--format", "ndjson", "-w", str(kept)]
        command = [sys.executable, "-m", "conntrack", *words, *_thresholds(fault.of_live)]
        live = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        while not (part := kept.with_name("kept.pcapng.part")).exists() or not part.stat().st_size:  # it captures
            assert live.poll() is None, "ctrack live has ended"
            time.sleep(0.05)
        over = threading.Event()
        by_host, by_live = Told(fault.host), Told(fault.live)
        hearing = threading.Thread(target=_hear_live, args=(live, by_live))
        hearing.start()
        crossed = fault.make()
        asking = threading.Thread(target=_ask_host, args=(fault, by_host, over))
        asking.start()
        deadline = crossed + (HEALTHY_S if fault.host is None else GIVEN_UP_S)
        while time.monotonic() < deadline and (by_host.at is None or by_live.at is None):
            time.sleep(0.05)
        over.set()
        asking.join()
        live.send_signal(signal.SIGINT)
        live.wait()
        hearing.join()
    answers = {
        side: None if told.at is None else {"seconds": round(told.at - crossed, 2), "finding": told.finding}
        for side, told in (("host", by_host), ("live", by_live))
    }
    return {
        **answers,
        "pid": pids[0] if pids else None,
        "others": {"host": sorted(by_host.others), "live": sorted(by_live.others)},
    }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1])))
    sys.stdout.flush()
    os._exit(0)  # threads of the fault go on
