"""Ground truth from the Linux kernel: real connections over a bad path, captured at both ends, and its own answers.

    sudo python tests/kernel/oracle.py OUT [--seconds 60] [--loss 0.02] [--delay 0.02] [--jitter 0.01] [--rate 40] ...
    python tests/kernel/compare.py OUT

makes two hosts (network.py), lets them do what scenarios.py has, and writes into the folder OUT, for `client` and
`server`: NAME.pcap (what that host's device saw), NAME.table (its socket table, sockdiag.py, several times a second),
NAME.closed (when its application closed which socket) and NAME.counters.json (its counters of /proc/net/netstat and
snmp at the end). compare.py then holds the tracker against it. test_kernel.py makes two such runs; see there for how to
let it run for longer.

Needs root, iproute2, tcpdump and /dev/net/tun. Touches nothing but the namespaces that it makes itself, which end with
it. Imports nothing of the package: the oracle must not know what it judges.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

import network
import scenarios
import sockdiag
from network import CLIENT, SERVER, Host, Journey, Relay

__all__ = ["Settings", "main", "run"]

READY_S = 15.0
"""Most time a host may take to come up."""
FLUSH_S = 1.5
"""tcpdump sees a packet up to a second late, and on SIGINT forgets what it has not seen yet."""


class Settings(NamedTuple):
    """One run: how long, how bad the path is, how busy the hosts, how often the kernel is asked."""

    out: Path
    seconds: float
    path: Journey
    rate: float
    sample_every_s: float
    seed: int


def _sample(path: Path, every_s: float, end_s: float) -> None:
    with contextlib.suppress(OSError):  # on a busy machine a look must not wait half way: it would be of no instant
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    table = sockdiag.Table()
    with path.open("wb") as out:
        due = time.time()
        while due < end_s:
            time.sleep(max(0.0, due - time.time()))
            sockdiag.write_sample(out, table.dump())
            due = max(due + every_s, time.time())


def _host(host: Host, settings: Settings, channel: socket.socket) -> None:
    """Be one of the hosts, from the empty namespace to the counters at the end."""
    network.enter_namespace()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    device = network.make_device(host)
    tcpdump = network.capture(settings.out / f"{host.name}.pcap")
    socket.send_fds(channel, [b"r"], [device])
    os.close(device)
    (start,) = struct.unpack("d", channel.recv(8))
    plan = scenarios.Plan(start, start + settings.seconds, settings.rate, settings.seed)
    sampler = network.fork(_sample, settings.out / f"{host.name}.table", settings.sample_every_s, plan.end_s - 0.5)
    closed = asyncio.run(scenarios.client(plan) if host == CLIENT else scenarios.server(plan))
    scenarios.write_closed(settings.out / f"{host.name}.closed", closed)
    os.waitpid(sampler, 0)
    time.sleep(FLUSH_S)
    tcpdump.send_signal(signal.SIGINT)
    assert tcpdump.stderr
    words = tcpdump.stderr.read().decode()
    tcpdump.wait()
    report = {**network.counters(), "tcpdump.dropped": int(words.split(" packets dropped by kernel")[0].split()[-1])}
    (settings.out / f"{host.name}.counters.json").write_text(json.dumps(report, indent=1))


def run(settings: Settings) -> None:
    """Make one run.

    Raises:
        OSError: a host did not come up, or ended before its time.
    """
    settings.out.mkdir(parents=True, exist_ok=True)
    ours, children = [], {}
    try:
        for host in (CLIENT, SERVER):
            mine, its = socket.socketpair()
            children[network.fork(_host, host, settings, its)] = host.name
            its.close()
            mine.settimeout(READY_S)
            ours.append(mine)
        devices = []
        for channel in ours:
            _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
            if not descriptors:
                raise OSError("a host did not come up")
            devices.append(descriptors[0])
        start = time.time() + 0.5
        for channel in ours:
            channel.send(struct.pack("d", start))
        relay = Relay((devices[0], devices[1]), settings.path, settings.seed)
        relay.run(lambda: _are_alive(children))
        print(f"{settings.out}: {relay.moved} segments moved, {relay.lost} lost, {relay.doubled} doubled")
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _are_alive(children: dict[int, str]) -> bool:
    for child in list(children):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            name = children.pop(child)
            if status:
                raise OSError(f"the {name} ended with {os.waitstatus_to_exitcode(status)}")
    return bool(children)


def _on_sigterm(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(143)


def main(arguments: list[str] | None = None) -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(description="real connections, their captures and the kernel's socket table")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--loss", type=float, default=0.02, help="share of segments lost; a quarter of it is doubled")
    parser.add_argument("--delay", type=float, default=0.02, help="seconds")
    parser.add_argument("--jitter", type=float, default=0.01, help="seconds at most on top of the delay, at random")
    parser.add_argument("--rate", type=float, default=40, help="connections a second")
    parser.add_argument("--every", type=float, default=0.35, help="seconds between looks at the socket tables")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    if lack := network.missing():
        print(f"oracle: {lack}", file=sys.stderr)
        return 2
    path = Journey(given.loss, given.delay, given.jitter)
    signal.signal(signal.SIGTERM, _on_sigterm)
    run(Settings(given.out.resolve(), given.seconds, path, given.rate, given.every, given.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
