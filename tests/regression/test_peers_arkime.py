"""The sessions that Arkime publishes for its own captures: its test suite's expected output, in the shared folder.

Compared: both endpoints, packets and bytes each way, the SYNs, FINs and RSTs of both ends together, and the times of
the first and the last segment in ms. Each difference is listed here with the reason why ours is right.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from conntrack.addresses import ip_text
from conntrack.capture import open_capture
from conntrack.core.abi import FLOW_DTYPE
from conntrack.pipeline import flow_batches
from conntrack.tracker import Tracker

Session = tuple[Any, ...]

DIFFERENT: dict[str, tuple[str, Counter[Session], Counter[Session]]] = {
    "long-session": (
        "Arkime ends a session after 15 idle minutes. The RST that comes 2 ms after its last segment carries the next"
        " sequence number of the server: it is the end of that connection, and not a second one of a single RST.",
        Counter([("10.0.0.1:54869", "10.0.0.2:80", 3, 2, 187, 126, 2, 0, 1, 1401385380102, 1401386288597)]),
        Counter(
            [
                ("10.0.0.1:54869", "10.0.0.2:80", 3, 1, 187, 66, 2, 0, 0, 1401385380102, 1401386288595),
                ("10.0.0.1:54869", "10.0.0.2:80", 0, 1, 0, 60, 0, 0, 1, 1401385380102, 1401386288597),
            ]
        ),
    ),
    "mongo": (
        "Two or three frames of each connection are there twice, on two VLANs and a hop apart, with the same IP id and"
        " within 16 us: duplicated frames, which Arkime counts as segments.",
        Counter(
            [
                ("10.10.10.10:51822", "10.10.10.11:27017", 3, 1, 469, 78, 2, 0, 0, 1483459978959, 1483459979301),
                ("10.10.10.12:55582", "10.10.10.13:27017", 3, 1, 281, 78, 2, 0, 0, 1483558834969, 1483558835131),
                ("10.10.10.18:64566", "10.10.10.19:30000", 3, 1, 295, 78, 2, 0, 0, 1483814916005, 1483814916108),
            ]
        ),
        Counter(
            [
                ("10.10.10.10:51822", "10.10.10.11:27017", 5, 1, 621, 78, 3, 0, 0, 1483459978959, 1483459979301),
                ("10.10.10.12:55582", "10.10.10.13:27017", 5, 1, 433, 78, 3, 0, 0, 1483558834969, 1483558835131),
                ("10.10.10.18:64566", "10.10.10.19:30000", 5, 2, 447, 156, 4, 0, 0, 1483814916005, 1483814916108),
            ]
        ),
    ),
    "80211http": (
        "A radio's retransmission of a frame is the same packet: it is there twice, 4 ms apart, with the same IP id.",
        Counter([("172.5.5.113:49417", "14.17.32.211:80", 16, 9, 6639, 5069, 2, 0, 0, 1523241953739, 1523241984047)]),
        Counter([("172.5.5.113:49417", "14.17.32.211:80", 17, 9, 6763, 5069, 2, 0, 0, 1523241953739, 1523241984047)]),
    ),
    "ospf": (
        "Segments of one direction and no handshake: Arkime calls the first sender the source. Its port is 179, where"
        " BGP listens, and the other's is ephemeral: that one opened the connection.",
        Counter(
            [
                ("172.16.0.2:35069", "172.16.0.3:179", 0, 3, 0, 217, 0, 0, 0, 1571662521545, 1571662581526),
                ("172.16.0.4:33771", "172.16.0.1:179", 0, 3, 0, 217, 0, 0, 0, 1571662538526, 1571662598506),
            ]
        ),
        Counter(
            [
                ("172.16.0.3:179", "172.16.0.2:35069", 3, 0, 217, 0, 0, 0, 0, 1571662521545, 1571662581526),
                ("172.16.0.1:179", "172.16.0.4:33771", 3, 0, 217, 0, 0, 0, 0, 1571662538526, 1571662598506),
            ]
        ),
    ),
}
"""By capture: the reason, the sessions that only we have, the sessions that only Arkime has."""


def of_ours(path: Path) -> Counter[Session]:
    with open_capture([path]) as capture:
        parts = [rows.copy() for rows in flow_batches(capture, Tracker(validate=True))]
    found: Counter[Session] = Counter()
    for row in np.concatenate([np.empty(0, FLOW_DTYPE), *parts]):
        version = int(row["ip_version"])
        ends = [f"{ip_text(row[f'{end}_ip'].tobytes(), version)}:{row[f'{end}_port']}" for end in ("client", "server")]
        sent = [int(row[f"{end}_{what}"]) for what in ("packets", "wire_bytes") for end in ("client", "server")]
        seen = [int(row[f"client_{what}"]) + int(row[f"server_{what}"]) for what in ("syns", "fins", "rsts")]
        times = [int(row[f"{when}_ts_ns"]) // 1_000_000 for when in ("first", "last")]
        found[(*ends, *sent, *seen, *times)] += 1
    return found


def of_arkime(sessions: list[dict[str, Any]]) -> Counter[Session]:
    found: Counter[Session] = Counter()
    for session in sessions:
        flags = session["flags"]
        sent = [session[key] for key in ("src_pkts", "dst_pkts", "src_bytes", "dst_bytes")]
        seen = [flags["syn"] + flags["syn-ack"], flags["fin"], flags["rst"]]
        found[(session["src"], session["dst"], *sent, *seen, session["first"], session["last"])] += 1
    return found


def test_sessions_are_arkimes(shared: Path) -> None:
    expected = json.loads((shared / "captures" / "expected_arkime.json").read_text())
    equal = different = 0
    for test, entry in expected.items():
        name = test.removeprefix("tests/pcap/")
        ours = of_ours(shared / "captures" / "arkime+arkime" / f"{test}.pcap")
        theirs = of_arkime(entry["tcp_sessions"])
        _, only_ours, only_theirs = DIFFERENT.get(name, ("", Counter(), Counter()))
        assert ours - theirs == only_ours, name
        assert theirs - ours == only_theirs, name
        equal += (ours & theirs).total()
        different += only_theirs.total()
    assert (equal, different) == (48, 8)
