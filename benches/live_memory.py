"""Whether `ctrack live` stays as large as it is: `python -m benches.live_memory [--connections N] [--services N] ...`.

Feeds a live session what an interface would, faster than real time: each simulated second so many new connections, of
as many clients and to as many services as it is told, a tenth of them in trouble (refused, unanswered, reset). Looks as
`ctrack live` does, only less often. Prints the memory of this process after each million connections and at the end,
with what the last look took, and ends with 1 if it grew by more than ALLOWED beyond what it was after WARM_UP of them.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import click
import numpy as np

from conntrack.cli.live_status import memory_bytes
from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.live import Session

__all__ = ["Traffic", "main"]

ALLOWED = 0.05
WARM_UP = 1_000_000
SEED = 17
_START_NS = 1_700_000_000 * 10**9
_SECOND_NS = 10**9
_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16
_STEP_NS = 20_000_000
_SHAPES: tuple[tuple[float, tuple[tuple[bool, int, int], ...]], ...] = (
    (
        0.9,  # share of the connections; by whom each segment is, its flags, its payload
        (
            (True, _SYN, 0),
            (False, _SYN | _ACK, 0),
            (True, _ACK, 0),
            (True, _PSH | _ACK, 100),
            (False, _PSH | _ACK, 900),
            (False, _FIN | _ACK, 0),
            (True, _FIN | _ACK, 0),
            (False, _ACK, 0),
        ),
    ),
    (0.04, ((True, _SYN, 0), (False, _RST | _ACK, 0))),
    (0.03, ((True, _SYN, 0),)),
    (0.03, ((True, _SYN, 0), (False, _SYN | _ACK, 0), (True, _ACK, 0), (True, _PSH | _ACK, 100), (False, _RST, 0))),
)


class Traffic:
    """Segments second by second, in order of time.

    Args:
        rate: connections begun in a second.
        services: addresses and ports that they go to, one after the other.
        clients: addresses that they come from, by chance.
    """

    def __init__(self, rate: int, services: int, clients: int) -> None:
        self._rate, self._services, self._clients = rate, services, clients
        self._random = np.random.default_rng(SEED)
        shapes = np.repeat(np.arange(len(_SHAPES)), np.diff(np.rint(np.cumsum([0, *(s for s, _ in _SHAPES)]) * rate)
                                                            .astype(int)))  # fmt: skip
        self._random.shuffle(shapes)
        rows = [
            (connection, turn, by_client, flags, payload, *_numbers(_SHAPES[shape][1], turn))
            for connection, shape in enumerate(shapes.tolist())
            for turn, (by_client, flags, payload) in enumerate(_SHAPES[shape][1])
        ]
        number, turn, by_client, flags, payload, seq, ack = (np.array(column) for column in zip(*rows, strict=True))
        at_ns = number * (_SECOND_NS // rate) + turn * _STEP_NS
        order = np.argsort(at_ns, kind="stable")
        self._number, self._by_client = number[order], by_client[order]
        self._block = block = np.zeros(len(rows), SEGMENT_DTYPE)
        block["ts_ns"], block["flags"], block["payload_bytes"] = at_ns[order], flags[order], payload[order]
        block["seq"], block["ack"], block["wire_bytes"] = seq[order], ack[order], 54 + payload[order]
        block["ip_version"], block["ttl"], block["window"], block["window_scale"] = 4, 64, 64_000, 255
        for end in ("src_ip", "dst_ip"):
            block[end][:, 10:12] = 255
        self._second = 0

    def second(self) -> np.ndarray[Any, Any]:
        """Return the segments of the next second: SEGMENT_DTYPE, shape (n,)."""
        block, begun = self._block.copy(), self._second * self._rate + np.arange(self._rate)
        block["ts_ns"] += _START_NS + self._second * _SECOND_NS
        block["frame"] = self._second * len(block) + np.arange(1, len(block) + 1)
        service = begun % self._services
        ends = (
            (0x0A000000 + self._random.integers(0, self._clients, self._rate), 1024 + begun % 64_000),
            (0xC0A80000 + service % 50_000, 1 + service // 50_000),
        )
        for name, of_client in (("src", self._by_client), ("dst", ~self._by_client)):
            address, port = (
                np.where(of_client, *(column[self._number] for column in pair)) for pair in zip(*ends, strict=True)
            )
            block[f"{name}_ip"][:, 12:] = address.astype(">u4").view(np.uint8).reshape(-1, 4)
            block[f"{name}_port"] = port
        self._second += 1
        return block


def _numbers(shape: tuple[tuple[bool, int, int], ...], turn: int) -> tuple[int, int]:
    """Return the sequence and acknowledgment numbers of a segment: as if both had begun with 1,000."""
    sent = {True: 1000, False: 1000}
    for by_client, flags, payload in shape[:turn]:
        sent[by_client] += payload + bool(flags & (_SYN | _FIN))
    by_client, flags, _ = shape[turn]
    return sent[by_client], sent[not by_client] if flags & _ACK else 0


@click.command()
@click.option("--connections", default=20_000_000, show_default=True)
@click.option("--rate", default=2_000, show_default=True, help="Connections in a simulated second.")
@click.option("--services", default=1, show_default=True)
@click.option("--clients", default=1_000, show_default=True)
@click.option("--window", "window_s", default=300.0, show_default=True, help="As of ctrack live.")
@click.option("--every", "every_s", default=20, show_default=True, help="Look so often, in simulated seconds.")
def main(connections: int, rate: int, services: int, clients: int, window_s: float, every_s: int) -> None:
    """Feed, look and print."""
    traffic, now_s, warm = Traffic(rate, services, clients), 0, 0
    session = Session(clock=lambda: float(now_s), window_s=window_s)
    seconds, told = connections // rate, 0
    most = 0
    for now_s in range(1, seconds + 1):
        session.feed(traffic.second())
        if now_s % every_s and now_s != seconds:
            continue
        begun_s = time.perf_counter()
        look = session.look()
        took_s = time.perf_counter() - begun_s
        most = max(most, memory_bytes())
        if look.connections - told >= WARM_UP or now_s == seconds:
            told = look.connections
            warm = warm or most
            said = f"{told:,} connections, {most / 1e6:.0f} MB, {len(look.findings)} findings, look {took_s:.2f} s"
            print(said, flush=True)
            most = 0 if now_s != seconds else most
    sys.exit(most > (1 + ALLOWED) * warm)


if __name__ == "__main__":
    main()
