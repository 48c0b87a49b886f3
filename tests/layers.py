"""The layers that frames may be wrapped in, made byte by byte, for tests: plain Python, none of the code under test.

Each takes what it carries and returns the bytes; put together from the inside: `ethernet(ipv4(udp(vxlan(...))))`. The
plain layers are in frames.py.
"""

from __future__ import annotations

import struct

from frames import ethernet, ipv4, ipv6, tcp

FIRST_MAC, SECOND_MAC = b"\x02\x00\x00\x00\x00\x01", b"\x02\x00\x00\x00\x00\x02"


def udp(payload: bytes, dport: int, sport: int = 50000, *, length: int | None = None) -> bytes:
    return struct.pack(">HHHH", sport, dport, 8 + len(payload) if length is None else length, 0) + payload


def mpls(payload: bytes, *labels: int, control_word: bool = False) -> bytes:
    stack = b"".join(
        struct.pack(">I", label << 12 | (i == len(labels) - 1) << 8 | 64) for i, label in enumerate(labels)
    )
    return stack + (bytes(4) if control_word else b"") + payload


def pppoe(payload: bytes, session: int = 42, *, protocol: bytes = b"\x00\x21", code: int = 0) -> bytes:
    return struct.pack(">BBHH", 0x11, code, session, len(protocol) + len(payload)) + protocol + payload


def snap(payload: bytes, ethertype: int = 0x0800, organisation: int = 0) -> bytes:
    return b"\xaa\xaa\x03" + organisation.to_bytes(3) + struct.pack(">H", ethertype) + payload


def pbb(frame: bytes, service: int) -> bytes:
    """What follows EtherType 0x88E7."""
    return struct.pack(">I", service) + frame


def vntag(payload: bytes, ethertype: int = 0x0800) -> bytes:
    """What follows EtherType 0x8926."""
    return b"\x80\x01\x00\x02" + struct.pack(">H", ethertype) + payload


def fabricpath(frame: bytes) -> bytes:
    """What follows EtherType 0x8903."""
    return b"\x00\x5f" + frame


def gre(
    payload: bytes,
    protocol: int = 0x0800,
    *,
    key: int | None = None,
    checksum: bool = False,
    sequence: int | None = None,
    routing: bytes | None = None,
) -> bytes:
    flags = checksum << 15 | (routing is not None) << 14 | (key is not None) << 13 | (sequence is not None) << 12
    head = struct.pack(">HH", flags, protocol)
    if checksum or routing is not None:
        head += bytes(4)
    if key is not None:
        head += struct.pack(">I", key)
    if sequence is not None:
        head += struct.pack(">I", sequence)
    return head + (routing or b"") + payload


def pptp(payload: bytes, *, sequence: int | None = 1, ack: int | None = None) -> bytes:
    """Enhanced GRE (RFC 2637) with PPP in it."""
    flags = 0x2001 | (sequence is not None) << 12 | (ack is not None) << 7
    head = struct.pack(">HHHH", flags, 0x880B, len(payload), 7)
    return head + b"".join(struct.pack(">I", number) for number in (sequence, ack) if number is not None) + payload


def erspan(frame: bytes, kind: int = 2, *, vlan: int = 0, session: int = 5) -> bytes:
    """ERSPAN I, II, III, or 4: III with the optional subheader."""
    if kind == 1:
        return gre(frame, 0x88BE)
    if kind == 2:
        return gre(struct.pack(">HHI", 1 << 12 | vlan, session, 0) + frame, 0x88BE, sequence=1)
    head = struct.pack(">HHII", 2 << 12 | vlan, session, 0, kind == 4) + (bytes(8) if kind == 4 else b"")
    return gre(head + frame, 0x22EB, sequence=1)


def erf(kind: int, rest: bytes) -> bytes:
    return bytes(8) + struct.pack(">BBHHH", kind, 4, 16 + len(rest), 0, len(rest)) + rest


def vxlan(frame: bytes, vni: int = 42, *, flags: int = 0x08000000) -> bytes:
    return struct.pack(">II", flags, vni << 8) + frame


def geneve(payload: bytes, vni: int = 42, *, protocol: int = 0x6558, options: bytes = b"") -> bytes:
    return struct.pack(">BBHI", len(options) // 4, 0, protocol, vni << 8) + options + payload


def gtp(payload: bytes, teid: int = 42, *, extra: bytes = b"", flags: int = 0x30, kind: int = 255) -> bytes:
    """`extra`: what `flags` announce, sequence number and extension headers."""
    return struct.pack(">BBHI", flags, kind, len(extra) + len(payload), teid) + extra + payload


def l2tp(payload: bytes, *, flags: int = 0x4002, tunnel: int = 3, session: int = 7, rest: bytes = b"") -> bytes:
    """`rest`: the sequence numbers and the offset that `flags` announce."""
    body = struct.pack(">HH", tunnel, session) + rest + payload
    length = struct.pack(">H", len(body) + 4) if flags & 0x4000 else b""
    return struct.pack(">H", flags) + length + body


def wlan(payload: bytes, *, subtype: int = 0, flags: int = 1, qos: int = 0, fragment: int = 0, pad: int = 0) -> bytes:
    """A data frame; `flags` is the second byte: 1 and 2 to and from a distribution system, 0x40 protected."""
    head = bytes([subtype << 4 | 8, flags]) + bytes(20) + struct.pack("<H", fragment)
    head += bytes(6) if flags & 3 == 3 else b""
    head += struct.pack("<H", qos) if subtype & 8 else b""
    head += bytes(4) if subtype & 8 and flags & 0x80 else b""
    return head + bytes(pad) + payload


def radiotap(frame: bytes, *, flags: int | None = None, time: bool = False, words: int = 1) -> bytes:
    present = time | (flags is not None) << 1
    fields = struct.pack("<I", present | (words > 1) << 31) + b"".join(
        struct.pack("<I", (i < words - 1) << 31) for i in range(1, words)
    )
    if time:
        fields += bytes(-(4 + len(fields)) % 8) + bytes(8)
    if flags is not None:
        fields += bytes([flags])
    return struct.pack("<BBH", 0, 0, 4 + len(fields)) + fields + frame


def nflog(packet: bytes, *, family: int = 2, order: str = "<") -> bytes:
    mark = struct.pack(order + "HHI", 8, 1, 0)
    prefix = struct.pack(order + "HH", 5, 10) + b"\x00" + bytes(3)
    return struct.pack(">BBH", family, 0, 42) + mark + prefix + struct.pack(order + "HH", 4 + len(packet), 9) + packet


def pieces(data: bytes, *sizes: int) -> list[tuple[int, bytes, bool]]:
    """Cut into pieces of `sizes` bytes and the rest: (offset, bytes, whether more follow)."""
    cut, at = [], 0
    for size in (*sizes, len(data) - sum(sizes)):
        cut.append((at, data[at : at + size], at + size < len(data)))
        at += size
    return cut


def ipv4_pieces(data: bytes, *sizes: int, ip_id: int = 7, protocol: int = 6, **addresses: str) -> list[bytes]:
    """Ethernet frames, one for each piece."""
    return [
        ethernet(ipv4(part, protocol=protocol, ip_id=ip_id, fragment=more << 13 | offset // 8, **addresses))
        for offset, part, more in pieces(data, *sizes)
    ]


def ipv6_pieces(data: bytes, *sizes: int, number: int = 7, protocol: int = 6) -> list[bytes]:
    return [
        ethernet(
            ipv6(part, protocol=protocol, extensions=[(44, struct.pack(">BHI", 0, offset | more, number))]), 0x86DD
        )
        for offset, part, more in pieces(data, *sizes)
    ]


INNER4 = ipv4(tcp(1111, 2222, payload=b"abc"), "192.168.0.1", "192.168.0.2")
"""An IPv4 packet to put into tunnels."""
INNER6 = ipv6(tcp(1111, 2222, payload=b"abc"), "fd00::1", "fd00::2")
