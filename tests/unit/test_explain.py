"""What each segment of a connection is told to be, and why it moved what it moved."""

from __future__ import annotations

import numpy as np
import pytest
from segments import Exchange, in_state, merge
from told import reasons, tell, words
from tracked import track

from conntrack.explain import Expired, Folded, FourTuple, StorySegment, StoryTeller, parse_endpoint
from conntrack.states import EndReason, Evidence, FlowFlag, TcpState

(CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED) = list(TcpState)[:5]
(FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT) = list(TcpState)[5:]

OPENED = ["SYN; window 64000 mss 1460 wscale 0", "SYN+ACK; window 64000 mss 1460 wscale 0", "handshake complete"]


def opened(**options: object) -> Exchange:
    return in_state(ESTABLISHED, ESTABLISHED, **options)


def later(exchange: Exchange) -> list[str]:
    """The words of all that follows the handshake."""
    (story,) = tell(exchange)
    assert words(story)[:3] == OPENED
    return words(story)[3:]


class TestOpenAndClose:
    def test_handshake_to_teardown(self) -> None:
        exchange = opened().client("P.", 100).server(".").server("P.", 5000).client(".")
        exchange.client("F.").server(".").server("F.").client(".")
        (story,) = tell(exchange)
        assert story.begins == (CLOSED, LISTEN)
        assert words(story) == [*OPENED, "data", "ACK", "data", "ACK", "FIN", "ACK of FIN", "FIN", "ACK of FIN"]
        assert reasons(story, 2) == [
            ("client", "SYN_SENT", "ESTABLISHED", "the client took the SYN+ACK"),
            ("server", "SYN_RECEIVED", "ESTABLISHED", "the handshake is complete"),
        ]
        last = story.steps[-1]
        assert isinstance(last, StorySegment)
        assert (last.client_state, last.server_state) == (TIME_WAIT, CLOSED)
        assert (last.relative_seq, last.relative_ack) == (102, 5002)

    def test_a_fin_that_acknowledges_the_peers_is_two_rules(self) -> None:
        (story,) = tell(opened().client("F.").server("F."))
        assert words(story)[-1] == "FIN; ACK of FIN"
        assert reasons(story) == [
            ("server", "CLOSE_WAIT", "LAST_ACK", "it closes too"),
            ("client", "FIN_WAIT_1", "FIN_WAIT_2", "its FIN has arrived"),
            ("client", "FIN_WAIT_2", "TIME_WAIT", "the peer closes too"),
        ]

    def test_split_handshake(self) -> None:
        """The server's ACK opens nothing, its SYN with another number does (RFC 9293 section 3.5)."""
        story = Exchange().client("S").server(".", seq=-9).server("S").client("S.", seq=0, ack=1).server(".", ack=1)
        assert [one.split(";")[0] for one in words(tell(story)[0])] == [
            "SYN",
            "ACK of SYN",
            "SYN, behind an ACK: split handshake",
            "SYN+ACK",
            "handshake complete",
        ]

    def test_what_answers_nothing_of_this_connection(self) -> None:
        story = Exchange().client("S").server("F.", seq=500, ack=90_000).server(".", seq=500, ack=90_000)
        of_another = "acknowledges what was never sent: of another connection"
        assert words(tell(story)[0])[1:] == [f"FIN; {of_another}", of_another]

    def test_two_answers_and_no_ack_that_chooses(self) -> None:
        """What is said of the second one is true whether an ACK of the client is to come or not."""
        (story,) = tell(Exchange().client("S").server("S.").wait(1).server("S.", seq=77))
        assert words(story) == [*OPENED[:2], "another SYN+ACK: only an ACK of the client can choose"]

    def test_the_answer_comes_behind_an_ack_of_its_sender(self) -> None:
        """It is the only one there is: nothing to choose from."""
        (story,) = tell(Exchange().client("S", 200).server(".", seq=7).server("S.", ack=201))
        assert words(story)[1:] == ["ACK of SYN", "SYN+ACK; window 64000 mss 1460 wscale 0"]

    def test_simultaneous_close(self) -> None:
        (story,) = tell(opened().client("F.").server("F.", ack=1).client(".").server("."))
        assert words(story)[3:] == ["FIN", "FIN, crossing the other", "ACK of FIN", "ACK of FIN"]
        assert ("server", "CLOSE_WAIT", "CLOSING", "its FIN left before the peer's came") in reasons(story, 4)

    def test_simultaneous_open(self) -> None:
        (story,) = tell(Exchange().client("S").server("S").client("S.", seq=0, ack=1).server("S.", seq=0, ack=1))
        assert words(story)[1].startswith("SYN, crossing the other: simultaneous open")
        assert [one.split(";")[0] for one in words(story)[2:]] == ["SYN+ACK", "SYN+ACK"]
        assert reasons(story, 1)[1][3] == "both have sent a SYN: simultaneous open"
        assert all(reason for step in range(4) for *_, reason in reasons(story, step))

    def test_refused(self) -> None:
        (story,) = tell(Exchange().client("S").server("R.", seq=-5_000_000))
        assert words(story)[1] == "RST: refused"
        assert story.row is not None
        assert story.row["end_reason"][0] == EndReason.REFUSED
        reset = story.steps[1]
        assert isinstance(reset, StorySegment)
        assert (reset.relative_seq, reset.seq) == (None, 0)

    def test_a_syn_nobody_answers_is_given_up(self) -> None:
        (story,) = tell(Exchange().client("S").wait(1).again(0), after_s=300)
        assert words(story)[1:] == ["SYN again", "expired"]
        assert reasons(story) == [("client", "SYN_SENT", "CLOSED", "nobody answered")]
        last = story.steps[-1]
        assert isinstance(last, Expired)
        assert last.ts_ns - story.steps[0].ts_ns == 127_000_000_000  # tcp_syn_retries, from the first SYN

    def test_a_server_that_stops_asking(self) -> None:
        """A SYN cookie, or pressure: the SYN+ACK is not sent again a second later."""
        (story,) = tell(Exchange().client("S").server("S."), after_s=60)
        assert reasons(story) == [
            ("server", "SYN_RECEIVED", "CLOSED", "no ACK came, and it has stopped asking for one")
        ]

    def test_a_server_whose_accept_queue_was_full_for_a_while(self) -> None:
        """It drops the ACK, asks again, and takes the next ACK without a word."""
        (story,) = tell(opened().wait(1).again(1).client("."), after_s=60)
        why = "it took the ACK: its SYN+ACK was due again, and did not come"
        assert reasons(story) == [("server", "SYN_RECEIVED", "ESTABLISHED", why)]

    def test_accept_queue(self) -> None:
        exchange = opened().wait(1).again(1).client(".").wait(2).again(1).client(".")
        assert later(exchange) == [
            "SYN+ACK again, after the ACK: accept queue full",
            "duplicate ACK",
            "SYN+ACK again: accept queue still full",
            "duplicate ACK",
        ]

    def test_the_capture_began_midway(self) -> None:
        (story,) = tell(Exchange().client("P.", 10, seq=501, ack=77).server(".", seq=77))
        assert story.begins == (ESTABLISHED, ESTABLISHED)
        first = story.steps[0]
        assert isinstance(first, StorySegment)
        assert first.taken_for == ("data", "the capture began midway")
        assert (first.relative_seq, first.relative_ack) == (1, 1)

    def test_the_syn_is_missing(self) -> None:
        (story,) = tell(Exchange().client("S", lost=True).server("S.").client("."))
        assert story.begins == (SYN_SENT, LISTEN)
        assert words(story)[0].endswith("its SYN is not in the capture")


class TestTrouble:
    def test_retransmission(self) -> None:
        exchange = opened().client("P.", 100).again().server(".").again(3)
        assert later(exchange) == ["data", "retransmission", "ACK", "retransmission; had been acknowledged"]

    def test_partial_overlap(self) -> None:
        exchange = opened().client("P.", 100).client("P.", 100, seq=51)
        assert later(exchange)[-1] == "data; partial overlap: 50 bytes again"

    def test_out_of_order_and_duplicate_acks(self) -> None:
        exchange = opened().server("P.", 100, seq=101).client(".", ack=1).server("P.", 100, seq=1).client(".", ack=201)
        assert later(exchange) == ["out of order: 100 bytes missing before it", "duplicate ACK", "fills a hole", "ACK"]

    def test_a_fin_overtakes_its_data(self) -> None:
        (story,) = tell(opened().client("F.", seq=101).server(".", ack=1).client("P.", 100, seq=1).server("."))
        assert words(story)[3] == (
            "FIN; out of order: 100 bytes missing before it; not taken yet: data before it is missing"
        )
        assert reasons(story, 3) == [("client", "ESTABLISHED", "FIN_WAIT_1", "it closes first")]
        assert words(story)[5] == "fills a hole"
        assert reasons(story, 5) == [("server", "ESTABLISHED", "CLOSE_WAIT", "the peer closed first")]

    def test_keep_alive(self) -> None:
        exchange = opened().client("P.", 100).server(".").wait(10).client(".", 1, seq=100).server(".", ack=101)
        exchange.wait(10).client(".", seq=100).server(".", ack=101)
        assert later(exchange) == ["data", "ACK", *["keep-alive", "keep-alive reply"] * 2]

    def test_zero_window_probe_and_update(self) -> None:
        exchange = opened().client("P.", 100).server(".", window=0).wait(1).client(".", seq=100).server(".", window=0)
        exchange.server(".", window=512)
        assert later(exchange) == [
            "data",
            "zero window",
            "window probe",
            "answer to the probe; zero window",
            "window update; window 512",
        ]

    def test_an_acknowledgment_of_what_the_capture_lacks(self) -> None:
        exchange = opened().client("P.", 100, lost=True).server(".")
        assert later(exchange) == ["ACK; acknowledges 100 bytes that the capture lacks"]

    def test_odd_flags(self) -> None:
        assert later(opened().client("SF", seq=1)) == ["odd flags: moves nothing"]

    def test_an_old_timestamp(self) -> None:
        exchange = opened(timestamps=True).client("P.", 10)
        exchange.client("P.", 10, tsval=int(exchange.segments()["tsval"][-1]) - 7)
        assert later(exchange)[-1] == "old timestamp, by 7 ticks: dropped (PAWS)"

    def test_out_of_window(self) -> None:
        assert later(opened().client("P.", 10, seq=3_000_000))[-1] == "out of window: dropped"


class TestReset:
    def test_a_reset_that_counts(self) -> None:
        (story,) = tell(opened().server("R.", seq=1))
        assert words(story)[-1] == "RST"
        assert [change[2] for change in reasons(story)] == ["CLOSED", "CLOSED"]

    def test_in_the_window_but_not_exact(self) -> None:
        (story,) = tell(opened().server("R", seq=50).client("."))
        assert words(story)[3:] == ["RST, challenged: in the window, not exact", "challenge ACK"]
        assert [change[:3] for change in reasons(story, 3)] == [("server", "ESTABLISHED", "CLOSED")]

    def test_outside_of_the_window_twice(self) -> None:
        """The flag of a connection is set once; the words do not depend on that."""
        told = later(opened().client("R", seq=900_000).client("R", seq=900_001))
        assert told == ["RST, ignored: outside of the window"] * 2

    def test_too_late(self) -> None:
        assert later(opened().client("R.").client("R."))[-1] == "RST, too late: nothing is left of the connection"


class TestGenerations:
    def test_time_wait_runs_out_between_two_connections(self) -> None:
        exchange = in_state(TIME_WAIT, CLOSED).wait(100).reopen(40_000_000, 70_000_000)
        first, second = tell(exchange.client("S").server("S.").client("."))
        assert (first.generation, second.flow_id) == (1, 8)
        expiry = first.steps[-1]
        assert isinstance(expiry, Expired)
        assert reasons(first) == [("client", "TIME_WAIT", "CLOSED", "2 MSL are over")]
        fin = first.steps[-3]
        assert isinstance(fin, StorySegment)
        assert expiry.ts_ns - fin.ts_ns == 60_000_000_000  # TCP_TIMEWAIT_LEN
        assert expiry.changes[0].evidence == Evidence.EXPIRED
        assert words(second) == OPENED

    def test_the_port_is_reused_in_time_wait(self) -> None:
        exchange = in_state(CLOSED, TIME_WAIT).wait(10).reopen(40_000_000, 70_000_000).client("S").server("S.")
        first, second = tell(exchange)
        assert second.generation == 2
        assert words(second)[0].endswith("takes the port after 10.002 s of TIME_WAIT, as RFC 6191 allows")
        assert second.row is not None
        assert FlowFlag(int(second.row["flags"][0])) & FlowFlag.REUSED_TIME_WAIT
        assert first.row is not None
        assert first.row["end_reason"][0] == EndReason.FIN

    def test_a_pending_syn_is_confirmed(self) -> None:
        exchange = opened().wait(100).reopen(40_000_000, 70_000_000).client("S").server("S.").client(".")
        first, second = tell(exchange)
        assert words(first)[-1] == "pending SYN: another initial number, the connection lives"
        assert second.notes == ["Its SYN came while connection 1 was alive and is told there, as a pending SYN."]

    def test_only_one_is_kept(self) -> None:
        exchange = in_state(TIME_WAIT, CLOSED).wait(100).reopen(40_000_000, 70_000_000).client("S").server("S.")
        first, second = tell(exchange, only=8)
        assert first.steps == []
        assert len(second.steps) == 2


class TestTheWhole:
    STORY = opened().client("P.", 100).again().server(".").client("F.", seq=301).server(".", ack=101)

    def test_other_connections_change_nothing(self) -> None:
        other = Exchange("10.0.0.9:5", "10.0.0.2:80").client("S").wait(300).server("S.")
        segments = merge(self.STORY, other)
        four = FourTuple.of(segments[segments["src_port"] == 40_000][0])
        teller = StoryTeller(four)
        for part in np.array_split(segments, 4):
            teller.feed(four.select(part))
        (story,) = teller.finish(int(segments["ts_ns"].max()))
        rows = track(segments)
        assert story.row is not None
        assert story.row.tobytes() == rows[rows["flow_id"] == story.flow_id].tobytes()

    def test_every_change_follows_from_the_state_before(self) -> None:
        (story,) = tell(self.STORY, after_s=1000)
        states = list(story.begins)
        for step in story.steps:
            assert not isinstance(step, Folded)
            for change in step.changes:
                assert states[change.side] == change.before
                assert change.reason
                states[change.side] = change.after
            assert tuple(states) == (step.client_state, step.server_state)

    def test_plain_data_is_folded_and_nothing_else(self) -> None:
        exchange = opened()
        for _ in range(50):
            exchange.server("P.", 1000).client(".")
        exchange.server("P.", 1000).again().client(".")
        (story,) = tell(exchange)
        folded = [step for step in story.steps if isinstance(step, Folded)]
        assert [(step.segments, step.payload_bytes) for step in folded] == [([48, 47], [0, 47_000])]
        assert words(story)[-2:] == ["retransmission", "ACK"]
        (told,) = tell(exchange, fold=False)
        assert len(told.steps) == exchange.count
        assert [word for word in words(told) if word not in ("data", "ACK")] == [*OPENED, "retransmission"]

    def test_too_many_steps_are_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("conntrack.explain.story.MOST_STEPS", 4)
        (story,) = tell(self.STORY)
        assert (len(story.steps), story.left_out) == (4, 4)
        assert story.row is not None
        assert story.row["client_packets"][0] == 5

    def test_numbers_go_on_beyond_four_gigabytes(self) -> None:
        exchange = opened()
        for _ in range(9):
            exchange.server("P.", 600_000_000).client(".")
        last = tell(exchange)[0].steps[-1]
        assert isinstance(last, StorySegment)
        assert last.relative_ack == 9 * 600_000_000 + 1

    def test_ipv6(self) -> None:
        (story,) = tell(Exchange("[2001:db8::1]:40000", "[2001:db8::2]:443").client("S").server("S.").client("."))
        assert words(story) == OPENED


class TestEndpoints:
    @pytest.mark.parametrize("text", ["10.0.0.1:80", "[2001:db8::1]:443", "[::ffff:10.0.0.1]:80"])
    def test_an_endpoint_is_read_as_it_is_written(self, text: str) -> None:
        assert str(parse_endpoint(text)) == text

    @pytest.mark.parametrize(
        "text",
        ["", "10.0.0.1", "10.0.0.1:", "10.0.0.1:65536", "2001:db8::1:80", "[10.0.0.1]:80", "x:1", "[fe80::1%eth0]:1"],
    )
    def test_what_is_none_is_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"is no endpoint; write 10\.0\.0\.1:80"):
            parse_endpoint(text)
