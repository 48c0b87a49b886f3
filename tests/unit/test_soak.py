"""A soak of some seconds (benches/soak.py runs it for an hour): rotation, stalls, signals, then the same answer."""

from __future__ import annotations

import signal

from benches.soak import soak


def test_live_traffic_gives_the_answer_of_the_same_packets_at_once() -> None:
    done = soak(6, 4_000, rotated_packets=500)
    assert done["files"] == done["packets"] // 500 + 1
    for which, code in (("live", 0), ("follow", 128 + signal.SIGINT)):
        assert done[which]["same"]
        assert done[which]["code"] == code
        second, last = done[which]["descriptors"]
        assert last <= second + 2, "one for each file that was rotated would be more"
