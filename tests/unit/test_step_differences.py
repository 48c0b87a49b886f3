"""What the second opinion (tests/model.py) found on random histories, each as a story of its own."""

from __future__ import annotations

import pytest
from segments import Exchange, in_state
from tracked import ends, flags_of, row_of, track

from conntrack.states import FlowFlag, TcpState

CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED = list(TcpState)[:5]
FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT = list(TcpState)[5:]

GIB = 1 << 30
SIX = {"client": "[2001:db8::1]:50000", "server": "[2001:db8::2]:443"}


def test_the_capture_lost_the_ack_and_the_first_data() -> None:
    """What the server acknowledges then was never seen, but both numbers go on from the handshake's."""
    story = Exchange().client("S").server("S.").client(".", lost=True).client("P.", 100, lost=True)
    assert ends(story.server("P.", 200)) == (ESTABLISHED, ESTABLISHED)
    assert row_of(story)["client_gap_bytes"] == 100
    assert ends(story.client("F.").server("F.").client(".")) == (TIME_WAIT, CLOSED)


def test_the_capture_lost_the_first_data_of_both() -> None:
    story = Exchange().client("S").server("S.").client("P.", 100, lost=True).server("P.", 200, lost=True)
    assert ends(story.client("P.", 10)) == (ESTABLISHED, ESTABLISHED)


def test_an_ack_of_the_first_of_two_syn_acks_does_not_open_the_second() -> None:
    """The first was a SYN cookie: its ACK is answered with a RST of the number that it asked for (figure 8)."""
    story = Exchange(server_iss=500_000).client("S").server("S.").wait(1).again(0).server("S.", seq=-9_000)
    story.client(".", seq=1, ack=1).client("P.", 20, seq=1, ack=1).server("R", seq=1)
    assert ends(story) == (SYN_SENT, SYN_RECEIVED)


def test_an_ack_of_numbers_before_the_handshake_is_of_an_older_connection() -> None:
    story = Exchange().client("S").server("S.").server(".", seq=-9000, ack=-9000).client(".", seq=-9000, ack=-9000)
    assert ends(story) == (SYN_SENT, SYN_RECEIVED)


@pytest.mark.parametrize("first", ["client", "server"])
@pytest.mark.parametrize("ends_at", [{}, SIX])
def test_both_syn_acks_of_a_simultaneous_open(first: str, ends_at: dict[str, str]) -> None:
    """In either order, and soon after one another: without an IP id the second is no copy of the first."""
    story = Exchange(**ends_at).client("S").server("S")
    for side in ("client", "server") if first == "client" else ("server", "client"):
        getattr(story, side)("S.", seq=0, ack=1)
    assert ends(story) == (ESTABLISHED, ESTABLISHED)
    row = row_of(story)
    assert (row["client_packets"], row["server_packets"]) == (2, 2)
    assert int(row["client_duplicates"]) + int(row["server_duplicates"]) == 0


def test_neither_end_of_a_simultaneous_open_has_an_accept_queue() -> None:
    story = Exchange().client("S").server("S").client("S.", seq=0, ack=1).server(".", seq=1, ack=1)
    story.wait(1.5).server("S.", seq=0, ack=1)
    assert ends(story) == (ESTABLISHED, ESTABLISHED)
    assert not flags_of(story) & FlowFlag.ACCEPT_QUEUE


def test_a_syn_ack_of_another_number_than_its_syn() -> None:
    """Its SYN set the number; what has another is of another attempt."""
    story = Exchange().client("S").server("S").server("S.", seq=70_000, ack=1)
    assert ends(story) == (SYN_RECEIVED, SYN_SENT)


def test_a_syn_ack_without_an_id_that_answers_another_syn_is_no_copy() -> None:
    story = Exchange().client("S", lost=True).server("S.", ip_id=0).server("S.", seq=0, ack=9_001, ip_id=0)
    assert row_of(story)["server_duplicates"] == 0


def test_a_syn_ack_that_acknowledges_data_answers_no_syn_but_of_fast_open() -> None:
    story = Exchange().client("S").server("S.").client("P.", 100).wait(1.1).server("S.", seq=0, ack=101)
    assert ends(story) == (ESTABLISHED, ESTABLISHED)
    assert not flags_of(story) & FlowFlag.ACCEPT_QUEUE


def test_a_pending_syn_again_is_as_old_as_its_first() -> None:
    story = in_state(ESTABLISHED, ESTABLISHED).wait(100).reopen(40_000_000, 70_000_000)
    story.client("S").wait(1).again(-1).server("S.").client(".")
    assert row_of(story)["generation"] == 2
    assert row_of(story)["first_ts_ns"] == story.segments()["ts_ns"][3]


def test_a_pending_syn_gives_its_number_only_to_what_answers_it() -> None:
    story = in_state(ESTABLISHED, ESTABLISHED).client("S", seq=700_000).client("R", seq=1).reopen(900_000, 800_000)
    story.client("S", lost=True).server("S.").client(".")
    assert ends(story) == (ESTABLISHED, ESTABLISHED)
    assert row_of(story)["client_isn"] == 900_000


def test_a_syn_ack_that_comes_behind_the_close_opens_nothing() -> None:
    """Captures of several queues are out of order."""
    story = Exchange().client("S").server("S.", lost=True).client("F.").server("F.").client(".")
    assert ends(story) == (TIME_WAIT, CLOSED)
    assert ends(story.server("S.", seq=0, ack=1)) == (TIME_WAIT, CLOSED)


def test_a_syn_that_comes_behind_its_refused_answer_opens_nothing() -> None:
    story = Exchange().client("S", lost=True).server("S.").client("R", seq=1).client("S", seq=0)
    assert ends(story) == (CLOSED, CLOSED)
    assert row_of(story)["generation"] == 1


def test_a_reset_that_does_not_fit_the_syn_that_was_answered() -> None:
    """Of the client only the answer to its SYN is known: that is enough to tell a stray RST."""
    story = Exchange().client("S", lost=True).server("S.").client("R", seq=-50)
    assert ends(story) == (SYN_SENT, SYN_RECEIVED)


def test_a_syn_ack_again_after_gigabytes_says_nothing_of_acknowledgments() -> None:
    story = in_state(ESTABLISHED, ESTABLISHED)
    for _ in range(3):
        story.client("P.", GIB - 5_000_000).server(".")
    story.again(1).client("F.").server(".").server("F.").client(".")
    assert ends(story) == (TIME_WAIT, CLOSED)


def test_what_comes_late_after_gigabytes_begins_nothing() -> None:
    """Its number is far from the first, modulo 2**32 before it, and near the last."""
    story = in_state(ESTABLISHED, ESTABLISHED)
    for _ in range(3):
        story.client("P.", GIB - 5_000_000).server(".")
    story.client("P.", 100).server(".").client("R.").client("P.", 100, seq=3 * GIB - 15_000_000 + 1)
    assert len(track(story)) == 1


def test_a_first_segment_far_from_what_was_acknowledged_begins_the_numbers_anew() -> None:
    """The capture begins midway, and with an ACK of an older connection: none of the new data is old."""
    story = Exchange().client(".", seq=1, ack=2 * GIB + 9).wait(120).server("P.", 100, seq=1, ack=1)
    story.client("F.", seq=1, ack=101).server(".")
    assert ends(story) == (FIN_WAIT_2, CLOSE_WAIT)


def test_fast_open_whose_data_is_overtaken_by_the_fin() -> None:
    """The SYN+ACK that says that the data was not taken comes late in the file: the FIN keeps its number."""
    story = Exchange().client("S", 200).client("F.", seq=401, ack=1).server("S.", ack=1).server(".", ack=402)
    assert ends(story) == (FIN_WAIT_2, CLOSE_WAIT)


def test_times_before_the_first_segment_are_its_own() -> None:
    story = in_state(ESTABLISHED, ESTABLISHED).wait(100).reopen(40_000_000, 70_000_000).client("S")
    segments = story.server("S.").segments()
    segments["ts_ns"][-1] = segments["ts_ns"][-2] - 1_000_000
    row = track(segments)[-1]
    assert row["generation"] == 2
    assert row["first_ts_ns"] <= row["last_ts_ns"]


def test_the_answer_in_a_simultaneous_open_acknowledges_the_servers_syn() -> None:
    """Where both were open before by an ACK: else the next number, however far off, would be the first acknowledged."""
    story = Exchange(scale=14).client("S").server("S").server(".", seq=1, ack=1).client("S.", seq=0, ack=1)
    story.client(".", seq=3_000_001, ack=GIB + 1).client("F.", seq=1, ack=1).server(".", seq=1, ack=2)
    assert ends(story) == (FIN_WAIT_2, CLOSE_WAIT)


def test_a_server_that_answers_on_behind_its_reset_was_answered_before() -> None:
    story = Exchange().client("S").server("S").server(".", seq=1, ack=1).client("S.", seq=0, ack=1)
    story.server("R.", seq=GIB, ack=5).wait(60).server("S.", seq=0, ack=1)
    assert ends(story) == (ESTABLISHED, ESTABLISHED)


def test_a_server_that_answers_on_behind_its_reset_and_gigabytes() -> None:
    story = Exchange().client("S").server("S").server(".", seq=1, ack=1).client("S.", seq=0, ack=1)
    story.server("P.", 100, seq=2 * GIB + 4097).client(".", ack=2 * GIB + 4197).server("R.", seq=GIB, ack=5)
    assert ends(story.wait(60).server("S.", seq=0, ack=1)) == (ESTABLISHED, ESTABLISHED)


def test_a_syn_ack_behind_gigabytes_is_not_the_highest_acknowledgment() -> None:
    """What is 2 GiB ahead looks like what is behind."""
    story = Exchange().client("S").server("S").server(".", seq=1, ack=1)
    story.client("P.", 100, seq=2 * GIB + 4097).server(".", seq=1, ack=2 * GIB + 4197).server("S.", seq=0, ack=1)
    story.server("F.", seq=1, ack=2 * GIB + 4197).client(".", seq=2 * GIB + 4197, ack=2)
    assert ends(story) == (CLOSE_WAIT, FIN_WAIT_2)


def test_a_client_that_comes_back_is_answered_by_a_server_that_had_not_heard_of_its_end() -> None:
    """Nothing but the second SYN is captured of the client: its answer has another number than the first had."""
    story = Exchange().client("S", lost=True).server("S.").server("R", seq=9000).server("P.", 100, seq=1)
    story.wait(60).reopen(700_000, 90_000)
    assert ends(story.client("S").server("S.").client(".")) == (ESTABLISHED, ESTABLISHED)


def test_of_two_syn_acks_only_the_client_can_choose() -> None:
    """The server acknowledges a number of the client that is that of its own first SYN+ACK."""
    story = Exchange(client_iss=5_000_000, server_iss=5_000_000).client("S", lost=True).server("S.").server(".", ack=3)
    story.server("S.", seq=-2000).server(".", seq=-1999, ack=1).server("F.", seq=-1999, ack=2)
    assert ends(story) == (CLOSE_WAIT, FIN_WAIT_1)


@pytest.mark.parametrize("iss", [0, 1, 7_000_000])
def test_behind_a_probe_a_syn_ack_of_any_number_begins_a_connection(iss: int) -> None:
    story = Exchange(server_iss=iss).client("FPU").server("S.", seq=0, ack=1)
    assert ends(story) == (SYN_SENT, SYN_RECEIVED)


def test_a_first_ack_of_what_cannot_have_been_sent_is_none() -> None:
    story = Exchange().client("S").client(".", seq=2 * GIB + 7000, ack=500).server(".", seq=500, ack=2 * GIB + 7000)
    story.server("F.", seq=1900, ack=8000).client(".", seq=8000, ack=1901)
    assert ends(story) == (CLOSE_WAIT, FIN_WAIT_2)


def test_fast_open_whose_data_was_acknowledged_before_the_syn_ack_comes() -> None:
    """It says that the data was not taken, and comes late in the file: since then it was."""
    story = Exchange().client("S", 1400).server(".", seq=101, ack=1401).server("S.", 100, seq=0, ack=1)
    assert ends(story.client("R.", seq=1401, ack=1)) == (CLOSED, CLOSED)


def test_an_open_server_with_two_answers_to_a_new_syn_has_nothing_to_choose_between() -> None:
    """The capture began midway, and the client's RST did not count: what the client acknowledges is what it got."""
    story = Exchange(client_iss=9_000, server_iss=4_000_000).server("P.", 1).client("R", seq=1_448).wait(60)
    story.reopen(8_000, 90_000).client("S").server("S.").server("S.", seq=-60_000).client(".", seq=1, ack=1)
    assert ends(story) == (ESTABLISHED, ESTABLISHED)
