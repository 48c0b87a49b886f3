"""Builds the kernel's answers over NETLINK_SOCK_DIAG octet by octet, from linux/inet_diag.h and not from our code."""

from __future__ import annotations

import socket
import struct

SEQUENCE = 7
DONE, ERROR, NOOP, SOCKET = 3, 2, 1, 20
INFO, SKMEMINFO, CGROUP_ID = 2, 7, 21


def message(body: bytes, kind: int = SOCKET, sequence: int = SEQUENCE, length: int | None = None) -> bytes:
    """A netlink message: nlmsghdr and what it carries, padded to four octets."""
    size = 16 + len(body) if length is None else length
    return struct.pack("=IHHII", size, kind, 2, sequence, 0) + body + bytes(-len(body) % 4)


def attribute(kind: int, body: bytes, length: int | None = None) -> bytes:
    size = 4 + len(body) if length is None else length
    return struct.pack("=HH", size, kind) + body + bytes(-len(body) % 4)


def tcp_info(**fields: int) -> bytes:
    """struct tcp_info of Linux 6.1 (linux/tcp.h)."""
    places = {
        "last_data_sent": (44, "=I"),
        "last_data_recv": (52, "=I"),
        "last_ack_recv": (56, "=I"),
        "rtt": (68, "=I"),
        "total_retrans": (100, "=I"),
        "bytes_received": (128, "=Q"),
        "bytes_sent": (200, "=Q"),
    }
    info = bytearray(240)
    for name, value in fields.items():
        at, form = places[name]
        struct.pack_into(form, info, at, value)
    return bytes(info)


def diag(
    state: int,
    local: tuple[str, int] = ("10.0.0.2", 80),
    remote: tuple[str, int] = ("10.0.0.1", 40_000),
    *,
    timer: tuple[int, int, int] = (0, 0, 0),
    queues: tuple[int, int] = (0, 0),
    cookie: int = 0,
    uid: int = 0,
    inode: int = 0,
    attributes: bytes = b"",
) -> bytes:
    """An inet_diag_msg; `timer` is (which, ms left, timeouts)."""
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    ends = [socket.inet_pton(family, ip).ljust(16, b"\0") for ip, _ in (local, remote)]
    which, left_ms, timeouts = timer
    body = struct.pack("=BBBB", family, state, which, timeouts)
    body += struct.pack("!HH", local[1], remote[1]) + ends[0] + ends[1]
    body += struct.pack("=IQ", 0, cookie) + struct.pack("=IIIII", left_ms, *queues, uid, inode)
    assert len(body) == 72
    return body + attributes
