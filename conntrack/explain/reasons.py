"""Which rules of transitions.py took an end from one state to another when a segment was sent or received.

The tracker says that a state changed; why is found again here: the events that the segment can have been, in the order
in which the core applies them, and the chain of rules that they make between the two states. Knows no numbers.
"""

from __future__ import annotations

from conntrack.explain.model import Change
from conntrack.states import Evidence, Role, SegmentEvent, TcpState
from conntrack.transitions import IGNORE, RULES, Rule

__all__ = ["by_segment", "by_timer"]

SENT, RECEIVED = Role
_ACK, _FIN, _SYN, _RST = 16, 1, 2, 4

_MOVES: dict[tuple[Role, SegmentEvent, TcpState], Rule] = {
    (rule.role, rule.event, state): rule for rule in RULES if rule.to != IGNORE for state in rule.states
}

_Events = tuple[tuple[Role, SegmentEvent], ...]


def _events(flags: int, payload_bytes: int, *, sender: bool) -> _Events:
    role = SENT if sender else RECEIVED
    if flags & _RST:
        return ((role, SegmentEvent.RST),)
    if flags & _SYN:
        if not flags & _ACK:
            return ((role, SegmentEvent.SYN),)
        both = ((role, SegmentEvent.SYN_ACK), (role, SegmentEvent.SYN_ACK_AGAIN))
        # Figure 7, last lines: in a simultaneous open the sender has the peer's SYN+ACK as good as received.
        return (*both, (RECEIVED, SegmentEvent.SYN_ACK)) if sender else both
    events = [SegmentEvent.ACK_OF_SYN, SegmentEvent.ACK_OF_FIN] if flags & _ACK else []
    if sender and (payload_bytes or flags & _FIN):
        events.append(SegmentEvent.DATA)
    if not sender or flags & _FIN:
        events.append(SegmentEvent.FIN)
    if sender and flags & _FIN:
        events.append(SegmentEvent.FIN_CROSSING)
    return tuple((role, event) for event in events)


def _chain(events: _Events, before: TcpState, after: TcpState) -> tuple[Rule, ...] | None:
    if before == after:
        return ()
    for at, event in enumerate(events):
        rule = _MOVES.get((*event, before))
        if rule is not None:
            rest = _chain(events[at + 1 :], TcpState(rule.to), after)
            if rest is not None:
                return (rule, *rest)
    return None


def by_segment(
    side: int, before: TcpState, after: TcpState, evidence: int, flags: int, payload_bytes: int, *, sender: bool
) -> tuple[tuple[Change, ...], frozenset[SegmentEvent]]:
    """Return the changes of one end that a segment made, and the events that it was.

    Args:
        side: of the end, 0 the client, 1 the server.
        before, after: its states.
        evidence: how `after` is known.
        flags, payload_bytes: of the segment.
        sender: whether the end sent it; else it received it.
    """
    if before == after:
        return (), frozenset()
    rules = _chain(_events(flags, payload_bytes, sender=sender), before, after)
    if rules is None:
        return (Change(side, before, after, "", "", Evidence(evidence)),), frozenset()
    changes = []
    for rule in rules:
        changes.append(Change(side, before, TcpState(rule.to), rule.reason, rule.source, Evidence(evidence)))
        before = TcpState(rule.to)
    return tuple(changes), frozenset(rule.event for rule in rules)


def by_timer(side: int, before: TcpState, after: TcpState) -> Change:
    """Return the change of one end whose timer ran out, or would have been seen to run out if it still ran."""
    if before == TcpState.SYN_RECEIVED and after == TcpState.ESTABLISHED:
        reason = "it took the ACK: its SYN+ACK was due again, and did not come"
        return Change(side, before, after, reason, "Linux reqsk_timer_handler", Evidence.INFERRED)
    rule = _MOVES.get((SENT, SegmentEvent.TIMEOUT, before))
    reason, source = ("", "") if rule is None else (rule.reason, rule.source)
    return Change(side, before, after, reason, source, Evidence.EXPIRED)
