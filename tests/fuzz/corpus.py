"""Small captures of every format that is read, made byte by byte: what the fuzzers start from."""

from __future__ import annotations

import struct
from pathlib import Path

from frames import (
    ACK,
    SYN,
    block,
    eth_ipv4_tcp,
    eth_ipv6_tcp,
    ethernet,
    interface,
    ipv4,
    ipv6,
    mss,
    old_packet,
    option,
    packet,
    pcap_bytes,
    sack,
    section,
    simple_packet,
    tcp,
    timestamps,
    window_scale,
)
from layers import ipv4_pieces, ipv6_pieces
from wrapped import LINKS, TAGGED, TUNNELS

from conntrack.capture.linklayer import LINK_TYPES

__all__ = ["BINARY", "FRAMES", "TEXTS", "beginnings", "frames_of"]

MOST_BYTES = 1000
"""Of a public capture that are taken."""
LITTLE = (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1")
BIG = (b"\xa1\xb2\xc3\xd4", b"\xa1\xb2\x3c\x4d")
FUZZED_LINKS = (*LINK_TYPES, 999)
""" benches/fuzz_target.pyx chooses a link type by its place in here."""

FRAMES = [
    eth_ipv4_tcp(flags=SYN, options=mss(1460) + window_scale(7) + timestamps(1, 0)),
    eth_ipv4_tcp(flags=ACK, options=b"\x01\x01" + sack((1, 2), (3, 4)), payload=b"x" * 50),
    eth_ipv6_tcp(vlans=[(0x88A8, 1), (0x8100, 2)], payload=b"y" * 20),
    ethernet(ipv6(tcp(), extensions=[(0, b"\x00" + b"\x00" * 6), (44, b"\x00\x00\x01\x00\x00\x00\x01")]), 0x86DD),
    ethernet(b"\xaa\xaa\x03\x00\x00\x00\x08\x00" + eth_ipv4_tcp()[14:], 60),
    ethernet(ipv4(tcp(payload=b"z" * 8), fragment=0x2000)),
]
NUMBERED = list(enumerate(FRAMES))


def beginnings(folder: Path) -> list[bytes]:
    """Return the first whole records, as many as fit into MOST_BYTES, of each capture in `folder` and below."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".json", ".txt", ".md"):
            with path.open("rb") as file:
                head = file.read(MOST_BYTES)
            found.append(head[: _whole(head)])
    return sorted(set(found))


def frames_of(captures: list[bytes]) -> list[bytes]:
    """Return the frames of classic captures, and those that the tests make, in the form of benches/fuzz_target.pyx."""
    inputs = []
    for head in captures:
        if head[:4] in LITTLE or head[:4] in BIG:
            order = "<" if head[:4] in LITTLE else ">"
            (link_type,) = struct.unpack_from(order + "I", head, 20)
            at, frames = 24, []
            while at + 16 <= len(head):
                (size,) = struct.unpack_from(order + "I", head, at + 8)
                frames.append(head[at + 16 : at + 16 + size])
                at += 16 + size
            inputs.append((link_type & 0xFFFF, frames))
    inputs += [(1, [frame]) for frame, *_ in TAGGED + TUNNELS] + [(link_type, [frame]) for link_type, frame in LINKS]
    inputs += [(1, ipv4_pieces(tcp(payload=b"x" * 90), 8, 16, 40)), (1, ipv6_pieces(tcp(payload=b"x" * 90), 24, 40))]
    return [
        bytes([FUZZED_LINKS.index(link_type)]) + b"".join(bytes([len(frame[:255])]) + frame[:255] for frame in frames)
        for link_type, frames in inputs
        if link_type in FUZZED_LINKS
    ]


def _whole(head: bytes) -> int:
    # Where the last whole record or block ends; all of it where not even the first one does, or nothing is known.
    order = "<" if head[:4] in LITTLE or head[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
    is_pcapng = head[:4] == b"\x0a\x0d\x0d\x0a"
    if not is_pcapng and head[:4] not in LITTLE + BIG:
        return len(head)
    least, end = (0, 0) if is_pcapng else (24, 24)
    while end + 16 <= len(head):
        at = end + (4 if is_pcapng else 8)
        size = struct.unpack_from(order + "I", head, at)[0] + (0 if is_pcapng else 16)
        if size < 12 or end + size > len(head):
            break
        end += size
    return end if end > least else len(head)


def snoop() -> bytes:
    out = b"snoop\0\0\0" + struct.pack(">II", 2, 4)
    for n, frame in NUMBERED:
        pad = -len(frame) % 4
        out += struct.pack(">IIIIII", len(frame), len(frame), 24 + len(frame) + pad, n, n, n) + frame + bytes(pad)
    return out


def nokia() -> bytes:
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for n, frame in NUMBERED:
        out += struct.pack("<IIIII", n, n, len(frame), len(frame), 0x9FBFB601) + frame
    return out


def words(kind: int, body: bytes, *options: bytes) -> bytes:
    return block(kind, body + b"".join(options) + option(0, b""))


IXIA = pcap_bytes([(1, FRAMES[0])], magic=0x1C0001AC)

BINARY = [
    pcap_bytes(NUMBERED),
    pcap_bytes(NUMBERED, big_endian=True, nano=True, version=(2, 3)),
    pcap_bytes(NUMBERED, magic=0xA1B2CD34),
    IXIA[:24] + b"\0\0\0\0" + IXIA[24:],
    nokia(),
    snoop(),
    b"".join(
        [section(), interface(tsresol=9), interface(113, tsresol=0x90, tsoffset=5, fcslen=32)]
        + [packet(frame, i, number=i % 3) for i, frame in NUMBERED]
        + [section(big_endian=True), interface(big_endian=True, snaplen=60)]
        + [old_packet(frame, i, big_endian=True) for i, frame in NUMBERED[:2]]
        + [simple_packet(frame, big_endian=True) for frame in FRAMES[:2]]
    ),
    b"".join(
        [
            words(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1), option(3, b"Linux"), option(4, b"Dumpcap")),
            words(1, struct.pack("<HHI", 1, 0, 96), option(2, b"eth0"), option(9, b"\x09"), option(11, b"\0tcp")),
            packet(FRAMES[0], 1, options=option(1, b"remark") + option(2, b"\x80\0\0\0") + option(4, b"\x05" * 8)),
            block(4, b"\x01\x00\x08\x00\x7f\0\0\1abc\0"),
            words(
                5, struct.pack("<III", 0, 0, 0), option(4, b"\x09" * 8), option(5, b"\x01" * 8), option(7, b"\x02" * 8)
            ),
            block(0x0BAD, b"\x01\x02\x03\x04"),
            block(10, b"KSLT" + struct.pack("<I", 4) + b"keys"),
            packet(FRAMES[1], 2),
        ]
    ),
]

TEXTS = [
    b"12:00:00.000001 IP 10.0.0.1.40000 > 10.0.0.2.443: Flags [S], seq 4294967290, win 64240, options [mss 1460,sackOK,"
    b"TS val 7 ecr 0,nop,wscale 7], length 0\n"
    b"12:00:00.000300 IP 10.0.0.2.443 > 10.0.0.1.40000: Flags [S.], seq 500000, ack 4294967291, win 65160, length 0\n"
    b"12:00:00.000400 IP 10.0.0.1.40000 > 10.0.0.2.443: Flags [P.], seq 1:101, ack 1, win 502, length 100: HTTP\n",
    b"2024-01-02 12:00:00.000001 IP (tos 0x0, ttl 57, id 4711, offset 0, flags [DF], proto TCP (6), length 60)\n"
    b"    host.example.40000 > 10.0.0.2.http: Flags [P.], cksum 0x1 (correct), seq 7:15, ack 9, win 1, length 8\n"
    b"1700000000.500000 IP6 (hlim 3, next-header TCP (6) payload length: 20) 2001:db8::1.80 > ::2.1: Flags [R], seq 5, "
    b"win 0, length 0\n 00:00:00.000001 ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28\n",
]
