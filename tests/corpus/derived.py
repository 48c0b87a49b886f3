"""Captures made from those of the scenarios: what a capture can do to what really happened.

Cut at both ends, one direction only, frames that the capture lost, frames that it has twice (a mirror port on both
sides of a router), thousands of clients behind one address. Labels say the scenario that each was made from, and what
must be found in it. Frames are moved, dropped and rewritten, never invented.
"""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stage import SERVER, Expected

__all__ = ["DERIVED", "Derived", "make"]

_FILE = struct.Struct("<IHHiIII")
_RECORD = struct.Struct("<IIII")
_NANOSECONDS, _RAW, _ETHERNET, _HEADER = 0xA1B23C4D, 101, 1, 14
_MACS = bytes.fromhex("020000000001020000000002"), bytes.fromhex("020000000003020000000004")
ONE_ADDRESS = "10.77.0.99"

Frame = tuple[int, bytes, int]
"""Time in nanoseconds, the octets that were captured (an IPv4 packet), the length on the wire."""
Change = Callable[[list[Frame]], list[Frame]]


@dataclass(frozen=True)
class Derived:
    """A capture made from a scenario's.

    Attributes:
        name, source: of this one, and of the scenario.
        change: what was done.
        expected: what must be found in it.
        ethernet: whether the change has put Ethernet headers in front.
    """

    name: str
    source: str
    change: Change
    expected: tuple[Expected, ...] = ()
    ethernet: bool = False


def _cut(begin: float, end: float) -> Change:
    return lambda frames: frames[int(len(frames) * begin) : int(len(frames) * end)]


def _only(from_server: bool) -> Change:
    server = socket.inet_aton(SERVER.ipv4)
    return lambda frames: [frame for frame in frames if (frame[1][12:16] == server) == from_server]


def _drop(share: float) -> Change:
    dice = random.Random(1)
    return lambda frames: [frame for frame in frames if dice.random() >= share]


def _twice(frames: list[Frame]) -> list[Frame]:
    """Each frame before and after a router: the second within 2 ms, with one hop less and other MAC addresses."""
    dice = random.Random(1)
    both = []
    for ts_ns, packet, length in frames:
        front, back = (macs + b"\x08\x00" for macs in _MACS)
        both.append((ts_ns, front + packet, length + _HEADER))
        both.append((ts_ns + dice.randrange(20_000, 2_000_000), back + _one_hop_less(packet), length + _HEADER))
    return sorted(both, key=lambda frame: frame[0])


def _one_hop_less(packet: bytes) -> bytes:
    """RFC 1141: the checksum grows by what the TTL loses."""
    checksum = int.from_bytes(packet[10:12], "big") + 0x100
    checksum = (checksum & 0xFFFF) + (checksum >> 16)
    return packet[:8] + bytes([packet[8] - 1]) + packet[9:10] + checksum.to_bytes(2, "big") + packet[12:]


def _behind_one_address(frames: list[Frame]) -> list[Frame]:
    """As the server sees it behind a NAT: each connection's client is a port of one address. Checksums stay wrong."""
    ports: dict[bytes, bytes] = {}
    nat, server = socket.inet_aton(ONE_ADDRESS), socket.inet_aton(SERVER.ipv4)
    changed = []
    for ts_ns, packet, length in frames:
        out = packet[12:16] == server
        ip, port = (16, 22) if out else (12, 20)
        inside = packet[ip : ip + 4] + packet[port : port + 2]
        outside = ports.setdefault(inside, struct.pack("!H", 1024 + len(ports) % 64512))
        head = bytearray(packet)
        head[ip : ip + 4], head[port : port + 2] = nat, outside
        changed.append((ts_ns, bytes(head), length))
    return changed


_FLOODED = Expected("syn_flood", f"{SERVER.ipv4}:443")
_LEAK = Expected("close_wait_leak", f"{SERVER.ipv4}:8080", side="server")

DERIVED = [
    Derived("healthy_cut", "healthy", _cut(0.3, 0.7)),
    Derived("flash_crowd_cut", "flash_crowd", _cut(0.2, 0.5)),
    Derived("time_wait_server_cut", "time_wait_server", _cut(0.3, 0.7)),
    Derived("many_clients_cut", "many_clients", _cut(0.4, 0.6)),
    Derived("idle_keep_alive_cut", "idle_keep_alive", _cut(0.5, 0.9)),
    Derived("half_close_cut", "half_close", _cut(0.1, 0.9)),
    Derived("healthy_twice", "healthy", _twice, ethernet=True),
    Derived("flash_crowd_twice", "flash_crowd", _twice, ethernet=True),
    Derived("fast_flood_twice", "fast_flood", _twice, (_FLOODED,), ethernet=True),
    Derived("server_leak_twice", "server_leak", _twice, (_LEAK,), ethernet=True),
    Derived("healthy_from_clients", "healthy", _only(from_server=False)),
    Derived("healthy_from_server", "healthy", _only(from_server=True)),
    Derived("healthy_lost_frames", "healthy", _drop(0.3)),
    Derived("flash_crowd_lost_frames", "flash_crowd", _drop(0.3)),
    Derived("one_address", "many_clients", _behind_one_address),
]


def make(folder: Path) -> None:
    """Write every derived capture whose scenario is in `folder`, with its label."""
    for one in DERIVED:
        source = folder / f"{one.source}.server.pcap"
        if not source.exists():
            continue
        _write(folder / f"{one.name}.server.pcap", one.change(_read(source)), _ETHERNET if one.ethernet else _RAW)
        label = {"name": one.name, "from": one.source, "expected": [vars(expected) for expected in one.expected]}
        (folder / f"{one.name}.json").write_text(json.dumps(label))


def _read(path: Path) -> list[Frame]:
    raw = path.read_bytes()
    magic, *_, link = _FILE.unpack_from(raw)
    assert (magic, link) == (_NANOSECONDS, _ETHERNET), path
    frames, at = [], _FILE.size
    while at < len(raw):
        seconds, nanoseconds, captured, length = _RECORD.unpack_from(raw, at)
        at += _RECORD.size
        frames.append((seconds * 10**9 + nanoseconds, raw[at + _HEADER : at + captured], length - _HEADER))
        at += captured
    return frames


def _write(path: Path, frames: list[Frame], link: int) -> None:
    parts = [_FILE.pack(_NANOSECONDS, 2, 4, 0, 0, 262144, link)]
    for ts_ns, octets, length in frames:
        parts += [_RECORD.pack(*divmod(ts_ns, 10**9), len(octets), length), octets]
    path.write_bytes(b"".join(parts))
