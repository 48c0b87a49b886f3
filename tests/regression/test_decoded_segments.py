"""On all shared captures: the TCP segments decoded are those of tshark, frame by frame and field by field.

Whatever link, tag or tunnel they are in: of each the innermost addresses, ports, sequence numbers, flags, payload and
window. tshark was asked once (tshark_segments.py) and is asked again for a few captures. Each difference is listed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tshark_segments import Segment, check_sum, read_record, segments_of

from conntrack.addresses import ip_text
from conntrack.capture import CaptureInfo, open_capture


def segments_here(path: Path) -> tuple[dict[int, Segment], CaptureInfo]:
    """Frame number -> its segment."""
    found: dict[int, Segment] = {}
    with open_capture([path]) as capture:
        for batch in capture:
            for row in batch:
                version = int(row["ip_version"])
                addresses = (ip_text(row[end].tobytes(), version) for end in ("src_ip", "dst_ip"))
                names = ("src_port", "dst_port", "seq", "ack", "flags", "payload_bytes", "window")
                found[int(row["frame"])] = Segment(*addresses, *(int(row[name]) for name in names))
    return found, capture.info


SURICATA = "OISF+suricata-verify/tests/"
FUZZED = "seladb+PcapPlusPlus/Tests/Fuzzers/RegressionTests/regression_samples/"
ZEEK = "zeek+zeek/testing/btest/Traces/"

Frames = set[int]

DIFFERENT: dict[str, tuple[str, Frames, Frames, Frames]] = {
    FUZZED + "clusterfuzz-testcase-minimized-FuzzTarget-5755755617189888": (
        "a frame of 3.6 GB by its header, IP length 0: tshark's frames end at 2^31",
        set(),
        set(),
        {1},
    ),
    FUZZED + "crash-exception-cast-constructed-record": (
        "damaged: frame 2 claims more bytes captured than tshark allows for; ours reads it whole",
        {2},
        set(),
        set(),
    ),
    "the-tcpdump-group+tcpdump/tests/of13_ericsson.pcapng": (
        "tshark's last addresses are those of packets that OpenFlow quotes; ports and all else are the segment's",
        set(),
        set(),
        {65, 66, 68, 69},
    ),
    ZEEK + "chksums/ip6-route0-tcp-bad-chksum.pcap": (
        "a routing header: tshark's field has the next hop, its own conversation the final destination, as ours",
        set(),
        set(),
        {1},
    ),
    ZEEK + "chksums/ip6-route0-tcp-good-chksum.pcap": ("as above", set(), set(), {1}),
    ZEEK + "ipv4/fragmented-4.pcap": (
        "fragments that overlap: hosts drop the packet (Linux since 2018), tshark puts it together",
        set(),
        {5},
        set(),
    ),
    ZEEK + "tcp/reassembly.pcap": (
        "IP lengths 8 bytes beyond the end of the frame: tshark takes what the frame has, ours what IP says",
        set(),
        set(),
        {7, 26, 35, 39, 85},
    ),
}
"""By capture: the reason; frames with a segment that only ours has, that only tshark has, and with other fields."""

ASKED_AGAIN = (
    "arkime+arkime/tests/pcap/80211http.pcap",
    "arkime+arkime/tests/pcap/gre-erspan-vxlan.pcap",
    "the-tcpdump-group+tcpdump/tests/ipoib.pcap",
    "kbandla+dpkt/examples/data/nb6-http.pcap",
    SURICATA + "bug-6402-01/input.pcap",
    ZEEK + "ipv4/fragmented-syn.pcap",
    ZEEK + "tunnels/gre-aruba.pcap",
)
"""Captures of many layers."""


def test_segments_are_tsharks(shared: Path) -> None:
    """Every frame of every capture, but for what is listed above."""
    record = read_record()
    assert len(record) == 256
    equal = 0
    for name, theirs in record.items():
        ours, info = segments_here(shared / "captures" / name)
        assert len(ours) == info.tcp_segments
        sums = {frame: check_sum(segment) for frame, segment in ours.items()}
        different = {frame for frame in sums.keys() & theirs.keys() if sums[frame] != theirs[frame]}
        _, *expected = DIFFERENT.get(name, ("", set(), set(), set()))
        assert [sums.keys() - theirs.keys(), theirs.keys() - sums.keys(), different] == expected, name
        equal += len(sums.keys() & theirs.keys()) - len(different)
    assert equal == 30625


def test_the_record_is_what_tshark_says(shared: Path) -> None:
    """For a few captures, and field by field; all of them take minutes (tshark_segments.py)."""
    if shutil.which("tshark") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("tshark is not installed")
        pytest.skip("tshark is not installed")
    record = read_record()
    for name in ASKED_AGAIN:
        theirs = segments_of(shared / "captures" / name)
        assert {frame: check_sum(segment) for frame, segment in theirs.items()} == record[name], name
        ours, _ = segments_here(shared / "captures" / name)
        assert ours == theirs, name
