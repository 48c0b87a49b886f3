"""`ctrack live` on a cable that carries so many packets a second: is one lost, and does memory grow?

    python -m benches.live_rate --rate 200000 --seconds 600

By root: a network namespace of its own, a cable (veth) in it, a sender at one end (sendmmsg of whole Ethernet frames of
generated connections, from another client address in each turn) and `ctrack live -i` at the other. Sender, dumpcap and
ctrack share the machine's cores. What must hold: every packet sent is captured and tracked, dumpcap dropped none, and
ctrack takes no more memory in the last third than in the second, beyond ALLOWED_BYTES. Every half a minute it says on
standard error how far it is; the account is kept in benches/results/.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np

from benches.record import RESULTS, commit, machine
from conntrack.generate import generate

__all__ = ["ALLOWED_BYTES", "Frames", "live_rate"]

ALLOWED_BYTES = 32 << 20
_SENDS, _CAPTURES = "rate0", "rate1"
_SNAP_BYTES = 1514
_HEADER, _RECORD = 24, 16
_SOURCE, _TARGET, _FLAGS = 26, 30, 47
"""Where a frame (Ethernet, IPv4 and TCP without IP options) has its addresses and the flags of TCP."""
_SYN, _ACK = 0x02, 0x10
_PIECE_S = 0.001
_BEGINS_WITHIN_S = 30.0
_SETTLES_S = 1.0
_TELLS_S = 30.0
_CLONE_NEWNET = 0x40000000
_SOL_PACKET, _PACKET_QDISC_BYPASS = 263, 20


class _Piece(ctypes.Structure):
    """struct iovec"""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct mmsghdr: a struct msghdr of 56 octets, and how much of it was sent."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("pieces", ctypes.c_void_p),
        ("piece_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("end", ctypes.c_uint32),
        ("sent", ctypes.c_uint64),
    )


class Frames:
    """Frames in memory, sent round and round; the second octet of the clients' addresses tells the turn.

    Args:
        connections: how many in a turn.
    """

    def __init__(self, connections: int) -> None:
        out = io.BytesIO()
        generate(out, scenario="healthy", connections=connections, seed=23, snaplen=_SNAP_BYTES)
        self._bytes = np.frombuffer(out.getbuffer(), np.uint8).copy()
        starts, sizes = [], []
        at = _HEADER
        data = memoryview(self._bytes)
        while at < len(data):
            size = int.from_bytes(data[at + 8 : at + 12], "little")
            starts.append(at + _RECORD)
            sizes.append(size)
            at += _RECORD + size
        self._starts = np.array(starts)
        source, target = (self._address(offset) for offset in (_SOURCE, _TARGET))
        flags = self._bytes[self._starts + _FLAGS]
        clients, servers = (np.unique(source[flags & (_SYN | _ACK) == kind]) for kind in (_SYN, _SYN | _ACK))
        by_client = np.isin(source, clients)
        assert np.isin(np.where(by_client, target, source), servers).all(), "each frame has a client and a server"
        self._client = self._starts + np.where(by_client, _SOURCE, _TARGET) + 1
        self._pieces = (_Piece * len(starts))()
        assert ctypes.sizeof(_Message) == 64, "the kernel goes from one to the next by its own size of it"
        self._messages = (_Message * len(starts))()
        pieces = np.frombuffer(self._pieces, np.dtype([("base", "u8"), ("size", "u8")]))
        pieces["base"] = self._bytes.ctypes.data + self._starts
        pieces["size"] = sizes
        where = ctypes.addressof(self._pieces)
        for number, message in enumerate(self._messages):
            message.pieces = where + number * ctypes.sizeof(_Piece)
            message.piece_count = 1
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.turn = self._next = 0

    def __len__(self) -> int:
        return len(self._starts)

    def _address(self, offset: int) -> np.ndarray[Any, Any]:
        octets = self._bytes[(self._starts + offset)[:, np.newaxis] + np.arange(4)]
        return np.ascontiguousarray(octets).view(">u4").ravel()

    def send(self, descriptor: int, most: int) -> int:
        """Send up to `most` frames, up to the end of this turn at most; return how many.

        Raises:
            OSError: the kernel does not take them.
        """
        most = min(most, len(self) - self._next)
        first = ctypes.byref(self._messages, self._next * ctypes.sizeof(_Message))
        sent: int = self._libc.sendmmsg(descriptor, first, most, 0)
        if sent < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._next += sent
        if self._next == len(self):
            self._next = 0
            self.turn += 1
            self._bytes[self._client] = self.turn % 256
        return sent


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _cable() -> socket.socket:
    """Enter a network namespace, make the cable, and return a socket that sends on it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "a network namespace needs root")
    for name in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")  # it would send on its own
    _ip("link", "add", _SENDS, "type", "veth", "peer", "name", _CAPTURES)
    for name in (_SENDS, _CAPTURES):
        _ip("link", "set", name, "up", "arp", "off")
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sender.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
    sender.bind((_SENDS, 0))
    return sender


def _usage(pid: int) -> tuple[int, float]:
    """Resident bytes of a process, and the seconds of a core that it took."""
    fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK")


def _wait(what: str, happened: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + _BEGINS_WITHIN_S
    while time.monotonic() < deadline:
        if result := happened():
            return result
        time.sleep(0.05)
    raise TimeoutError(what)


def live_rate(seconds: float, rate: int, *, connections: int = 20_000) -> dict[str, Any]:
    """Run it.

    Returns:
        "sent", "captured", "tracked" and "dropped" packets, "connections" seen; "sent_per_s" as it came out; "cores"
        taken by "sender" (with the kernel's way through the cable, for all of them), "dumpcap" and "ctrack", and the
        same in "us_a_packet"; "bytes" of ctrack at most in each third, and at the "instants" 30 s apart.
    """
    frames = Frames(connections)
    sender = _cable()
    with tempfile.TemporaryDirectory() as folder, sender:
        said = Path(folder, "events.ndjson")
        words = ["live", "-i", _CAPTURES, "--format", "ndjson", "-o", str(Path(folder, "report.json"))]
        live = subprocess.Popen([sys.executable, "-m", "conntrack", *words], stdout=said.open("wb"))
        children = Path("/proc", str(live.pid), "task", str(live.pid), "children")
        dumpcap = int(_wait("dumpcap", lambda: children.read_text().split())[0])
        _wait("the capture", lambda: any(line.split()[4] == _interface() for line in _packet_sockets()))
        time.sleep(_SETTLES_S)
        most, instants = [0, 0, 0], []
        sent = 0
        busy_s = {name: _usage(pid)[1] for name, pid in (("dumpcap", dumpcap), ("ctrack", live.pid))}
        own_s, begun_s = time.process_time(), time.monotonic()
        look_s, tell_s = begun_s, begun_s + _TELLS_S
        while (now_s := time.monotonic()) < begun_s + seconds:
            due = int((now_s - begun_s) * rate) - sent
            if due > 0:
                sent += frames.send(sender.fileno(), due)
            else:
                time.sleep(_PIECE_S)
            if now_s >= look_s:
                look_s = now_s + 1.0
                third = min(int(3 * (now_s - begun_s) / seconds), 2)
                most[third] = max(most[third], size := _usage(live.pid)[0])
                if now_s >= tell_s:
                    tell_s += _TELLS_S
                    instants.append(size)
                    told = f"{now_s - begun_s:.0f} s: {sent:,} packets sent, ctrack has {size / 1e6:.0f} MB"
                    print(told, file=sys.stderr, flush=True)
        took_s = time.monotonic() - begun_s
        time.sleep(_SETTLES_S)
        spent_s = {
            "sender": time.process_time() - own_s,
            "dumpcap": _usage(dumpcap)[1] - busy_s["dumpcap"],
            "ctrack": _usage(live.pid)[1] - busy_s["ctrack"],
        }
        live.send_signal(signal.SIGINT)
        code = live.wait(600)
        stopped = json.loads(said.read_text().splitlines()[-1])
        return {
            "code": code,
            "sent": sent,
            "captured": stopped["packets"],
            "tracked": stopped["tcp_segments"],
            "dropped": stopped["dropped_packets"],
            "connections": stopped["connections"],
            "sent_per_s": round(sent / took_s),
            "cores": {name: round(spent / took_s, 3) for name, spent in spent_s.items()},
            "us_a_packet": {name: round(1e6 * spent / sent, 3) for name, spent in spent_s.items()},
            "bytes": most,
            "instants": instants,
        }


def _packet_sockets() -> list[str]:
    return Path("/proc/net/packet").read_text().splitlines()[1:]


def _interface() -> str:
    return str(socket.if_nametoindex(_CAPTURES))


def holds(account: dict[str, Any]) -> bool:
    """Return whether nothing was lost and memory did not grow."""
    _, second, last = account["bytes"]
    whole = account["sent"] == account["captured"] == account["tracked"]
    return bool(account["code"] == 0 and whole and account["dropped"] == 0 and last <= second + ALLOWED_BYTES)


@click.command()
@click.option("--seconds", default=600.0, show_default=True)
@click.option("--rate", default=200_000, show_default=True, help="Packets a second.")
def command(seconds: float, rate: int) -> None:
    """Send, print the account and keep it; end with 1 if something does not hold."""
    account = live_rate(seconds, rate)
    now = datetime.now(UTC)
    about = {"schema": 1, "date": now.isoformat(timespec="seconds"), "commit": commit(), "machine": machine()}
    text = json.dumps({**about, "seconds": seconds, "rate": rate, **account}, indent=1) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"live-{now:%Y-%m-%d}-{commit()}-{rate}-{round(seconds)}s.json").write_text(text)
    print(text, end="")
    sys.exit(not holds(account))


if __name__ == "__main__":
    command()
