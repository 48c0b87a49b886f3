"""The model's retransmission timers: when a host repeats a SYN+ACK or a FIN, and what it means that one is missing.

Part of model.py, which knows the states; nothing here does. Times are nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SECOND = 10**9
SYNACK_RTO = SECOND
MOST_TURNS = 8
LONGEST_RTO = 120 * SECOND
LATE = SECOND // 4
ANSWER = SECOND // 2


def patience(turn: int) -> int:
    """How long to wait for a turn that is due."""
    return turn // 8 + LATE


@dataclass
class Answers:
    """The SYN+ACKs of a server."""

    sent: list[int] = field(default_factory=list)
    turns: int = 0  # how often its timer sent the same again
    asked: int | None = None  # when, since the last, the SYN came again
    acked: bool = False  # since the last, the ACK came again

    def again(self, ts: int, same: bool) -> None:
        """Take note of the same SYN+ACK again, or of another in its place."""
        if not same:
            self.turns = 0
        elif not self.answers_a_syn(ts):
            self.turns += 1
            while self.turns < MOST_TURNS and SYNACK_RTO << self.turns <= ts - self.sent[-1]:
                self.turns += 1
            self.turns = min(self.turns, MOST_TURNS)
        self.asked, self.acked = None, False
        self.sent.append(ts)

    def answers_a_syn(self, ts: int) -> bool:
        """Whether the SYN that came again is why it is sent: right behind it, or while no turn is due."""
        if self.asked is None:
            return False
        return ts - self.asked <= ANSWER or ts - self.sent[-1] < SYNACK_RTO << self.turns

    def missing(self, now: int, timeout: int) -> tuple[int, bool] | None:
        """When the next was due, if it is overdue; and whether the server took an ACK (else it keeps nothing)."""
        wait = SYNACK_RTO << self.turns
        final = 2 * wait > timeout
        due = self.sent[-1] + wait
        return (due, self.acked and not final) if now > due + (0 if final else patience(wait)) else None


def fin_given_up(fin: int, last: int, timeout: int, now: int) -> int | None:
    """When a FIN, sent first and last at these times, was given up; None while it may be repeated yet.

    Each turn comes as long after the last as that came after the first, or two minutes.
    """
    turn = min(last - fin, LONGEST_RTO)
    due = last + turn
    while due < fin + timeout:
        turn = min(due - fin, LONGEST_RTO)
        due += turn
    return due if now > due + patience(turn) else None
