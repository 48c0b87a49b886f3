"""tshark's streams and their tcp.completeness on all shared captures, against our connections and our column.

A stream of tshark and a connection of ours are the same where they begin with the same frame and have as many
segments, duplicated frames included: tshark counts those. tshark was asked once (tshark_streams.py), and is asked again
for a few captures. Each difference is listed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tshark_streams import Stream, read_record, streams_of

from conntrack.capture import open_capture
from conntrack.core.abi import FLOW_DTYPE
from conntrack.errors import InputError
from conntrack.pipeline import flow_batches
from conntrack.tracker import Tracker

SURICATA = "OISF+suricata-verify/tests/"
PCAPPP = "seladb+PcapPlusPlus/Tests/"
FUZZED = PCAPPP + "Fuzzers/RegressionTests/regression_samples/"
TCPDUMP = "the-tcpdump-group+tcpdump/tests/"
ZEEK = "zeek+zeek/testing/btest/Traces/"

ICMP_FRAMES = (24, 179, 181, 183, 185, 187, 189, 191, 193, 195, 197, 219, 232, 236, 238, 240, 242)

Keys = set[tuple[int, int]]

OTHER_STREAMS: dict[str, tuple[str, Keys, Keys]] = {
    ZEEK + "ipv4/fragmented-4.pcap": (
        "fragments that overlap: hosts drop the packet (Linux since 2018), tshark puts it together",
        {(6, 1)},
        {(5, 2)},
    ),
    SURICATA + "drop-protocol-change/input.pcap": (
        "frame 7 has a TCP header length of 8: no TCP segment, and its ports are not to be believed",
        set(),
        {(7, 1)},
    ),
    SURICATA + "tcp-split-handshake-02-5whs/split-handshake-5whs.pcap": (
        "a bare ACK answers the SYN, then a SYN: tshark begins another connection with that. It is one: the client"
        " answers with its first sequence number (RFC 9293 sections 3.5 and 3.10.7.3)",
        {(1, 8)},
        {(1, 2), (3, 6)},
    ),
    SURICATA + "transform-base64-7296/input.pcap": (
        "frame 11 has a TCP header length that is beyond the packet: no segment. In the other connections single"
        " segments are of 2023 and 2024: ours come in order of time, Wireshark's as they lie in the file",
        {(1, 16), (2, 1), (17, 13), (27, 24), (39, 1)},
        {(1, 17), (11, 2), (13, 13), (27, 25)},
    ),
    PCAPPP + "Pcap++Test/PcapExamples/pcapng-example.pcapng": (
        "a jump of the clock: the SYN is of 2015, its answer of 2061, and comes last in order of time",
        {(1, 58), (2, 1)},
        {(1, 59)},
    ),
    SURICATA + "bug-1450-04/tls_DER-incomplete-header.pcap": (
        "a jump of the clock by years: ours come in order of time, Wireshark's as they lie in the file",
        {(1, 5), (2, 1)},
        {(1, 6)},
    ),
    ZEEK + "ipv6-http-atomic-frag.pcap": (
        "the SYN lies behind its SYN+ACK in the file; in order of time it is the first",
        {(4, 10)},
        {(3, 10)},
    ),
    TCPDUMP + "timestamp_invalid_micro.pcap": (
        "a jump of the clock: 2^31 us is taken for 2147 s, in which the handshake had run out",
        {(1, 2), (3, 1)},
        {(1, 3)},
    ),
    "arkime+arkime/tests/pcap/ospf.pcap": (
        "tshark counts the TCP headers that ICMP errors quote: those segments are not on their way here",
        {(frame, 1) for frame in ICMP_FRAMES},
        {(frame, 2) for frame in ICMP_FRAMES},
    ),
    FUZZED + "crash-exception-cast-constructed-record": (
        "damaged: frame 2 claims more bytes captured than tshark allows for; ours reads it whole",
        {(2, 1)},
        set(),
    ),
}
"""By capture: the reason; (first frame, segments) of the connections that only ours has, that only tshark has."""

FTP = (
    "SYN: the FTP dissector had announced the stream, and Wireshark takes the SYN of a new one only. The first frame of"
    " each is a plain SYN, the second its SYN+ACK"
)
OTHER_BITS: dict[str, tuple[str, dict[tuple[int, int], int]]] = {
    SURICATA + "bug-5437-02/input.pcap": (
        "ACK and FIN: the FINs of frames 57 and 59 acknowledge 2438278675; the SYN of frame 30, which has no answer, is"
        " 3524690798. They are of the connection of frame 18, by a balancer that rewrites addresses",
        {(1, 21): 1},
    ),
    SURICATA + "output-eve-ftp-data/input.pcap": (FTP, {(31, 30): 2}),
    ZEEK + "ftp/ipv6.pcap": (FTP, {(31, 30): 3}),
    FUZZED + "clusterfuzz-testcase-minimized-FuzzTarget-5165538295939072": (
        "SYN and FIN in one segment with 60125 bytes: no host sends that, and it opens nothing (RFC 9293 3.10.7.2)",
        {(0, 9): 1},
    ),
    FUZZED + "clusterfuzz-testcase-minimized-FuzzTarget-5755755617189888": (
        "a single segment (see test) of 3.6 GB, whose FIN would be outside of any window: the FIN does not count",
        {(8, 0): 1},
    ),
}
"""By capture: the reason, and (our bits, tshark's bits) -> how many."""

ASKED_AGAIN = (
    ZEEK + "wikipedia.pcap",
    SURICATA + "dnp3/dnp3-eve/input.pcap",
    SURICATA + "tls/tls-subjectaltname/input.pcap",
    "arkime+arkime/tests/pcap/mongo.pcap",
    "cisco+joy/test/pcaps/sample.pcap",
    TCPDUMP + "tfo-5c1fa7f9ae91.pcap",
)


def of_ours(path: Path) -> dict[tuple[int, int], int]:
    """(First frame, segments) -> completeness."""
    try:
        with open_capture([path]) as capture:
            parts = [rows.copy() for rows in flow_batches(capture, Tracker(validate=True))]
    except InputError:
        return {}
    rows: np.ndarray[Any, Any] = np.concatenate([np.empty(0, FLOW_DTYPE), *parts])
    segments = sum(rows[f"{side}_{what}"] for side in ("client", "server") for what in ("packets", "duplicates"))
    keys = zip(rows["flow_id"].tolist(), segments.tolist(), strict=True)
    return dict(zip(keys, rows["completeness"].tolist(), strict=True))


def test_streams_and_bits_are_tsharks(shared: Path) -> None:
    """Every stream and every bit, but for what is listed above, and single segments that are no SYN.

    Of the first segment of a stream Wireshark takes a SYN, and all else only in its second pass, after it has shown
    the bits: of a stream that is one data segment, or one RST, it shows 0. Ours says what was seen.
    """
    equal = single = other = 0
    record = read_record()
    assert len(record) == 256
    for name, streams in record.items():
        theirs: dict[tuple[int, int], Stream] = {(stream.first_frame, stream.packets): stream for stream in streams}
        assert len(theirs) == len(streams)
        ours = of_ours(shared / "captures" / name)
        assert bool(theirs) <= bool(ours), name
        _, only_ours, only_theirs = OTHER_STREAMS.get(name, ("", set(), set()))
        assert (ours.keys() - theirs.keys(), theirs.keys() - ours.keys()) == (only_ours, only_theirs), name
        different: dict[tuple[int, int], int] = {}
        for key in ours.keys() & theirs.keys():
            stream = theirs[key]
            if stream.completeness == ours[key]:
                equal += 1
            elif stream.packets == 1 and stream.completeness == 0 and stream.first_bits == ours[key]:
                single += 1
            else:
                pair = (ours[key], stream.completeness)
                different[pair] = different.get(pair, 0) + 1
        assert different == OTHER_BITS.get(name, ("", {}))[1], name
        other += sum(different.values())
    assert (equal, single, other) == (11114, 129, 8)


def test_the_record_is_what_tshark_says(shared: Path) -> None:
    """For a few captures; all of them take minutes (tshark_streams.py)."""
    if shutil.which("tshark") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("tshark is not installed")
        pytest.skip("tshark is not installed")
    record = read_record()
    for name in ASKED_AGAIN:
        assert sorted(streams_of(shared / "captures" / name)) == record[name], name
