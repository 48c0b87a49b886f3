"""TIME_WAIT: a client near the end of its ports, one that has come to it, and a server that closes first."""

from __future__ import annotations

import errno
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

from actors import REPLY, REQUEST, answer_and_close, load, serve
from stage import CLIENT, SERVER, Expected, Scenario, Scene, Work

__all__ = ["SCENARIOS"]

PORT = 8080
_THREADS = 12


def _asks_and_closes(rate: float, until_s: float) -> Work:
    """A client without a pool: a connection for each request, closed by the client. Threads, for they are many."""

    async def client(scene: Scene) -> None:
        def work() -> Counter[str]:
            did: Counter[str] = Counter()
            while (wait := (sum(did.values()) + scene.random.random()) * _THREADS / rate - scene.now()) < until_s:
                if scene.now() >= until_s:
                    break
                time.sleep(max(0.0, wait))
                did["no_port_left" if _ask() else "completed"] += 1
            return did

        with ThreadPoolExecutor(_THREADS) as pool:
            for did in pool.map(lambda _: work(), range(_THREADS)):
                for name, number in did.items():
                    scene.count(name, number)

    return client


def _ask() -> int:
    """Connect, ask, read the reply and close; EADDRNOTAVAIL if there was no port to connect from, else 0.

    Raises:
        OSError: any other.
    """
    with socket.socket() as one:
        try:
            one.connect((SERVER.ipv4, PORT))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            return errno.EADDRNOTAVAIL
        one.sendall(REQUEST)
        one.recv(4096)
    return 0


async def _answers(scene: Scene) -> None:
    """Answers each connection, and closes when the client has."""
    listener = socket.create_server((SERVER.ipv4, PORT), backlog=4096)

    def work() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(REPLY[:100])
                connection.recv(4096)

    for _ in range(_THREADS):
        Thread(target=work, daemon=True).start()


async def _closes_first(scene: Scene) -> None:
    scene.spawn(serve(scene, PORT, answer_and_close))


async def _many_clients(scene: Scene) -> None:
    scene.spawn(load(scene, PORT, 45, 75))


SCENARIOS = [
    Scenario(
        "time_wait_client",
        _asks_and_closes(rate=430, until_s=63),
        _answers,
        (Expected("time_wait_buildup", CLIENT.ipv4, side="client"),),
        seconds=66,
        sysctls=({"net/ipv4/tcp_tw_reuse": "0"}, {}),
        look_every_s=3,
    ),
    Scenario(
        "ports_exhausted",
        _asks_and_closes(rate=150, until_s=92),
        _answers,
        (Expected("time_wait_buildup", CLIENT.ipv4, ("critical",), side="client"),),
        sysctls=({"net/ipv4/tcp_tw_reuse": "0", "net/ipv4/ip_local_port_range": "40000 41999"}, {}),
        look_every_s=2,
    ),
    Scenario("time_wait_server", _many_clients, _closes_first, seconds=80, look_every_s=0.5),
]
