"""Floods of what a capture can have too many of, each against its limit: counted when it is hit, in bounded memory.

    python -m benches.bounded --count 5000000
    python -m benches.bounded fragments layers

Owns those captures: out-of-order ranges in one stream, generations of one 4-tuple, pcapng interfaces of one section and
sections of one file, IP packets of which one fragment came, tunnels in tunnels. (Half-open connections: half_open.py;
4-tuples that meet in the index: flooding.py.) Another process writes them into a pipe, so that nothing is on the disk
and the memory is the reader's and the tracker's own. The limits themselves are in SECURITY.md.
"""

from __future__ import annotations

import json
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import click
import numpy as np

from benches.record import ROOT, commit, machine
from conntrack.capture import open_capture
from conntrack.generate.frames import pcap_header
from conntrack.tracker import Tracker

__all__ = ["FLOODS", "run"]

_AT_ONCE = 65_536
_BEGIN_S = 1_767_225_600
_TUNNELS = 3_000
"""IPv4 headers in one another that fit into one packet."""
_PACKET: Final = bytes.fromhex(
    "00000000 00000000 36000000 9a000000"  # record: seconds, microseconds, 54 bytes of 154
    "020000000001 020000000002 0800"
    "4500 008c 0000 0000 4006 0000 0a000001 0a000002"  # 100 bytes of data, most of them not captured
    "9c40 0050 00000000 00000000 5010 0200 0000 0000"  # 40000 > 80, ACK
)
_FIELDS: Final = np.dtype(
    {
        "names": ["seconds", "micros", "ip_id", "fragment", "src", "dst", "sport", "dport", "seq", "ack", "flags"],
        "formats": ["<u4", "<u4", ">u2", ">u2", ">u4", ">u4", ">u2", ">u2", ">u4", ">u4", "u1"],
        "offsets": [0, 4, 34, 36, 42, 46, 50, 52, 54, 58, 63],
        "itemsize": len(_PACKET),
    }
)
_SYN, _RST_ACK, _MORE_FRAGMENTS = 2, 20, 0x2000


def _packets(count: int, fill: Callable[[np.ndarray, np.ndarray], None]) -> Iterator[bytes]:
    # A pcap file of so many packets, a millisecond apart; `fill` takes them and their numbers.
    yield pcap_header(snaplen=96, nanosecond=False)
    for begin in range(0, count, _AT_ONCE):
        numbers = np.arange(begin, min(begin + _AT_ONCE, count))
        packets = np.frombuffer(bytearray(_PACKET * len(numbers)), _FIELDS)
        packets["seconds"], packets["micros"] = _BEGIN_S + numbers // 1000, numbers % 1000 * 1000
        fill(packets, numbers)
        yield packets.tobytes()


def _ranges(packets: np.ndarray, numbers: np.ndarray) -> None:
    # A hole of 100 bytes before each.
    packets["seq"] = numbers * 200 & 0xFFFFFFFF


def _generations(packets: np.ndarray, numbers: np.ndarray) -> None:
    # A SYN and its RST each, from the same port to the same service.
    answers, sequence = numbers % 2 == 1, numbers // 2 * 7919 & 0xFFFFFFFF
    packets["flags"] = np.where(answers, _RST_ACK, _SYN)
    packets["seq"], packets["ack"] = np.where(answers, 0, sequence), np.where(answers, sequence + 1 & 0xFFFFFFFF, 0)
    reversed_ = packets[answers]
    for one, other in (("src", "dst"), ("sport", "dport")):
        reversed_[one], reversed_[other] = reversed_[other].copy(), reversed_[one].copy()
    packets[answers] = reversed_


def _fragments(packets: np.ndarray, numbers: np.ndarray) -> None:
    # The first piece of another IP packet each; no other piece comes.
    packets["ip_id"], packets["src"] = numbers & 0xFFFF, 0x0B000000 + (numbers >> 16)
    packets["fragment"] = _MORE_FRAGMENTS


def _layers(count: int) -> Iterator[bytes]:
    # IPv4 in IPv4 in IPv4 and so on, the segment innermost: 3,000 headers in each frame.
    yield pcap_header(snaplen=65535, nanosecond=False)
    ethernet, inner = _PACKET[16:30], bytearray(_PACKET[30:])
    inner[2:4] = struct.pack(">H", len(inner))
    lengths = range(len(inner) + 20 * (_TUNNELS - 1), len(inner), -20)
    outer = b"".join(struct.pack(">HHIHHII", 0x4500, length, 0, 64 << 8 | 4, 0, 1, 2) for length in lengths)
    frame = ethernet + outer + inner
    for number in range(max(1, count // _TUNNELS)):
        yield struct.pack("<IIII", _BEGIN_S, number % 10**6, len(frame), len(frame)) + frame


def _block(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)


_SECTION: Final = _block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
_INTERFACE: Final = _block(1, struct.pack("<HHI", 1, 0, 96))
_ENHANCED: Final = _block(
    6, struct.pack("<IIIII", 0, *divmod(_BEGIN_S * 10**6, 1 << 32), 54, 154) + _PACKET[16:] + bytes(2)
)


def _repeated(piece: bytes, count: int) -> Iterator[bytes]:
    for begin in range(0, count, _AT_ONCE):
        yield piece * min(_AT_ONCE, count - begin)


def _interfaces(count: int) -> Iterator[bytes]:
    yield _SECTION + _INTERFACE + _ENHANCED
    yield from _repeated(_INTERFACE, count - 1)
    yield _ENHANCED


FLOODS: Final[dict[str, Callable[[int], Iterator[bytes]]]] = {
    "ranges": lambda count: _packets(count, _ranges),
    "generations": lambda count: _packets(2 * count, _generations),
    "interfaces": _interfaces,
    "sections": lambda count: _repeated(_SECTION + _INTERFACE + _ENHANCED, count),
    "fragments": lambda count: _packets(count, _fragments),
    "layers": _layers,
}
"""What there is too much of → the bytes of a capture with so many."""


def run(flood: str, count: int) -> dict[str, Any]:
    """Read and track a flood; return what came of it.

    Raises:
        AssertionError: A packet is neither tracked nor counted as skipped.
    """
    tracker = Tracker()
    connections = generation_max = last_generation = out_of_order = table_bytes = 0
    begun_s = time.perf_counter()
    command = [sys.executable, "-m", "benches.bounded", "--write", flood, "--count", str(count)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as writer:
        assert writer.stdout is not None
        with open_capture([f"/dev/fd/{writer.stdout.fileno()}"]) as capture:

            def rows() -> Iterator[np.ndarray]:
                nonlocal table_bytes
                for segments in capture:
                    tracker.process(segments)
                    table_bytes = max(table_bytes, tracker.bytes_used)
                    yield from tracker.retired()
                yield from tracker.finish()

            for batch in rows():
                connections += len(batch)
                highest = int(batch["generation"].max(initial=0))
                at_highest = int((batch["generation"] == highest).sum())
                last_generation = at_highest + last_generation * (highest == generation_max)
                generation_max = max(generation_max, highest)
                out_of_order += int((batch["client_out_of_order"] + batch["server_out_of_order"]).sum())
    info = capture.info
    tracker.close()
    assert info.packets == info.tcp_segments + sum(info.skipped.values())
    return {
        "flood": flood,
        "count": count,
        "packets": info.packets,
        "skipped": info.skipped,
        "incomplete": info.incomplete,
        "interfaces_described": sum(len(one.interfaces) for one in info.described),
        "faults": [str(fault) for fault in info.faults],
        "connections": connections,
        "generation_max": generation_max,
        "of_that_generation": last_generation,
        "out_of_order": out_of_order,
        "table_bytes": table_bytes,
        "seconds": round(time.perf_counter() - begun_s, 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


@click.command()
@click.argument("floods", nargs=-1, type=click.Choice(list(FLOODS)))
@click.option("--count", default=5_000_000, show_default=True)
@click.option("--write", is_flag=True, help="Write the capture to standard output, and nothing else.")
def command(floods: tuple[str, ...], count: int, write: bool) -> None:
    """Print what came of each flood as JSON; the peaks are of the process, so each is the highest up to there."""
    if write:
        (flood,) = floods
        for piece in FLOODS[flood](count):
            sys.stdout.buffer.write(piece)
        return
    done = [run(flood, count) for flood in floods or FLOODS]
    print(json.dumps({"commit": commit(), "machine": machine(), "floods": done}, indent=2))


if __name__ == "__main__":
    command()
