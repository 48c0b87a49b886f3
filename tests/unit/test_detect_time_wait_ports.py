"""How many ports a client has, by those that it takes again: time_wait_buildup where the range is not the default."""

from __future__ import annotations

import detected
import numpy as np
import pytest
from flow_rows import at, completed, flows, many

from conntrack.detect import Finding
from conntrack.detect.time_wait import TimeWaitBuildup
from conntrack.states import FlowFlag, TcpState

S = 10**9
FIRST = 32_768


def found(rows: np.ndarray, end_s: float = 600) -> list[Finding]:
    return detected.found(TimeWaitBuildup, rows, at(end_s))


def taken(count: int, per_s: float, ports: np.ndarray) -> np.ndarray:
    """So many connections of one client, closed by it, from `ports` in this order, again and again."""
    return many(completed(0, 0.01, 0.001), np.arange(count) / per_s, client_ports=ports[np.arange(count) % len(ports)])


def in_order(size: int, step: int = 1) -> np.ndarray:
    return FIRST + np.arange(0, size, step)


def at_random(size: int, seed: int = 1) -> np.ndarray:
    return FIRST + np.random.default_rng(seed).permutation(size)


@pytest.mark.parametrize(
    ("size", "per_s", "seconds", "severity"),
    [
        (2000, 15, 200, None),  # 45 %
        (2000, 20, 200, "warning"),
        (2000, 30, 80, "critical"),  # 20 s after the first port is free again
        (2000, 30, 600, "critical"),
        (5000, 60, 100, "warning"),
        (10_000, 150, 100, "critical"),
        (28_232, 100, 300, None),
        (28_232, 230, 300, None),  # 49 %
    ],
)
@pytest.mark.parametrize("ports", [in_order, at_random])
def test_a_client_that_takes_its_ports_again_shows_how_many_it_has(size, per_s, seconds, severity, ports):
    rows = taken(per_s * seconds, per_s, ports(size))
    findings = found(rows)
    assert [finding.severity for finding in findings] == ([severity] if severity else [])
    for finding in findings:
        assert finding.evidence["ephemeral_ports"] == pytest.approx(size, rel=0.03)
        assert finding.peak == 60 * per_s
        assert "is what the client shows" in finding.caveats[0]


@pytest.mark.parametrize("ports", [in_order(28_232), in_order(28_232, 2), at_random(28_232)])
@pytest.mark.parametrize(("count", "per_s"), [(2000, 2000), (6000, 100), (12_000, 200)])
def test_ports_that_are_taken_for_the_first_time_tell_nothing(count, per_s, ports):
    """In order or at random: all of them in TIME_WAIT, and the client may have any number more."""
    assert found(taken(count, per_s, ports)) == []


def test_a_program_that_binds_to_a_few_ports_has_chosen_so():
    assert found(taken(5000, 14, in_order(850))) == []


def again(count: int, per_s: float, ports: int, **fields) -> np.ndarray:
    """A client with tcp_tw_reuse: TIME_WAIT ends when its port is taken again, and the row cannot know when."""
    row = completed(0, 0.01, 0.001, client_state=TcpState.TIME_WAIT, client_since_ts=0.0125, closed_ts=None)
    rows = many(row, np.arange(count) / per_s, client_ports=FIRST + np.arange(count) % ports)
    reused = {"flags": FlowFlag.REUSED_TIME_WAIT, "reused_age_ns": round((ports / per_s - 0.0125) * S)}
    for name, value in (reused | fields).items():
        rows[name][ports:] = value
    return rows


def test_a_time_wait_that_is_reused_is_over():
    """100 a second for 100 s on 2,000 ports: 2,000 in TIME_WAIT, not 6,000."""
    (finding,) = found(again(10_000, 100, 2000))
    assert finding.peak == 2000
    assert finding.severity == "warning"
    assert "does not run out" in finding.caveats[1]


def test_a_reuse_that_had_to_be_tried_again_is_no_remedy():
    (finding,) = found(again(10_000, 100, 2000, client_syns=2))
    assert finding.severity == "critical"


def test_halves_merged_say_the_same():
    rows = taken(6000, 30, at_random(2000))
    whole, halves = detected.everything(rows), [detected.everything(rows[part::2]) for part in (0, 1)]
    halves[1].merge(halves[0])
    assert whole.findings(at(600)) == halves[1].findings(at(600))
    assert [one.severity for one in whole.findings(at(600))] == ["critical"]


def test_two_clients_share_no_ports():
    rows = flows(taken(6000, 15, in_order(1900)), taken(6000, 15, in_order(1900)))
    rows["client_ip"][6000:, 15] = 9
    assert found(rows) == []
