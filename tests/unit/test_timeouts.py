"""The timers of hosts: the numbers of the documents, and that nothing can be a leak because a firewall forgot it."""

from __future__ import annotations

import pytest

from conntrack.states import TcpState
from conntrack.timeouts import NO_TIMEOUT_NS, PROFILES, compile_timeouts

SECOND = 1_000_000_000


def test_linux_is_the_default_and_has_the_numbers_of_the_kernel() -> None:
    timeouts = compile_timeouts()
    assert {state.name: int(timeouts[state]) / SECOND for state in TcpState if timeouts[state] != NO_TIMEOUT_NS} == {
        "SYN_SENT": 127.0,
        "SYN_RECEIVED": 63.0,
        "FIN_WAIT_1": 102.2,
        "CLOSING": 102.2,
        "LAST_ACK": 102.2,
        "TIME_WAIT": 60.0,
    }


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_what_can_leak_never_expires(profile: str) -> None:
    timeouts = compile_timeouts(profile)
    for state in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT, TcpState.LISTEN, TcpState.CLOSED):
        assert timeouts[state] == NO_TIMEOUT_NS


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_each_number_has_a_source(profile: str) -> None:
    for state, timeout in PROFILES[profile].states.items():
        assert timeout.timeout_s > 0, state
        assert timeout.source, state


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_time_wait_is_two_msl(profile: str) -> None:
    """RFC 9293, 3.6.1."""
    assert PROFILES[profile].states[TcpState.TIME_WAIT].timeout_s == PROFILES[profile].two_msl_s


def test_an_override_replaces_one_number_or_takes_it_away() -> None:
    timeouts = compile_timeouts("linux", {TcpState.FIN_WAIT_2: 60, TcpState.TIME_WAIT: None, TcpState.SYN_SENT: 0.5})
    assert timeouts[TcpState.FIN_WAIT_2] == 60 * SECOND
    assert timeouts[TcpState.TIME_WAIT] == NO_TIMEOUT_NS
    assert timeouts[TcpState.SYN_SENT] == SECOND // 2
    assert timeouts[TcpState.SYN_RECEIVED] == 63 * SECOND


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(KeyError):
        compile_timeouts("plan9")
