"""Duplicated frames are counted and change nothing else; what only looks like one is none (core/copies.pxd)."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from segments import STORIES, Exchange, in_state
from tracked import row_of, track

from conntrack.states import FlowFlag

V4 = ("10.0.0.1:40000", "10.0.0.2:80")
V6 = ("[2001:db8::1]:40000", "[2001:db8::2]:80")


def transfer(ends: tuple[str, str] = V4, **options: object) -> Exchange:
    story = Exchange(*ends, **options).client("S").server("S.").client(".")
    story.client("P.", 100).server(".").server("P.", 1448).server("P.", 1448).client(".").client("F.").server("F.")
    return story.client(".")


def mirrored(segments: NDArray[np.void], *, late_ns: int = 20_000, burst: int = 1) -> NDArray[np.void]:
    """Each frame twice, the copies behind every `burst` frames."""
    parts = []
    for at in range(0, len(segments), burst):
        part = segments[at : at + burst]
        copies = part.copy()
        copies["ts_ns"] += late_ns
        copies["ttl"] -= 1
        copies["tag"] = 7
        parts += [part, copies]
    rows = np.concatenate(parts)
    rows["frame"] = np.arange(1, len(rows) + 1)
    return rows


def without(rows: NDArray[np.void], *fields: str) -> bytes:
    rows = rows.copy()
    for field in fields:
        rows[field] = 0
    return rows.tobytes()


@pytest.mark.parametrize("states", STORIES, ids=lambda pair: f"{pair[0].name}-{pair[1].name}")
def test_a_mirrored_capture_is_the_capture(states: tuple[int, int]) -> None:
    segments = in_state(*states).segments()
    plain, twice = track(segments), track(mirrored(segments))
    assert without(twice, "client_duplicates", "server_duplicates") == without(plain)
    for side in ("client", "server"):
        assert int(twice[f"{side}_duplicates"][0]) == int(plain[f"{side}_packets"][0])
    assert not plain["client_duplicates"].any()


def test_bursts_of_copies_are_copies_too() -> None:
    segments = transfer(step_s=0.0001).segments()
    row = track(mirrored(segments, burst=2))[0]
    plain = track(segments)[0]
    for field in ("client_packets", "server_packets", "client_retransmits", "server_retransmits", "client_state"):
        assert row[field] == plain[field]


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_copies(count: int) -> None:
    story = transfer()
    for _ in range(count):
        story.copy(3)
    assert row_of(story)["client_duplicates"] == 0  # it was long ago: segments came between, and more than a moment
    story = Exchange(*V4).client("S").server("S.").client(".").client("P.", 10)
    for _ in range(count):
        story.copy(3)
    row = row_of(story)
    assert (row["client_duplicates"], row["client_packets"], row["client_retransmits"]) == (count, 3, 0)


class TestWithoutAnId:
    def test_what_takes_sequence_space_is_known(self) -> None:
        segments = transfer(V6).segments()
        row, plain = track(mirrored(segments))[0], track(segments)[0]
        assert int(row["client_duplicates"]) == int(np.sum(segments["payload_bytes"][:4] > 0)) + 2  # SYN, data, FIN
        assert int(row["server_duplicates"]) == 4
        for field in ("client_retransmits", "server_retransmits", "client_state", "server_state"):
            assert row[field] == plain[field]

    def test_a_syn_ack_is_known_though_the_ack_came_between(self) -> None:
        """A mirror port that is a little late: Linux gives its SYN+ACK no id, and does not send it again so soon."""
        segments = Exchange(*V4, step_s=0.0001).client("S").server("S.").client(".").client("P.", 10).segments()
        segments["ip_id"][1] = 0
        row = track(mirrored(segments, late_ns=1_000_000, burst=3))[0]
        assert (row["server_duplicates"], row["server_retransmits"]) == (1, 0)
        assert not row["flags"] & FlowFlag.ACCEPT_QUEUE

    def test_a_syn_ack_for_a_syn_that_came_again_is_none(self) -> None:
        segments = Exchange(*V4, step_s=0.003).client("S").server("S.").again(0).again(1).segments()
        segments["ip_id"][[1, 3]] = 0
        row = track(segments)[0]
        assert (row["server_duplicates"], row["server_syns"]) == (0, 2)

    def test_duplicate_acks_are_meant(self) -> None:
        story = Exchange(*V6).client("S").server("S.").client(".").server("P.", 1448, lost=True).server("P.", 1448)
        for _ in range(3):
            story.client(".", ack=1)
        segments = story.segments()
        segments["ts_ns"][-3:] = segments["ts_ns"][-3]
        row = track(segments)[0]
        assert (row["client_packets"], row["client_duplicates"]) == (5, 0)

    def test_a_fast_retransmission_is_none(self) -> None:
        story = Exchange(*V6, step_s=0.00001).client("S").server("S.").client(".").server("P.", 1448)
        story.client(".", ack=1).client(".", ack=1).client(".", ack=1).again(3)
        row = row_of(story)
        assert (row["server_retransmits"], row["server_duplicates"]) == (1, 0)

    def test_nor_is_a_tail_loss_probe(self) -> None:
        story = Exchange(*V6, step_s=0.002).client("S").server("S.").client(".").server("P.", 1448).again(3)
        row = row_of(story)
        assert (row["server_retransmits"], row["server_duplicates"]) == (1, 0)


def test_the_first_syn_is_known_by_its_id_though_the_handshake_came_between() -> None:
    segments = Exchange(*V4, step_s=0.0001).client("S").server("S.").client(".").client("P.", 10).again(0).segments()
    segments["ip_id"][4] = segments["ip_id"][0]
    row = track(segments)[0]
    assert (row["client_syns"], row["client_duplicates"]) == (1, 1)


class TestNotACopy:
    @pytest.mark.parametrize("behind", [16, 31, 32, 64, 65_000])
    def test_a_syn_with_an_id_of_long_before(self, behind: int) -> None:
        """Which of the last 16 ids were there says nothing of one that is a multiple of 32 away."""
        segments = Exchange(*V4, step_s=0.00001).client("S").copy(0).server("S.").again(0).segments()
        segments["ip_id"][[0, 1]] = 1000
        segments["ip_id"][3] = (1000 - behind) % 2**16
        row = track(segments)[0]
        assert (row["client_syns"], row["client_duplicates"]) == (2, 1)

    def test_what_comes_from_a_host_that_gives_all_packets_one_id(self) -> None:
        """RFC 6864, 4.1 allows it; tools that write captures do it."""
        story = (
            Exchange(*V4, step_s=0.0001).client("S").server("S.").client(".").client("P.", 10).client("P.", 20).again()
        )
        segments = story.segments()
        segments["ip_id"] = 1
        row = track(segments)[0]
        assert (row["client_retransmits"], row["client_duplicates"]) == (1, 0)

    def test_a_syn_sent_again_has_another_id_though_it_overtakes(self) -> None:
        segments = Exchange(*V4, step_s=0.0001).client("S").server("S.").client(".").again(0).segments()
        segments["ip_id"][[2, 3]] = 7, 6
        row = track(segments)[0]
        assert (row["client_syns"], row["client_duplicates"]) == (2, 0)

    def test_a_retransmission_has_another_id(self) -> None:
        story = Exchange(*V4, step_s=0.0001).client("S").server("S.").client(".").client("P.", 10).again()
        row = row_of(story)
        assert (row["client_retransmits"], row["client_duplicates"]) == (1, 0)

    def test_a_keep_alive(self) -> None:
        story = transfer(step_s=0.0001)
        story = Exchange(*V4, step_s=0.0001).client("S").server("S.").client(".").client("P.", 10).server(".")
        row = row_of(story.client(".", 1, seq=10).client(".", 1, seq=10))
        assert (row["client_packets"], row["client_duplicates"]) == (5, 0)

    def test_the_same_long_after(self) -> None:
        story = Exchange(*V4).client("S").server("S.").client(".").client("P.", 10).copy(after_s=0.006)
        row = row_of(story)
        assert (row["client_packets"], row["client_duplicates"], row["client_retransmits"]) == (4, 0, 1)

    def test_new_data_under_an_id_that_never_changes(self) -> None:
        segments = transfer().segments()
        segments["ip_id"] = 0x1234
        assert without(track(segments)) == without(track(transfer().segments()))

    def test_originals_out_of_order(self) -> None:
        segments = transfer(step_s=0.0001).segments()
        segments[[5, 6]] = segments[[6, 5]]
        segments["ts_ns"].sort()
        segments["frame"] = np.arange(1, len(segments) + 1)
        row = track(segments)[0]
        assert (row["server_packets"], row["server_duplicates"], row["server_retransmits"]) == (5, 0, 0)

    def test_an_original_that_its_retransmission_overtook(self) -> None:
        story = Exchange(*V4, step_s=0.0001).client("S").server("S.").client(".")
        story.server("P.", 10).server("P.", 10).server("P.", 10).again(3)
        segments = story.segments()[[0, 1, 2, 4, 5, 6, 3]]
        segments["ts_ns"].sort()
        row = track(segments)[0]
        assert (row["server_packets"], row["server_duplicates"]) == (5, 0)
