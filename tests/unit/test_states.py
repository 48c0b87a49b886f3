"""The words: what is written to files and shown to users must not change by accident."""

from __future__ import annotations

from conntrack.states import NO_TIME_NS, Evidence, FlowFlag, Role, SegmentEvent, StateTrait, TcpState, mask_of

RFC_9293_STATES = [
    "CLOSED",
    "LISTEN",
    "SYN_SENT",
    "SYN_RECEIVED",
    "ESTABLISHED",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "CLOSE_WAIT",
    "CLOSING",
    "LAST_ACK",
    "TIME_WAIT",
]


def test_the_eleven_states_of_the_rfc_in_its_spelling() -> None:
    assert [state.name for state in TcpState] == RFC_9293_STATES


def test_members_are_indices_without_a_gap() -> None:
    for enumeration in (TcpState, Role, SegmentEvent, Evidence):
        assert [int(member) for member in enumeration] == list(range(len(enumeration)))


def test_flags_are_single_bits_without_a_gap() -> None:
    for enumeration in (FlowFlag, StateTrait):
        assert [int(member) for member in enumeration] == [1 << bit for bit in range(len(enumeration))]


def test_a_mask_holds_its_states_and_no_other() -> None:
    mask = mask_of(TcpState.CLOSED, TcpState.TIME_WAIT)
    assert [state for state in TcpState if mask >> state & 1] == [TcpState.CLOSED, TcpState.TIME_WAIT]
    assert mask_of() == 0


def test_an_unknown_time_is_not_a_time_of_numpy_either() -> None:
    import numpy as np

    assert np.isnat(np.array([NO_TIME_NS], dtype=np.int64).view("datetime64[ns]")[0])
