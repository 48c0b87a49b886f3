"""The worked example that every engineer knows: an SSH session from SYN to the end of TIME_WAIT, segment by segment.

Once as a story of our own, and once as tcpdump printed a real one (45 segments, in the shared captures).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from segments import FLAGS, Exchange
from tracked import Pair, after_each, row_of, track

from conntrack.core.abi import SEGMENT_DTYPE
from conntrack.states import ClosedBy, EndReason, TcpState

(CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED) = list(TcpState)[:5]
(FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT) = list(TcpState)[5:]

OPENING = [(SYN_SENT, LISTEN), (SYN_SENT, SYN_RECEIVED), (ESTABLISHED, ESTABLISHED)]
ENDING = [(FIN_WAIT_1, CLOSE_WAIT), (FIN_WAIT_2, CLOSE_WAIT), (TIME_WAIT, LAST_ACK), (TIME_WAIT, CLOSED)]

LINE = re.compile(
    r"(?P<h>\d+):(?P<m>\d+):(?P<s>[\d.]+) IP (?P<src>\S+) > (?P<dst>\S+): Flags \[(?P<flags>[^]]+)\]"
    r"(?:, seq (?P<seq>\d+)(?::\d+)?)?(?:, ack (?P<ack>\d+))?, win (?P<win>\d+)(?:, options \[(?P<options>[^]]*)\])?"
    r", length (?P<length>\d+)"
)
"""One line of this file; reading tcpdump's text in general is the work of conntrack.capture."""


def expected(segments: int) -> list[Pair]:
    return [*OPENING, *[(ESTABLISHED, ESTABLISHED)] * (segments - 7), *ENDING]


def read(text: str) -> NDArray[np.void]:
    """The segments of the file: relative numbers made absolute, the client on port 49972, the server on 22."""
    rows = np.zeros(len(text.splitlines()), dtype=SEGMENT_DTYPE)
    iss: dict[str, int] = {}
    nxt: dict[str, int] = {}
    for row, line in zip(rows, text.splitlines(), strict=True):
        match = LINE.fullmatch(line.strip())
        assert match, line
        source, target, length = match["src"], match["dst"], int(match["length"])
        seq = nxt[source] if match["seq"] is None else int(match["seq"]) + iss.get(source, 0)
        if "S" in match["flags"]:
            iss[source] = seq
            ack = int(match["ack"] or 0)
        else:
            ack = iss[target] + int(match["ack"])
        nxt[source] = seq + length + ("S" in match["flags"]) + ("F" in match["flags"])
        server = source.endswith(".ssh")
        row["src_ip"][:], row["dst_ip"][:] = [
            np.frombuffer(bytes(10) + b"\xff\xff" + ip, np.uint8)
            for ip in ((b"\n\x9f\x34\x08", b"\n\x01\x02\x03") if server else (b"\n\x01\x02\x03", b"\n\x9f\x34\x08"))
        ]
        row["src_port"], row["dst_port"] = (22, 49972) if server else (49972, 22)
        row["ts_ns"] = (int(match["h"]) * 3600 + int(match["m"]) * 60) * 10**9 + round(float(match["s"]) * 1e6) * 1000
        row["seq"], row["ack"], row["window"], row["payload_bytes"] = seq, ack, int(match["win"]), length
        row["flags"] = sum(FLAGS[letter] for letter in match["flags"])
        scale = re.search(r"wscale (\d+)", match["options"] or "")
        row["window_scale"] = int(scale[1]) if scale else 255
        row["ip_version"], row["ttl"], row["wire_bytes"] = 4, 64, length + 54
    rows["frame"] = np.arange(1, len(rows) + 1)
    return rows


def our_own() -> Exchange:
    """A session like it: versions, key exchange, commands, and the client ends it."""
    story = Exchange("10.0.0.1:49972", "10.0.0.2:22", client_iss=211_844_352, server_iss=3_413_662_952, scale=9)
    story.client("S").server("S.").client(".")
    story.client("P.", 21).server(".").server("P.", 18).client(".").client("P.", 1536).server(".").server("P.", 480)
    story.client("P.", 24).server("P.", 280).client("P.", 272).server(".").wait(5)
    story.client("P.", 148).server(".").server("P.", 36).client(".").client("P.", 72)
    return story.client("F.").server(".").server("F.").client(".")


def test_our_own_session() -> None:
    story = our_own()
    segments = story.segments()
    assert after_each(segments) == expected(len(segments))


def test_our_own_session_is_over_after_two_msl() -> None:
    row = row_of(our_own(), 60.001)
    assert (row["client_state"], row["server_state"]) == (CLOSED, CLOSED)
    assert (row["closed_by"], row["end_reason"]) == (ClosedBy.CLIENT, EndReason.FIN)
    fin_ts_ns = our_own().segments()["ts_ns"][-2]  # the last that the client received
    assert row["closed_ts_ns"] == fin_ts_ns + 60_000_000_000
    assert row["client_payload_bytes"] == 21 + 1536 + 24 + 272 + 148 + 72


def test_the_session_of_the_shared_captures(shared: Path) -> None:
    segments = read((shared / "captures" / "ssh-session.tcpdump.txt").read_text())
    assert len(segments) == 45
    assert after_each(segments) == expected(45)
    end = track(segments, at_ns=int(segments["ts_ns"][-1]) + 60_000_000_001)[-1]
    assert (end["client_state"], end["server_state"]) == (CLOSED, CLOSED)
    assert (end["client_packets"], end["server_packets"]) == (23, 22)
    assert (end["client_unique_bytes"], end["server_unique_bytes"]) == (3449, 1874)
    assert end["client_retransmits"] == end["server_retransmits"] == 0
