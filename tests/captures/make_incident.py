#!/usr/bin/env python3
"""A server in trouble, recorded with the real kernel. Needs root, iproute2 and tcpdump; 110 seconds.

Two network namespaces, a veth pair, the Linux TCP stack at both ends. The server 10.9.0.2 runs a healthy service on
port 443, and one on 8080 whose process forgets to close what its clients have closed. From the fortieth second on, port
443 gets 600 SYNs with forged source addresses, 120 a second. The capture is taken at the server, 80 bytes a packet.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

CLIENT, SERVER = "incident_c", "incident_s"
CLIENT_IP, SERVER_IP = "10.9.0.1", "10.9.0.2"
SECONDS, FLOOD_AT, FLOOD_SYNS, FLOOD_RATE = 108.0, 40.0, 600, 120.0


def run(command: str, *, check: bool = True) -> None:
    subprocess.run(command.split(), check=check, capture_output=True)


def set_up() -> None:
    for namespace in (CLIENT, SERVER):
        run(f"ip netns del {namespace}", check=False)
        run(f"ip netns add {namespace}")
    run(f"ip link add inc_c netns {CLIENT} type veth peer name inc_s netns {SERVER}")
    for namespace, device, address in ((CLIENT, "inc_c", CLIENT_IP), (SERVER, "inc_s", SERVER_IP)):
        run(f"ip -n {namespace} addr add {address}/24 dev {device}")
        run(f"ip -n {namespace} link set {device} up")
        run(f"ip -n {namespace} link set lo up")
    run(f"ip -n {SERVER} route add default via {CLIENT_IP}")
    run(f"ip netns exec {SERVER} sysctl -qw net.ipv4.tcp_syncookies=0 net.ipv4.tcp_max_syn_backlog=256")


def enter(namespace: str) -> None:
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if hasattr(os, "setns"):
        os.setns(descriptor, os.CLONE_NEWNET)
    else:
        import ctypes

        if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")


async def serve() -> None:
    kept = []

    async def healthy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        await asyncio.sleep(random.uniform(0.005, 0.05))
        writer.write(b"r" * 900)
        await reader.read()
        writer.close()

    async def leaking(connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        kept.append(connection)
        request = await loop.sock_recv(connection, 1000)
        await loop.sock_sendall(connection, request * 2)
        while await loop.sock_recv(connection, 1000):
            pass

    await asyncio.start_server(healthy, SERVER_IP, 443, backlog=256)
    listener = socket.create_server((SERVER_IP, 8080), backlog=256)
    listener.setblocking(False)
    while True:
        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
        connection.setblocking(False)
        kept.append(asyncio.create_task(leaking(connection)))


async def one(port: int) -> None:
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(SERVER_IP, port), 20)
    except OSError:
        return
    writer.write(b"q" * random.randrange(100, 400))
    await reader.read(10_000)
    await asyncio.sleep(random.uniform(0.0, 0.2))
    writer.close()


def forged_syn() -> bytes:
    source = socket.inet_aton(f"198.51.{random.randrange(100, 104)}.{random.randrange(1, 255)}")
    header = struct.pack(
        "!HHIIBBHHH", random.randrange(1024, 65000), 443, random.getrandbits(32), 0, 5 << 4, 2, 1024, 0, 0
    )
    pseudo = source + socket.inet_aton(SERVER_IP) + struct.pack("!BBH", 0, 6, len(header))
    total = sum(struct.unpack(f"!{(len(pseudo) + len(header)) // 2}H", pseudo + header))
    total = (total >> 16) + (total & 0xFFFF)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    segment = header[:16] + struct.pack("!H", checksum) + header[18:]
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, source, socket.inet_aton(SERVER_IP)) + segment


async def load() -> None:
    begin = time.monotonic()
    tasks = []

    async def flood() -> None:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        await asyncio.sleep(FLOOD_AT)
        for _ in range(FLOOD_SYNS):
            raw.sendto(forged_syn(), (SERVER_IP, 0))
            await asyncio.sleep(1 / FLOOD_RATE)

    tasks.append(asyncio.create_task(flood()))
    while time.monotonic() - begin < SECONDS - 3:
        tasks.append(asyncio.create_task(one(443)))
        if time.monotonic() - begin < 35 and random.random() < 0.6:
            tasks.append(asyncio.create_task(one(8080)))
        await asyncio.sleep(random.expovariate(4))


def child(namespace: str, work: object) -> int:
    process = os.fork()
    if process == 0:
        enter(namespace)
        random.seed(namespace)
        asyncio.run(work())
        os._exit(0)
    return process


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("incident.pcap")).resolve()
    set_up()
    capture = subprocess.Popen(
        [*f"ip netns exec {SERVER} tcpdump -i inc_s -s 80 -U -Z root -w".split(), str(out), "tcp"],
        stderr=subprocess.DEVNULL,
    )
    time.sleep(1)
    children = [child(SERVER, serve)]
    time.sleep(0.5)
    children.append(child(CLIENT, load))
    time.sleep(SECONDS)
    capture.send_signal(signal.SIGINT)
    capture.wait()
    for process in children:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    for namespace in (CLIENT, SERVER):
        run(f"ip netns del {namespace}", check=False)


if __name__ == "__main__":
    main()
