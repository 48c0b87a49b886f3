"""What tshark says of the 49 files of pcapng-test-generator: packets, and the earliest and latest time of them.

tshark takes a third of a second to start: what it says was recorded once, in tshark_packets.json, with tshark 4.0.17.
It shows custom and systemd journal blocks as packets, too; those are no frames and are left out. To record again:

    CONNTRACK_SHARED=../shared python tests/regression/tshark_packets.py
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

__all__ = ["RECORD", "generated"]

RECORD = Path(__file__).with_suffix(".json")


def generated(shared: Path) -> list[Path]:
    """The files of the generator, in order."""
    return sorted((shared / "captures" / "hadrielk+pcapng-test-generator").rglob("*.pcap*"))


def packets_of(path: Path) -> list[int | None]:
    """Return number of packets, earliest and latest time in nanoseconds of one file."""
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.protocols"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    packets = [time for time, protocols in rows if protocols.startswith(("eth", "null", "ip", "raw"))]
    times = sorted(int(time.replace(".", "")) for time in packets if time)
    return [len(packets), times[0] if times else None, times[-1] if times else None]


if __name__ == "__main__":
    shared = Path(os.environ["CONNTRACK_SHARED"])
    record = {str(path.relative_to(shared / "captures")): packets_of(path) for path in generated(shared)}
    RECORD.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in record.items()) + "\n}\n")
