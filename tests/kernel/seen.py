"""Whether what scenarios.py wanted to happen did: from the kernels' counters, their socket tables and the captures.

Each kind of event has a number, and the test asks that none is zero. Nothing here comes from the tracker.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from compare import keys_of, segments_of
from network import CLIENT, SERVER
from numpy.typing import NDArray
from sockdiag import parse, read_samples

__all__ = ["seen"]

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16

_COUNTED = {
    "SYN cookies sent": ("server", "TcpExt.SyncookiesSent"),
    "SYN cookies that came back": ("server", "TcpExt.SyncookiesRecv"),
    "accept queue overflows": ("server", "TcpExt.ListenOverflows"),
    "fast opens by a client": ("client", "TcpExt.TCPFastOpenActive"),
    "fast opens taken by a server": ("server", "TcpExt.TCPFastOpenPassive"),
    "keep-alives": ("server", "TcpExt.TCPKeepAlive"),
    "peers given up": ("server", "TcpExt.TCPAbortOnTimeout"),
    "zero windows announced": ("server", "TcpExt.TCPToZeroWindowAdv"),
    "TIME_WAITs reused by their own end": ("client", "TcpExt.TWRecycled"),
    "segments rejected by PAWS": ("server", "TcpExt.PAWSEstab"),
    "segments out of order": ("server", "TcpExt.TCPOFOQueue"),
    "segments sent again": ("client", "Tcp.RetransSegs"),
    "connections refused": ("client", "Tcp.AttemptFails"),
    "connections reset": ("client", "Tcp.EstabResets"),
}
"""Name: which end's counter says so (Documentation/networking/snmp_counter.rst)."""


def seen(folder: Path) -> dict[str, int]:
    """How often each thing happened in the run in `folder`, by its name."""
    counters = {host.name: json.loads((folder / f"{host.name}.counters.json").read_text()) for host in (CLIENT, SERVER)}
    found = {name: int(counters[end][key]) for name, (end, key) in _COUNTED.items()}
    segments = segments_of(folder / f"{SERVER.name}.pcap")
    keys = np.array(keys_of(SERVER, segments, "src", "dst"), dtype="V36")
    found["simultaneous opens"] = _simultaneous_opens(segments, keys)
    found["segments over IPv6"] = int((segments["ip_version"] == 6).sum())
    found["windows beyond 65535"] = _large_windows(segments, keys)
    found["connections of a megabyte"] = _large_transfers(segments, keys)
    found["TIME_WAITs reused by the other end"] = _reused(folder)
    return found


def _outgoing(segments: NDArray[np.void], keys: NDArray[Any]) -> NDArray[np.bool_]:
    local = keys.view(np.uint8).reshape(-1, 36)[:, :18]
    ports = np.ascontiguousarray(segments["src_port"].astype(">u2")).view(np.uint8).reshape(-1, 2)
    same: NDArray[np.bool_] = (local[:, :16] == segments["src_ip"]).all(axis=1) & (local[:, 16:] == ports).all(axis=1)
    return same


def _simultaneous_opens(segments: NDArray[np.void], keys: NDArray[Any]) -> int:
    """Sockets that sent a SYN, got a SYN, and then sent a SYN+ACK."""
    out = _outgoing(segments, keys)
    flags = segments["flags"] & (_SYN | _ACK | _RST | _FIN)
    asked = set(keys[out & (flags == _SYN)].tolist())
    was_asked = set(keys[~out & (flags == _SYN)].tolist())
    answered = set(keys[out & (flags == _SYN | _ACK)].tolist())
    return len(asked & was_asked & answered)


def _large_windows(segments: NDArray[np.void], keys: NDArray[Any]) -> int:
    """Segments of the server whose window, scaled as its SYN+ACK said, has more than 16 bits."""
    out = _outgoing(segments, keys)
    synack = out & ((segments["flags"] & (_SYN | _ACK)) == _SYN | _ACK) & (segments["window_scale"] != 255)
    scales = dict(zip(keys[synack].tolist(), segments["window_scale"][synack].tolist(), strict=True))
    plain = out & ((segments["flags"] & _SYN) == 0)
    windows = zip(keys[plain].tolist(), segments["window"][plain].tolist(), strict=True)
    return sum(window << scales.get(key, 0) > 65535 for key, window in windows)


def _large_transfers(segments: NDArray[np.void], keys: NDArray[Any]) -> int:
    _, inverse = np.unique(keys, return_inverse=True)
    return int((np.bincount(inverse, weights=segments["payload_bytes"]) > 1_000_000).sum())


def _reused(folder: Path) -> int:
    """Sockets of the server that were in TIME_WAIT at one look and opening or open at the next."""
    waiting: set[bytes] = set()
    count = 0
    for sample in read_samples(folder / f"{SERVER.name}.table"):
        table = {one.key: one.state for one in parse(sample.raw)}
        count += sum(table.get(key) in ("SYN_RECEIVED", "ESTABLISHED") for key in waiting)
        waiting = {key for key, state in table.items() if state == "TIME_WAIT"}
    return count
