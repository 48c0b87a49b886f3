"""Hosts with something wrong, for real: each scene is one network namespace with servers and clients of this kernel.

    python scenes.py NAME [ARGUMENT...]

makes the scene, runs `ctrack ARGUMENT...` in it once the fault has been there for long enough, and prints what that
printed to standard output. What the scene knows of itself is one line of JSON on standard error, after "facts ".
Needs root and iproute2; the device that forged SYNs are answered into needs /dev/net/tun.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kernel"))

import network
from network import CLIENT, FLOOD, SERVER, forged_syn

from conntrack.cli import main
from conntrack.host import netlink

PORT = 8080
HOME = ("127.0.0.1", PORT)
SETTLE_S = 0.3

_kept: list[socket.socket] = []
"""Sockets that must stay open until the scene is over."""


def keep(one: socket.socket) -> socket.socket:
    _kept.append(one)
    return one


def listen(address: tuple[str, int] = HOME, backlog: int = 512) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return keep(socket.create_server(address, family=family, backlog=backlog))


def connect(address: tuple[str, int] = HOME) -> socket.socket:
    return keep(socket.create_connection(address, timeout=5))


def set_sysctl(name: str, value: object) -> None:
    Path("/proc/sys", name.replace(".", "/")).write_text(str(value))


def child(work: Callable[[int], None]) -> int:
    """Do `work` in a process of its own, which is given a descriptor to say on that it is ready; its pid."""
    reading, writing = os.pipe()
    pid = network.fork(lambda: (work(writing), time.sleep(600)))
    os.close(writing)
    assert os.read(reading, 1) == b"r", "the process of the scene has ended"
    os.close(reading)
    return pid


def leak(connections: int = 12) -> dict[str, object]:
    """A process of its own accepts, reads to the end and never closes."""
    server = listen()

    def serve(ready: int) -> None:
        held = []
        for _ in range(connections):
            accepted, _ = server.accept()
            held.append(accepted)
            while accepted.recv(4096):
                pass
        os.write(ready, b"r")
        time.sleep(600)

    def ask() -> None:
        for _ in range(connections):
            one = connect()
            one.sendall(b"GET /")
            one.shutdown(socket.SHUT_WR)

    asking = threading.Timer(0.1, ask)
    asking.start()
    pid = child(serve)
    asking.join()
    server.close()
    time.sleep(2)
    return {"pid": pid, "connections": connections}


def leak_grows() -> dict[str, object]:
    """A leak that goes on while it is watched: a snapshot is kept, then twice as many are forgotten."""
    server = listen()

    def forget(connections: int) -> None:
        for _ in range(connections):
            one = connect()
            keep(server.accept()[0])
            one.shutdown(socket.SHUT_WR)

    forget(6)
    time.sleep(1.5)
    main(["sockets", "--format", "ndjson", "-o", "before.ndjson"])
    forget(14)
    time.sleep(1.5)
    return {"pid": os.getpid(), "connections": 20}


def accept_queue() -> dict[str, object]:
    """A process that listens with a backlog of 3 and does not accept."""
    listen(backlog=3)
    waiting = []
    for _ in range(8):
        one = keep(socket.socket())
        one.setblocking(False)
        assert one.connect_ex(HOME) == errno.EINPROGRESS
        waiting.append(one)
    time.sleep(SETTLE_S)
    return {"pid": os.getpid()}


def _flood(server: tuple[str, int], syns: int, every_s: float, first: int = 0) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for number in range(first, first + syns):
            source = (f"{FLOOD}{1 + number % 250}", 1024 + number)
            raw.sendto(forged_syn(source, server, number), (server[0], 0))
            time.sleep(every_s)


def _host(backlog: int, cookies: int) -> tuple[str, int]:
    keep_device.append(network.make_device(SERVER))
    set_sysctl("net.ipv4.tcp_syncookies", cookies)
    for device in ("all", "default", "lo", "tcp0"):
        set_sysctl(f"net.ipv4.conf.{device}.rp_filter", 0)
    address = (SERVER.ipv4, PORT)
    listen(address, backlog)
    return address


keep_device: list[int] = []


def syn_flood() -> dict[str, object]:
    """SYNs that nobody finishes, fewer than the backlog holds."""
    address = _host(backlog=512, cookies=0)
    _flood(address, 100, 0)
    time.sleep(1.5)  # the SYN+ACK is repeated after a second
    return {"half_open": 100}


def syn_cookies() -> dict[str, object]:
    """SYNs that go on while it is watched, and more than the backlog holds."""
    address = _host(backlog=64, cookies=1)
    _flood(address, 100, 0)
    threading.Thread(target=_flood, args=(address, 3000, 0.001, 100), daemon=True).start()
    time.sleep(SETTLE_S)
    return {}


def time_wait(connections: int) -> dict[str, object]:
    """A client that closes first, with 500 ports to take."""
    set_sysctl("net.ipv4.ip_local_port_range", "40000 40499")
    set_sysctl("net.ipv4.tcp_tw_reuse", 0)
    server = listen()
    for _ in range(connections):
        with socket.create_connection(HOME) as one:
            accepted, _ = server.accept()
            one.shutdown(socket.SHUT_WR)
            assert accepted.recv(1) == b""
            accepted.close()
    time.sleep(SETTLE_S)
    return {"connections": connections, "ports": 500}


def time_wait_server() -> dict[str, object]:
    """A server that closes first; and a kernel that may keep no more than 1,500 of it."""
    set_sysctl("net.ipv4.tcp_max_tw_buckets", 1500)
    server = listen()
    for _ in range(1200):
        with socket.create_connection(HOME) as one:
            accepted, _ = server.accept()
            accepted.close()
            assert one.recv(1) == b""
    time.sleep(SETTLE_S)
    return {"connections": 1200}


def fin_wait_2() -> dict[str, object]:
    """Clients that have closed and are gone; the server has not."""
    server = listen()
    for _ in range(15):
        with socket.create_connection(HOME):
            keep(server.accept()[0])
    time.sleep(2)
    return {"connections": 15}


def resets() -> dict[str, object]:
    """A client that resets what it opened, while it is watched."""
    server = listen()

    def go_on() -> None:
        for _ in range(400):
            one = socket.create_connection(HOME)
            accepted, _ = server.accept()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.close()
            accepted.close()

    threading.Timer(1.0, go_on).start()
    return {}


def healthy() -> dict[str, object]:
    """Two hundred open connections, some that talk, some that come and go, a few that are being closed."""
    server = listen()
    talking = []
    for _ in range(200):
        one = connect()
        talking.append((one, keep(server.accept()[0])))

    def talk() -> None:
        while True:
            for one, other in talking[:100]:
                one.sendall(b"ask")
                assert other.recv(16) == b"ask"
                other.sendall(b"answer" * 100)
                assert one.recv(4096)
            with socket.create_connection(HOME) as short:
                accepted, _ = server.accept()
                short.sendall(b"bye")
                short.shutdown(socket.SHUT_WR)
                while accepted.recv(16):
                    pass
                accepted.close()
            time.sleep(0.005)

    threading.Thread(target=talk, daemon=True).start()
    for one, _ in talking[150:155]:
        one.shutdown(socket.SHUT_WR)
    time.sleep(1)
    return {}


def busy() -> dict[str, object]:
    """Ten thousand sockets in all eleven states but CLOSED, over IPv4 and IPv6, for ss and us to list."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    address = _host(backlog=4096, cookies=0)
    servers = [listen(backlog=4096), listen(("::1", PORT), backlog=4096)]
    both = keep(socket.create_server(("::", PORT + 1), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096))

    def pair(number: int) -> tuple[socket.socket, socket.socket]:
        server = (*servers, both)[number % 3]
        name = server.getsockname()
        one = connect(("127.0.0.1", PORT + 1) if server is both else (name[0], name[1]))
        return one, keep(server.accept()[0])

    for number in range(3_800):
        pair(number)
    for number in range(600):
        pair(number)[0].shutdown(socket.SHUT_WR)  # FIN_WAIT_2, CLOSE_WAIT
    for number in range(600):
        one, other = pair(number)  # TIME_WAIT
        one.close()
        other.close()
    for number in range(100):
        one, other = pair(number)  # FIN_WAIT_2 that nobody holds
        one.close()
    for number in range(60):
        one, other = pair(number)
        one.shutdown(socket.SHUT_WR)
        _fill(other)
        other.close()  # LAST_ACK behind data that nobody reads
    for number in range(60):
        one, other = pair(number)
        _fill(one)
        one.shutdown(socket.SHUT_WR)  # FIN_WAIT_1 behind data that nobody reads
        if number % 2:
            other.shutdown(socket.SHUT_WR)  # and then CLOSING
    for _ in range(100):
        one = keep(socket.socket())
        one.setblocking(False)
        one.connect_ex((CLIENT.ipv4, 9))  # SYN_SENT into a device that nobody answers from
    _flood(address, 400, 0)  # SYN_RECEIVED
    time.sleep(1)
    return {}


def _fill(one: socket.socket) -> None:
    one.setblocking(False)
    try:
        while True:
            one.send(bytes(65536))
    except BlockingIOError:
        pass


SCENES: dict[str, Callable[[], dict[str, object]]] = {
    "leak": leak,
    "leak_grows": leak_grows,
    "accept_queue": accept_queue,
    "syn_flood": syn_flood,
    "syn_cookies": syn_cookies,
    "time_wait_warning": lambda: time_wait(300),
    "time_wait_critical": lambda: time_wait(420),
    "time_wait_server": time_wait_server,
    "fin_wait_2": fin_wait_2,
    "resets": resets,
    "healthy": healthy,
    "busy": busy,
}


def _refuse(*_: object) -> None:
    raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))


def play(name: str, arguments: list[str]) -> int:
    network.tie_to_parent()
    network.enter_namespace()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    facts = SCENES[name]()
    print("facts", json.dumps(facts), file=sys.stderr, flush=True)
    if os.environ.get("SCENE_WITHOUT_NETLINK"):
        netlink.dump = _refuse
    if arguments[0] == "ss-and-sockets":
        from socket_tables import compare

        return compare()
    return _as_nobody(arguments) if os.environ.get("SCENE_AS_USER") else main(arguments)


def _as_nobody(arguments: list[str]) -> int:
    """Run the command in a process of its own that gives root up; this one stays to take the scene down."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    import_module("conntrack.report.host")  # what it imports of Python itself may be where root alone can read
    os.setgroups([])
    os.setgid(65_534)
    os.setuid(65_534)
    code = main(arguments)
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    code = play(sys.argv[1], sys.argv[2:])
    sys.stdout.flush()
    os._exit(code)  # threads of the scene may still talk
