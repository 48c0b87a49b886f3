"""What the first segments say besides numbers: the client's SYN, the network, the path; the tag as part of the key."""

from __future__ import annotations

import numpy as np
import pytest
from segments import Exchange, merge
from tracked import row_of, track

from conntrack.core.abi import HAS_SACK_PERMITTED, HAS_TIMESTAMP
from conntrack.tracker import Tracker

SYN = {"window": 29200, "mss": 1400, "ttl": 57, "window_scale": 9, "options": HAS_SACK_PERMITTED | HAS_TIMESTAMP}
COLUMNS = ("client_syn_window", "client_mss", "client_ttl", "client_window_scale", "client_options")
ENDS = [("10.0.0.1:40000", "10.0.0.2:80"), ("[2001:db8::1]:40000", "[2001:db8::2]:80")]


@pytest.mark.parametrize("ends", ENDS, ids=["v4", "v6"])
def test_the_clients_syn_stays(ends: tuple[str, str]) -> None:
    story = Exchange(*ends).client("S", **SYN).server("S.").client(".")
    for _ in range(40):
        story.client("P.", 100).server(".")
    row = row_of(story.client("F.").server("F.").client("."))
    assert [row[name] for name in COLUMNS] == [29200, 1400, 57, 9, HAS_SACK_PERMITTED | HAS_TIMESTAMP]


def test_a_second_syn_does_not_replace_the_first() -> None:
    assert row_of(Exchange().client("S", **SYN).client("S", window=1, seq=0))["client_syn_window"] == 29200


def test_without_a_syn_there_is_nothing() -> None:
    row = row_of(Exchange().client("P.", 10, seq=1).server("."))
    assert [row[name] for name in COLUMNS] == [0, 0, 0, 255, 0]


def test_a_syn_behind_its_answer_counts() -> None:
    segments = Exchange().client("S", **SYN).server("S.").client(".").segments()[[1, 0, 2]]
    assert [track(segments)[0][name] for name in COLUMNS][:3] == [29200, 1400, 57]


def test_tag_and_path_are_the_first_segments() -> None:
    row = row_of(Exchange().client("S", tag=12, path=3).server("S.", tag=13, path=4))
    assert (row["tag"], row["path"]) == (12, 3)


def test_the_next_connection_has_its_own() -> None:
    story = Exchange().client("S", **SYN).server("R.").wait(100).client("S", tag=5, seq=9000)
    rows = track(story.segments())
    assert rows["client_syn_window"].tolist() == [29200, 64000]
    assert rows["tag"].tolist() == [0, 5]


@pytest.mark.parametrize("ends", ENDS, ids=["v4", "v6"])
def test_the_same_4_tuple_on_two_networks(ends: tuple[str, str]) -> None:
    one = Exchange(*ends).client("S").server("S.").client(".").client("P.", 10).segments()
    other = Exchange(*ends, client_iss=77, server_iss=99).client("S").server("S.").client(".").segments()
    one["tag"], other["tag"] = 1, 2
    segments = merge(one, other)
    tracker = Tracker(tag_in_key=True, validate=True)
    tracker.process(segments)
    rows = tracker.snapshot()
    assert rows["tag"].tolist() == [1, 2]
    assert rows["client_packets"].tolist() == [3, 2]
    assert rows["generation"].tolist() == [1, 1]
    apart = [track(part)[0] for part in (one, other)]
    for row, alone in zip(rows, apart, strict=True):
        row = row.copy()
        row["flow_id"] = alone["flow_id"]
        assert row.tobytes() == alone.tobytes()


def test_without_the_tag_in_the_key_one_connection_may_come_by_two_networks() -> None:
    segments = Exchange().client("S").server("S.").client(".").segments()
    segments["tag"] = np.arange(3)
    assert len(track(segments)) == 1
