"""Which segments are of one 4-tuple. Vectorised over batches; knows no tracker.

Endpoints are written "10.0.0.1:80" or "[2001:db8::1]:80" (RFC 3986 section 3.2.2).
"""

from __future__ import annotations

import ipaddress
from typing import Any, NamedTuple

import numpy as np

from conntrack.addresses import endpoint_text

__all__ = ["Endpoint", "FourTuple", "parse_endpoint"]

Array = np.ndarray[Any, Any]

_MAPPED = bytes(10) + b"\xff\xff"


class Endpoint(NamedTuple):
    """An address, as the 16 bytes of SEGMENT_DTYPE, its IP version and a port."""

    ip: bytes
    version: int
    port: int

    def __str__(self) -> str:
        return endpoint_text(self.ip, self.version, self.port)


def parse_endpoint(text: str) -> Endpoint:
    """Return the endpoint that `text` names.

    Raises:
        ValueError: it names none; the message says what is accepted.
    """
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
        number = int(port) if port.isascii() and port.isdigit() else -1
        if bracketed != (address.version == 6) or not 0 <= number <= 65_535 or "%" in host:
            raise ValueError
    except ValueError:
        raise ValueError(f"'{text}' is no endpoint; write 10.0.0.1:80 or [2001:db8::1]:80") from None
    return Endpoint(_MAPPED + address.packed if address.version == 4 else address.packed, address.version, number)


class FourTuple(NamedTuple):
    """Two endpoints, in no particular order; on the network of that tag, or on any without."""

    a: Endpoint
    b: Endpoint
    tag: int | None = None

    @classmethod
    def of(cls, segment: Any, *, with_tag: bool = False) -> FourTuple:
        """Return the 4-tuple of one row of SEGMENT_DTYPE, its sender first; on its network `with_tag`."""
        version = int(segment["ip_version"])
        source, target = (
            Endpoint(segment[f"{end}_ip"].tobytes(), version, int(segment[f"{end}_port"])) for end in ("src", "dst")
        )
        return cls(source, target, int(segment["tag"]) if with_tag else None)

    def select(self, segments: Array) -> Array:
        """Return those of `segments` (SEGMENT_DTYPE, shape (n,)) that go from one of the endpoints to the other."""
        there = self._ports(segments, self.a, self.b) | self._ports(segments, self.b, self.a)
        few = segments[there]
        if self.tag is not None:
            few = few[few["tag"] == self.tag]
        if len(few):
            few = few[self.from_a(few) | self._from(few, self.b, self.a)]
        return few

    def from_a(self, segments: Array) -> Array:
        """Return which of `segments` `a` sent to `b`: bool, shape (n,)."""
        return self._from(segments, self.a, self.b)

    @staticmethod
    def _ports(segments: Array, source: Endpoint, target: Endpoint) -> Array:
        found: Array = (segments["src_port"] == source.port) & (segments["dst_port"] == target.port)
        return found

    @classmethod
    def _from(cls, segments: Array, source: Endpoint, target: Endpoint) -> Array:
        source_ip, target_ip = (np.frombuffer(end.ip, np.uint8) for end in (source, target))
        found: Array = (
            cls._ports(segments, source, target)
            & ((segments["ip_version"] == 4) == (source.version == 4))
            & (segments["src_ip"] == source_ip).all(axis=1)
            & (segments["dst_ip"] == target_ip).all(axis=1)
        )
        return found
