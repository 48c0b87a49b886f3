"""What the programs at both ends do with a connection: services, well and badly written, and their clients.

Small coroutines on plain sockets; none is closed because nobody holds it any more (`Scene.spawn` holds what runs, the
module what is forgotten on purpose).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from stage import SERVER, Scene

__all__ = ["answer", "answer_and_close", "ask", "forget", "keep", "listen", "load", "open_connection", "serve"]

REQUEST, REPLY = b"q" * 200, b"r" * 1200
kept: list[socket.socket] = []

Handler = Callable[[Scene, socket.socket], Awaitable[None]]


def keep(connection: socket.socket) -> None:
    """Hold a socket open to the end."""
    kept.append(connection)


def listen(port: int, backlog: int = 4096) -> socket.socket:
    """Return a listener of the server that nobody accepts at yet."""
    listener = socket.create_server((SERVER.ipv4, port), backlog=backlog)
    listener.setblocking(False)
    keep(listener)
    return listener


async def serve(scene: Scene, port: int, handler: Handler, backlog: int = 4096) -> None:
    """Accept at a port and hand every connection to `handler`, to the end."""
    listener = listen(port, backlog)
    loop = asyncio.get_running_loop()
    while True:
        connection, _ = await loop.sock_accept(listener)
        connection.setblocking(False)
        scene.count(f"accepted_{port}")
        scene.spawn(_handled(scene, connection, handler))


async def _handled(scene: Scene, connection: socket.socket, handler: Handler) -> None:
    try:
        await handler(scene, connection)
    except OSError:  # the client is gone
        connection.close()


async def drain(connection: socket.socket) -> None:
    """Read up to the peer's FIN."""
    while await asyncio.get_running_loop().sock_recv(connection, 1 << 16):
        pass


async def answer(scene: Scene, connection: socket.socket) -> None:
    """A good service: answers each request, and closes when the client has."""
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(connection, 1 << 16):
        await asyncio.sleep(scene.random.uniform(0.001, 0.02))
        await loop.sock_sendall(connection, REPLY)
    connection.close()


async def answer_and_close(scene: Scene, connection: socket.socket) -> None:
    """A service that closes after the reply, as HTTP/1.0 has it."""
    loop = asyncio.get_running_loop()
    if await loop.sock_recv(connection, 1 << 16):
        await loop.sock_sendall(connection, REPLY)
    connection.shutdown(socket.SHUT_WR)
    await drain(connection)
    connection.close()


async def forget(scene: Scene, connection: socket.socket) -> None:
    """A service that answers and never closes: the error path without a close()."""
    keep(connection)
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(connection, 1 << 16):
        await loop.sock_sendall(connection, REPLY)


async def open_connection(
    port: int, address: str = SERVER.ipv4, source: tuple[str, int] | None = None
) -> socket.socket:
    """Connect, from an address of our own if one is given.

    Raises:
        OSError: refused, unreachable, no port left.
    """
    connection = socket.socket()
    connection.setblocking(False)
    if source:
        connection.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: ports by 4-tuple
        connection.bind(source)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


async def ask(
    scene: Scene, port: int, *, wait_s: float = 90.0, hold_s: float = 0.0, source: tuple[str, int] | None = None
) -> bool:
    """Be a client that connects, asks once, reads the reply, holds the connection for a while and closes.

    Whether all of it went well is counted (`asked_PORT`, `failed_PORT`) and returned.
    """
    scene.count(f"asked_{port}")
    try:
        async with asyncio.timeout(wait_s):
            connection = await open_connection(port, source=source)
            try:
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(connection, REQUEST)
                got = await loop.sock_recv(connection, 1 << 16)
                if got:
                    await asyncio.sleep(hold_s)
                    return True
            finally:
                connection.close()
    except OSError as error:  # TimeoutError is one
        scene.count(f"failed_{port}_{errno.errorcode.get(error.errno or 0, type(error).__name__)}")
    scene.count(f"failed_{port}")
    return False


async def load(scene: Scene, port: int, rate: float, until_s: float, **how: Any) -> None:
    """Begin `ask` so many times a second, at random instants, until so many seconds after the beginning."""
    while scene.now() < until_s:
        scene.spawn(ask(scene, port, **{"hold_s": scene.random.expovariate(5), **how}))
        await asyncio.sleep(scene.random.expovariate(rate))
