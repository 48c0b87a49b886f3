"""Addresses as people write them. Owns the turn from the 16 bytes of the dtypes into text and back; knows no table and
no format.

IPv4 is kept as ::ffff:a.b.c.d with ip_version 4 (core/abi.pxd); an IPv6 packet may carry such an address too, so the
text follows the version, never the bytes. IPv6 text is that of RFC 5952 (inet_ntop); an endpoint is "a.b.c.d:port" or
"[v6]:port" (RFC 3986 section 3.2.2).
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import numpy as np

__all__ = ["addresses_text", "endpoint_text", "endpoint_text_of", "ip_text", "parse_ip"]


def ip_text(ip16: Any, version: int) -> str:
    """Return an address as text.

    Args:
        ip16: 16 bytes in network order: bytes, or uint8 of shape (16,).
        version: 4 (the last four bytes are the address) or anything else, which reads as 6.
    """
    raw = bytes(ip16)
    if version == 4:
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)


def parse_ip(text: str) -> tuple[bytes, int]:
    """Return the 16 bytes and the version (4 or 6) of the address `text`.

    Raises:
        ValueError: it is none; the message says so.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"'{text}' is not an IP address") from None
    return (address.packed, 6) if address.version == 6 else (bytes(10) + b"\xff\xff" + address.packed, 4)


def endpoint_text(ip16: Any, version: int, port: int) -> str:
    """Return "a.b.c.d:port" or "[v6]:port"; arguments as in `ip_text`."""
    return endpoint_text_of(ip_text(ip16, version), int(port))


def endpoint_text_of(ip: str, port: int) -> str:
    """Return the endpoint of an address that is text already."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def addresses_text(ips: np.ndarray, versions: np.ndarray) -> list[str]:
    """Return many addresses as text, in order; each distinct address is turned once.

    Args:
        ips: uint8, shape (n, 16), network order.
        versions: shape (n,), 4 or 6.
    """
    texts = np.empty(len(ips), dtype=object)
    is_v4 = np.asarray(versions) == 4
    if is_v4.any():  # four bytes are one number, and numbers sort several times faster than bytes
        words = np.ascontiguousarray(ips[is_v4, 12:]).view(np.uint32).ravel()
        texts[is_v4] = _distinct_texts(words, socket.AF_INET)
    if not is_v4.all():
        words = np.ascontiguousarray(ips[~is_v4]).view("V16").ravel()
        texts[~is_v4] = _distinct_texts(words, socket.AF_INET6)
    return texts.tolist()


def _distinct_texts(raw: np.ndarray, family: int) -> np.ndarray:
    distinct, inverse = np.unique(raw, return_inverse=True)
    return np.array([socket.inet_ntop(family, item.tobytes()) for item in distinct], dtype=object)[inverse]
