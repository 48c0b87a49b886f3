"""pyshark gives the segments that our own readers give, field by field.

On every eighth of the shared captures here, since tshark takes half a second to start; on all of them with

    CONNTRACK_SHARED=../shared python tests/regression/test_pyshark_segments.py
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from conntrack.capture import CaptureInfo, open_capture
from conntrack.errors import InputError

NOT_OPENED = {"ip_tunnel", "udp", "mpls", "pppoe", "unsupported_link_type", "not_ip"}
"""Where tshark may find TCP inside that our own readers count by these reasons."""
NO_TIME = "pyshark takes no packet without a time (KeyError: 'frame.time_epoch')"
FRAGMENT = "tshark shows no TCP in the first of several IPv6 fragments"
TIMES = {
    "clusterfuzz-testcase-minimized-FuzzTarget-6303070823907328": "539 seconds of microseconds: past 32 bits in tshark",
}
"""Capture -> why its times are not compared."""
OURS_ALONE = ("tag", "path", "copies", "pad0")


def captures(shared: Path) -> list[Path]:
    root = shared / "captures"
    return sorted(path for path in root.rglob("*") if path.is_file() and path.parent != root)


def read(path: Path, **how: str) -> tuple[np.ndarray, CaptureInfo]:
    with open_capture([path], **how) as capture:
        batches = [batch.copy() for batch in capture]
    return (np.concatenate(batches) if batches else np.zeros(0, [("frame", "u8")])), capture.info


def compare(path: Path) -> tuple[int, list[str]]:
    """Return how many segments both have, and what is different without one of the reasons above."""
    try:
        ours, info = read(path)
        theirs, said = read(path, reader="pyshark")
    except InputError:  # a format that one of them does not know
        return 0, []
    different = []
    if any("frame.time_epoch" in str(fault) for fault in said.faults):  # NO_TIME
        ours = ours[ours["frame"] <= said.packets]
    else:
        if info.packets != said.packets:
            different.append(f"{info.packets} packets, pyshark {said.packets}")
        if bool(info.faults) != bool(said.faults):
            different.append(f"faults {info.faults}, pyshark {said.faults}")
    both, here, there = np.intersect1d(ours["frame"], theirs["frame"], return_indices=True)
    missing = len(ours) - len(both)
    if missing and not info.skipped.get("ip_fragment"):  # FRAGMENT
        different.append(f"{missing} segments that pyshark does not have")
    if len(theirs) - len(both) > sum(info.skipped.get(reason, 0) for reason in NOT_OPENED):
        different.append(f"{len(theirs) - len(both)} segments that only pyshark has")
    if len(both):
        for field in ours.dtype.names or ():
            if field == "ts_ns" and path.name in TIMES:
                continue
            if field not in OURS_ALONE and (ours[here][field] != theirs[there][field]).any():
                different.append(f"{field} differs")
    return len(both), different


def test_the_same_segments(shared: Path) -> None:
    compared = 0
    for path in captures(shared)[::8]:
        segments, different = compare(path)
        assert different == [], path
        compared += segments
    assert compared > 1000


if __name__ == "__main__":
    total = bad = 0
    for each in captures(Path(os.environ["CONNTRACK_SHARED"])):
        found = compare(each)
        total += found[0]
        bad += bool(found[1])
        print(each.name, *found, flush=True)
    print(f"{total} segments compared; {bad} captures differ")
    sys.exit(bool(bad))
