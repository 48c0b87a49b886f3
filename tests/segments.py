"""A small language for TCP exchanges, so that a test reads like a ladder of tcpdump: builds SEGMENT_DTYPE rows.

    story = Exchange().client("S").server("S.").client(".").client("P.", payload=100)

Flags are tcpdump's letters: S F R P U E W, and `.` for ACK. Sequence numbers are relative: 0 is the SYN, 1 the first
byte, and what is not said follows from what was sent before: a segment begins where its sender is, and acknowledges
all that the peer has sent. Every segment is `step_s` later than the one before. Knows no tracker and no rule.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from conntrack.core.abi import HAS_TIMESTAMP, SEGMENT_DTYPE
from conntrack.states import TcpState

__all__ = ["FLAGS", "START_NS", "STORIES", "End", "Exchange", "in_state", "merge", "pack_ip", "split_endpoint"]

FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32, "E": 64, "W": 128}
START_NS = 1_700_000_000_000_000_000
NO_SCALE = 255

(CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED) = list(TcpState)[:5]
(FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT) = list(TcpState)[5:]


def split_endpoint(text: str) -> tuple[str, int]:
    """Return address and port of "10.0.0.1:80" or "[2001:db8::1]:80"."""
    host, port = text.rsplit(":", 1)
    return host.strip("[]"), int(port)


def pack_ip(host: str) -> tuple[bytes, int]:
    """Return the 16 bytes that a segment carries for an address, and the IP version."""
    address = ipaddress.ip_address(host)
    if address.version == 4:
        return bytes(10) + b"\xff\xff" + address.packed, 4
    return address.packed, 6


class End:
    """One end of an exchange: where it is, and what it says of itself."""

    def __init__(self, endpoint: str, iss: int, window: int, scale: int) -> None:
        host, self.port = split_endpoint(endpoint)
        self.ip, self.ip_version = pack_ip(host)
        self.iss = iss
        self.next = 0
        self.window = window
        self.scale = scale
        self.ip_id = 0

    def next_id(self) -> int:
        """The IPv4 identification of its next packet; IPv6 has none."""
        self.ip_id = self.ip_id % 0xFFFF + 1
        return self.ip_id if self.ip_version == 4 else 0


class Exchange:
    """A conversation between a client and a server, segment by segment as the capture saw it."""

    def __init__(
        self,
        client: str = "10.0.0.1:40000",
        server: str = "10.0.0.2:80",
        *,
        client_iss: int = 1_000_000,
        server_iss: int = 5_000_000,
        start_ns: int = START_NS,
        step_s: float = 0.001,
        window: int = 64_000,
        scale: int = 0,
        timestamps: bool = False,
    ) -> None:
        self._client = End(client, client_iss, window, scale)
        self._server = End(server, server_iss, window, scale)
        self._step_ns = round(step_s * 1e9)
        self._timestamps = timestamps
        self._rows: list[dict[str, Any]] = []
        self.now_ns = start_ns

    def client(self, flags: str, payload: int = 0, **fields: Any) -> Self:
        """The client sends; `fields` as for `server`."""
        return self._send(self._client, self._server, flags, payload, **fields)

    def server(self, flags: str, payload: int = 0, **fields: Any) -> Self:
        """The server sends.

        Keyword `fields`: `seq` and `ack` relative to the initial sequence numbers; `lost=True` for a segment that was
        sent but is not in the capture; anything else is a field of SEGMENT_DTYPE as it is (tsval implies the option).
        """
        return self._send(self._server, self._client, flags, payload, **fields)

    def wait(self, seconds: float) -> Self:
        """Let time pass before the next segment."""
        self.now_ns += round(seconds * 1e9)
        return self

    def again(self, index: int = -1) -> Self:
        """The segment at `index` once more, as a host sends it again: the same numbers, later, another id."""
        row = dict(self._rows[index])
        row["ts_ns"] = self._tick()
        row["ip_id"] = self._sender(row).next_id()
        self._rows.append(row)
        return self

    def copy(self, index: int = -1, *, after_s: float = 0.00002) -> Self:
        """The frame at `index` once more, as a mirror port shows it: the same packet, a hop further, at once."""
        row = dict(self._rows[index])
        row["ts_ns"] += round(after_s * 1e9)
        row["ttl"] -= 1
        self._rows.append(row)
        return self

    def reopen(self, client_iss: int, server_iss: int) -> Self:
        """What follows is another connection between the same ends, with these initial sequence numbers."""
        for end, iss in ((self._client, client_iss), (self._server, server_iss)):
            end.iss, end.next = iss, 0
        return self

    @property
    def count(self) -> int:
        """How many segments the capture has."""
        return len(self._rows)

    def ends(self, side: str) -> tuple[End, End]:
        """Sender and receiver of what `side` sends."""
        return (self._client, self._server) if side == "client" else (self._server, self._client)

    def segments(self) -> NDArray[np.void]:
        """The segments so far, frames numbered from 1."""
        rows = np.zeros(len(self._rows), dtype=SEGMENT_DTYPE)
        for index, fields in enumerate(self._rows):
            row = rows[index]
            for name, value in fields.items():
                row[name] = np.frombuffer(value, dtype=np.uint8) if isinstance(value, bytes) else value
            row["frame"] = index + 1
        return rows

    def _sender(self, row: dict[str, Any]) -> End:
        client = (row["src_ip"], row["src_port"]) == (self._client.ip, self._client.port)
        return self._client if client else self._server

    def _tick(self) -> int:
        self.now_ns += self._step_ns
        return self.now_ns

    def _send(
        self,
        source: End,
        target: End,
        flags: str,
        payload: int,
        *,
        seq: int | None = None,
        ack: int | None = None,
        lost: bool = False,
        **fields: Any,
    ) -> Self:
        bits = sum(FLAGS[letter] for letter in flags)
        start = (0 if "S" in flags else source.next) if seq is None else seq
        if "R" not in flags:
            source.next = max(source.next, start + payload + ("S" in flags) + ("F" in flags))
        acked = target.next if ack is None else ack
        ts_ns = self._tick()
        row: dict[str, Any] = {
            "ts_ns": ts_ns,
            "src_ip": source.ip,
            "dst_ip": target.ip,
            "seq": (source.iss + start) % 2**32,
            "ack": (target.iss + acked) % 2**32 if "." in flags else 0,
            "payload_bytes": payload,
            "wire_bytes": payload + (54 if source.ip_version == 4 else 74),
            "src_port": source.port,
            "dst_port": target.port,
            "window": source.window,
            "flags": bits,
            "ip_id": source.next_id(),
            "mss": 1460 if "S" in flags else 0,
            "ip_version": source.ip_version,
            "ttl": 64,
            "window_scale": source.scale if "S" in flags else NO_SCALE,
            "options": 0,
        }
        if self._timestamps or "tsval" in fields:
            row["tsval"] = ts_ns // 1_000_000 % 2**32
            row["options"] = HAS_TIMESTAMP
        row.update(fields)
        if not lost:
            self._rows.append(row)
        return self


def merge(*exchanges: Exchange | NDArray[np.void]) -> NDArray[np.void]:
    """One capture of several exchanges: in order of time, frames numbered again."""
    parts = [part.segments() if isinstance(part, Exchange) else part for part in exchanges]
    rows = np.concatenate(parts)
    rows = rows[np.argsort(rows["ts_ns"], kind="stable")]
    rows["frame"] = np.arange(1, len(rows) + 1)
    return rows


def _established(**options: Any) -> Exchange:
    return Exchange(**options).client("S").server("S.").client(".")


STORIES = {
    (SYN_SENT, LISTEN): lambda **o: Exchange(**o).client("S"),
    (SYN_SENT, SYN_RECEIVED): lambda **o: Exchange(**o).client("S").server("S."),
    (ESTABLISHED, ESTABLISHED): _established,
    (ESTABLISHED, SYN_RECEIVED): lambda **o: _established(**o).again(1),
    (FIN_WAIT_1, ESTABLISHED): lambda **o: (
        _established(**o).client("P.", 10, lost=True).client("F.").server(".", ack=1)
    ),
    (FIN_WAIT_1, CLOSE_WAIT): lambda **o: _established(**o).client("F."),
    (FIN_WAIT_2, CLOSE_WAIT): lambda **o: _established(**o).client("F.").server("."),
    (CLOSE_WAIT, FIN_WAIT_1): lambda **o: _established(**o).server("F."),
    (CLOSE_WAIT, FIN_WAIT_2): lambda **o: _established(**o).server("F.").client("."),
    (CLOSING, CLOSING): lambda **o: _established(**o).client("F.").server("F.", ack=1),
    (TIME_WAIT, CLOSING): lambda **o: _established(**o).client("F.").server("F.", ack=1).server("."),
    (TIME_WAIT, TIME_WAIT): lambda **o: _established(**o).client("F.").server("F.", ack=1).server(".").client("."),
    (TIME_WAIT, LAST_ACK): lambda **o: _established(**o).client("F.").server(".").server("F."),
    (LAST_ACK, TIME_WAIT): lambda **o: _established(**o).server("F.").client(".").client("F."),
    (TIME_WAIT, CLOSED): lambda **o: _established(**o).client("F.").server(".").server("F.").client("."),
    (CLOSED, TIME_WAIT): lambda **o: _established(**o).server("F.").client(".").client("F.").server("."),
    (CLOSED, CLOSED): lambda **o: _established(**o).client("R."),
}


def in_state(client_state: TcpState, server_state: TcpState, /, **options: Any) -> Exchange:
    """An exchange that has brought the two ends to these states, the shortest that does."""
    return STORIES[client_state, server_state](**options)
