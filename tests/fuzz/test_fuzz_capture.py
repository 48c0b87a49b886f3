"""Damaged captures, seeded and for a few seconds.

Whatever the bytes are: no crash, no hang, memory that stays small, every packet accounted for, and the same segments
for any size of batch.
"""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from frames import (
    ACK,
    SYN,
    eth_ipv4_tcp,
    eth_ipv6_tcp,
    ethernet,
    interface,
    ipv6,
    mss,
    old_packet,
    packet,
    pcap_bytes,
    sack,
    section,
    simple_packet,
    tcp,
    timestamps,
    window_scale,
)
from layers import INNER4, ipv4_pieces, ipv6_pieces, udp, vxlan
from wrapped import LINKS, TAGGED, TUNNELS

from conntrack.capture import open_capture
from conntrack.capture.linklayer import LINK_TYPES
from conntrack.capture.paths import Paths
from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.core.decode import Outcome, decode
from conntrack.errors import InputError

SECONDS = 1.5
"""For each test of captures."""
FRAMES_TRIED = 30_000
MOST_BYTES = 64 << 20
"""Buffers may grow to hold one block of 16 MiB, twice for the moment of growing."""

FRAMES = [
    eth_ipv4_tcp(flags=SYN, options=mss(1460) + window_scale(7) + timestamps(1, 0)),
    eth_ipv4_tcp(flags=ACK, options=b"\x01\x01" + sack((1, 2), (3, 4)), payload=b"x" * 50),
    eth_ipv6_tcp(vlans=[(0x88A8, 1), (0x8100, 2)], payload=b"y" * 20),
    ethernet(ipv6(tcp(), extensions=[(0, b"\x00" + b"\x00" * 6), (44, b"\x00\x00\x01\x00\x00\x00\x01")]), 0x86DD),
    ethernet(b"\xaa\xaa\x03\x00\x00\x00\x08\x00" + eth_ipv4_tcp()[14:], 60),
]
WRAPPED = [frame for frame, _, _ in TAGGED + TUNNELS]
PIECES = [
    *ipv4_pieces(tcp(payload=b"x" * 90), 8, 16, 40),
    *ipv6_pieces(tcp(payload=b"x" * 90), 24, 40),
    *ipv4_pieces(udp(vxlan(ethernet(INNER4)), 4789), 40, protocol=17),
    *(frame for part in ipv4_pieces(tcp(payload=b"x" * 60), 32) for frame in ipv4_pieces(part[14:], 24, protocol=4)),
]
SEEDS = [
    pcap_bytes([(i, frame) for i, frame in enumerate(FRAMES)]),
    pcap_bytes([(i, frame) for i, frame in enumerate(PIECES)]),
    pcap_bytes([(i, frame) for i, frame in enumerate(WRAPPED)]),
    b"".join(
        [section(), *(interface(link_type) for link_type, _ in LINKS)]
        + [packet(frame, i, number=i) for i, (_, frame) in enumerate(LINKS)]
    ),
    pcap_bytes([(i, frame) for i, frame in enumerate(FRAMES)], big_endian=True, nano=True, version=(2, 3)),
    pcap_bytes([(i, frame) for i, frame in enumerate(FRAMES)], magic=0xA1B2CD34),
    b"".join(
        [section(), interface(tsresol=9), interface(113, tsresol=0x90, tsoffset=5, fcslen=32)]
        + [packet(frame, i, number=i % 3) for i, frame in enumerate(FRAMES)]
        + [section(big_endian=True), interface(big_endian=True, snaplen=60)]
        + [old_packet(frame, i, big_endian=True) for i, frame in enumerate(FRAMES)]
        + [simple_packet(frame, big_endian=True) for frame in FRAMES]
    ),
]
NUMBERS = [0, 1, 3, 4, 12, 0x7F, 0xFF, 0x100, 0xFFFF, 0x10000, 0x3FFFF, 0x40001, 0x1000000, 0x7FFFFFFF, 0xFFFFFFFF]


def damaged(chance: random.Random, content: bytes) -> bytes:
    out = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(out))
        match chance.randrange(6):
            case 0:
                out[at] ^= 1 << chance.randrange(8)
            case 1:
                out[at] = chance.randrange(256)
            case 2:
                out[at : at + 4] = struct.pack(chance.choice("<>") + "I", chance.choice(NUMBERS))
            case 3:
                out[at : at + 2] = struct.pack(chance.choice("<>") + "H", chance.choice(NUMBERS) & 0xFFFF)
            case 4:
                del out[at : at + chance.randrange(1, 40)]
            case _:
                out[at:at] = out[at : at + chance.randrange(1, 100)]
        if not out:
            return b"\x00"
    return bytes(out)


def read(path: Path, batch_segments: int) -> tuple[bytes, object] | None:
    try:
        capture = open_capture([path], batch_segments=batch_segments)
        with capture:
            segments = b"".join(batch.tobytes() for batch in capture)
    except InputError as error:
        assert "\n" not in str(error)
        return None
    info = capture.info
    assert info.packets == info.tcp_segments + sum(info.skipped.values())
    assert len(segments) == info.tcp_segments * SEGMENT_DTYPE.itemsize
    assert len(info.faults) <= 1
    assert info.bytes <= path.stat().st_size
    account = (info.packets, info.skipped, info.first_ts_ns, info.last_ts_ns, info.time_inversions)
    return segments, (account, [str(fault) for fault in info.faults])


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_damaged_captures(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "damaged"
    until = time.monotonic() + SECONDS
    tracemalloc.start()
    rounds = outcomes = 0
    while time.monotonic() < until:
        path.write_bytes(damaged(chance, SEEDS[seed]))
        whole = read(path, 8192)
        assert whole == read(path, chance.choice((1, 2, 3)))
        outcomes += whole is not None
        rounds += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST_BYTES
    assert outcomes > rounds / 4  # most of them get past the file header


def test_any_bytes_as_a_frame() -> None:
    """Damaged frames of every kind, mostly under their own link type; the tables are kept from one to the next."""
    chance = random.Random(7)
    seeds = [(1, frame) for frame in FRAMES + WRAPPED + PIECES * 4] + LINKS
    record = np.zeros(1, SEGMENT_DTYPE)
    paths = Paths()
    seen: set[Outcome] = set()
    for _ in range(FRAMES_TRIED):
        link_type, seed = chance.choice(seeds)
        frame = damaged(chance, seed)
        if chance.random() < 0.1:
            link_type = chance.choice(list(LINK_TYPES))
        cut = len(frame) if chance.random() < 0.5 else chance.randrange(len(frame) + 1)
        record["ts_ns"] = chance.choice((0, 10**9, 2**62 - 1, -(2**62)))
        # A buffer of its own, so that a sanitizer sees a byte read beyond it.
        outcome = decode(np.frombuffer(frame[:cut], np.uint8).copy(), record, link_type, len(frame), paths.memory)
        seen.add(outcome)
        if outcome == Outcome.TCP:
            assert record["wire_bytes"][0] == len(frame)
            assert record["ip_version"][0] in (4, 6)
            assert record["flags"][0] < 512
            assert record["window_scale"][0] <= 14 or record["window_scale"][0] == 255
            assert paths[int(record["path"][0])] != "..."
    assert {Outcome.TCP, Outcome.CUT_SHORT_HEADER, Outcome.BAD_IP_HEADER, Outcome.BAD_TCP_HEADER} <= seen
    assert {Outcome.IP_FRAGMENT, Outcome.BAD_FRAGMENT, Outcome.UDP, Outcome.NOT_IP} <= seen
    assert len(paths) > 100
