"""Beside the others: `python -m benches.peers CAPTURE [CONNECTIONS] [--only NAME,...] [--rounds N]`.

Runs every program that a user could pick instead, as far as it is installed, on the same capture in one run, and the
floor (floor.py) between them; prints the table that the README shows and writes it to benches/results/, with commit,
machine and load. CAPTURE is classic pcap, in page cache after the first run; CONNECTIONS sizes the floor's table.

Debian has nfdump (nfpcapd), argus-server, libndpi-bin, tcptrace and tshark; PyPI has nfstream, dpkt and pyshark. Each
does its least: no dissection where that can be turned off, no output. They know less than is asked here (one state of a
connection, or none); pyshark and dpkt are no trackers, and are timed at handing over addresses, ports and flags. What
takes longer than a minute for a million packets is given the first packets of the capture only, as the table says.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benches.floor import build_floor, floor_ns_per_packet
from benches.record import RESULTS, commit, machine
from conntrack.capture import open_capture

__all__ = ["main"]

_NFSTREAM = """
import sys
from nfstream import NFStreamer
streamer = NFStreamer(source=sys.argv[1], n_dissections=0, statistical_analysis=False, n_meters=1)
print(sum(1 for _ in streamer))
"""
_DPKT = """
import sys, dpkt
flows = {}
for _, data in dpkt.pcap.Reader(open(sys.argv[1], 'rb')):
    ip = dpkt.ethernet.Ethernet(data).data
    if isinstance(ip, (dpkt.ip.IP, dpkt.ip6.IP6)) and isinstance(ip.data, dpkt.tcp.TCP):
        tcp = ip.data
        key = ip.src, ip.dst, tcp.sport, tcp.dport
        flows[key] = flows.get(key, 0) | tcp.flags
print(len(flows))
"""
_PYSHARK = """
import sys, pyshark
flows = {}
for packet in pyshark.FileCapture(sys.argv[1], keep_packets=False):
    if 'tcp' in packet and 'ip' in packet:
        key = packet.ip.src, packet.ip.dst, packet.tcp.srcport, packet.tcp.dstport
        flows[key] = packet.tcp.flags
print(len(flows))
"""


@dataclass(frozen=True)
class Peer:
    """One way to the connections of a capture.

    Attributes:
        name: as the table has it.
        command: with CAPTURE for the file and FOLDER for a directory of its own.
        module: what must be importable, where the command is Python's.
        most_packets: more than so many take too long.
    """

    name: str
    command: tuple[str, ...]
    module: str = ""
    most_packets: int = 1 << 62

    @property
    def installed(self) -> bool:
        """Whether it can be run."""
        return find_spec(self.module) is not None if self.module else shutil.which(self.command[0]) is not None


_CTRACK = (sys.executable, "-m", "conntrack", "report", "CAPTURE", "--format", "json", "--threads")
PEERS = (
    Peer("ctrack, one thread", (*_CTRACK, "1")),
    Peer("ctrack, two threads", (*_CTRACK, "2")),
    Peer("nfpcapd", ("nfpcapd", "-r", "CAPTURE", "-w", "FOLDER")),
    Peer("argus", ("argus", "-r", "CAPTURE", "-w", "/dev/null")),
    Peer("ndpiReader", ("ndpiReader", "-i", "CAPTURE", "-q")),
    Peer("tcptrace", ("tcptrace", "-n", "CAPTURE")),
    Peer("NFStream", (sys.executable, "-c", _NFSTREAM, "CAPTURE"), "nfstream", 2_000_000),
    Peer("dpkt", (sys.executable, "-c", _DPKT, "CAPTURE"), "dpkt", 1_000_000),
    Peer("tshark", ("tshark", "-r", "CAPTURE", "-q", "-z", "conv,tcp"), "", 1_000_000),
    Peer("pyshark", (sys.executable, "-c", _PYSHARK, "CAPTURE"), "pyshark", 5_000),
)


def main(arguments: Sequence[str]) -> int:
    """Run what is installed, print the table, write the record."""
    parser = argparse.ArgumentParser(prog="python -m benches.peers", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("capture", type=Path)
    parser.add_argument("connections", type=int, nargs="?", default=1 << 20)
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    chosen = [peer for peer in PEERS if not given.only or peer.name in given.only.split(",")]
    missing = [peer.name for peer in chosen if not peer.installed]
    packets = _packets(given.capture)
    record = {
        "schema": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "capture": {"packets": packets, "bytes": given.capture.stat().st_size},
        "not_installed": missing,
    }
    rows: list[dict[str, object]] = []
    floors = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        floor = build_floor(folder)
        for peer in (peer for peer in chosen if peer.installed):
            capture, count = given.capture, packets
            if packets > peer.most_packets:
                capture, count = folder / f"{peer.most_packets}.pcap", peer.most_packets
                _cut(given.capture, capture, count)
            if floor is not None:
                floors.append(floor_ns_per_packet(floor, given.capture, given.connections, rounds=1))
            runs = [_run(peer, capture, folder) for _ in range(given.rounds if peer.name.startswith("ctrack") else 1)]
            seconds = median(seconds for seconds, _ in runs)
            rows.append({"name": peer.name, "packets": count, "seconds": round(seconds, 3), "peak_bytes": runs[-1][1]})
            print(f"{peer.name}: {count / seconds / 1e6:.4f} million packets a second", file=sys.stderr)
    least = median(floors) if floors else None
    record |= {"floor_ns_per_packet": least, "peers": rows, "load_1m_after": round(os.getloadavg()[0], 2)}
    print(_table(rows, least))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"peers-{datetime.now(UTC):%Y-%m-%d}-{commit()}-{packets}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _run(peer: Peer, capture: Path, folder: Path) -> tuple[float, int]:
    """Return the seconds that one run took, and the most memory that it held, in bytes."""
    own = Path(tempfile.mkdtemp(dir=folder))
    names = {"CAPTURE": str(capture), "FOLDER": str(own)}
    command = [names.get(word, word) for word in peer.command]
    with tempfile.TemporaryFile() as words:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=words, cwd=Path(__file__).parents[1])
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            words.seek(0)
            raise RuntimeError(f"{peer.name} ended with {process.returncode}: {words.read(500).decode()}")
    return seconds, usage.ru_maxrss * 1024


def _table(rows: Sequence[dict[str, object]], floor_ns: float | None) -> str:
    lines = ["| what | packets | million a second | against the floor | peak MB |", "|---|---|---|---|---|"]
    if floor_ns:
        lines.append(f"| the floor | | {1e3 / floor_ns:.1f} | 1 | |")
    for row in rows:
        packets, seconds, peak = int(str(row["packets"])), float(str(row["seconds"])), int(str(row["peak_bytes"]))
        ns = seconds * 1e9 / packets
        rate = f"{1e3 / ns:.2f}" if ns < 20_000 else f"{1e3 / ns:.4f}"
        ratio = f"{floor_ns / ns:.2g}" if floor_ns else ""
        lines.append(f"| {row['name']} | {packets:,} | {rate} | {ratio} | {peak / 1e6:,.0f} |")
    return "\n".join(lines)


def _packets(capture: Path) -> int:
    with open_capture([capture]) as reading:
        for _ in reading:
            pass
        return reading.info.packets


def _cut(capture: Path, out: Path, packets: int) -> None:
    # As a stream: what this process holds at its peak would count as the peak of those that it starts.
    if out.exists():
        return
    with capture.open("rb") as source, out.open("wb") as target:
        head = source.read(24)
        if head[:4] not in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"):
            raise ValueError(f"{capture}: not a classic pcap file of this machine's byte order")
        target.write(head)
        for _ in range(packets):
            record = source.read(16)
            target.write(record + source.read(int.from_bytes(record[8:12], "little")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
