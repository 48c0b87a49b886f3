"""Ends that stay in CLOSE_WAIT: a service that forgets, a client that forgets, a service that never accepts; and the
half-close in use, which is none of these."""

from __future__ import annotations

import asyncio
import socket

from actors import REQUEST, answer, answer_and_close, drain, forget, keep, listen, load, open_connection, serve
from stage import CLIENT, SERVER, Expected, Scenario, Scene

__all__ = ["SCENARIOS"]

HEALTHY, LEAKY, CLOSING, DEAF, STREAM = 443, 8080, 8081, 9090, 8443
LEAKED, CLIENT_LEAKED, STARVED, STREAMS = 40, 25, 30, 20


async def _leaky_service(scene: Scene) -> None:
    """Every second connection is forgotten."""
    number = iter(range(1 << 30))

    async def handle(scene: Scene, connection: socket.socket) -> None:
        await (forget if next(number) % 2 == 0 else answer)(scene, connection)

    scene.spawn(serve(scene, LEAKY, handle))
    scene.spawn(serve(scene, HEALTHY, answer))


async def _its_clients(scene: Scene) -> None:
    scene.spawn(load(scene, HEALTHY, 15, 90))
    for number in range(2 * LEAKED):
        await scene.until(1 + number * 0.25)
        scene.spawn(_one_request(LEAKY, 1.0))


async def _one_request(port: int, hold_s: float) -> None:
    connection = await open_connection(port)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, REQUEST)
    await loop.sock_recv(connection, 1 << 16)
    await asyncio.sleep(hold_s)
    connection.close()


async def _closing_service(scene: Scene) -> None:
    scene.spawn(serve(scene, CLOSING, answer_and_close))
    scene.spawn(serve(scene, HEALTHY, answer))


async def _forgetful_client(scene: Scene) -> None:
    """A pool that never looks at what the server has closed."""
    scene.spawn(load(scene, HEALTHY, 10, 90))
    for number in range(CLIENT_LEAKED):
        await scene.until(1 + number * 0.6)
        connection = await open_connection(CLOSING)
        keep(connection)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, REQUEST)
        scene.spawn(drain(connection))


async def _deaf_service(scene: Scene) -> None:
    listen(DEAF, backlog=128)
    scene.spawn(serve(scene, HEALTHY, answer))


async def _clients_of_the_deaf(scene: Scene) -> None:
    scene.spawn(load(scene, HEALTHY, 10, 90))
    for number in range(STARVED):
        await scene.until(1 + number * 0.5)
        scene.spawn(_give_up(3.0))


async def _give_up(after_s: float) -> None:
    connection = await open_connection(DEAF)
    await asyncio.get_running_loop().sock_sendall(connection, REQUEST)
    await asyncio.sleep(after_s)
    connection.close()


async def _streaming_service(scene: Scene) -> None:
    async def stream(scene: Scene, connection: socket.socket) -> None:
        await drain(connection)
        loop, begin = asyncio.get_running_loop(), scene.now()
        while scene.now() < begin + 90:
            await loop.sock_sendall(connection, b"s" * 700)
            await asyncio.sleep(1)
        connection.close()
        scene.count("streamed_to_the_end")

    scene.spawn(serve(scene, STREAM, stream))


async def _half_closing_client(scene: Scene) -> None:
    async def one() -> None:
        connection = await open_connection(STREAM)
        await asyncio.get_running_loop().sock_sendall(connection, REQUEST)
        connection.shutdown(socket.SHUT_WR)
        await drain(connection)
        connection.close()

    for _ in range(STREAMS):
        scene.spawn(one())
        await asyncio.sleep(0.1)


SCENARIOS = [
    Scenario(
        "server_leak",
        _its_clients,
        _leaky_service,
        (Expected("close_wait_leak", f"{SERVER.ipv4}:{LEAKY}", side="server", also={"cause": "application_leak"}),),
    ),
    Scenario(
        "client_leak",
        _forgetful_client,
        _closing_service,
        (Expected("close_wait_leak", CLIENT.ipv4, side="client"),),
    ),
    Scenario(
        "accept_starvation",
        _clients_of_the_deaf,
        _deaf_service,
        (Expected("close_wait_leak", f"{SERVER.ipv4}:{DEAF}", side="server", also={"cause": "accept_starvation"}),),
    ),
    Scenario("half_close", _half_closing_client, _streaming_service, seconds=97),
]
