"""Accept queues that are full: the program is slower than its clients, whom the kernel turns away without a word."""

from __future__ import annotations

import asyncio
import contextlib

from actors import REPLY, REQUEST, answer, keep, listen, load, open_connection, serve
from stage import CLIENT, SERVER, Expected, Scenario, Scene

__all__ = ["SCENARIOS"]

HEALTHY, SLOW, QUEUE = 443, 8080, 16


async def _slow_service(scene: Scene) -> None:
    """Accepts one connection in two seconds, and serves it well."""
    listener = listen(SLOW, backlog=QUEUE)
    scene.spawn(serve(scene, HEALTHY, answer))
    loop = asyncio.get_running_loop()
    while scene.now() < 80:
        connection, _ = await loop.sock_accept(listener)
        connection.setblocking(False)
        keep(connection)
        await loop.sock_sendall(connection, REPLY)
        await asyncio.sleep(2)


async def _bursts(scene: Scene) -> None:
    """Ten clients at once every five seconds; each waits for its reply for as long as it takes, then closes."""

    async def one() -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            connection = await open_connection(SLOW)
            keep(connection)
            await loop.sock_sendall(connection, REQUEST)
            await loop.sock_recv(connection, 1 << 16)

    scene.spawn(load(scene, HEALTHY, 10, 85))
    for burst in range(14):
        await scene.until(2 + burst * 5)
        for _ in range(10):
            scene.spawn(one())
            scene.count("attempts")


SCENARIOS = [
    Scenario(
        "accept_queue_full",
        _bursts,
        _slow_service,
        (Expected("accept_queue_overflow", f"{SERVER.ipv4}:{SLOW}"),),
        seconds=90,
        captured_at=(CLIENT, SERVER),
    ),
]
