"""Hash flooding: 4-tuples chosen to meet in the index, against a key that is known and against one that is not.

    python -m benches.flooding --connections 4000

Owns the attack. Whoever knows the code and the key finds, by trying, 4-tuples whose hashes share their high bits: all
have one home in the index, and each is found behind all that came before. Without the key the same 4-tuples are as good
as any others. Shown are how far connections are from their homes, and the time; the rows are the same every time.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import click
import numpy as np

from benches.record import commit, machine
from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.core.index import hash_pairs, probe_lengths
from conntrack.tracker import Tracker

__all__ = ["BEGIN_NS", "KNOWN", "colliding", "endpoints", "measure", "syns"]

KNOWN = np.arange(1, 5, dtype=np.uint64)
SYN = 2
BEGIN_NS = 1_767_225_600 * 10**9
_TRIED = 1 << 20
_SERVER = 0x0A000001 << 16 | 80
"""10.0.0.1:80, lower than all who come to it, as (address, port) in 48 bits."""


def endpoints(seed: int, count: int) -> np.ndarray[Any, Any]:
    """Return `count` different clients, as (address, port) in 48 bits above _SERVER."""
    random = np.random.default_rng(seed)
    return np.unique(random.integers(0x0B000000 << 16, 0xDF000000 << 16, count, dtype=np.uint64))


def colliding(key: np.ndarray[Any, Any], count: int, bits: int) -> np.ndarray[Any, Any]:
    """Return `count` clients whose connections to _SERVER have hashes with the first `bits` bits zero under `key`."""
    found = np.empty(0, np.uint64)
    seed = 0
    while len(found) < count:
        clients = endpoints(seed, _TRIED)
        hashes = hash_pairs(np.full(len(clients), _SERVER, np.uint64), clients, key)
        found = np.unique(np.concatenate([found, clients[hashes >> np.uint32(32 - bits) == 0]]))
        seed += 1
    return found[:count]


def syns(clients: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a SYN of each client to _SERVER: SEGMENT_DTYPE, a microsecond apart."""
    segments = np.zeros(len(clients), SEGMENT_DTYPE)
    segments["frame"] = np.arange(1, len(clients) + 1)
    segments["ts_ns"] = BEGIN_NS + np.arange(len(clients)) * 1000
    segments["flags"], segments["ip_version"], segments["ttl"] = SYN, 4, 64
    segments["dst_port"] = _SERVER & 0xFFFF
    segments["src_port"] = clients & np.uint64(0xFFFF)
    for name, addresses in (("src_ip", clients >> np.uint64(16)), ("dst_ip", np.full(len(clients), _SERVER >> 16))):
        segments[name][:, 10:12] = 0xFF
        segments[name][:, 12:] = addresses.astype(">u4").view(np.uint8).reshape(-1, 4)
    return segments


def measure(clients: np.ndarray[Any, Any], key: np.ndarray[Any, Any] | None) -> dict[str, Any]:
    """Track a SYN of each client, twice; return how far connections are from their homes, the time and the rows."""
    tracker = Tracker(key=key)
    segments = syns(clients)
    begun_s = time.perf_counter()
    tracker.process(segments)
    tracker.process(segments)
    lasted_s = time.perf_counter() - begun_s
    lengths = probe_lengths(tracker._slots)
    rows = hashlib.sha256()
    for batch in tracker.finish():
        rows.update(batch.tobytes())
    return {
        "connections": len(clients),
        "slots": len(tracker._slots),
        "probes_mean": round(float(lengths.mean()), 2),
        "probes_max": int(lengths.max()),
        "ns_a_segment": round(lasted_s / (2 * len(segments)) * 1e9),
        "rows_sha256": rows.hexdigest(),
    }


@click.command()
@click.option("--connections", default=4_000, show_default=True)
@click.option(
    "--bits", default=12, show_default=True, help="Of the hash that are chosen: trying takes 2^BITS for each."
)
def command(connections: int, bits: int) -> None:
    """Print what each attack does, as JSON."""
    chosen = colliding(KNOWN, connections, bits)
    others = endpoints(99, connections)
    document = {
        "commit": commit(),
        "machine": machine(),
        "chosen, key known": measure(chosen, KNOWN),
        "chosen, key unknown": measure(chosen, None),
        "not chosen": measure(others, None),
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    command()
