"""The TCP segments that tshark finds in a capture, field by field; and a record of them to keep.

tshark takes a third of a second to start, 256 times: what it says of all shared captures was recorded once, in
tshark_segments.json, with tshark 4.0.17: the frames, and a check sum of the fields of each. To record it again (five
minutes), or to see the fields of one capture:

    CONNTRACK_SHARED=../shared python tests/regression/tshark_segments.py [CAPTURE]
"""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

__all__ = ["RECORD", "Segment", "check_sum", "frames_in_ranges", "read_record", "segments_of"]

RECORD = Path(__file__).with_suffix(".json")

FIELDS = (
    "frame.number", "frame.protocols", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport",
    "tcp.seq_raw", "tcp.ack_raw", "tcp.flags", "tcp.len", "tcp.window_size_value",
)  # fmt: skip


class Segment(NamedTuple):
    """The innermost of a frame; addresses as text."""

    src_ip: str
    dst_ip: str
    src_port: int
    dst_port: int
    seq: int
    ack: int
    flags: int
    payload_bytes: int
    window: int


def check_sum(segment: Segment) -> str:
    """Return CRC-32 of all its fields, 8 hexadecimal digits."""
    return f"{zlib.crc32(repr(tuple(segment)).encode()):08x}"


def segments_of(path: Path) -> dict[int, Segment]:
    """Run tshark on a capture: frame number -> its last TCP header, without headers that it finds too short to read."""
    command = ["tshark", "-n", "-r", str(path), "-Y", "tcp", "-T", "fields", "-E", "occurrence=l"]
    for field in FIELDS:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # 2 where the capture is damaged
    found = {}
    for line in done.stdout.splitlines():
        frame, protocols, ip_src, ip_dst, ipv6_src, ipv6_dst, *numbers = line.split("\t")
        if not all(numbers):
            continue
        outside = protocols.split(":")[: protocols.split(":").index("tcp")]
        six = "ipv6" in outside and ("ip" not in outside or outside[::-1].index("ipv6") < outside[::-1].index("ip"))
        src, dst = (ipv6_src, ipv6_dst) if six else (ip_src, ip_dst)
        src_port, dst_port, seq, ack, flags, length, window = (int(number, 0) for number in numbers)
        addresses = (str(ipaddress.ip_address(address)) for address in (src, dst))
        found[int(frame)] = Segment(
            *addresses, src_port, dst_port, seq, ack if flags & 0x10 else 0, flags & 0x1FF, length, window
        )
    return found


def frames_in_ranges(ranges: str) -> list[int]:
    """Return the numbers that "1-3,7" stands for."""
    numbers: list[int] = []
    for part in filter(None, ranges.split(",")):
        low, _, high = part.partition("-")
        numbers += range(int(low), int(high or low) + 1)
    return numbers


def _in_ranges(numbers: list[int]) -> str:
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def read_record() -> dict[str, dict[int, str]]:
    """Return what was recorded: capture (its path below the shared captures) -> frame -> check sum of its segment."""
    record: dict[str, list[str]] = json.loads(RECORD.read_text())["segments"]
    found = {}
    for name, (ranges, sums) in record.items():
        frames = frames_in_ranges(ranges)
        found[name] = {frame: sums[8 * i : 8 * i + 8] for i, frame in enumerate(frames)}
    return found


def main(arguments: list[str]) -> None:
    captures = Path(os.environ.get("CONNTRACK_SHARED", "../shared")) / "captures"
    if arguments:
        for frame, segment in segments_of(captures / arguments[0]).items():
            print(frame, *segment)
        return
    version = subprocess.run(["tshark", "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    record = {}
    for entry in json.loads((captures / "MANIFEST.json").read_text()):
        segments = segments_of(captures / entry["file"])
        record[entry["file"]] = [
            _in_ranges(sorted(segments)),
            "".join(check_sum(segments[f]) for f in sorted(segments)),
        ]
    says = "by capture: frames with a TCP segment, and CRC-32 of the fields of each"
    RECORD.write_text(json.dumps({"made_with": version, "a_line_is": says, "segments": record}, indent=0) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
