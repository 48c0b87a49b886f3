"""Where a scenario happens: a pair of namespaces and a cable, captures, and the label that the kernel writes.

A scenario is two coroutines, one for each end of the path; everything else is here. All scenarios that are asked for
happen at the same time, each on hosts of its own, so that the corpus takes as long as the longest one. The label holds
what the generating side knows: what the scenario says of itself, both socket tables over time (sockdiag) and the
counters at the end. Only where the path is bad does a relay (network.py) carry the packets. Knows no fault, no
detector and no tracker.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "kernel"))

import network
import sockdiag
from network import CLIENT, HOLE, SERVER, Host, Journey, Relay, forged_syn, missing

__all__ = [
    "CLIENT",
    "HOLE",
    "SERVER",
    "Expected",
    "Journey",
    "Scenario",
    "Scene",
    "Work",
    "forged_syn",
    "make",
    "missing",
]

READY_S = 30.0
"""Most time a host may take to come up, while all others do too."""
FLUSH_S = 1.5
"""tcpdump sees a packet up to a second late, and on SIGINT forgets what it has not seen yet."""
BUFFER_KIB = 16384
DEFAULTS = {"net/ipv4/tcp_fin_timeout": "60", "net/ipv4/tcp_tw_reuse": "2", "net/ipv4/tcp_fastopen": "1"}
"""The kernel's own, where the hosts of network.py have others."""


@dataclass(frozen=True)
class Expected:
    """A finding that the capture must lead to, at default settings.

    Attributes:
        kind, subject: of the finding.
        severities: those that are right.
        side: evidence["side"], where the kind has one.
        also: other evidence that must be there as it is here.
    """

    kind: str
    subject: str
    severities: tuple[str, ...] = ("warning", "critical")
    side: str | None = None
    also: dict[str, Any] = field(default_factory=dict)


class Scene:
    """What the coroutine of one end is given: its host, when to begin and to end, dice, and a place for what it knows.

    Attributes:
        facts: goes into the label; JSON-able.
    """

    def __init__(self, host: Host, start_s: float, seconds: float, seed: int) -> None:
        self.host = host
        self.start_s, self.end_s = start_s, start_s + seconds
        self.random = random.Random(seed)
        self.facts: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.time() - self.start_s

    async def until(self, seconds: float) -> None:
        """Sleep until so many seconds after the beginning."""
        await asyncio.sleep(max(0.0, seconds - self.now()))

    def spawn(self, work: Awaitable[Any]) -> None:
        """Let `work` go on beside everything else; what it raises is raised at the end."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._tasks.discard(task)

    async def finish(self) -> None:
        """Sleep until the end, then raise what a spawned work raised."""
        await asyncio.sleep(max(0.0, self.end_s - time.time()))
        for task in self._tasks:
            if task.done():
                task.result()

    def count(self, name: str, by: int = 1) -> None:
        """Add to a fact."""
        self.facts[name] = self.facts.get(name, 0) + by


Work = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """One capture, or one for each end, and what must be found in it.

    Attributes:
        name: of the files.
        client, server: what happens at the two ends.
        expected: all that may be found at warning or worse; more at info is allowed.
        seconds: how long it goes on.
        begin_s: when it begins; what needs much of the processor goes one after the other.
        sysctls: of the client and of the server, beyond DEFAULTS.
        captured_at: the hosts whose device is captured.
        path: what the relay does, where there is to be one.
        look_every_s: how often the kernels are asked for their sockets.
    """

    name: str
    client: Work
    server: Work
    expected: tuple[Expected, ...] = ()
    seconds: float = 95.0
    begin_s: float = 0.0
    sysctls: tuple[dict[str, str], dict[str, str]] = ({}, {})
    captured_at: tuple[Host, ...] = (SERVER,)
    path: Journey | None = None
    look_every_s: float = 4.0


def _counted(sample: sockdiag.Sample) -> dict[str, int]:
    """{"CLOSE_WAIT 8080": sockets in that state with that local port}; ephemeral ports, from 10000 on, are one."""
    counts: Counter[str] = Counter()
    for one in sockdiag.parse(sample.raw):
        port = int.from_bytes(one.key[16:18], "big")
        counts[f"{one.state} {port if port < 10000 else 'ephemeral'}"] += 1
    return dict(counts)


def _look(path: Path, every_s: float, end_s: float) -> None:
    table = sockdiag.Table()
    looks = []
    due = time.time()
    while due < end_s:
        time.sleep(max(0.0, min(due, end_s) - time.time()))
        sample = table.dump()
        looks.append([(sample.before_ns + sample.after_ns) // 2, _counted(sample)])
        due = max(due + every_s, time.time())
    path.write_text(json.dumps(looks))


def _host(host: Host, scenario: Scenario, folder: Path, channel: socket.socket) -> None:
    """Be one of the hosts, from the empty namespace to its part of the label."""
    network.enter_namespace()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if scenario.path:
        device = network.make_device(host)
        socket.send_fds(channel, [b"n"], [device])
        os.close(device)
    else:
        channel.send(b"n")
        channel.recv(1)
        _plug_in(host)
    for name, value in {**DEFAULTS, **scenario.sysctls[host == SERVER]}.items():
        Path("/proc/sys", name).write_text(value)
    pcap = folder / f"{scenario.name}.{host.name}.pcap"
    tcpdump = network.capture(pcap, buffer_kib=BUFFER_KIB) if host in scenario.captured_at else None
    channel.send(b"r")
    (start,) = struct.unpack("d", channel.recv(8))
    scene = Scene(host, start, scenario.seconds, sum(scenario.name.encode()))
    looks = folder / f".{scenario.name}.{host.name}.looks"
    looking = network.fork(_look, looks, scenario.look_every_s, scene.end_s)

    def sum_up() -> None:
        os.waitpid(looking, 0)
        part: dict[str, Any] = {"facts": scene.facts, "looks": json.loads(looks.read_text())}
        part["counters"] = {name: n for name, n in network.counters().items() if n}
        if tcpdump:
            part["tcpdump_dropped"] = _stop(tcpdump)
        looks.unlink()
        (folder / f".{scenario.name}.{host.name}.part").write_text(json.dumps(part))
        channel.send(b"d")

    asyncio.run(_act(scenario.client if host == CLIENT else scenario.server, scene, sum_up))


async def _act(work: Work, scene: Scene, sum_up: Callable[[], None]) -> None:
    """Do `work` to the end, then sum up and stay: sockets live on until all is killed, and no capture has their end."""
    if scene.host == CLIENT:  # the server listens before
        await scene.until(0)
    await work(scene)
    await scene.finish()
    sum_up()
    await asyncio.sleep(READY_S)


def _stop(tcpdump: subprocess.Popen[bytes]) -> int:
    """End a capture; how many packets it missed."""
    time.sleep(FLUSH_S)
    tcpdump.send_signal(signal.SIGINT)
    assert tcpdump.stderr
    words = tcpdump.stderr.read().decode()
    tcpdump.wait()
    return int(words.split(" packets dropped by kernel")[0].split()[-1])


def _plug_in(host: Host) -> None:
    """Give this host its addresses. All others of 10.77.0.0/16 are the client's, who drops what is not for it."""
    for command in (
        "link set lo up",
        f"address add {host.ipv4}/24 dev tcp0",
        "link set tcp0 up",
        f"route add 10.77.0.0/16 via {CLIENT.ipv4}"
        if host == SERVER
        else f"neighbour add {HOLE[0]} lladdr 02:00:00:00:00:66 dev tcp0",
    ):
        subprocess.run(["ip", *command.split()], check=True)


def _direct(scenario: Scenario, folder: Path, start_at: float) -> None:
    """Run one scenario: bring up its hosts, connect them, write the label."""
    os.nice(-10)  # real time passes for everybody in here: a busy machine must not look like a bad path
    ours, children = [], []
    for host in (CLIENT, SERVER):
        mine, its = socket.socketpair()
        children.append(network.fork(_host, host, scenario, folder, its))
        its.close()
        mine.settimeout(READY_S)
        ours.append(mine)
    try:
        devices = [socket.recv_fds(channel, 1, 1)[1] for channel in ours]
        if not scenario.path:
            ends = [f"tcp0 netns {child}" for child in children]
            subprocess.run(f"ip link add {ends[0]} type veth peer name {ends[1]}".split(), check=True)
            for channel in ours:
                channel.send(b"l")
        if [channel.recv(1) for channel in ours] != [b"r", b"r"]:
            raise OSError("a host did not come up")
        start = max(start_at, time.time() + 1) + scenario.begin_s
        for channel in ours:
            channel.send(struct.pack("d", start))
            channel.setblocking(False)
        going_on = _going_on(ours)
        if scenario.path:
            Relay((devices[0][0], devices[1][0]), scenario.path, 1).run(going_on)
        while going_on():
            time.sleep(0.2)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    label: dict[str, Any] = {"name": scenario.name, "expected": [vars(one) for one in scenario.expected]}
    for host in (CLIENT, SERVER):
        part = folder / f".{scenario.name}.{host.name}.part"
        label[host.name] = json.loads(part.read_text())
        part.unlink()
    (folder / f"{scenario.name}.json").write_text(json.dumps(label))


def _going_on(channels: list[socket.socket]) -> Callable[[], bool]:
    """True until every host has said that it is done; its socket is at its end when the host died."""
    left = list(channels)

    def going_on() -> bool:
        for channel in list(left):
            try:
                word = channel.recv(1)
            except BlockingIOError:
                continue
            if word != b"d":
                raise OSError("a host ended before its time")
            left.remove(channel)
        return bool(left)

    return going_on


def make(folder: Path, scenarios: list[Scenario]) -> Iterator[str]:
    """Make the captures and labels of `scenarios` in `folder`, all at the same time; yield the names that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    start_at = time.time() + 3.0
    directors = {network.fork(_direct, scenario, folder, start_at): scenario.name for scenario in scenarios}
    while directors:
        child, status = os.wait()
        name = directors.pop(child)
        if status:
            yield name
