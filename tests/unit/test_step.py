"""Each state, and what takes an endpoint into it, out of it, or nowhere: told as exchanges, like smoltcp's own tests.

A pair is always (client, server).
"""

from __future__ import annotations

import pytest
from segments import Exchange, in_state
from tracked import ends, flags_of, row_of

from conntrack.states import ClosedBy, EndReason, Evidence, FlowFlag, TcpState

(CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED) = list(TcpState)[:5]
(FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT) = list(TcpState)[5:]

STARTING_POINTS = [
    (SYN_SENT, LISTEN),
    (SYN_SENT, SYN_RECEIVED),
    (ESTABLISHED, ESTABLISHED),
    (ESTABLISHED, SYN_RECEIVED),
    (FIN_WAIT_1, ESTABLISHED),
    (FIN_WAIT_1, CLOSE_WAIT),
    (FIN_WAIT_2, CLOSE_WAIT),
    (CLOSE_WAIT, FIN_WAIT_1),
    (CLOSE_WAIT, FIN_WAIT_2),
    (CLOSING, CLOSING),
    (TIME_WAIT, CLOSING),
    (TIME_WAIT, TIME_WAIT),
    (TIME_WAIT, LAST_ACK),
    (LAST_ACK, TIME_WAIT),
    (TIME_WAIT, CLOSED),
    (CLOSED, TIME_WAIT),
    (CLOSED, CLOSED),
]


@pytest.mark.parametrize(("client", "server"), STARTING_POINTS)
def test_every_starting_point_is_where_it_says(client: TcpState, server: TcpState) -> None:
    assert ends(in_state(client, server)) == (client, server)


@pytest.mark.parametrize(("client", "server"), STARTING_POINTS)
@pytest.mark.parametrize("flags", ["F", "SF", "SR", "SF.", "", "FPU", "SR."])
def test_impossible_flags_move_nothing(client: TcpState, server: TcpState, flags: str) -> None:
    """The valid sets are those of nf_conntrack: SYN, SYN+ACK, ACK, FIN+ACK, RST, RST+ACK; PSH, URG, ECE, CWR aside."""
    story = in_state(client, server)
    assert ends(story.client(flags, seq=1).server(flags, seq=1)) == (client, server)
    assert flags_of(story) & FlowFlag.ODD_FLAGS


class TestListen:
    def test_a_syn_alone_does_not_move_the_server(self) -> None:
        assert ends(Exchange().client("S")) == (SYN_SENT, LISTEN)

    def test_its_answer_does(self) -> None:
        assert ends(Exchange().client("S").server("S.")) == (SYN_SENT, SYN_RECEIVED)

    @pytest.mark.parametrize("flags", ["SEW", "SU", "SP"])
    def test_flags_that_say_nothing_of_the_state_are_masked(self, flags: str) -> None:
        assert ends(Exchange().client(flags).server("S.E")) == (SYN_SENT, SYN_RECEIVED)

    def test_a_lost_syn_ack_is_proved_by_the_clients_ack(self) -> None:
        story = Exchange().client("S").server("S.", lost=True).client(".")
        assert ends(story) == (ESTABLISHED, ESTABLISHED)
        assert row_of(story)["server_state_evidence"] == Evidence.INFERRED

    def test_a_lost_syn_ack_is_proved_by_the_servers_data(self) -> None:
        story = Exchange().client("S").server("S.", lost=True).client(".", lost=True).server("P.", 100)
        assert ends(story)[1] == ESTABLISHED


class TestSynSent:
    def test_a_syn_ack_does_not_move_a_client_that_never_answers(self) -> None:
        story = Exchange().client("S").server("S.").wait(1).again(1).wait(2).again(1)
        assert ends(story) == (SYN_SENT, SYN_RECEIVED)

    def test_data_proves_an_ack_that_was_lost(self) -> None:
        assert ends(in_state(SYN_SENT, SYN_RECEIVED).client("P.", 100)) == (ESTABLISHED, ESTABLISHED)

    def test_a_syn_ack_seen_first_names_the_server(self) -> None:
        story = Exchange("10.0.0.1:80", "10.0.0.2:40000").client("S", lost=True).server("S.")
        assert ends(story) == (SYN_SENT, SYN_RECEIVED)
        assert row_of(story)["server_port"] == 40000

    def test_the_half_open_timer_does_not_start_again_with_a_retransmission(self) -> None:
        story = Exchange(step_s=0).client("S").wait(63).again(0)
        assert ends(story, 64)[0] == SYN_SENT
        assert ends(story, 64.001)[0] == CLOSED
        row = row_of(story, 200)
        assert row["client_state_evidence"] == Evidence.EXPIRED
        assert row["client_since_ts_ns"] == row["first_ts_ns"] + 127_000_000_000
        assert row["end_reason"] == EndReason.TIMEOUT

    def test_a_syn_is_refused_by_a_rst_that_acknowledges_it(self) -> None:
        story = Exchange().client("S").server("R.", seq=-5_000_000)
        assert ends(story) == (CLOSED, CLOSED)
        assert row_of(story)["end_reason"] == EndReason.REFUSED

    @pytest.mark.parametrize(("flags", "ack"), [("R", 1), ("R.", 2), ("R.", 0)])
    def test_and_by_no_other(self, flags: str, ack: int) -> None:
        assert ends(Exchange().client("S").server(flags, ack=ack))[0] == SYN_SENT

    def test_a_rst_for_a_stray_segment_leaves_its_sender_asking(self) -> None:
        """RFC 9293, 3.5.1: it takes its number from the ACK of what it answers."""
        assert ends(Exchange().client("S").client("R", seq=77_777)) == (SYN_SENT, LISTEN)

    def test_another_number_while_nobody_answers_is_another_attempt(self) -> None:
        story = Exchange().client("S").wait(5).reopen(2_000_000, 0).client("S")
        assert ends(story) == (SYN_SENT, LISTEN)
        assert row_of(story)["generation"] == 2


class TestSynReceived:
    def test_ends_with_the_third_segment(self) -> None:
        assert ends(in_state(SYN_SENT, SYN_RECEIVED).client(".")) == (ESTABLISHED, ESTABLISHED)

    def test_an_ack_of_something_else_does_not_end_it(self) -> None:
        assert ends(in_state(SYN_SENT, SYN_RECEIVED).client(".", ack=0)) == (SYN_SENT, SYN_RECEIVED)

    def test_gives_up_63_seconds_after_the_first_syn_ack(self) -> None:
        story = Exchange(step_s=0).client("S").server("S.").wait(31).again(1)
        assert ends(story, 32)[1] == SYN_RECEIVED
        assert ends(story, 32.001)[1] == CLOSED

    def test_a_fin_right_after_the_handshake(self) -> None:
        assert ends(in_state(SYN_SENT, SYN_RECEIVED).client("F.")) == (FIN_WAIT_1, CLOSE_WAIT)

    def test_the_client_resets(self) -> None:
        assert ends(in_state(SYN_SENT, SYN_RECEIVED).client("R", seq=1)) == (CLOSED, CLOSED)

    def test_a_full_accept_queue_keeps_the_server_there(self) -> None:
        story = in_state(ESTABLISHED, SYN_RECEIVED)
        assert flags_of(story) & FlowFlag.ACCEPT_QUEUE
        story.client("P.", 100).server("S.", seq=0, ack=1)
        assert ends(story) == (ESTABLISHED, SYN_RECEIVED)
        assert ends(story.client("P.", 100, seq=1).server(".")) == (ESTABLISHED, ESTABLISHED)

    def test_a_fin_that_a_full_accept_queue_dropped_was_not_received(self) -> None:
        story = in_state(ESTABLISHED, ESTABLISHED).client("F.").server("S.", seq=0, ack=1)
        assert ends(story) == (FIN_WAIT_1, SYN_RECEIVED)
        assert ends(story.client("F.", seq=1)) == (FIN_WAIT_1, SYN_RECEIVED)
        assert ends(story.server(".")) == (FIN_WAIT_2, CLOSE_WAIT)


class TestEstablished:
    @pytest.mark.parametrize("payload", [0, 1, 1448, 60_000])
    def test_data_moves_nothing(self, payload: int) -> None:
        story = in_state(ESTABLISHED, ESTABLISHED).client("P.", payload).server(".").server("P.", payload).client(".")
        assert ends(story) == (ESTABLISHED, ESTABLISHED)

    def test_has_no_timer(self) -> None:
        assert ends(in_state(ESTABLISHED, ESTABLISHED), 30 * 86_400) == (ESTABLISHED, ESTABLISHED)

    def test_keep_alives_move_nothing_and_are_no_retransmissions(self) -> None:
        story = (
            in_state(ESTABLISHED, ESTABLISHED).client("P.", 10).server(".").wait(7200).client(".", seq=10).server(".")
        )
        assert ends(story) == (ESTABLISHED, ESTABLISHED)
        assert row_of(story)["client_retransmits"] == 0

    @pytest.mark.parametrize(("seq", "flag"), [(500, FlowFlag.RST_CHALLENGED), (500_000_000, FlowFlag.RST_IGNORED)])
    def test_a_rst_that_is_not_exact_does_not_move_its_receiver(self, seq: int, flag: FlowFlag) -> None:
        """RFC 5961, 3.2. It does move the end that seems to have sent it: nothing else of it will be seen."""
        story = in_state(ESTABLISHED, ESTABLISHED).client("R", seq=seq)
        assert ends(story)[1] == ESTABLISHED
        assert flags_of(story) & flag

    def test_a_rst_behind_a_hole_is_good_at_the_right_edge_of_what_is_held(self) -> None:
        """Linux tcp_reset_check over the highest range, which the kernel was seen to do: RST 1609, held 1449-1609."""
        story = in_state(ESTABLISHED, ESTABLISHED).client("P.", 1448, lost=True).client("P.", 160).client("R", seq=1609)
        assert ends(story) == (CLOSED, CLOSED)

    def test_a_segment_with_an_old_timestamp_takes_its_fin_with_it(self) -> None:
        """RFC 7323, 5: the receiver drops it, so that it is not CLOSE_WAIT."""
        story = in_state(ESTABLISHED, ESTABLISHED, timestamps=True).client("P.", 10, tsval=900_000_000)
        story.client("F.", tsval=899_999_999)
        assert ends(story) == (FIN_WAIT_1, ESTABLISHED)
        assert flags_of(story) & FlowFlag.PAWS_REJECTED

    def test_a_segment_far_beyond_the_window_is_not_taken(self) -> None:
        story = in_state(ESTABLISHED, ESTABLISHED).client("F.", seq=900_000_000)
        assert ends(story)[1] == ESTABLISHED
        assert flags_of(story) & FlowFlag.OUT_OF_WINDOW

    def test_a_segment_that_the_capture_lost_is_repaired_by_the_ack(self) -> None:
        story = in_state(ESTABLISHED, ESTABLISHED).client("P.", 700, lost=True).server(".").client("F.")
        assert ends(story) == (FIN_WAIT_1, CLOSE_WAIT)
        assert row_of(story)["client_gap_bytes"] == 700
        assert flags_of(story) & FlowFlag.CAPTURE_LOSS


class TestFinWait1:
    def test_the_fin_of_one_that_misses_data_does_not_move_the_other(self) -> None:
        assert ends(in_state(FIN_WAIT_1, ESTABLISHED)) == (FIN_WAIT_1, ESTABLISHED)

    def test_until_the_hole_is_filled(self) -> None:
        assert ends(in_state(FIN_WAIT_1, ESTABLISHED).client("P.", 10, seq=1)) == (FIN_WAIT_1, CLOSE_WAIT)

    def test_or_the_fin_is_acknowledged(self) -> None:
        assert ends(in_state(FIN_WAIT_1, ESTABLISHED).server(".")) == (FIN_WAIT_2, CLOSE_WAIT)

    def test_a_retransmitted_fin_moves_nothing(self) -> None:
        assert ends(in_state(FIN_WAIT_1, CLOSE_WAIT).wait(1).again().wait(2).again()) == (FIN_WAIT_1, CLOSE_WAIT)

    def test_an_orphan_that_nobody_answers_is_given_up(self) -> None:
        story = in_state(FIN_WAIT_1, CLOSE_WAIT)
        assert ends(story, 102.2) == (FIN_WAIT_1, CLOSE_WAIT)
        assert ends(story, 102.201) == (CLOSED, CLOSE_WAIT)

    def test_the_ack_of_data_is_not_the_ack_of_the_fin(self) -> None:
        story = in_state(ESTABLISHED, ESTABLISHED).client("F.", 100).server(".", ack=101)
        assert ends(story) == (FIN_WAIT_1, CLOSE_WAIT)


class TestFinWait2AndCloseWait:
    def test_have_no_timer(self) -> None:
        assert ends(in_state(FIN_WAIT_2, CLOSE_WAIT), 30 * 86_400) == (FIN_WAIT_2, CLOSE_WAIT)

    def test_freebsd_gives_up_fin_wait_2(self) -> None:
        from tracked import track

        story = in_state(FIN_WAIT_2, CLOSE_WAIT)
        row = track(story, at_ns=story.now_ns + 61_000_000_000, profile="freebsd")[-1]
        assert (row["client_state"], row["server_state"]) == (CLOSED, CLOSE_WAIT)

    def test_a_half_close_carries_data(self) -> None:
        story = in_state(FIN_WAIT_2, CLOSE_WAIT).server("P.", 5000).client(".").server("P.", 300).client(".")
        assert ends(story) == (FIN_WAIT_2, CLOSE_WAIT)
        assert row_of(story)["half_close_payload_bytes"] == 5300

    def test_the_second_fin_behind_a_hole_does_not_arrive(self) -> None:
        story = in_state(FIN_WAIT_2, CLOSE_WAIT).server("P.", 100, lost=True).server("F.")
        assert ends(story) == (FIN_WAIT_2, LAST_ACK)
        assert ends(story.server("P.", 100, seq=1)) == (TIME_WAIT, LAST_ACK)

    def test_a_rst_of_the_server(self) -> None:
        story = in_state(FIN_WAIT_2, CLOSE_WAIT).server("R.")
        assert ends(story) == (CLOSED, CLOSED)
        assert row_of(story)["end_reason"] == EndReason.RESET


class TestClosing:
    def test_both_end_in_time_wait(self) -> None:
        story = in_state(TIME_WAIT, TIME_WAIT)
        assert row_of(story)["closed_by"] == ClosedBy.BOTH
        assert ends(story, 61) == (CLOSED, CLOSED)

    def test_a_retransmitted_fin_that_acknowledges_after_all(self) -> None:
        assert ends(in_state(CLOSING, CLOSING).client("F.", seq=1)) == (CLOSING, TIME_WAIT)


class TestLastAck:
    def test_the_last_ack_ends_it(self) -> None:
        assert ends(in_state(TIME_WAIT, LAST_ACK).client(".")) == (TIME_WAIT, CLOSED)

    def test_an_ack_of_less_does_not(self) -> None:
        assert ends(in_state(TIME_WAIT, LAST_ACK).client(".", ack=1)) == (TIME_WAIT, LAST_ACK)

    def test_given_up_without_it(self) -> None:
        assert ends(in_state(TIME_WAIT, LAST_ACK), 102.201) == (CLOSED, CLOSED)


class TestTimeWait:
    def test_lasts_two_msl(self) -> None:
        story = in_state(TIME_WAIT, CLOSED)
        entered = int(row_of(story)["client_since_ts_ns"])
        left = entered + 60_000_000_000
        assert ends(story, (left - story.now_ns) / 1e9) == (TIME_WAIT, CLOSED)
        assert ends(story, (left - story.now_ns) / 1e9 + 0.000_001) == (CLOSED, CLOSED)

    def test_starts_again_with_a_retransmitted_fin(self) -> None:
        story = in_state(TIME_WAIT, LAST_ACK).client(".", lost=True).wait(50).again(5).client(".")
        assert ends(story, 59) == (TIME_WAIT, CLOSED)
        assert ends(story, 61) == (CLOSED, CLOSED)

    def test_starts_again_with_a_syn_whose_timestamp_is_old(self) -> None:
        """Linux tcp_timewait_state_process: PAWS rejects it; one without an old timestamp may be a new connection's."""
        for tsval, left in ((1, TIME_WAIT), (None, CLOSED)):
            story = in_state(CLOSED, TIME_WAIT, timestamps=True).wait(50).reopen(500_000, 9_000_000)
            story.client("S", **({"options": 0} if tsval is None else {"tsval": story.now_ns // 10**6 % 2**32 - 10**6}))
            assert ends(story, 30)[1] == left

    def test_of_the_end_that_a_late_syn_ack_comes_from_does_not_start_again(self) -> None:
        story = in_state(TIME_WAIT, TIME_WAIT, step_s=0).wait(1).again(1)
        assert ends(story, 59.001) == (TIME_WAIT, CLOSED)
        assert ends(story, 60.001) == (CLOSED, CLOSED)

    def test_an_exact_rst_ends_it(self) -> None:
        """Linux with tcp_rfc1337=0."""
        assert ends(in_state(TIME_WAIT, CLOSED).server("R")) == (CLOSED, CLOSED)

    def test_another_rst_does_not(self) -> None:
        assert ends(in_state(TIME_WAIT, CLOSED).server("R", seq=500))[0] == TIME_WAIT

    def test_a_syn_above_what_was_sent_takes_its_place(self) -> None:
        story = in_state(CLOSED, TIME_WAIT).wait(10).reopen(1_500_000, 9_000_000).client("S")
        row = row_of(story)
        assert ends(story) == (SYN_SENT, LISTEN)
        assert row["generation"] == 2
        assert flags_of(story) & FlowFlag.REUSED_TIME_WAIT
        assert flags_of(story) & FlowFlag.REUSED_BY_RFC6191
        assert 9_000_000_000 < row["reused_age_ns"] < 11_000_000_000

    def test_a_syn_below_does_not(self) -> None:
        """RFC 6191; an ACK answers, the client resets and tries again a second later."""
        story = in_state(CLOSED, TIME_WAIT).wait(10).reopen(500_000, 9_000_000).client("S")
        assert ends(story) == (CLOSED, TIME_WAIT)
        assert row_of(story)["generation"] == 1

    def test_unless_its_timestamp_is_newer(self) -> None:
        story = in_state(CLOSED, TIME_WAIT, timestamps=True).wait(10).reopen(500_000, 9_000_000).client("S")
        assert ends(story) == (SYN_SENT, LISTEN)
        assert row_of(story)["generation"] == 2

    def test_the_end_that_waits_may_call_again(self) -> None:
        story = in_state(TIME_WAIT, CLOSED).reopen(3_000, 9_000_000).client("S").server("S.").client(".")
        assert ends(story) == (ESTABLISHED, ESTABLISHED)


class TestClosed:
    @pytest.mark.parametrize(("client", "server"), [pair for pair in STARTING_POINTS if ESTABLISHED in pair])
    def test_a_reset_is_absorbing(self, client: TcpState, server: TcpState) -> None:
        story = in_state(client, server).client("R.", seq=None)
        ended = ends(story)
        assert ended[0] == CLOSED
        story.client(".").client("P.", 10).client("F.")
        assert ends(story)[0] == CLOSED

    def test_a_syn_begins_the_next_generation(self) -> None:
        story = in_state(CLOSED, CLOSED).reopen(50, 60).client("S").server("S.").client(".")
        assert ends(story) == (ESTABLISHED, ESTABLISHED)
        assert row_of(story)["generation"] == 2

    def test_after_two_msl_nothing_is_remembered(self) -> None:
        story = in_state(CLOSED, CLOSED).wait(61).reopen(50, 60).client("S")
        assert ends(story) == (SYN_SENT, LISTEN)
        assert row_of(story)["generation"] == 1

    def test_a_segment_that_fits_nothing_begins_another_in_the_middle(self) -> None:
        story = in_state(CLOSED, CLOSED).client(".", seq=90_000_000, ack=800_000_000)
        assert ends(story) == (ESTABLISHED, ESTABLISHED)
        assert flags_of(story) & FlowFlag.MIDSTREAM
        assert row_of(story)["generation"] == 2
