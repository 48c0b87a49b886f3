"""One endpoint of the model: its state, and what it has sent. Part of model.py; knows no rule."""

from __future__ import annotations

from dataclasses import dataclass, field

from conntrack.states import TcpState


@dataclass(eq=False)
class End:
    """One endpoint."""

    state: TcpState
    since: int
    known: bool = False  # its numbers are: from a segment of its own, or from an ACK of the peer
    packets: int = 0
    spoke: bool = False  # a segment of its own has set its numbers
    reset: bool = False  # it has sent a RST
    opened: bool = False  # its SYN, with or without ACK, was seen
    greeting: bool = False  # its SYN+ACK was
    other_iss: int | None = None  # that of the SYN+ACK before it
    iss: int = 0
    nxt: int = 0  # the end of what it has sent
    edge: int = 0  # the end of what it has sent without a hole
    ranges: list[tuple[int, int]] = field(default_factory=list)  # what it has sent beyond a hole
    fin_end: int | None = None
    fin_taken: bool = False
    fin_sent: int | None = None
    fin_acked: bool = False
    acked: int | None = None  # the highest ACK that it sent
    greeted: bool = False  # it was sent a SYN+ACK that acknowledges its SYN
    stray: int | None = None  # the end of a segment of its own that was beyond any window
    stray_fin: int | None = None  # when that was first sent, if it is a FIN
    scale: int = 14  # of the windows that it announces; the most there can be where its SYN was not seen
    ts_recent: int | None = None  # of what it sent, as its peer remembers it
    alarm: int = 0  # when the timer of the state was last wound up
    pending: tuple[int, int] | None = None  # number and time of a SYN that does not belong here

    def move(self, state: TcpState, ts: int) -> None:
        if state != self.state:
            self.state, self.since, self.alarm = state, ts, ts

    def start(self, iss: int, nxt: int) -> None:
        self.known, self.iss, self.nxt, self.edge, self.ranges = True, iss, nxt, nxt, []

    def fill(self, start: int, end: int) -> None:
        """Take note that it has sent from `start` to `end`."""
        self.nxt = max(self.nxt, end)
        if end <= self.edge:
            return
        if start > self.edge:
            touching = [r for r in self.ranges if r[0] <= end and start <= r[1]]
            others = [r for r in self.ranges if r not in touching]
            if len(others) < 4:
                joined = [(start, end), *touching]
                self.ranges = [*others, (min(low for low, _ in joined), max(high for _, high in joined))]
            return
        self.edge = end
        while any(low <= self.edge for low, _ in self.ranges):
            self.edge = max(self.edge, *(high for low, high in self.ranges if low <= self.edge))
            self.ranges = [r for r in self.ranges if r[0] > self.edge]


def near(value: int, to: int) -> int:
    """The number without end that is `value` modulo 2**32 and nearest to `to`."""
    return to + ((value - to + 2**31) % 2**32 - 2**31)
