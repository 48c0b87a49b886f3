"""The rules, checked as data: no capture and no compiled code is needed for any of this."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from model_rules import received, sent

from conntrack import transitions
from conntrack.cli import main
from conntrack.states import Role, SegmentEvent, StateTrait, TcpState
from conntrack.transitions import IGNORE, INVALID, RULES, START, TRAITS

EVERY_CELL = list(product(Role, SegmentEvent, TcpState))
SYNCHRONISED = [state for state in TcpState if state > TcpState.SYN_RECEIVED]


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return transitions.compile_table()


def apply(table: np.ndarray, role: Role, event: SegmentEvent, state: TcpState) -> TcpState:
    to = int(table[role, event, state])
    return state if to in (IGNORE, INVALID) else TcpState(to)


class TestTotal:
    def test_every_cell_is_a_state_or_a_named_non_move(self, table: np.ndarray) -> None:
        assert table.shape == (len(Role), len(SegmentEvent), len(TcpState))
        assert table.dtype == np.uint8
        assert set(np.unique(table)) <= {*TcpState, IGNORE, INVALID}

    def test_only_these_cells_have_no_rule(self, table: np.ndarray) -> None:
        """A peer's FIN cannot be acknowledged by one that never opened, nor a timer run where there is none."""
        missing = {(r.name, e.name, s.name) for r, e, s in EVERY_CELL if table[r, e, s] == INVALID}
        expected = {("RECEIVED", "TIMEOUT", state.name) for state in TcpState}
        expected |= {("SENT", "TIMEOUT", name) for name in ("CLOSED", "LISTEN", "ESTABLISHED", "CLOSE_WAIT")}
        expected |= {
            ("SENT", "SYN", state.name)
            for state in TcpState
            if state > TcpState.SYN_SENT and state != TcpState.SYN_RECEIVED
        }  # another connection, or a SYN to be remembered: decided before the table
        expected |= {
            ("RECEIVED", "ACK_OF_FIN", name) for name in ("SYN_SENT", "SYN_RECEIVED", "ESTABLISHED", "CLOSE_WAIT")
        }  # these have sent no FIN
        assert missing == expected

    def test_what_moves_nothing_says_so(self, table: np.ndarray) -> None:
        """But a RST, which ends what is over as it ends all the rest."""
        itself = [cell for cell in EVERY_CELL if table[cell] == cell[2]]
        assert itself == [(role, SegmentEvent.RST, TcpState.CLOSED) for role in Role]

    def test_every_rule_has_a_reason_and_a_source(self) -> None:
        for rule in RULES:
            assert rule.reason.strip()
            assert any(character.isdigit() for character in rule.source) or "Linux" in rule.source, rule

    def test_two_rules_for_one_cell_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transitions, "RULES", (*RULES, RULES[0]))
        with pytest.raises(ValueError, match="two rules for SENT SYN in CLOSED"):
            transitions.compile_table()


class TestClosed:
    def reachable(self, table: np.ndarray, *start: TcpState) -> set[TcpState]:
        known, todo = set(start), list(start)
        while todo:
            state = todo.pop()
            for role, event in product(Role, SegmentEvent):
                to = apply(table, role, event, state)
                if to not in known:
                    known.add(to)
                    todo.append(to)
        return known

    def test_every_state_is_reached_from_a_start(self, table: np.ndarray) -> None:
        assert self.reachable(table, *START["syn"]) == set(TcpState)

    def test_every_state_but_those_of_opening_is_reached_from_the_middle(self, table: np.ndarray) -> None:
        opening = {TcpState.LISTEN, TcpState.SYN_SENT}
        assert self.reachable(table, *START["other"]) >= set(TcpState) - opening

    @pytest.mark.parametrize("state", list(TcpState))
    def test_closed_is_reached_from_everywhere(self, table: np.ndarray, state: TcpState) -> None:
        assert TcpState.CLOSED in self.reachable(table, state)

    def test_nothing_but_its_own_segment_opens_an_end_that_is_closed(self, table: np.ndarray) -> None:
        for event in SegmentEvent:
            assert apply(table, Role.RECEIVED, event, TcpState.CLOSED) == TcpState.CLOSED


class TestReset:
    @pytest.mark.parametrize("state", SYNCHRONISED)
    def test_ends_every_synchronised_state_at_both_ends(self, table: np.ndarray, state: TcpState) -> None:
        for role in Role:
            assert apply(table, role, SegmentEvent.RST, state) == TcpState.CLOSED

    def test_is_absorbing(self, table: np.ndarray) -> None:
        for event in (SegmentEvent.ACK_OF_SYN, SegmentEvent.DATA, SegmentEvent.ACK_OF_FIN, SegmentEvent.FIN):
            for role in Role:
                assert apply(table, role, event, TcpState.CLOSED) == TcpState.CLOSED


@pytest.mark.parametrize(("role", "event", "state"), EVERY_CELL)
def test_the_same_event_again_moves_nothing(
    table: np.ndarray, role: Role, event: SegmentEvent, state: TcpState
) -> None:
    once = apply(table, role, event, state)
    assert apply(table, role, event, once) == once


@pytest.mark.parametrize(("role", "event", "state"), [c for c in EVERY_CELL if c[1] != SegmentEvent.TIMEOUT])
def test_the_second_opinion_says_the_same(table: np.ndarray, role: Role, event: SegmentEvent, state: TcpState) -> None:
    opinion = sent if role == Role.SENT else received
    assert apply(table, role, event, state) == opinion(state, event)


def test_a_timer_that_runs_out_leaves_nothing(table: np.ndarray) -> None:
    """Only these states have one (timeouts.py): whoever waits for the peer or its last ACK, never for a program."""
    ends = {TcpState(s) for s in TcpState if apply(table, Role.SENT, SegmentEvent.TIMEOUT, s) != s}
    assert ends == set(TcpState) - {TcpState.CLOSED, TcpState.LISTEN, TcpState.ESTABLISHED, TcpState.CLOSE_WAIT}
    assert {int(table[Role.SENT, SegmentEvent.TIMEOUT, s]) for s in ends} == {TcpState.CLOSED}


def test_no_cell_can_change_unnoticed(table: np.ndarray) -> None:
    """Each of 2,640 tables with one wrong cell fails a test above."""
    total = TestTotal()

    def is_noticed(wrong: np.ndarray, cell: tuple[Role, SegmentEvent, TcpState]) -> bool:
        try:
            if cell[1] != SegmentEvent.TIMEOUT:
                test_the_second_opinion_says_the_same(wrong, *cell)
            test_a_timer_that_runs_out_leaves_nothing(wrong)
            total.test_only_these_cells_have_no_rule(wrong)
            total.test_what_moves_nothing_says_so(wrong)
        except (AssertionError, ValueError):
            return True
        return False

    unnoticed = []
    for cell in EVERY_CELL:
        assert not is_noticed(table, cell)
        for value in {*TcpState, IGNORE, INVALID} - {int(table[cell])}:
            wrong = table.copy()
            wrong[cell] = value
            if not is_noticed(wrong, cell):
                unnoticed.append((*cell, value))
    assert unnoticed == []


class TestCompanions:
    def test_every_state_has_its_traits(self) -> None:
        assert set(TRAITS) == set(TcpState)
        assert transitions.compile_traits().tolist() == [int(TRAITS[state]) for state in TcpState]

    def test_each_single_trait_belongs_to_the_state_it_is_told_of(self) -> None:
        having = {trait: {s.name for s in TcpState if TRAITS[s] & trait} for trait in StateTrait}
        assert having == {
            StateTrait.OVER: {"CLOSED"},
            StateTrait.PASSIVE: {"LISTEN"},
            StateTrait.OPENING: {"SYN_SENT", "SYN_RECEIVED"},
            StateTrait.ACTIVE_OPEN: {"SYN_SENT"},
            StateTrait.STEADY: {"ESTABLISHED"},
            StateTrait.HALF_CLOSED: {"CLOSE_WAIT"},
            StateTrait.LINGERS: {"TIME_WAIT"},
        }

    def test_the_start_is_sender_then_receiver(self) -> None:
        assert transitions.compile_start().tolist() == [
            [TcpState.CLOSED, TcpState.LISTEN],
            [TcpState.LISTEN, TcpState.SYN_SENT],
            [TcpState.ESTABLISHED, TcpState.ESTABLISHED],
        ]


class TestRendered:
    def test_markdown_has_a_table_for_each_role_with_every_state(self) -> None:
        sending, receiving = transitions.render_markdown().split("\n\n")
        for part in (sending, receiving):
            assert [line.split("**")[1] for line in part.strip().splitlines()[2:]] == [s.name for s in TcpState]
        assert "| **CLOSE_WAIT** | ! | - | - | - | - | LAST_ACK | CLOSED |" in sending
        assert "TIMEOUT" not in receiving

    def test_text_has_every_rule_that_moves_with_its_source(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["states"]) == 0
        lines = capsys.readouterr().out.splitlines()
        moving = [rule for rule in RULES if rule.to != IGNORE]
        assert list(transitions.moves()) == moving
        assert max(map(len, lines)) <= 80
        events = lines.index("Events:")
        assert len([line for line in lines[:events] if line.startswith("  ") and line[2].isupper()]) == len(moving)
        at = lines[1].index("why [source]")
        text = " ".join(line[at:].strip() for line in lines[:events])
        for rule in moving:
            assert f"{rule.reason} [{rule.source}]" in text
        meanings = " ".join(lines[events:])
        for event in SegmentEvent:
            assert re.search(rf" {event.name} +[a-z]", meanings), event
