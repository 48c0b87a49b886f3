"""conntrack/compare/reasons.py: which reason is given first, from what each side knows."""

from __future__ import annotations

from typing import Any

import pytest

from conntrack.compare import firewall
from conntrack.compare.model import Endpoint, FirewallEntry, WireFlow
from conntrack.compare.reasons import FACTS, REASONS, Instant, of_difference, only_on_wire
from conntrack.states import TcpState

CLIENT, SERVER = Endpoint("10.0.0.1", 40_000), Endpoint("10.0.0.2", 80)
S = 10**9
NOW, LATE = Instant(100 * S, 100 * S), Instant(103 * S, 100 * S)
(CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED) = list(TcpState)[:5]
(FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT) = list(TcpState)[5:]


def flow(*flags: str, **fields: Any) -> WireFlow:
    usual: dict[str, Any] = {
        "flow_id": 1, "client": CLIENT, "server": SERVER, "client_state": ESTABLISHED, "server_state": ESTABLISHED,
        "client_evidence": "SEEN", "server_evidence": "SEEN", "client_since_ns": S, "server_since_ns": S,
        "first_ns": S, "last_ns": 100 * S, "client_retransmits": 0, "server_retransmits": 0,
        "end_reason": "OPEN_AT_END",
    }  # fmt: skip
    return WireFlow(**(usual | fields), flags=frozenset(flags))


@pytest.mark.parametrize(
    ("wire", "kernel", "one", "instant", "reason"),
    [
        # Over by the wire.
        (CLOSED, ESTABLISHED, flow(end_reason="RESET"), NOW, "not_arrived"),
        (CLOSED, SYN_SENT, flow(end_reason="REFUSED"), NOW, "not_arrived"),
        (CLOSED, TIME_WAIT, flow(end_reason="FIN"), NOW, "timer"),
        (CLOSED, FIN_WAIT_1, flow(client_evidence="EXPIRED"), NOW, "timer"),
        (CLOSED, LAST_ACK, flow(server_evidence="EXPIRED"), NOW, "not_arrived"),  # that of the other end is
        (LISTEN, FIN_WAIT_2, flow(end_reason="FIN"), NOW, "not_arrived"),
        # The kernel knows more.
        (SYN_SENT, ESTABLISHED, flow(), NOW, "lost_segments"),
        (SYN_SENT, ESTABLISHED, flow("MIDSTREAM"), NOW, "began_before"),
        (SYN_SENT, ESTABLISHED, flow("ONE_SIDED"), NOW, "one_sided"),
        (SYN_SENT, ESTABLISHED, flow("MIDSTREAM", "ONE_SIDED"), NOW, "began_before"),
        (ESTABLISHED, CLOSE_WAIT, flow("CAPTURE_LOSS"), NOW, "lost_segments"),
        (ESTABLISHED, CLOSE_WAIT, flow("MIDSTREAM"), LATE, "snapshot_later"),
        # The wire knows more.
        (ESTABLISHED, SYN_RECEIVED, flow("ACCEPT_QUEUE"), NOW, "accept_queue"),
        (ESTABLISHED, SYN_RECEIVED, flow(), NOW, "not_arrived"),
        (CLOSE_WAIT, ESTABLISHED, flow(), NOW, "not_arrived"),
        (FIN_WAIT_1, ESTABLISHED, flow(), NOW, "sent_by_another"),
        # Both know the same.
        (ESTABLISHED, ESTABLISHED, flow(), NOW, "clock"),
        (ESTABLISHED, ESTABLISHED, flow(), LATE, "snapshot_later"),
        (SYN_SENT, CLOSED, flow(), NOW, "clock"),
    ],
)
def test_two_states(wire: TcpState, kernel: TcpState, one: WireFlow, instant: Instant, reason: str) -> None:
    found, words = of_difference(wire, kernel, one, CLIENT, instant)
    assert (found, found in REASONS, words[-1]) == (reason, True, ".")


def test_the_server_s_end_is_judged_by_its_own_evidence() -> None:
    one = flow(server_evidence="EXPIRED", end_reason="GIVEN_UP")
    assert of_difference(CLOSED, LAST_ACK, one, SERVER, NOW)[0] == "timer"


@pytest.mark.parametrize(
    ("kernel", "one"),
    [
        (CLOSE_WAIT, flow("PENDING_SYN")),
        (SYN_SENT, flow("PENDING_SYN")),
        (CLOSE_WAIT, flow(client_state=SYN_SENT)),
        (CLOSE_WAIT, flow(server_state=SYN_RECEIVED)),
    ],
)
def test_a_client_that_came_back_to_ports_that_are_held(kernel: TcpState, one: WireFlow) -> None:
    assert of_difference(ESTABLISHED, kernel, one, SERVER, NOW)[0] == "stale_close_wait"


@pytest.mark.parametrize(
    ("wire", "one", "reason"),
    [
        (SYN_RECEIVED, flow(), "syn_cookies"),
        (SYN_SENT, flow(), "given_up"),
        (TIME_WAIT, flow(), "timer"),
        (FIN_WAIT_2, flow(last_ns=39 * S), "timer"),  # after 61 s
        (FIN_WAIT_2, flow(last_ns=40 * S), "lost_segments"),
        (LAST_ACK, flow(client_retransmits=1), "peer_vanished"),
        (LAST_ACK, flow(server_retransmits=1), "lost_segments"),
        (ESTABLISHED, flow(client_retransmits=3), "peer_vanished"),
        (ESTABLISHED, flow(client_retransmits=2), "lost_segments"),
        (ESTABLISHED, flow("ONE_SIDED"), "one_sided"),
    ],
)
def test_only_on_the_wire(wire: TcpState, one: WireFlow, reason: str) -> None:
    assert only_on_wire(wire, one, CLIENT, NOW)[0] == reason
    assert only_on_wire(wire, one, CLIENT, LATE)[0] == "snapshot_later"


def test_a_fact_that_both_know_is_no_reason() -> None:
    for states, *_ in FACTS:
        for state in states:
            assert of_difference(state, state, flow(), CLIENT, NOW)[0] == "clock"


def entry(state: str, *, unreplied: bool = False) -> FirewallEntry:
    return FirewallEntry((CLIENT, SERVER), (SERVER, CLIENT), state, 60, unreplied)


@pytest.mark.parametrize(
    ("one", "wire", "instant", "reason"),
    [
        (entry("ESTABLISHED", unreplied=True), flow(), NOW, "one_sided"),
        (entry("TIME_WAIT"), flow(), NOW, "lost_segments"),
        (entry("TIME_WAIT"), flow(), LATE, "snapshot_later"),
        (entry("ESTABLISHED"), flow(client_state=CLOSED, server_state=CLOSED), NOW, "not_arrived"),
        (entry("SYN_SENT"), flow(), NOW, "not_arrived"),
    ],
)
def test_a_firewall_with_another_state(one: FirewallEntry, wire: WireFlow, instant: Instant, reason: str) -> None:
    assert firewall._different(one, wire, instant)[0] == reason


def test_a_firewall_without_it() -> None:
    silent = flow(last_ns=-(firewall.TIMEOUTS_S["ESTABLISHED"] + 1) * S)
    assert firewall._forgotten(silent, Instant(0, 0))[0] == "firewall_forgot"
    assert firewall._forgotten(silent, Instant(S, 0))[0] == "snapshot_later"
