"""What the hosts do to each other: one coroutine for each way in which a TCP connection can live and die.

`server` and `client` run in the two namespaces at the same time and meet at ports alone; what has to happen at both
ends at once (simultaneous open and close) goes by the wall clock. All that is random comes from a seed. That a scenario
happened is for seen.py to show from the kernel's counters and the captures, not for this module to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from network import CLIENT, CUT_PORTS, FLOOD, HOLE, SERVER, forged_syn
from sockdiag import key_of

__all__ = ["Closed", "Plan", "client", "read_closed", "server", "write_closed"]

Closed = list[tuple[int, bytes]]
"""Unix nanoseconds, and the key of the socket (sockdiag.Socket)."""


class Plan(NamedTuple):
    """When, how much, and by which dice.

    Attributes:
        start_s, end_s: unix seconds. No connection begins after seven tenths of the time.
        rate: connections a second.
    """

    start_s: float
    end_s: float
    rate: float
    seed: int

    @property
    def last_begin_s(self) -> float:
        return self.start_s + (self.end_s - self.start_s) * 0.7


PASSIVE, ACTIVE, LEAK, SERVER_RESET, HALF_CLOSE, IDLE, HOLD, BOTH_CLOSE, KEEP_ALIVE, DOWNLOAD, UPLOAD, NO_READER = (
    range(8001, 8013)
)
FAST_OPEN, COOKIES = 8013, 8014
FULL_QUEUE = range(8100, 8140)
"""Listeners whose accept queue is short. Nobody ever accepts at the even ones; late and slowly at the odd ones."""
QUEUE = 4
"""Their backlog: one connection more than this waits to be accepted, and as many handshakes for the last ACK."""
COOKIES_FROM = 8
"""Backlog of the listener at COOKIES: with so many handshakes not complete, all further SYN+ACKs are cookies."""
COOKIES_BYTES = 5000
"""What the server sends there, more than any client does: where both ends have sent nearly the same, a late ACK is a
valid cookie (check_tcp_syn_cookie in net/ipv4/syncookies.c), and opens a socket for a connection that is long over."""
REFUSED = 9
SAME_PORTS = range(62000, 62020)
"""Local ports that are used again and again: SYNs onto a server's TIME_WAIT, and onto what else may be left."""
TW_PORTS = range(62100, 62110)
"""The same, where the client closed first: tcp_tw_reuse."""
CROSSING_CLIENT, CROSSING_SERVER = 63000, 64000
CROSSING_EVERY_S = 0.4
BULK_BYTES = 1_500_000
KEEP_IDLE_S, KEEP_EVERY_S, KEEP_COUNT = 2, 2, 4
_CLOSED = struct.Struct("<q36s")
_LINGER_0 = struct.pack("ii", 1, 0)
_IP_OF = {socket.AF_INET: 0, socket.AF_INET6: 1}


def write_closed(path: Path, closed: Closed) -> None:
    """Keep what `client` or `server` returned."""
    path.write_bytes(b"".join(_CLOSED.pack(*one) for one in closed))


def read_closed(path: Path) -> Closed:
    """What `write_closed` kept."""
    return list(_CLOSED.iter_unpack(path.read_bytes()))


class _Sockets:
    """A host's sockets: none is closed because nobody holds it any more.

    Attributes:
        closed: when the application closed which for sending; once a connection.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.tasks: list[asyncio.Task[Any]] = []
        self.kept: list[socket.socket] = []
        self.closed: Closed = []
        self._shut: set[socket.socket] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(self.loop.create_task(work))

    async def send(self, s: socket.socket, count: int) -> None:
        await self.loop.sock_sendall(s, os.urandom(16) * (count // 16) + b"." * (count % 16))

    async def drain(self, s: socket.socket) -> None:
        while await self.loop.sock_recv(s, 1 << 18):
            pass

    async def drain_and_close(self, s: socket.socket) -> None:
        await self.drain(s)
        self.close(s)

    def shut(self, s: socket.socket) -> None:
        """Have nothing more to send: the kernel sends a FIN when it can."""
        self._note(s)
        s.shutdown(socket.SHUT_WR)

    def close(self, s: socket.socket) -> None:
        self._note(s)
        s.close()

    def _note(self, s: socket.socket) -> None:
        if s in self._shut:
            return
        self._shut.add(s)
        with contextlib.suppress(OSError):  # not connected: nothing to send
            self.closed.append((time.time_ns(), key_of(s.getsockname(), s.getpeername())))

    def keep(self, s: socket.socket) -> None:
        self.kept.append(s)


def _reset(s: socket.socket) -> None:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
    s.close()


def _bound(family: int, ip: str, port: int) -> socket.socket:
    s = socket.socket(family)
    s.setblocking(False)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((ip, port))
    return s


async def _next_second() -> None:
    now = time.time()
    await asyncio.sleep(int(now + 1.2) - now)


# --- The server -------------------------------------------------------------------------------------------------------


async def _serve(host: _Sockets, s: socket.socket, port: int) -> None:
    try:
        if port in (PASSIVE, FAST_OPEN, COOKIES):
            await host.send(s, COOKIES_BYTES if port == COOKIES else 3000)
            await host.drain_and_close(s)
        elif port == ACTIVE:
            await host.send(s, 9000)
            await asyncio.sleep(0.3)
            host.shut(s)
            await host.drain_and_close(s)
        elif port == LEAK:
            host.keep(s)
            await host.drain(s)
        elif port == SERVER_RESET:
            await asyncio.sleep(0.3)
            _reset(s)
        elif port == HALF_CLOSE:
            await host.drain(s)
            for _ in range(30):
                await host.send(s, 700)
                await asyncio.sleep(0.1)
            host.close(s)
        elif port == HOLD:
            await asyncio.sleep(0.3)
            host.shut(s)
            host.keep(s)
        elif port == BOTH_CLOSE:
            await _next_second()
            host.shut(s)
            await host.drain_and_close(s)
        elif port == KEEP_ALIVE:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_IDLE_S)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_EVERY_S)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEP_COUNT)
            await host.drain_and_close(s)
        elif port == DOWNLOAD:
            await host.send(s, BULK_BYTES)
            await host.drain_and_close(s)
        elif port == NO_READER:
            await asyncio.sleep(4)
            await host.drain_and_close(s)
        else:
            await host.drain_and_close(s)
    except OSError:
        host.close(s)


async def _listen(host: _Sockets, family: int, port: int) -> None:
    s = _bound(family, (SERVER.ipv4, SERVER.ipv6)[_IP_OF[family]], port)
    backlog = 4096
    if port in FULL_QUEUE:
        backlog = QUEUE
    elif port == COOKIES:
        backlog = COOKIES_FROM
    elif port == FAST_OPEN:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 64)
    elif port == NO_READER:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    s.listen(backlog)
    host.keep(s)
    if port in FULL_QUEUE and port % 2 == 0:
        return
    while True:
        if port in FULL_QUEUE:
            await asyncio.sleep(5)
        peer, _ = await host.loop.sock_accept(s)
        peer.setblocking(False)
        host.start(_serve(host, peer, port))


async def server(plan: Plan) -> Closed:
    """Listen, and do at each port what its clients expect, until the end; which sockets were closed, and when."""
    host = _Sockets()
    for family in _IP_OF:
        for port in (*range(PASSIVE, COOKIES + 1), *FULL_QUEUE):
            host.start(_listen(host, family, port))
    host.start(_cross(host, plan, at_client=False))
    await asyncio.sleep(max(0, plan.end_s - time.time()))
    return host.closed


# --- Both -------------------------------------------------------------------------------------------------------------


async def _cross(host: _Sockets, plan: Plan, at_client: bool) -> None:
    """Begin simultaneous opens, each at the same instant at both ends."""
    begin, number = plan.start_s + 1, 0
    while begin < plan.last_begin_s:
        await asyncio.sleep(max(0, begin - time.time()))
        host.start(_cross_one(host, number % 900, at_client))
        begin, number = begin + CROSSING_EVERY_S, number + 1


async def _cross_one(host: _Sockets, number: int, at_client: bool) -> None:
    family = socket.AF_INET6 if number % 3 == 0 else socket.AF_INET
    ends = [(CLIENT, CROSSING_CLIENT + number), (SERVER, CROSSING_SERVER + number)]
    (own, own_port), (other, other_port) = ends if at_client else ends[::-1]
    s = _bound(family, (own.ipv4, own.ipv6)[_IP_OF[family]], own_port)
    try:
        await host.loop.sock_connect(s, ((other.ipv4, other.ipv6)[_IP_OF[family]], other_port))
        await host.send(s, 600)
        if at_client:
            await asyncio.sleep(1)
        else:
            await asyncio.sleep(number % 3)
        host.shut(s)
        await host.drain_and_close(s)
    except OSError:
        host.close(s)


# --- The client -------------------------------------------------------------------------------------------------------

KINDS = {
    "passive": 16, "active": 16, "leak": 7, "server_reset": 5, "half_close": 5, "idle": 4, "hold": 4, "both_close": 7,
    "client_reset": 5, "cut": 5, "same_port": 5, "same_port_client": 4, "black_hole": 2, "refused": 3, "keep_alive": 2,
    "download": 1, "upload": 1, "no_reader": 1, "fast_open": 6, "cookies": 4, "full_queue": 2,
}  # fmt: skip
"""How often each kind of connection is made, relative to the others."""
PORT_OF = {
    "passive": PASSIVE, "active": ACTIVE, "leak": LEAK, "server_reset": SERVER_RESET, "half_close": HALF_CLOSE,
    "idle": IDLE, "hold": HOLD, "both_close": BOTH_CLOSE, "client_reset": IDLE, "same_port": ACTIVE,
    "same_port_client": PASSIVE, "black_hole": 80, "refused": REFUSED, "keep_alive": KEEP_ALIVE, "download": DOWNLOAD,
    "upload": UPLOAD, "no_reader": NO_READER, "fast_open": FAST_OPEN, "cookies": COOKIES,
}  # fmt: skip


class _Client:
    def __init__(self, plan: Plan) -> None:
        self.host = _Sockets()
        self.random = random.Random(plan.seed)
        self.cuts = self.bursts = 0

    def begin(self, kind: str) -> None:
        family = socket.AF_INET6 if self.random.random() < 0.3 else socket.AF_INET
        if kind == "full_queue":
            self.host.start(self._fill_queue(family, FULL_QUEUE[self.bursts % len(FULL_QUEUE)]))
            self.bursts += 1
        elif kind == "cut":
            self.host.start(self._run(kind, family, self.random.choice((PASSIVE, IDLE, ACTIVE, KEEP_ALIVE))))
        else:
            self.host.start(self._run(kind, family, PORT_OF[kind]))

    async def _fill_queue(self, family: int, port: int) -> None:
        # One by one up to the last place; then some at once, whose SYNs all come while there still is one. They are
        # fewer than the backlog: from there on the server would answer with SYN cookies.
        for _ in range(QUEUE):
            self.host.start(self._run("full_queue", family, port))
            await asyncio.sleep(0.5)
        await asyncio.sleep(1)
        for _ in range(QUEUE - 1):
            self.host.start(self._run("full_queue", family, port))

    async def _run(self, kind: str, family: int, port: int) -> None:
        s = self._socket(kind, family)
        self.host.keep(s)
        try:
            await self._open(s, kind, family, port)
            await self._go_on(s, kind)
        except OSError:
            self.host.close(s)

    def _socket(self, kind: str, family: int) -> socket.socket:
        own = (CLIENT.ipv4, CLIENT.ipv6)[_IP_OF[family]]
        port = 0
        if kind == "cut":
            port = CUT_PORTS[self.cuts % len(CUT_PORTS)]
            self.cuts += 1
        elif kind == "same_port":
            port = self.random.choice(SAME_PORTS)
        elif kind == "same_port_client":
            port = self.random.choice(TW_PORTS)
        return _bound(family, own, port)

    async def _open(self, s: socket.socket, kind: str, family: int, port: int) -> None:
        at = _IP_OF[family]
        ip = HOLE[at] if kind == "black_hole" else (SERVER.ipv4, SERVER.ipv6)[at]
        size = self.random.randrange(1, 4000)
        if kind == "fast_open":
            await self._open_fast(s, min(size, 1000), (ip, port))
        else:
            await self.host.loop.sock_connect(s, (ip, port))
        if kind == "full_queue" and self.random.random() < 0.5:
            return
        await self.host.send(s, size)

    async def _open_fast(self, s: socket.socket, size: int, address: tuple[str, int]) -> None:
        with contextlib.suppress(BlockingIOError):  # no cookie of that server yet: a SYN without data asks for one
            s.sendto(b"f" * size, socket.MSG_FASTOPEN, address)
        while True:  # closing before the SYN is answered would leave no trace on the wire
            if error := s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, os.strerror(error))
            try:
                s.getpeername()
                return
            except OSError:
                await asyncio.sleep(0.02)

    async def _go_on(self, s: socket.socket, kind: str) -> None:
        host, dice = self.host, self.random
        if kind in ("passive", "fast_open", "cookies", "same_port_client"):
            await asyncio.sleep(dice.random())
            host.shut(s)
            await host.drain_and_close(s)
        elif kind in ("active", "server_reset", "same_port"):
            await host.drain_and_close(s)
        elif kind == "leak":
            await asyncio.sleep(0.2 + dice.random())
            host.shut(s)
            await host.drain(s)
        elif kind == "half_close":
            host.shut(s)
            await host.drain_and_close(s)
        elif kind == "both_close":
            await _next_second()
            host.shut(s)
            await host.drain_and_close(s)
        elif kind == "client_reset":
            await asyncio.sleep(0.3 + dice.random())
            _reset(s)
        elif kind == "cut":
            await asyncio.sleep(2)
            await host.send(s, 4)
            if dice.random() < 0.5:
                host.close(s)
        elif kind == "download":
            await asyncio.sleep(0.1)
            host.shut(s)
            await host.drain_and_close(s)
        elif kind in ("upload", "no_reader"):
            await host.send(s, BULK_BYTES if kind == "upload" else 150_000)
            host.shut(s)
            await host.drain_and_close(s)
        elif kind == "full_queue":
            await asyncio.sleep(8 * dice.random())
            if dice.random() < 0.5:
                host.close(s)
        else:  # idle, hold, keep_alive
            await host.drain(s)


def _spoofed_syn(dice: random.Random, port: int) -> bytes:
    source = FLOOD + str(dice.randrange(1, 255)), dice.randrange(1024, 65000)
    return forged_syn(source, (SERVER.ipv4, port), dice.getrandbits(32))


async def client(plan: Plan) -> Closed:
    """Begin connections of every kind at random, and now and then a SYN of somebody who is not there; as `server`."""
    one = _Client(plan)
    kinds, weights = list(KINDS), list(KINDS.values())
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    one.host.start(_cross(one.host, plan, at_client=True))
    due = plan.start_s
    while (
        due < plan.last_begin_s
    ):  # by the clock: a machine that is busy makes no fewer connections, but makes them late
        due += one.random.expovariate(plan.rate)
        await asyncio.sleep(max(0, due - time.time()))
        if one.random.random() < 0.2:
            port = one.random.choice((IDLE, COOKIES))
            raw.sendto(_spoofed_syn(one.random, port), (SERVER.ipv4, 0))
        one.begin(one.random.choices(kinds, weights)[0])
    await asyncio.sleep(max(0, plan.end_s - time.time()))
    return one.host.closed
