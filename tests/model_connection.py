"""One connection of the model: its two ends, and the timers that run in each. Part of model.py, which has the rules."""

from __future__ import annotations

from typing import Any, NamedTuple

from model_end import End, near
from model_timers import SECOND, Answers, fin_given_up

from conntrack.states import TcpState

__all__ = ["Connection", "Row"]

(CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED) = list(TcpState)[:5]
(FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT) = list(TcpState)[5:]
TIMERS = {
    SYN_SENT: 127 * SECOND,
    SYN_RECEIVED: 63 * SECOND,
    FIN_WAIT_1: 102_200_000_000,
    CLOSING: 102_200_000_000,
    LAST_ACK: 102_200_000_000,
    TIME_WAIT: 60 * SECOND,
}


class Row(NamedTuple):
    """What the model and the tracker must agree on, for one connection."""

    flow_id: int
    generation: int
    client: tuple[bytes, int]
    server: tuple[bytes, int]
    client_state: TcpState
    server_state: TcpState
    client_since_ts_ns: int
    server_since_ts_ns: int
    first_ts_ns: int
    last_ts_ns: int
    client_packets: int
    server_packets: int


class Connection:
    """One generation of a 4-tuple."""

    def __init__(self, number: int, generation: int, ends: dict[Any, End], client: Any, server: Any, ts: int) -> None:
        self.number, self.generation = number, generation
        self.ends, self.client, self.server = ends, client, server
        self.first = self.last = ts
        self.handshake = self.fast_open = False  # a SYN was seen; one with data
        self.simultaneous = self.full_queue = False
        self.answers = Answers()
        self.asked = 0  # how often a SYN of the client was seen
        self.own_syn = False  # one that is of this connection was
        self.established: int | None = None  # when the handshake was first complete

    def count(self, sender: End, ts: int) -> None:
        sender.packets += 1
        self.last = max(self.last, ts)

    def crossing(self, ts: int) -> bool:
        """Whether a SYN+ACK that comes now was sent before the client's ACK can have arrived."""
        trip = self.answers.sent[0] - self.first if self.asked else 0
        if self.asked > 1:
            trip = min(trip, SECOND // 2)  # not known which was answered
        return self.established is None or ts < self.established + trip

    def expire(self, now: int) -> None:
        for end in self.ends.values():
            if end.state in TIMERS:
                repeats = end is self.ends[self.server] and self.answers.sent and not self.simultaneous
                if end.state == SYN_RECEIVED and repeats:
                    if missing := self.answers.missing(now, TIMERS[end.state]):
                        end.move(ESTABLISHED if missing[1] else CLOSED, missing[0])
                    continue
                fin = end.fin_sent
                if fin is not None and not end.fin_acked and end.state != TIME_WAIT and self.last > fin:
                    given_up = fin_given_up(fin, self.last, TIMERS[end.state], now)
                    end.move(CLOSED if given_up else end.state, given_up or now)
                    continue
                wound = end.alarm if end.state in (SYN_SENT, SYN_RECEIVED, TIME_WAIT) else self.last
                if now > wound + TIMERS[end.state]:
                    end.move(CLOSED, wound + TIMERS[end.state])

    def waits(self, end: End) -> bool:
        """Its accept queue was full, and nothing shows that it is not any more."""
        return self.full_queue and end.state in (SYN_SENT, SYN_RECEIVED)

    def resumes(self, x: End, y: End, s: Any) -> bool:
        """The ACK of a SYN+ACK of which nothing was left: a SYN cookie."""
        first = x is self.ends[self.client] and y.state == CLOSED and y.greeting and y.fin_end is None
        numbers = (x.iss + 1, y.iss + 1)
        fits = first and (near(int(s["seq"]), numbers[0]), near(int(s["ack"]), numbers[1])) == numbers
        return fits and y.acked is not None and (y.acked - x.iss) % 2**32 == (y.nxt - y.iss) % 2**32 == 1

    def over(self) -> bool:
        """Nothing is left at either end."""
        states = {end.state for end in self.ends.values()}
        return states <= {CLOSED, LISTEN} and CLOSED in states

    def probed(self) -> bool:
        """Nothing but segments with impossible flags have come."""
        return not any(end.spoke or end.reset for end in self.ends.values())

    def lingering(self) -> bool:
        """At most a TIME_WAIT is left."""
        states = {end.state for end in self.ends.values()}
        return self.over() or (states <= {CLOSED, TIME_WAIT})

    def row(self) -> Row:
        client, server = self.ends[self.client], self.ends[self.server]
        return Row(
            self.number,
            self.generation,
            self.client,
            self.server,
            client.state,
            server.state,
            client.since,
            server.since,
            self.first,
            self.last,
            client.packets,
            server.packets,
        )
