"""Frames and capture files made byte by byte, for tests: plain Python, none of the code under test.

Frames: `eth_ipv4_tcp(...)` and `eth_ipv6_tcp(...)` for the usual ones, or put layers together:
`ethernet(ipv4(tcp(...)))`. Files: `write_pcap` and `write_pcapng` take a list of (time in ns, frame); the bytes alone
come from `pcap_bytes` and from the block builders (`section`, `interface`, `packet`, ...).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
NOP = b"\x01"


def mss(value: int) -> bytes:
    return struct.pack(">BBH", 2, 4, value)


def window_scale(shift: int) -> bytes:
    return struct.pack(">BBB", 3, 3, shift)


def sack_permitted() -> bytes:
    return b"\x04\x02"


def sack(*blocks: tuple[int, int]) -> bytes:
    return struct.pack(">BB", 5, 2 + 8 * len(blocks)) + b"".join(struct.pack(">II", *block) for block in blocks)


def timestamps(value: int, echo: int) -> bytes:
    return struct.pack(">BBII", 8, 10, value, echo)


def tcp(
    sport: int = 40000,
    dport: int = 80,
    flags: int = ACK,
    seq: int = 1000,
    ack: int = 2000,
    payload: bytes = b"",
    window: int = 65535,
    options: bytes = b"",
    data_offset: int | None = None,
) -> bytes:
    options += b"\x00" * (-len(options) % 4)
    words = 5 + len(options) // 4 if data_offset is None else data_offset
    return (
        struct.pack(">HHIIBBHHH", sport, dport, seq, ack, words << 4 | (flags >> 8 & 1), flags & 0xFF, window, 0, 0)
        + options
        + payload
    )


def ipv4(
    payload: bytes,
    src: str = "10.0.0.1",
    dst: str = "10.0.0.2",
    *,
    protocol: int = 6,
    ttl: int = 64,
    ip_id: int = 0,
    options: bytes = b"",
    total_length: int | None = None,
    fragment: int = 0,
    version_ihl: int | None = None,
) -> bytes:
    """`fragment` is the whole 16-bit field: flags and offset in units of 8 bytes."""
    words = 5 + len(options) // 4
    length = words * 4 + len(payload) if total_length is None else total_length
    first = 4 << 4 | words if version_ihl is None else version_ihl
    addresses = ipaddress.IPv4Address(src).packed + ipaddress.IPv4Address(dst).packed
    head = struct.pack(">BBHHHBBH", first, 0, length, ip_id, fragment, ttl, protocol, 0)
    return head + addresses + options + payload


def ipv6(
    payload: bytes,
    src: str = "2001:db8::1",
    dst: str = "2001:db8::2",
    *,
    extensions: Sequence[tuple[int, bytes]] = (),
    protocol: int = 6,
    hop_limit: int = 64,
    payload_length: int | None = None,
) -> bytes:
    """`extensions` are (type, bytes after the next-header byte), in order; protocol comes after the last."""
    kinds = [kind for kind, _ in extensions] + [protocol]
    body = b"".join(bytes([kinds[i + 1]]) + rest for i, (_, rest) in enumerate(extensions)) + payload
    length = len(body) if payload_length is None else payload_length
    addresses = ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address(dst).packed
    return struct.pack(">IHBB", 6 << 28, length, kinds[0], hop_limit) + addresses + body


def ethernet(payload: bytes, ethertype: int = 0x0800, vlans: Sequence[tuple[int, int]] = ()) -> bytes:
    """`vlans` are (EtherType of the tag, VLAN number), outermost first."""
    tags = b"".join(struct.pack(">HH", kind, number) for kind, number in vlans)
    return b"\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02" + tags + struct.pack(">H", ethertype) + payload


def eth_ipv4_tcp(
    src: str = "10.0.0.1",
    sport: int = 40000,
    dst: str = "10.0.0.2",
    dport: int = 80,
    flags: int = ACK,
    *,
    seq: int = 1000,
    ack: int = 2000,
    payload: bytes = b"",
    window: int = 65535,
    options: bytes = b"",
    ttl: int = 64,
    ip_id: int = 0,
    vlans: Sequence[tuple[int, int]] = (),
) -> bytes:
    segment = tcp(sport, dport, flags, seq, ack, payload, window, options)
    return ethernet(ipv4(segment, src, dst, ttl=ttl, ip_id=ip_id), vlans=vlans)


def eth_ipv6_tcp(
    src: str = "2001:db8::1",
    sport: int = 40000,
    dst: str = "2001:db8::2",
    dport: int = 80,
    flags: int = ACK,
    *,
    seq: int = 1000,
    ack: int = 2000,
    payload: bytes = b"",
    window: int = 65535,
    options: bytes = b"",
    vlans: Sequence[tuple[int, int]] = (),
) -> bytes:
    segment = tcp(sport, dport, flags, seq, ack, payload, window, options)
    return ethernet(ipv6(segment, src, dst), 0x86DD, vlans)


def pcap_bytes(
    packets: Iterable[tuple[int, bytes]],
    *,
    nano: bool = False,
    big_endian: bool = False,
    linktype: int = 1,
    snaplen: int = 65535,
    version: tuple[int, int] = (2, 4),
    magic: int | None = None,
    wire_lengths: Sequence[int] | None = None,
) -> bytes:
    """A classic pcap file. Frames are cut to `snaplen`; `wire_lengths` replaces their own lengths.

    Versions before 2.3 get the wire length first; magic 0xA1B2CD34 gets record headers of 24 bytes.
    """
    order = ">" if big_endian else "<"
    number = (0xA1B23C4D if nano else 0xA1B2C3D4) if magic is None else magic
    unit = 1 if nano else 1000
    out = [struct.pack(order + "IHHiIII", number, *version, 0, 0, snaplen, linktype)]
    for i, (ts_ns, frame) in enumerate(packets):
        captured = frame[:snaplen]
        wire = len(frame) if wire_lengths is None else wire_lengths[i]
        lengths = (wire, len(captured)) if version < (2, 3) else (len(captured), wire)
        out.append(struct.pack(order + "IIII", ts_ns // 10**9, ts_ns % 10**9 // unit, *lengths))
        if number == 0xA1B2CD34:
            out.append(struct.pack(order + "IHBB", 1, 0x0800, 0, 0))
        out.append(captured)
    return b"".join(out)


def write_pcap(
    path: Path | str,
    packets: Iterable[tuple[int, bytes]],
    *,
    nano: bool = False,
    big_endian: bool = False,
    linktype: int = 1,
    snaplen: int = 65535,
) -> Path:
    """Write (time in ns, frame) as a classic pcap file; return its path."""
    path = Path(path)
    path.write_bytes(pcap_bytes(packets, nano=nano, big_endian=big_endian, linktype=linktype, snaplen=snaplen))
    return path


def block(kind: int, body: bytes, *, big_endian: bool = False) -> bytes:
    order = ">" if big_endian else "<"
    body += b"\x00" * (-len(body) % 4)
    length = len(body) + 12
    return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", length)


def option(code: int, value: bytes, *, big_endian: bool = False) -> bytes:
    return struct.pack((">" if big_endian else "<") + "HH", code, len(value)) + value + b"\x00" * (-len(value) % 4)


def section(*, big_endian: bool = False, version: tuple[int, int] = (1, 0)) -> bytes:
    body = struct.pack((">" if big_endian else "<") + "IHHq", 0x1A2B3C4D, *version, -1)
    return block(0x0A0D0D0A, body, big_endian=big_endian)


def interface(
    linktype: int = 1,
    *,
    snaplen: int = 0,
    tsresol: int | None = None,
    tsoffset: int | None = None,
    fcslen: int | None = None,
    big_endian: bool = False,
) -> bytes:
    order = ">" if big_endian else "<"
    body = struct.pack(order + "HHI", linktype, 0, snaplen)
    options = b""
    if tsresol is not None:
        options += option(9, bytes([tsresol]), big_endian=big_endian)
    if fcslen is not None:
        options += option(13, bytes([fcslen]), big_endian=big_endian)
    if tsoffset is not None:
        options += option(14, struct.pack(order + "q", tsoffset), big_endian=big_endian)
    if options:
        options += option(0, b"", big_endian=big_endian)
    return block(1, body + options, big_endian=big_endian)


def packet(
    frame: bytes,
    ticks: int,
    *,
    number: int = 0,
    wire: int | None = None,
    options: bytes = b"",
    big_endian: bool = False,
) -> bytes:
    """An enhanced packet block."""
    wire = len(frame) if wire is None else wire
    head = struct.pack((">" if big_endian else "<") + "IIIII", number, ticks >> 32, ticks & 2**32 - 1, len(frame), wire)
    return block(6, head + frame + b"\x00" * (-len(frame) % 4) + options, big_endian=big_endian)


def old_packet(frame: bytes, ticks: int, *, number: int = 0, drops: int = 7, big_endian: bool = False) -> bytes:
    """An obsolete packet block."""
    order = ">" if big_endian else "<"
    head = struct.pack(order + "HHIIII", number, drops, ticks >> 32, ticks & 2**32 - 1, len(frame), len(frame))
    return block(2, head + frame, big_endian=big_endian)


def simple_packet(frame: bytes, *, wire: int | None = None, big_endian: bool = False) -> bytes:
    """A simple packet block: no time, no interface number."""
    wire = len(frame) if wire is None else wire
    return block(3, struct.pack((">" if big_endian else "<") + "I", wire) + frame, big_endian=big_endian)


def write_pcapng(
    path: Path | str, packets: Iterable[tuple[int, bytes]], *, big_endian: bool = False, linktype: int = 1
) -> Path:
    """Write (time in ns, frame) as one section with one interface of nanosecond resolution; return its path."""
    path = Path(path)
    blocks = [section(big_endian=big_endian), interface(linktype, tsresol=9, big_endian=big_endian)]
    blocks += [packet(frame, ts_ns, big_endian=big_endian) for ts_ns, frame in packets]
    path.write_bytes(b"".join(blocks))
    return path
