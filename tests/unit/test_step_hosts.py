"""What the kernel test found out about hosts, each as the shortest story that shows it (tests/kernel has the judge)."""

from __future__ import annotations

from segments import Exchange, in_state
from tracked import ends

from conntrack.states import TcpState

CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED = list(TcpState)[:5]
FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT = list(TcpState)[5:]


def asked() -> Exchange:
    """A SYN and its SYN+ACK, both at once."""
    return Exchange(step_s=0).client("S").server("S.")


class TestAnswersThatAreNotRepeated:
    def test_a_syn_ack_never_repeated_was_a_cookie(self) -> None:
        assert ends(asked(), 1.3) == (SYN_SENT, SYN_RECEIVED)
        assert ends(asked(), 1.4) == (SYN_SENT, CLOSED)

    def test_a_server_under_pressure_gives_up_early(self) -> None:
        story = asked().wait(1).again(1)
        assert ends(story, 2.4)[1] == SYN_RECEIVED
        assert ends(story, 2.6)[1] == CLOSED

    def test_the_answer_to_a_repeated_syn_is_no_turn_of_the_timer(self) -> None:
        story = asked().wait(0.5).again(0).again(1)
        assert ends(story, 1.3)[1] == SYN_RECEIVED
        assert ends(story, 1.4)[1] == CLOSED

    def test_a_turn_of_the_timer_is_one_though_a_syn_went_unanswered_before(self) -> None:
        """Of SYNs within half a second Linux answers one (tcp_invalid_ratelimit); the timer starts at that."""
        story = asked().wait(0.5).again(0).again(1).wait(0.1).again(0).wait(0.95).again(1)
        assert ends(story, 2.4)[1] == SYN_RECEIVED
        assert ends(story, 2.6)[1] == CLOSED

    def test_an_answer_to_a_syn_is_no_turn_though_one_was_due(self) -> None:
        story = asked().wait(1.05).again(0).again(1)
        assert ends(story, 1.3)[1] == SYN_RECEIVED
        assert ends(story, 1.4)[1] == CLOSED

    def test_a_syn_ack_long_before_its_turn_is_none_though_no_syn_was_seen(self) -> None:
        """The SYN that it answers was lost by the capture, or is there twice: the network doubled it."""
        story = asked().wait(0.002).again(1).wait(1).again(1)
        assert ends(story, 2.4)[1] == SYN_RECEIVED
        assert ends(story, 2.6)[1] == CLOSED

    def test_the_ack_of_a_cookie_opens_all_the_same(self) -> None:
        assert ends(asked().wait(30).client(".")) == (ESTABLISHED, ESTABLISHED)

    def test_a_rst_for_what_overtook_the_ack_of_a_cookie_does_not_end_it(self) -> None:
        story = asked().client("P.", 100, seq=1449).server("R", seq=1).client(".", seq=1)
        assert ends(story)[1] == ESTABLISHED

    def test_a_client_that_chose_one_of_two_answers_takes_a_rst_for_that(self) -> None:
        """A cookie, its ACK dropped for a full accept queue, then a real answer to a SYN that came late."""
        story = asked().client(".").again(1).server("S.", seq=5000, ack=1).server("R", seq=1)
        assert ends(story) == (CLOSED, SYN_RECEIVED)

    def test_a_server_that_gave_up_may_be_asked_again(self) -> None:
        story = asked().wait(60).again(0).server("S.", seq=5000, ack=1)
        assert ends(story) == (SYN_SENT, SYN_RECEIVED)


class TestFullAcceptQueue:
    def test_a_round_trip_is_known_from_one_syn_though_its_sender_answered_itself(self) -> None:
        """What comes within it was sent before the ACK arrived; a SYN+ACK of the client is no second SYN."""
        story = Exchange().client("S").wait(0.8).server("S.").client(".").client("S.", seq=0)
        assert ends(story.wait(0.6).again(1)) == (ESTABLISHED, ESTABLISHED)
        assert ends(story.wait(0.6).again(1)) == (ESTABLISHED, SYN_RECEIVED)

    def test_stays_full_until_the_server_speaks(self) -> None:
        story = in_state(ESTABLISHED, SYN_RECEIVED).client(".").client("P.", 100).client("F.")
        assert ends(story) == (FIN_WAIT_1, SYN_RECEIVED)
        assert ends(story.server(".", ack=101)) == (FIN_WAIT_1, ESTABLISHED)

    def test_what_came_beyond_a_hole_while_it_was_full_is_gone(self) -> None:
        """The first that an open server does with such a segment is to answer it (RFC 5681, 4.2)."""
        story = in_state(ESTABLISHED, SYN_RECEIVED).client("P.", 10, seq=101).client("F.", seq=111)
        story.server(".", ack=1).client("P.", 100, seq=1)
        assert ends(story) == (FIN_WAIT_1, ESTABLISHED)
        assert ends(story.client("P.", 10, seq=101)) == (FIN_WAIT_1, CLOSE_WAIT)

    def test_had_room_if_the_server_falls_silent(self) -> None:
        story = in_state(ESTABLISHED, SYN_RECEIVED).client(".")
        assert ends(story, 1)[1] == SYN_RECEIVED
        assert ends(story, 30)[1] == ESTABLISHED


def test_data_before_the_syn_ack_is_dropped() -> None:
    story = Exchange().client("S", 10).server("P.", 50, seq=1, ack=11).server("S.", seq=0, ack=11).client(".", ack=1)
    story.server("F.", seq=51)
    assert ends(story) == (ESTABLISHED, FIN_WAIT_1)


def test_a_rst_for_an_old_ack_leaves_a_half_open_server_alone() -> None:
    story = asked().client(".", seq=-5000, ack=-9000).server("R", seq=-9000)
    assert ends(story) == (SYN_SENT, SYN_RECEIVED)


def test_a_fin_is_given_up_where_its_next_turn_is_missing() -> None:
    """Turns 1, 3, 7, ... s after the FIN; the first beyond 102.2 s would come after 127 s."""
    story = in_state(ESTABLISHED, ESTABLISHED, step_s=0).client("F.")
    at = story.count - 1
    for seconds in (1, 2, 4, 8, 16, 32):
        story.wait(seconds).again(at)
    assert ends(story, 63)[0] == FIN_WAIT_1
    assert ends(story, 72)[0] == CLOSED
