"""What must not be mistaken for a fault: load of many kinds, a scan, a server that is down."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess

from actors import REQUEST, answer, answer_and_close, ask, keep, load, open_connection, serve
from stage import CLIENT, HOLE, SERVER, Expected, Journey, Scenario, Scene

__all__ = ["SCENARIOS"]

PORT, OTHER, IDLE = 443, 8080, 6379
CROWD, IDLE_CONNECTIONS, CLIENTS = 3000, 200, 3000


async def _services(scene: Scene) -> None:
    scene.spawn(serve(scene, PORT, answer))
    scene.spawn(serve(scene, OTHER, answer_and_close))
    scene.spawn(serve(scene, IDLE, _keep_alive))


async def _keep_alive(scene: Scene, connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    await answer(scene, connection)


async def _healthy(scene: Scene) -> None:
    scene.spawn(load(scene, PORT, 20, 50))
    scene.spawn(load(scene, OTHER, 8, 50))


async def _crowd(scene: Scene) -> None:
    """All within a second or two, from as many addresses as there are clients."""
    _own_addresses()
    scene.spawn(load(scene, PORT, 5, 30))
    await scene.until(8)
    for number in range(CROWD):
        scene.spawn(ask(scene, PORT, hold_s=scene.random.uniform(0, 3), source=(_address(number), 0)))
        if number % 50 == 49:
            await asyncio.sleep(0.02)


def _own_addresses() -> None:
    """All of 10.77.32.0/19 is this host's."""
    subprocess.run(["ip", "route", "add", "local", "10.77.32.0/19", "dev", "lo"], check=True)


def _address(number: int) -> str:
    return f"10.77.{32 + number // 250 % 32}.{1 + number % 250}"


async def _many_clients(scene: Scene) -> None:
    """Each from its own address, which the derived capture hides behind one."""
    _own_addresses()
    begin = 1.0
    for number in range(CLIENTS):
        scene.spawn(ask(scene, PORT, hold_s=scene.random.uniform(0, 5), source=(_address(number), 0)))
        begin += 0.015
        await scene.until(begin)


async def _scan(scene: Scene) -> None:
    """1,200 ports of one host within half a minute; the few that are open are closed at once."""
    scene.spawn(load(scene, PORT, 5, 50))
    ports = [*scene.random.sample(range(10, 400), 300), *scene.random.sample(range(500, 6000), 897), PORT, OTHER, IDLE]
    scene.random.shuffle(ports)
    for port in ports:
        probe = socket.socket()
        probe.settimeout(1)
        with contextlib.suppress(OSError):
            probe.connect((SERVER.ipv4, port))
        probe.close()
        scene.count("probes")
        await asyncio.sleep(0.025)


async def _to_nobody(scene: Scene) -> None:
    """Three clients a second, from addresses of their own, to a host that is gone; a healthy service beside it."""

    async def one(number: int) -> None:
        scene.count("attempts")
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(scene.random.choice((5, 10, 30, 60))):
                await open_connection(PORT, HOLE[0], source=(_address(number), 0))

    _own_addresses()
    scene.spawn(load(scene, PORT, 10, 60))
    for number in range(240):
        await scene.until(5 + number * 0.2)
        scene.spawn(one(number))


async def _idle(scene: Scene) -> None:
    """A pool of connections that are used once, or not at all, and then kept."""
    loop = asyncio.get_running_loop()
    for number in range(IDLE_CONNECTIONS):
        connection = await open_connection(IDLE)
        keep(connection)
        if number % 4:
            await loop.sock_sendall(connection, REQUEST)
            await loop.sock_recv(connection, 1 << 16)
        await asyncio.sleep(0.01)


async def _browsing(scene: Scene) -> None:
    scene.spawn(load(scene, PORT, 15, 60, wait_s=60))
    scene.spawn(load(scene, OTHER, 5, 60, wait_s=60))


SCENARIOS = [
    Scenario("healthy", _healthy, _services, seconds=60),
    Scenario("flash_crowd", _crowd, _services, seconds=40, begin_s=12),
    Scenario("port_scan", _scan, _services, (Expected("port_scan", CLIENT.ipv4, ("info", "warning")),), seconds=60),
    Scenario(
        "server_down",
        _to_nobody,
        _services,
        (Expected("unanswered_syn", f"{HOLE[0]}:{PORT}", ("info", "warning")),),
        seconds=70,
        captured_at=(CLIENT,),
    ),
    Scenario("idle_keep_alive", _idle, _services),
    Scenario("lossy", _browsing, _services, seconds=75, captured_at=(CLIENT, SERVER), path=Journey(0.1, 0.01, 0.005)),
    Scenario("many_clients", _many_clients, _services, seconds=58, begin_s=38),
]
