"""Captures that lost more than any window holds: numbers far from those before, by any distance modulo 2**32."""

from __future__ import annotations

import pytest
from segments import Exchange, in_state
from tracked import ends, flags_of, row_of

from conntrack.states import FlowFlag, TcpState

CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED = list(TcpState)[:5]
FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT = list(TcpState)[5:]

MIB, GIB = 1 << 20, 1 << 30
WIDE = [GIB - 1, GIB, GIB + 1, GIB + 2 * MIB, 2 * GIB - 1, 2 * GIB, 2 * GIB + 1, 3 * GIB, 6 * GIB]
NARROW = [*WIDE, 32 * MIB, 4 * GIB - 32 * MIB, 4 * GIB + 32 * MIB, 7 * GIB + 32 * MIB]
"""Modulo 2**32 further than any window: that is the least that tells an outage from what is early or late."""


def after_outage(hole: int, payload: int = 500, **options: int) -> Exchange:
    """A transfer of which the capture lost `hole` bytes and their ACKs, up to the first data after that."""
    story = in_state(ESTABLISHED, ESTABLISHED, **options).client("P.", 1000).server(".")
    return story.client("P.", hole, lost=True).client("P.", payload)


@pytest.mark.parametrize("client_iss", [0, 2**31 - 700, 2**32 - 700])
@pytest.mark.parametrize(
    ("hole", "scale"), [*((hole, scale) for hole in NARROW for scale in (0, 7)), *((hole, 14) for hole in WIDE)]
)
class TestOutage:
    def test_is_bridged_where_the_far_numbers_are_acknowledged(self, hole: int, client_iss: int, scale: int) -> None:
        story = after_outage(hole, client_iss=client_iss, scale=scale).server(".")
        assert ends(story.client("P.", 500).server(".").client("F.")) == (FIN_WAIT_1, CLOSE_WAIT)
        assert ends(story.server(".").server("F.").client(".")) == (TIME_WAIT, CLOSED)
        row = row_of(story)
        assert flags_of(story) & FlowFlag.CAPTURE_LOSS
        assert int(row["client_gap_bytes"]) - hole % 2**32 in (0, 500)  # or also the first data behind it
        assert (row["client_retransmits"], row["server_gap_bytes"]) == (0, 0)

    def test_is_not_where_nobody_acknowledges_them(self, hole: int, client_iss: int, scale: int) -> None:
        """They may be those of an older connection, or forged."""
        story = after_outage(hole, client_iss=client_iss, scale=scale).client("F.").server(".", ack=1001)
        assert ends(story) == (ESTABLISHED, ESTABLISHED)
        assert ends(story.client("P.", 10, seq=1001).client("F.", seq=1011)) == (FIN_WAIT_1, CLOSE_WAIT)

    def test_is_bridged_by_a_fin_that_is_acknowledged(self, hole: int, client_iss: int, scale: int) -> None:
        story = in_state(ESTABLISHED, ESTABLISHED, client_iss=client_iss, scale=scale).client("P.", 1000).server(".")
        story.client("P.", hole, lost=True).client("F.", 100)
        sent_ns = story.now_ns
        assert ends(story.wait(0.2).again()) == (ESTABLISHED, ESTABLISHED)
        assert ends(story.server(".")) == (FIN_WAIT_2, CLOSE_WAIT)
        row = row_of(story)
        assert (row["client_fin_ts_ns"], row["client_fin_acked_ts_ns"]) == (sent_ns, story.now_ns)
        assert ends(story.server("F.").client(".")) == (TIME_WAIT, CLOSED)

    def test_is_bridged_but_for_a_fin_that_is_not(self, hole: int, client_iss: int, scale: int) -> None:
        story = in_state(ESTABLISHED, ESTABLISHED, client_iss=client_iss, scale=scale).client("P.", 1000).server(".")
        story.client("P.", hole, lost=True).client("F.").server(".", ack=1001 + hole)
        assert ends(story) == (ESTABLISHED, ESTABLISHED)
        assert ends(story.wait(0.2).again(-2)) == (FIN_WAIT_1, CLOSE_WAIT)

    def test_of_both_directions(self, hole: int, client_iss: int, scale: int) -> None:
        story = in_state(ESTABLISHED, ESTABLISHED, client_iss=client_iss, scale=scale)
        story.client("P.", 1000).server("P.", 1000).client("P.", hole, lost=True).server("P.", hole + 7, lost=True)
        for _ in range(3):
            story.client("P.", 500).server("P.", 600)
        assert ends(story.client("F.").server("F.").client(".")) == (TIME_WAIT, CLOSED)


@pytest.mark.parametrize("client_iss", [0, 2**31 - 70_000, 2**32 - 70_000])
def test_what_is_no_further_than_a_window_is_a_retransmission_or_early(client_iss: int) -> None:
    story = in_state(ESTABLISHED, ESTABLISHED, client_iss=client_iss).client("P.", 65_000).server(".")
    story.client("P.", 65_000).client("P.", 100, seq=1).client("P.", 100, seq=180_001)
    row = row_of(story)
    assert not flags_of(story) & FlowFlag.OUT_OF_WINDOW
    assert (row["client_retransmits"], row["client_out_of_order"], row["client_gap_bytes"]) == (1, 1, 0)
