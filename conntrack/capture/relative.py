"""Sequence numbers as tcpdump prints them, made absolute again.

Owns what is remembered of each connection for it. Read tcpdump's print-tcp.c: without -S, the first segment with the
ACK flag on a connection, and every SYN+ACK, is printed as it is and becomes the base of both directions; later
segments with the ACK flag are printed relative to it; those without are printed as they are. The number of a segment
without payload is not printed at all (but with -vv): it is taken for the next that its sender would use.
"""

from __future__ import annotations

__all__ = ["MOST_CONNECTIONS", "Numbers"]

MOST_CONNECTIONS = 1 << 17
"""Remembered at a time; the oldest is forgotten first. It bounds the memory."""

SYN, FIN, ACK = 2, 1, 16
MASK = 0xFFFFFFFF

Endpoint = tuple[bytes, int]


class _Connection:
    """Per endpoint: the base of its numbers, and the next number that it would use."""

    __slots__ = ("base", "upcoming")

    def __init__(self) -> None:
        self.base: dict[Endpoint, int] = {}
        self.upcoming: dict[Endpoint, int] = {}


class Numbers:
    """The numbers of all connections of one text.

    Attributes:
        forgotten: connections that were forgotten for want of room.
    """

    def __init__(self) -> None:
        self._connections: dict[tuple[Endpoint, Endpoint], _Connection] = {}
        self._leaning = 0  # above 0 the text looks relative, below absolute (-S)
        self.forgotten = 0

    def absolute(
        self, source: Endpoint, target: Endpoint, flags: int, seq: int | None, ack: int, payload_bytes: int
    ) -> tuple[int, int]:
        """Return sequence and acknowledgment number of one segment, in the order of the text.

        Args:
            source: sender's address and port.
            target: receiver's.
            flags: of the TCP header.
            seq: as printed, None where it is not.
            ack: as printed; 0 without the flag.
            payload_bytes: of the segment.
        """
        connection = self._connection(source, target)
        base, upcoming = connection.base, connection.upcoming
        if flags & ACK and source in base and not flags & SYN:
            if self._is_relative(base, source, target, seq, ack):
                seq = None if seq is None else seq + base[source] & MASK
                ack = ack + base[target] & MASK
        elif flags & ACK:  # the one that later numbers are relative to
            base[source] = upcoming.get(source, 0) if seq is None else seq
            base[target] = ack - 1 & MASK
        if seq is None:
            seq = upcoming.get(source, base.get(source, 0))
        end = seq + payload_bytes + bool(flags & SYN) + bool(flags & FIN) & MASK
        if flags & SYN or source not in upcoming or end - upcoming[source] & MASK < 1 << 31:
            upcoming[source] = end
        if flags & ACK and target not in upcoming:
            upcoming[target] = ack
        return seq, ack

    def _connection(self, source: Endpoint, target: Endpoint) -> _Connection:
        key = (source, target) if source < target else (target, source)
        connection = self._connections.get(key)
        if connection is None:
            if len(self._connections) == MOST_CONNECTIONS:
                del self._connections[next(iter(self._connections))]
                self.forgotten += 1
            connection = self._connections[key] = _Connection()
        return connection

    def _is_relative(
        self, base: dict[Endpoint, int], source: Endpoint, target: Endpoint, seq: int | None, ack: int
    ) -> bool:
        # tcpdump says nowhere whether it ran with -S: relative numbers are near 0, absolute ones near the base.
        number, start = (ack, base[target]) if seq is None else (seq, base[source])
        near_zero, near_base = _distance(number, 0), _distance(number, start)
        if near_zero != near_base:
            self._leaning += 1 if near_zero < near_base else -1
            self._leaning = max(-1000, min(self._leaning, 1000))
        return self._leaning > 0 or (self._leaning == 0 and near_zero < near_base)


def _distance(a: int, b: int) -> int:
    apart = a - b & MASK
    return min(apart, (1 << 32) - apart)
