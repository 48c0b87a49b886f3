"""SYN floods: fast, slow, and against SYN cookies, each at a service that honest clients use at the same time."""

from __future__ import annotations

import socket

from actors import answer, load, serve
from stage import SERVER, Expected, Scenario, Scene, Work, forged_syn

__all__ = ["SCENARIOS"]

PORT = 443
SUBJECT = f"{SERVER.ipv4}:{PORT}"


def _flood(rate: float, start_s: float, end_s: float, sources: int, honest: float) -> Work:
    """SYNs from addresses at which nobody is (10.77.16.0 and up), each address once before any comes again."""

    async def client(scene: Scene) -> None:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        scene.spawn(load(scene, PORT, honest, scene.end_s - scene.start_s - 8))
        sent = 0
        await scene.until(start_s)
        while scene.now() < end_s:
            for number in range(sent, int((scene.now() - start_s) * rate)):
                host = number * 7919 % sources
                source = f"10.77.{16 + host // 250}.{1 + host % 250}", scene.random.randrange(1024, 65000)
                raw.sendto(forged_syn(source, (SERVER.ipv4, PORT), scene.random.getrandbits(32)), (SERVER.ipv4, 0))
                sent += 1
            await scene.until(max(scene.now() + 0.01, start_s + (sent + 1) / rate))
        scene.facts["syns_forged"] = sent
        scene.facts["sources"] = min(sent, sources)

    return client


def _service(backlog: int) -> Work:
    async def server(scene: Scene) -> None:
        scene.spawn(serve(scene, PORT, answer, backlog))

    return server


def _sysctls(cookies: int, backlog: int) -> tuple[dict[str, str], dict[str, str]]:
    return {}, {"net/ipv4/tcp_syncookies": str(cookies), "net/ipv4/tcp_max_syn_backlog": str(backlog)}


SCENARIOS = [
    Scenario(
        "fast_flood",
        _flood(rate=1000, start_s=5, end_s=15, sources=10_000, honest=10),
        _service(1024),
        (Expected("syn_flood", SUBJECT, also={"shape": "fast"}),),
        seconds=45,
        begin_s=48,
        look_every_s=1,
        sysctls=_sysctls(cookies=0, backlog=1024),
    ),
    Scenario(
        "slow_flood",
        _flood(rate=3, start_s=2, end_s=90, sources=2000, honest=1),
        _service(512),
        (Expected("syn_flood", SUBJECT, also={"shape": "slow"}),),
        look_every_s=1,
        sysctls=_sysctls(cookies=0, backlog=512),
    ),
    Scenario(
        "cookie_flood",
        _flood(rate=1500, start_s=4, end_s=12, sources=10_000, honest=10),
        _service(128),
        (Expected("syn_flood", SUBJECT, also={"shape": "syn_cookies"}),),
        seconds=30,
        look_every_s=1,
        sysctls=_sysctls(cookies=1, backlog=128),
    ),
]
