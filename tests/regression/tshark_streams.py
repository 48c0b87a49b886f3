"""The TCP streams that tshark finds in a capture, with its tcp.completeness of each; and a record of them to keep.

tshark takes a third of a second to start, 256 times: what it says of all shared captures was recorded once, in
tshark_streams.json, with tshark 4.0.17. To record it again (five minutes):

    CONNTRACK_SHARED=../shared python tests/regression/tshark_streams.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

__all__ = ["RECORD", "Stream", "completeness", "read_record", "streams_of"]

RECORD = Path(__file__).with_suffix(".json")

FIELDS = ("frame.number", "tcp.stream", "tcp.completeness", "tcp.flags", "tcp.len")

SYN, SYN_ACK, ACK, DATA, FIN, RST = 1, 2, 4, 8, 16, 32


class Stream(NamedTuple):
    first_frame: int
    packets: int
    completeness: int
    first_bits: int
    """The bits that its first segment stands for, by `completeness`."""


def completeness(flags: int, payload_bytes: int) -> int:
    """Return the bits that one segment stands for, by the rules of Wireshark's packet-tcp.c."""
    syn, ack = flags & 0x02, flags & 0x10
    bits = RST if flags & 0x04 else 0
    if syn:
        return bits | (SYN_ACK if ack else SYN | (DATA if payload_bytes else 0))
    if ack:
        bits |= DATA if payload_bytes else ACK
        bits |= FIN if flags & 0x01 else 0
    return bits


def streams_of(path: Path) -> list[Stream]:
    """Run tshark on a capture (two passes: in one, a segment shows the bits without its own)."""
    command = ["tshark", "-2", "-n", "-r", str(path), "-Y", "tcp", "-T", "fields"]
    for field in FIELDS:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # 2 where the capture is damaged
    found: dict[int, list[list[str]]] = defaultdict(list)
    for line in done.stdout.splitlines():
        values = line.split("\t")
        if values[1]:  # TCP headers too short to be one have no stream
            found[int(values[1])].append(values)
    streams = []
    for segments in found.values():
        frame, _, _, flags, length = segments[0]
        first_bits = completeness(int(flags or "0", 16), int(length or 0))
        streams.append(Stream(int(frame), len(segments), int(segments[-1][2] or 0), first_bits))
    return streams


def _in_ranges(numbers: list[int]) -> str:
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def _numbers(ranges: str) -> list[int]:
    numbers = []
    for part in ranges.split(","):
        low, _, high = part.partition("-")
        numbers += range(int(low), int(high or low) + 1)
    return numbers


def read_record() -> dict[str, list[Stream]]:
    """Return what was recorded: capture (its path below the shared captures) -> streams by first frame."""
    record: dict[str, list[str]] = json.loads(RECORD.read_text())["streams"]
    found = {}
    for name, lines in record.items():
        streams = []
        for line in lines:
            packets, bits, first_bits, frames = line.split(" ")
            streams += [Stream(frame, int(packets), int(bits), int(first_bits)) for frame in _numbers(frames)]
        found[name] = sorted(streams)
    return found


def main() -> None:
    captures = Path(os.environ.get("CONNTRACK_SHARED", "../shared")) / "captures"
    version = subprocess.run(["tshark", "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    record: dict[str, list[str]] = {}
    for entry in json.loads((captures / "MANIFEST.json").read_text()):
        alike: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for first_frame, packets, bits, first_bits in streams_of(captures / entry["file"]):
            alike[packets, bits, first_bits].append(first_frame)
        record[entry["file"]] = [
            f"{packets} {bits} {first_bits} {_in_ranges(frames)}"
            for (packets, bits, first_bits), frames in sorted(alike.items())
        ]
    says = "by capture: packets, tcp.completeness, the first segment's own bits, first frames of the streams alike"
    RECORD.write_text(json.dumps({"made_with": version, "a_line_is": says, "streams": record}, indent=0) + "\n")


if __name__ == "__main__":
    sys.exit(main())
