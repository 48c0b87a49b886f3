"""A flood of half-open connections, each of another 4-tuple, through a budget of memory: it ends, nothing is silent.

    python -m benches.half_open --connections 200000000 --max-memory 1073741824

Another process writes the SYNs as a capture into a pipe (14 GB of them, nothing on disk), as fast as they are taken;
reader, tracker and detectors are those of `ctrack report -`. Printed are the time, the most memory that the process
held, how many connections came out and of what ending (each of them in a row of its own), and the findings.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import click
import numpy as np

from benches.record import ROOT, commit, machine
from conntrack.capture import open_capture
from conntrack.generate.frames import pcap_header
from conntrack.pipeline import Analysis, flow_batches
from conntrack.sharded import make_tracker
from conntrack.states import EndReason

__all__ = ["flood", "run"]

_BATCH = 65_536
_PORTS = 64
_BEGIN_S = 1_767_225_600
_SYN: Final = bytes.fromhex(
    "00000000 00000000 36000000 36000000"  # record: seconds, microseconds, 54 bytes of 54
    "020000000001 020000000002 0800"
    "4500 0028 0000 4000 4006 0000 00000000 0a000001"  # to 10.0.0.1
    "0000 0050 00000000 00000000 5002 0200 0000 0000"  # port 80; SYN, a window of 512, as hping3 sends
)
_FIELDS: Final = np.dtype(
    {
        "names": ["seconds", "micros", "ip_checksum", "address", "port", "seq", "tcp_checksum"],
        "formats": ["<u4", "<u4", ">u2", ">u4", ">u2", ">u4", ">u2"],
        "offsets": [0, 4, 40, 42, 50, 54, 66],
        "itemsize": len(_SYN),
    }
)
_FIRST: Final = 0x0B000000  # 11.0.0.0


def flood(connections: int) -> Iterator[bytes]:
    """Yield a capture of so many SYNs to one service, a microsecond apart: 64 ports of every address from 11.0.0.0."""
    yield pcap_header(snaplen=96, nanosecond=False)
    headers = np.frombuffer(_SYN, ">u2")[15:].astype("i8")
    ip_sum, tcp_sum = int(headers[:10].sum()), int(headers[6:].sum()) + 6 + 20
    for begin in range(0, connections, _BATCH):
        numbers = np.arange(begin, min(begin + _BATCH, connections))
        packets = np.frombuffer(bytearray(_SYN * len(numbers)), _FIELDS)
        addresses, ports = _FIRST + numbers // _PORTS, 1024 + numbers % _PORTS
        packets["seconds"], packets["micros"] = _BEGIN_S + numbers // 10**6, numbers % 10**6
        packets["address"], packets["port"], packets["seq"] = addresses, ports, numbers & 0xFFFFFFFF
        words = (addresses >> 16) + (addresses & 0xFFFF)
        packets["ip_checksum"] = _checksum(ip_sum + words)
        packets["tcp_checksum"] = _checksum(tcp_sum + words + ports + (numbers >> 16) + (numbers & 0xFFFF))
        yield packets.tobytes()


def _checksum(total: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF  # RFC 1071


def run(connections: int, max_memory: int, threads: int | None) -> dict[str, Any]:
    """Track a flood; return what came of it."""
    endings: Counter[str] = Counter()
    analysis, tracker = Analysis(), make_tracker(threads=threads, max_memory=max_memory)
    begun_s = time.perf_counter()
    command = [sys.executable, "-m", "benches.half_open", "--write", "--connections", str(connections)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        with open_capture([f"/dev/fd/{writer.stdout.fileno()}"]) as capture:
            for rows in flow_batches(capture, tracker, ordered=False):
                analysis.feed(rows)
                for reason, count in zip(*np.unique(rows["end_reason"], return_counts=True), strict=True):
                    endings[EndReason(int(reason)).name] += int(count)
    report = analysis.report(capture.info)
    return {
        "connections": connections,
        "max_memory": max_memory,
        "seconds": round(time.perf_counter() - begun_s, 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "packets": capture.info.packets,
        "skipped": capture.info.skipped,
        "endings": dict(endings),
        "evicted": report.connections.evicted,
        "findings": [[one.kind, one.subject, one.severity, one.count] for one in report.findings],
    }


@click.command()
@click.option("--connections", default=200_000_000, show_default=True)
@click.option("--max-memory", default=1 << 30, show_default=True, help="Bytes, for the connections in the table.")
@click.option("--threads", type=int, help="As of ctrack: by default one for each core.")
@click.option("--write", is_flag=True, help="Write the capture to standard output, and nothing else.")
def command(connections: int, max_memory: int, threads: int | None, write: bool) -> None:
    """Print the run as JSON."""
    if write:
        for piece in flood(connections):
            sys.stdout.buffer.write(piece)
        return
    document = {"commit": commit(), "machine": machine(), **run(connections, max_memory, threads)}
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    command()
