"""The classic stories of RFC 9293 and of real hosts, with both endpoints' states after every segment."""

from __future__ import annotations

import pytest
from segments import Exchange, in_state, merge
from tracked import Pair, after_each, ends, flags_of, row_of, track

from conntrack.states import ClosedBy, DirectionEvidence, EndReason, Evidence, FlowFlag, TcpState

(CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED) = list(TcpState)[:5]
(FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT) = list(TcpState)[5:]

OPENED = [(SYN_SENT, LISTEN), (SYN_SENT, SYN_RECEIVED), (ESTABLISHED, ESTABLISHED)]


def tells(story: Exchange, *pairs: Pair) -> None:
    """The states after each segment are these."""
    assert after_each(story.segments()) == list(pairs)


class TestClose:
    def test_fin_and_ack_together(self) -> None:
        """FIN_WAIT_1 goes straight to TIME_WAIT (RFC 9293, 3.10.7.4)."""
        story = Exchange().client("S").server("S.").client(".").client("F.").server("F.").client(".")
        tells(story, *OPENED, (FIN_WAIT_1, CLOSE_WAIT), (TIME_WAIT, LAST_ACK), (TIME_WAIT, CLOSED))
        row = row_of(story)
        assert row["closed_by"] == ClosedBy.CLIENT
        assert row["client_fin_acked_ts_ns"] == row["server_fin_ts_ns"]

    def test_the_fins_cross(self) -> None:
        """Figure 13."""
        story = in_state(ESTABLISHED, ESTABLISHED).client("F.").server("F.", ack=1).client(".").server(".")
        tells(
            story,
            *OPENED,
            (FIN_WAIT_1, CLOSE_WAIT),
            (CLOSING, CLOSING),
            (CLOSING, TIME_WAIT),
            (TIME_WAIT, TIME_WAIT),
        )

    def test_half_close_with_data(self) -> None:
        """`ssh host sort < file`: the answer comes after the client's FIN."""
        story = in_state(ESTABLISHED, ESTABLISHED).client("FP.", 50).server(".").server("P.", 1000).client(".")
        story.server("FP.", 200).client(".")
        tells(
            story,
            *OPENED,
            (FIN_WAIT_1, CLOSE_WAIT),
            (FIN_WAIT_2, CLOSE_WAIT),
            (FIN_WAIT_2, CLOSE_WAIT),
            (FIN_WAIT_2, CLOSE_WAIT),
            (TIME_WAIT, LAST_ACK),
            (TIME_WAIT, CLOSED),
        )
        assert row_of(story)["half_close_payload_bytes"] == 1200

    def test_the_server_closes_first(self) -> None:
        story = in_state(CLOSED, TIME_WAIT)
        tells(
            story,
            *OPENED,
            (CLOSE_WAIT, FIN_WAIT_1),
            (CLOSE_WAIT, FIN_WAIT_2),
            (LAST_ACK, TIME_WAIT),
            (CLOSED, TIME_WAIT),
        )
        row = row_of(story, 61)
        assert (row["client_state"], row["server_state"]) == (CLOSED, CLOSED)
        assert row["closed_by"] == ClosedBy.SERVER
        assert row["end_reason"] == EndReason.FIN

    def test_a_fin_overtakes_its_data(self) -> None:
        story = in_state(ESTABLISHED, ESTABLISHED)
        story.client("F.", seq=301).server(".", ack=1)
        story.client("P.", 200, seq=101).server(".", ack=1).client("P.", 100, seq=1).server(".")
        tells(
            story,
            *OPENED,
            *[(FIN_WAIT_1, ESTABLISHED)] * 4,
            (FIN_WAIT_1, CLOSE_WAIT),
            (FIN_WAIT_2, CLOSE_WAIT),
        )
        assert row_of(story)["client_out_of_order"] == 3

    def test_a_fin_that_ends_before_its_own_data_is_nobodys(self) -> None:
        """Its number is old: no host sends it, and none takes it."""
        story = in_state(ESTABLISHED, ESTABLISHED).client("P.", 1000).server(".").client("F.", seq=1)
        assert ends(story) == (ESTABLISHED, ESTABLISHED)
        assert ends(story.client("P.", 10, seq=1001).client("F.").server(".")) == (FIN_WAIT_2, CLOSE_WAIT)

    def test_more_resets_change_nothing(self) -> None:
        """A closed host answers each segment still on its way with one more."""
        story = in_state(ESTABLISHED, ESTABLISHED).server("R.").wait(1).server("R.").wait(1).client("R.")
        row = row_of(story)
        first_ts_ns = story.segments()["ts_ns"][3]
        assert row["reset_ts_ns"] == row["closed_ts_ns"] == first_ts_ns
        assert row["client_since_ts_ns"] == row["server_since_ts_ns"] == first_ts_ns
        assert row["closed_by"] == ClosedBy.SERVER


class TestOpen:
    def test_simultaneous(self) -> None:
        """Figure 7."""
        story = Exchange().client("S").server("S").client("S.", seq=0, ack=1).server("S.", seq=0, ack=1)
        pairs = after_each(story.segments())
        assert pairs[:2] == [(SYN_SENT, LISTEN), (SYN_RECEIVED, SYN_SENT)]
        assert pairs[-1] == (ESTABLISHED, ESTABLISHED)
        assert flags_of(story) & FlowFlag.SIMULTANEOUS_OPEN

    def test_split_handshake(self) -> None:
        story = Exchange().client("S").server("S").client("S.", seq=0, ack=1).server(".").client("P.", 10)
        assert ends(story) == (ESTABLISHED, ESTABLISHED)

    def test_refusal(self) -> None:
        story = Exchange().client("S").server("R.", seq=-5_000_000).wait(1).again(0).server("R.", seq=-5_000_000)
        tells(story, (SYN_SENT, LISTEN), *[(CLOSED, CLOSED)] * 3)
        row = row_of(story)
        assert row["end_reason"] == EndReason.REFUSED
        assert row["closed_by"] == ClosedBy.SERVER

    def test_an_old_duplicate_syn(self) -> None:
        """Figure 8: the server answers the old one, the client resets that, and the new one goes through."""
        story = Exchange(client_iss=100, server_iss=300)
        story.client("S", lost=True).client("S", seq=-10).client("S").server("S.", ack=-9)
        story.client("R", seq=-9).server("S.", seq=100).client(".", ack=101)
        assert after_each(story.segments())[-3:] == [
            (SYN_SENT, LISTEN),
            (SYN_SENT, SYN_RECEIVED),
            (ESTABLISHED, ESTABLISHED),
        ]

    def test_a_syn_ack_after_a_reset_says_that_it_was_lost(self) -> None:
        """The server goes on answering, so it never took the client's RST."""
        story = in_state(SYN_SENT, SYN_RECEIVED).client("R", seq=1).wait(1).again(1)
        tells(story, *OPENED[:2], (CLOSED, CLOSED), (CLOSED, SYN_RECEIVED))

    def test_a_late_syn_ack_is_no_full_accept_queue_once_the_server_has_taken_data(self) -> None:
        """A server whose accept queue is full has dropped the request, and cannot have acknowledged it."""
        story = in_state(ESTABLISHED, ESTABLISHED).client("P.", 100).server(".").again(1).client("P.", 50)
        assert ends(story) == (ESTABLISHED, ESTABLISHED)
        assert not flags_of(story) & (FlowFlag.ACCEPT_QUEUE | FlowFlag.CAPTURE_LOSS)
        assert row_of(story)["client_gap_bytes"] == 0

    def test_a_syn_ack_that_came_before_its_syn(self) -> None:
        """Captures of several queues are out of order; the SYN that fits is the one that was answered."""
        story = Exchange().client("S", lost=True).server("S.").client("S", seq=0).client(".")
        assert ends(story) == (ESTABLISHED, ESTABLISHED)
        assert row_of(story)["generation"] == 1

    def test_a_syn_that_the_syn_ack_does_not_answer_is_another_attempt(self) -> None:
        story = Exchange().client("S", lost=True).server("S.").client("S", seq=700_000)
        assert ends(story) == (SYN_SENT, SYN_RECEIVED)
        assert flags_of(story) & FlowFlag.PENDING_SYN
        assert row_of(story.server("S.", seq=900_000, ack=700_001))["generation"] == 2

    def test_half_open_discovery(self) -> None:
        """Figure 9: the client crashed and calls again; the server's ACK makes it reset the old connection."""
        story = in_state(ESTABLISHED, ESTABLISHED).client("S", seq=5_000_000).server(".", ack=1).client("R", seq=1)
        pairs = after_each(story.segments())
        assert pairs[-2] == (ESTABLISHED, ESTABLISHED)
        assert pairs[-1] == (CLOSED, CLOSED)
        assert flags_of(story) & FlowFlag.PENDING_SYN
        story.client("S", seq=5_000_000)
        assert row_of(story)["generation"] == 2

    def test_a_server_that_forgot_confirms_the_new_syn(self) -> None:
        story = in_state(ESTABLISHED, ESTABLISHED).wait(100).reopen(40_000_000, 70_000_000)
        story.client("S").server("S.").client(".")
        rows = track(story)
        assert [(int(row["generation"]), int(row["flow_id"])) for row in rows] == [(1, 1), (2, 5)]
        assert rows[0]["end_reason"] == EndReason.REPLACED
        assert (rows[1]["client_state"], rows[1]["server_state"]) == (ESTABLISHED, ESTABLISHED)
        assert rows[1]["first_ts_ns"] == rows[1]["syn_ts_ns"] == story.segments()["ts_ns"][3]

    def test_a_syn_onto_a_stale_close_wait(self) -> None:
        """The client forgot FIN_WAIT_2, takes the port again, and cannot connect."""
        story = in_state(FIN_WAIT_2, CLOSE_WAIT).wait(600).client("S", seq=9_000_000).server(".", ack=2)
        assert ends(story)[1] == CLOSE_WAIT
        assert flags_of(story) & FlowFlag.PENDING_SYN

    def test_fast_open(self) -> None:
        """RFC 7413: data in the SYN, acknowledged by the SYN+ACK; the server may answer at once."""
        story = Exchange().client("S", 200).server("S.").server("P.", 900).client(".")
        tells(story, (SYN_SENT, LISTEN), *[(SYN_SENT, SYN_RECEIVED)] * 2, (ESTABLISHED, ESTABLISHED))
        assert flags_of(story) & FlowFlag.FAST_OPEN

    def test_fast_open_whose_data_was_not_taken(self) -> None:
        story = Exchange().client("S", 200).server("S.", ack=1).client("P.", 200, seq=1).server(".")
        tells(story, *OPENED[:2], *[(ESTABLISHED, ESTABLISHED)] * 2)

    def test_a_flood(self) -> None:
        """Spoofed clients never answer: SYN_SENT and SYN_RECEIVED, until the server gives up."""
        flood = merge(*(Exchange(f"10.9.0.{i}:1024").client("S").server("S.") for i in range(1, 101)))
        rows = track(flood)
        assert set(rows["server_state"]) == {SYN_RECEIVED}
        later = track(flood, at_ns=int(flood["ts_ns"].max()) + 63_100_000_000)
        assert set(later["server_state"]) == {CLOSED}
        assert set(later["server_state_evidence"]) == {Evidence.EXPIRED}
        assert set(later["client_state"]) == {SYN_SENT}


class TestMiddle:
    def test_an_ack_first(self) -> None:
        story = Exchange().client(".", seq=100, ack=200)
        assert ends(story) == (ESTABLISHED, ESTABLISHED)
        row = row_of(story)
        assert row["client_state_evidence"] == row["server_state_evidence"] == Evidence.ASSUMED
        assert row["direction_evidence"] == DirectionEvidence.PORT
        assert flags_of(story) & FlowFlag.MIDSTREAM
        assert flags_of(story) & FlowFlag.ONE_SIDED

    def test_the_lower_port_is_the_server(self) -> None:
        row = row_of(Exchange("10.0.0.1:22", "10.0.0.2:50000").client("P.", 10, seq=1, ack=1))
        assert (row["client_port"], row["server_port"]) == (50000, 22)

    def test_a_fin_first(self) -> None:
        assert ends(Exchange().client("F.", seq=100, ack=200)) == (FIN_WAIT_1, CLOSE_WAIT)

    def test_a_rst_first(self) -> None:
        assert ends(Exchange().server("R", seq=100)) == (CLOSED, CLOSED)

    def test_a_whole_close(self) -> None:
        story = Exchange().server("P.", 10, seq=1, ack=1).client(".", seq=1).client("F.").server("F.").client(".")
        assert after_each(story.segments())[-1] == (TIME_WAIT, CLOSED)

    @pytest.mark.parametrize("last", [(ESTABLISHED, ESTABLISHED), (FIN_WAIT_1, CLOSE_WAIT)])
    def test_one_direction_only(self, last: Pair) -> None:
        story = Exchange().client("S").server("S.", lost=True).client(".").client("P.", 10)
        if last[0] == FIN_WAIT_1:
            story.client("F.")
        assert ends(story) == last
        assert flags_of(story) & FlowFlag.ONE_SIDED


class TestNumbers:
    @pytest.mark.parametrize("client_iss", [2**32 - 1, 2**32 - 2, 2**32 - 500, 2**31 - 1, 2**31, 0])
    @pytest.mark.parametrize("server_iss", [2**32 - 1, 2**31 - 300, 0])
    def test_wrap_around(self, client_iss: int, server_iss: int) -> None:
        def story(client_iss: int, server_iss: int) -> Exchange:
            story = Exchange(client_iss=client_iss, server_iss=server_iss).client("S").server("S.").client(".")
            story.client("P.", 600).server("P.", 900).client("P.", 40, lost=True).client("F.").server(".", ack=601)
            return story.server("P.", 20).client("P.", 40, seq=601).server("F.").client(".")

        plain, wrapped = story(1000, 2000), story(client_iss, server_iss)
        assert after_each(wrapped.segments()) == after_each(plain.segments())

    def test_more_than_four_gigabytes(self) -> None:
        story = in_state(ESTABLISHED, ESTABLISHED)
        for _ in range(80):
            story.client("P.", 60_000_000).server(".")
        assert ends(story.client("F.").server("F.").client(".")) == (TIME_WAIT, CLOSED)
        assert row_of(story)["client_payload_bytes"] == 4_800_000_000
        assert row_of(story)["client_retransmits"] == 0


def test_ipv6() -> None:
    story = in_state(TIME_WAIT, CLOSED, client="[2001:db8::1]:50000", server="[2001:db8::2]:443")
    assert ends(story) == (TIME_WAIT, CLOSED)
    row = row_of(story)
    assert row["ip_version"] == 6
    assert row["client_ip"].tobytes() == bytes.fromhex("20010db8000000000000000000000001")


def test_ipv4_and_a_mapped_ipv6_address_are_not_the_same_host() -> None:
    """::ffff:10.0.0.1 on the wire of IPv6 has the 16 bytes of IPv4's 10.0.0.1."""
    four = Exchange("10.0.0.1:1000", "10.0.0.2:80").client("S")
    six = Exchange("[::ffff:10.0.0.1]:1000", "[::ffff:10.0.0.2]:80", step_s=0.002).client("S").server("S.")
    rows = track(merge(four, six))
    assert sorted(rows["ip_version"]) == [4, 6]


def test_neighbours_do_not_touch_each_other() -> None:
    """All 4-tuples that differ in one thing only are different connections, in every state at once."""
    pairs = [(SYN_SENT, LISTEN), (ESTABLISHED, ESTABLISHED), (FIN_WAIT_2, CLOSE_WAIT), (CLOSED, TIME_WAIT)]
    stories = [
        (pair, in_state(*pair, client=f"10.0.0.{host}:{port}", server=f"10.0.1.{host}:80"))
        for host in range(1, 6)
        for port in range(2000, 2010)
        for pair in [pairs[(host * 3 + port) % 4]]
    ]
    rows = track(merge(*(story for _, story in stories)))
    found = {(row["client_ip"][15], row["client_port"]): (row["client_state"], row["server_state"]) for row in rows}
    assert found == {(int(s.segments()["src_ip"][0][15]), int(s.segments()["src_port"][0])): p for p, s in stories}
