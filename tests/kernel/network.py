"""Two hosts of our own, and a bad path between them: network namespaces, TUN devices, the relay, the captures.

The namespaces have no names: each belongs to the process that made it, and is gone with it however that ends. So
nothing of the machine's own network is seen or touched, runs can go on side by side, and nothing is ever left to clean
up. The relay carries TCP between the two devices and loses, delays, doubles and reorders it. Knows nothing of what is
sent.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "CLIENT",
    "CUT_PORTS",
    "FLOOD",
    "HOLE",
    "SERVER",
    "Host",
    "Journey",
    "Relay",
    "capture",
    "counters",
    "enter_namespace",
    "forged_syn",
    "fork",
    "make_device",
    "missing",
    "tie_to_parent",
]


class Host(NamedTuple):
    """One end of the path, and its addresses."""

    name: str
    ipv4: str
    ipv6: str


class Journey(NamedTuple):
    """What the relay does to segments: share lost, seconds of delay, and up to how many seconds more at random."""

    loss: float
    delay_s: float
    jitter_s: float


CLIENT = Host("client", "10.77.0.1", "fd77::1")
SERVER = Host("server", "10.77.0.2", "fd77::2")
HOLE = ("10.77.0.66", "fd77::66")
"""Addresses behind which nobody is."""
FLOOD = "10.77.9."
"""Sources of spoofed SYNs: nobody is there either."""
CUT_PORTS = range(61000, 61900)
"""Ports of the client whose path is cut for good a second after the handshake."""
CUT_AFTER_S = 1.0
_DEVICE = "tcp0"
_MTU = 1500
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_ACK = 0x10

SYSCTLS = {
    "net/ipv4/tcp_syncookies": 1,
    "net/ipv4/tcp_fin_timeout": 600,  # FIN_WAIT_2 without a timer within a run: the wire cannot tell who is orphaned
    "net/ipv4/tcp_max_syn_backlog": 4096,
    "net/core/somaxconn": 4096,
    "net/ipv4/tcp_fastopen": 3,
    "net/ipv4/tcp_tw_reuse": 1,
    "net/ipv6/conf/default/disable_ipv6": 0,
    "net/ipv6/conf/default/accept_ra": 0,
    "net/ipv6/conf/default/router_solicitations": 0,
}
"""What a host of ours has otherwise than by default."""

_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str | None:
    """What this machine lacks to do any of this, in words; None when it lacks nothing."""
    if os.geteuid() != 0:
        return "not root: network namespaces and captures need it"
    for tool in ("ip", "tcpdump"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"/dev/net/tun cannot be opened: {error.strerror}"
    return None


def tie_to_parent() -> None:
    """Let the kernel end this process when its parent ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def enter_namespace() -> None:
    """Move this process into a new network namespace.

    Raises:
        OSError: that is not allowed.
    """
    if _libc.unshare(_CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "unshare")


def make_device(host: Host) -> int:
    """Make this namespace `host`, with a device, addresses and settings; the descriptor of the device's other side."""
    for name, value in SYSCTLS.items():
        Path("/proc/sys", name).write_text(str(value))
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH14s", _DEVICE.encode(), _IFF_TUN | _IFF_NO_PI, b""))
    for command in (
        "link set lo up",
        f"address add {host.ipv4}/16 dev {_DEVICE}",
        f"address add {host.ipv6}/64 dev {_DEVICE} nodad",
        f"link set {_DEVICE} mtu {_MTU} txqueuelen 10000 up",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    return device


def fork(work: Callable[..., object], *arguments: object) -> int:
    """Do `work` in a process that ends with this one; its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        tie_to_parent()
        work(*arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def counters() -> dict[str, int]:
    """This namespace's counters: {"TcpExt.SyncookiesSent": 3, ...}."""
    found = {}
    for name in ("netstat", "snmp"):
        lines = Path("/proc/self/net", name).read_text().splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            group, *keys = names.replace(":", "").split()
            found.update({f"{group}.{key}": int(n) for key, n in zip(keys, values.split()[1:], strict=True)})
    return found


def forged_syn(source: tuple[str, int], target: tuple[str, int], isn: int) -> bytes:
    """Return an IPv4 packet with a bare SYN from an endpoint to another, as flooding tools send it (SOCK_RAW)."""
    ends = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    tcp = struct.pack("!HHIIBBHHH", source[1], target[1], isn, 0, 5 << 4, 2, 64240, 0, 0)
    total = sum(struct.unpack("!16H", ends + struct.pack("!BBH", 0, 6, len(tcp)) + tcp))
    total = (total >> 16) + (total & 0xFFFF)
    total += total >> 16
    tcp = tcp[:16] + struct.pack("!H", ~total & 0xFFFF) + tcp[18:]
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + ends + tcp


def capture(path: Path, *, buffer_kib: int = 65536) -> subprocess.Popen[bytes]:
    """Start tcpdump on this namespace's device; returns once it captures. SIGINT ends it."""
    command = ["tcpdump", "-i", _DEVICE, "-n", "-s", "128", "-B", str(buffer_kib), "--time-stamp-precision=nano"]
    process = subprocess.Popen(
        [*command, "-Z", "root", "-w", str(path), "tcp"], stderr=subprocess.PIPE, preexec_fn=tie_to_parent
    )
    assert process.stderr
    for line in process.stderr:
        if b"listening on" in line:
            return process
    raise OSError(f"tcpdump ended with {process.wait()}")


def _client_port(packet: bytes, from_client: bool) -> tuple[int, int, str] | None:
    """(client's port, flags, destination) of a TCP packet; None for any other."""
    if packet[0] >> 4 == 4 and len(packet) >= 40 and packet[9] == socket.IPPROTO_TCP:
        tcp, destination = (packet[0] & 15) * 4, socket.inet_ntop(socket.AF_INET, packet[16:20])
    elif packet[0] >> 4 == 6 and len(packet) >= 60 and packet[6] == socket.IPPROTO_TCP:
        tcp, destination = 40, socket.inet_ntop(socket.AF_INET6, packet[24:40])
    else:
        return None
    ports = struct.unpack_from("!HH", packet, tcp)
    return ports[0 if from_client else 1], packet[tcp + 13], destination


class Relay:
    """Moves packets between the two devices.

    Args:
        devices: descriptors of the client's and the server's device.
        path: what happens to them on the way.
        seed: of all that is random.

    Attributes:
        moved, lost, doubled: how many.
    """

    def __init__(self, devices: tuple[int, int], path: Journey, seed: int) -> None:
        self.moved = self.lost = self.doubled = 0
        self._devices = devices
        self._path = path
        self._random = random.Random(seed)
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._cut_since: dict[tuple[int, int], float] = {}

    def run(self, going_on: Callable[[], bool]) -> None:
        """Relay as long as `going_on()`."""
        selector = selectors.DefaultSelector()
        for side, device in enumerate(self._devices):
            selector.register(device, selectors.EVENT_READ, side)
        while going_on():
            now = time.monotonic()
            wait = min(0.05, max(0.0, self._waiting[0][0] - now)) if self._waiting else 0.05
            for key, _ in selector.select(wait):
                self._take(key.fd, key.data)
            self._deliver()

    def _take(self, device: int, side: int) -> None:
        for _ in range(64):
            try:
                packet = os.read(device, 65536)
            except BlockingIOError:
                return
            now = time.monotonic()
            if self._loses(packet, side, now):
                self.lost += 1
                continue
            copies = 2 if self._random.random() < self._path.loss / 4 else 1
            self.doubled += copies - 1
            for _ in range(copies):
                self.moved += 1
                due = now + self._path.delay_s + self._random.random() * self._path.jitter_s
                heapq.heappush(self._waiting, (due, self.moved, 1 - side, packet))

    def _loses(self, packet: bytes, side: int, now: float) -> bool:
        segment = _client_port(packet, side == 0)
        if segment is None:
            return True
        port, flags, destination = segment
        if destination in HOLE or destination.startswith(FLOOD):
            return True
        if port in CUT_PORTS and flags & _ACK:
            since = self._cut_since.setdefault((packet[0] >> 4, port), now)
            if now - since > CUT_AFTER_S:
                return True
        return self._random.random() < self._path.loss

    def _deliver(self) -> None:
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            _, _, side, packet = heapq.heappop(self._waiting)
            try:
                os.write(self._devices[side], packet)
            except OSError:  # the host is ending
                self.lost += 1
