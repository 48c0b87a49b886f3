"""A second opinion: the machine once more, one segment at a time, in plain Python, from the same documents.

Written from RFC 9293 and from what is known of Linux, without a look at the compiled core, and without the tables of
transitions.py: here a rule is a branch, numbers are integers that do not wrap, and every timer is worked out when
somebody asks. It is slow and keeps everything. Where it and the tracker differ, one of the two is wrong.

What it does not keep: payload statistics, histories, evidence; they have tests of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conntrack.states import SegmentEvent, TcpState

__all__ = ["Model", "Row", "received", "sent"]

(CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED) = list(TcpState)[:5]
(FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT) = list(TcpState)[5:]
Event = SegmentEvent

FIN, SYN, RST, ACK = 1, 2, 4, 16
HAS_TIMESTAMP = 1
MIB = 1 << 20
SECOND = 1_000_000_000
TWO_MSL = 60 * SECOND
TIMERS = {
    SYN_SENT: 127 * SECOND,
    SYN_RECEIVED: 63 * SECOND,
    FIN_WAIT_1: 102_200_000_000,
    CLOSING: 102_200_000_000,
    LAST_ACK: 102_200_000_000,
    TIME_WAIT: 60 * SECOND,
}


def sent(state: TcpState, event: Event) -> TcpState:
    """Where an endpoint is after it sent something (RFC 9293, figure 5, seen from outside)."""
    match event, state:
        case Event.SYN, TcpState.CLOSED | TcpState.LISTEN:
            return SYN_SENT
        case Event.SYN_ACK, TcpState.CLOSED | TcpState.LISTEN | TcpState.SYN_SENT:
            return SYN_RECEIVED
        case Event.SYN_ACK_AGAIN, TcpState.ESTABLISHED | TcpState.CLOSE_WAIT:
            return SYN_RECEIVED
        case Event.ACK_OF_SYN, TcpState.SYN_SENT | TcpState.LISTEN:
            return ESTABLISHED
        case Event.DATA, TcpState.LISTEN | TcpState.SYN_SENT | TcpState.SYN_RECEIVED:
            return ESTABLISHED
        case Event.ACK_OF_FIN, TcpState.SYN_SENT | TcpState.SYN_RECEIVED | TcpState.ESTABLISHED:
            return CLOSE_WAIT
        case Event.ACK_OF_FIN, TcpState.FIN_WAIT_1:
            return CLOSING
        case Event.ACK_OF_FIN, TcpState.FIN_WAIT_2:
            return TIME_WAIT
        case Event.FIN, TcpState.CLOSE_WAIT:
            return LAST_ACK
        case Event.FIN_CROSSING, TcpState.CLOSE_WAIT:
            return CLOSING
        case (
            (Event.FIN | Event.FIN_CROSSING),
            (TcpState.LISTEN | TcpState.SYN_SENT | TcpState.SYN_RECEIVED | TcpState.ESTABLISHED),
        ):
            return FIN_WAIT_1
        case Event.RST, _:
            return CLOSED
    return state


def received(state: TcpState, event: Event) -> TcpState:
    """Where an endpoint is after it took something."""
    match event, state:
        case Event.SYN, TcpState.SYN_SENT:
            return SYN_RECEIVED
        case Event.SYN_ACK, TcpState.SYN_RECEIVED:
            return ESTABLISHED
        case Event.ACK_OF_SYN, TcpState.SYN_RECEIVED | TcpState.LISTEN:
            return ESTABLISHED
        case Event.ACK_OF_FIN, TcpState.FIN_WAIT_1:
            return FIN_WAIT_2
        case Event.ACK_OF_FIN, TcpState.CLOSING:
            return TIME_WAIT
        case Event.ACK_OF_FIN, TcpState.LAST_ACK:
            return CLOSED
        case ((Event.FIN | Event.FIN_CROSSING), TcpState.SYN_RECEIVED | TcpState.ESTABLISHED):
            return CLOSE_WAIT
        case ((Event.FIN | Event.FIN_CROSSING), TcpState.FIN_WAIT_1):
            return CLOSING
        case ((Event.FIN | Event.FIN_CROSSING), TcpState.FIN_WAIT_2):
            return TIME_WAIT
        case Event.RST, _ if state != LISTEN:
            return CLOSED
    return state


def near(value: int, to: int) -> int:
    """The number without end that is `value` modulo 2**32 and nearest to `to`."""
    return to + ((value - to + 2**31) % 2**32 - 2**31)


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


@dataclass
class End:
    """One endpoint."""

    state: TcpState
    since: int
    known: bool = False  # its numbers are: from a segment of its own, or from an ACK of the peer
    packets: int = 0
    opened: bool = False  # its SYN, with or without ACK, was seen
    iss: int = 0
    nxt: int = 0  # the end of what it has sent
    edge: int = 0  # the end of what it has sent without a hole
    ranges: list[tuple[int, int]] = field(default_factory=list)  # what it has sent beyond a hole
    fin_end: int | None = None
    fin_taken: bool = False
    acked: int | None = None  # the highest ACK that it sent
    scale: int | None = None  # of its SYN; None: no SYN seen, or one without the option
    offered: int = 65_535  # the most room that it ever offered
    ts_recent: int | None = None  # of what it sent, as its peer remembers it
    alarm: int = 0  # when the timer of the state was last wound up
    pending: tuple[int, int] | None = None  # number and time of a SYN that does not belong here

    def move(self, state: TcpState, ts: int) -> None:
        if state != self.state:
            self.state, self.since, self.alarm = state, ts, ts

    def start(self, iss: int, nxt: int) -> None:
        self.known, self.iss, self.nxt, self.edge = True, iss, nxt, nxt

    def fill(self, start: int, end: int) -> None:
        """Take note that it has sent from `start` to `end`."""
        if self.fin_end is not None:
            end = min(end, self.fin_end)
        self.nxt = max(self.nxt, end)
        if end <= self.edge or end <= start:
            return
        if start > self.edge:
            touching = [r for r in self.ranges if r[0] <= end and start <= r[1]]
            others = [r for r in self.ranges if r not in touching]
            if not touching and len(others) == 4:
                return
            self.ranges = [*others, (min([start] + [r[0] for r in touching]), max([end] + [r[1] for r in touching]))]
            return
        self.edge = end
        while any(low <= self.edge for low, _ in self.ranges):
            self.edge = max(self.edge, *(high for low, high in self.ranges if low <= self.edge))
            self.ranges = [r for r in self.ranges if r[0] > self.edge]


class Connection:
    """One generation of a 4-tuple."""

    def __init__(self, number: int, generation: int, ends: dict[Any, End], client: Any, server: Any, ts: int) -> None:
        self.number, self.generation = number, generation
        self.ends, self.client, self.server = ends, client, server
        self.first = self.last = ts

    def count(self, sender: End, ts: int) -> None:
        sender.packets += 1
        self.last = max(self.last, ts)

    def expire(self, now: int) -> None:
        for end in self.ends.values():
            if end.state in TIMERS:
                wound = end.alarm if end.state in (SYN_SENT, SYN_RECEIVED, TIME_WAIT) else self.last
                if now > wound + TIMERS[end.state]:
                    end.move(CLOSED, wound + TIMERS[end.state])

    def over(self) -> bool:
        """Nothing is left at either end."""
        states = {end.state for end in self.ends.values()}
        return states <= {CLOSED, LISTEN} and CLOSED in states

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


class Model:
    """Every connection that the segments tell of."""

    def __init__(self) -> None:
        self.table: dict[Any, Connection] = {}
        self.finished: list[Connection] = []
        self.now = -(2**63)

    def process(self, segments: NDArray[np.void]) -> None:
        """Take the segments, one after the other."""
        for segment in segments:
            self._take(segment)

    def rows(self) -> list[Row]:
        """Every connection, in its state at the latest time, by flow_id."""
        for connection in self.table.values():
            connection.expire(self.now)
        return sorted(connection.row() for connection in [*self.finished, *self.table.values()])

    def _take(self, s: Any) -> None:
        ts = int(s["ts_ns"])
        self.now = max(self.now, ts)
        source = (s["src_ip"].tobytes(), int(s["src_port"]))
        target = (s["dst_ip"].tobytes(), int(s["dst_port"]))
        key = frozenset((source, target))
        flags = int(s["flags"]) & (FIN | SYN | RST | ACK)
        if flags == FIN | RST | ACK:
            flags = RST | ACK
        connection = self.table.get(key)
        if connection is not None:
            connection.expire(self.now)
            if connection.over() and self.now > connection.last + TWO_MSL:
                self.finished.append(self.table.pop(key))
                connection = None
        generation, syn_ts = 1, ts
        if connection is not None:
            x, y = connection.ends[source], connection.ends[target]
            syn_ts = y.pending[1] if flags == SYN | ACK and y.pending else ts
            match _relation(connection, s, flags, x, y):
                case "stray":
                    connection.count(x, ts)
                    x.pending = (int(s["seq"]), ts)
                    return
                case "next":
                    generation = connection.generation + 1
                    self.finished.append(self.table.pop(key))
                    connection = None
        if connection is None:
            connection = self.table[key] = _open(s, flags, source, target, generation, syn_ts)
        connection.count(connection.ends[source], ts)
        _step(s, flags, connection.ends[source], connection.ends[target])


def _relation(c: Connection, s: Any, flags: int, x: End, y: End) -> str:
    """Whether a segment is of this connection ("same"), begins the "next", or is a "stray" SYN to be remembered."""
    seq = int(s["seq"])
    if flags == SYN:
        if x.opened and near(seq, x.iss) == x.iss:
            return "same"
        if c.lingering():
            dead = y.state != TIME_WAIT or _newer(s, x) or near(seq, x.nxt) > x.nxt
            return "next" if dead else "stray"
        if x.state == LISTEN:
            return "same"
        return "next" if x.state == SYN_SENT and not y.packets else "stray"
    if flags == SYN | ACK:
        confirms = y.pending is not None and int(s["ack"]) == (y.pending[0] + 1) % 2**32
        return "next" if confirms else "same"
    if flags in (ACK, FIN | ACK) and c.lingering() and x.known:
        number = near(seq, x.nxt)
        return "next" if number > x.nxt + MIB or number < x.iss else "same"
    return "same"


def _newer(s: Any, x: End) -> bool:
    if not int(s["options"]) & HAS_TIMESTAMP or x.ts_recent is None:
        return False
    return near(int(s["tsval"]), x.ts_recent) > x.ts_recent


def _open(s: Any, flags: int, source: Any, target: Any, generation: int, syn_ts: int) -> Connection:
    """A connection as it was just before its first segment."""
    ts = int(s["ts_ns"])
    client, server = source, target
    if flags == SYN:
        ends = {source: End(CLOSED, ts), target: End(LISTEN, ts)}
    elif flags == SYN | ACK:
        ends = {source: End(LISTEN, ts), target: End(SYN_SENT, syn_ts, alarm=syn_ts)}
        iss = int(s["ack"]) - 1
        ends[target].start(iss, iss + 1)
        ends[target].opened = True
        client, server = target, source
    else:
        ends = {source: End(ESTABLISHED, ts), target: End(ESTABLISHED, ts)}
        if source[1] < target[1]:
            client, server = target, source
    return Connection(int(s["frame"]), generation, ends, client, server, min(ts, syn_ts))


def _room(x: End, y: End, window: int) -> int:
    """What an announced window means (RFC 7323, 2.3): scaled if both agreed, the most possible if nobody knows."""
    if x.opened and y.opened:
        return window << x.scale if x.scale is not None and y.scale is not None else window
    return window << 14


def _step(s: Any, flags: int, x: End, y: End) -> None:
    """What a segment from x does to both ends."""
    ts, payload = int(s["ts_ns"]), int(s["payload_bytes"])
    if flags not in (SYN, SYN | ACK, RST, RST | ACK, FIN | ACK, ACK):
        return
    if flags & RST:
        _reset(s, flags, x, y)
        return

    seq = near(int(s["seq"]), x.edge) if x.known else int(s["seq"])
    if not x.known and not flags & SYN:
        x.start(seq - 1, seq)
    events = _synchronise(s, flags, x, y) if flags & SYN else []
    if events is None:
        return

    has_ts = bool(int(s["options"]) & HAS_TIMESTAMP)
    tsval = int(s["tsval"])
    delivered = True
    if has_ts and x.ts_recent is not None and near(tsval, x.ts_recent) < x.ts_recent:
        delivered = False
    if seq - x.edge > y.offered + MIB:
        delivered = False
    if delivered and has_ts and seq <= x.edge:
        x.ts_recent = tsval if x.ts_recent is None else near(tsval, x.ts_recent)

    start = seq + bool(flags & SYN)
    end = start + payload + bool(flags & FIN)
    if not flags & SYN:
        x.offered = max(x.offered, _room(x, y, int(s["window"])))
    fin = bool(flags & FIN) and x.fin_end is None
    if fin:
        x.fin_end = end
    x.nxt = max(x.nxt, end if x.fin_end is None else min(end, x.fin_end))
    if delivered and not (flags & SYN):
        x.fill(start, end)

    acks_fin = False
    if flags & ACK:
        acks_syn, acks_fin = _acknowledge(s, x, y)
        if acks_syn and not flags & SYN:
            events.append(Event.ACK_OF_SYN)
        if acks_fin:
            events.append(Event.ACK_OF_FIN)
    if (payload or flags & FIN) and not flags & SYN:
        events.append(Event.DATA)
    for event in sorted(events):
        x.move(sent(x.state, event), ts)
        if delivered:
            y.move(received(y.state, event), ts)
    if acks_fin:
        y.fin_taken = True
    if fin:
        crossing = y.fin_taken and not acks_fin
        x.move(sent(x.state, Event.FIN_CROSSING if crossing else Event.FIN), ts)
    if x.fin_end is not None and x.edge >= x.fin_end and not x.fin_taken:
        x.fin_taken = True
        y.move(received(y.state, Event.FIN), ts)
    if y.fin_end is not None and y.edge >= y.fin_end and not y.fin_taken:
        y.fin_taken = True
        x.move(received(x.state, Event.FIN), ts)
    if delivered and y.state == TIME_WAIT:
        y.alarm = max(y.alarm, ts)


def _synchronise(s: Any, flags: int, x: End, y: End) -> list[Event] | None:
    """What a SYN means; None where it has nothing to do with this connection."""
    seq, payload = int(s["seq"]), int(s["payload_bytes"])
    scale = int(s["window_scale"])
    again = x.opened and near(seq, x.iss) == x.iss
    if flags == SYN:
        if again:
            return []
        x.start(seq, seq + 1)
        x.nxt += payload
        events = [Event.SYN]
    else:
        ack = near(int(s["ack"]), y.nxt)
        if not (y.known and y.opened and y.iss < ack <= y.nxt):
            return None
        if again:
            answered = y.acked is not None and y.acked > x.iss
            silent = x.nxt == x.iss + 1 and (x.acked is None or x.acked <= y.iss + 1)
            if answered and silent:
                y.edge = y.iss + 1
                y.ranges = []
                y.fin_taken = False
                return [Event.SYN_ACK_AGAIN]
            return [Event.SYN_ACK]
        x.start(seq, seq + 1)
        events = [Event.SYN_ACK]
    x.opened = True
    x.scale = None if scale == 255 else min(scale, 14)
    x.offered = max(x.offered, int(s["window"]))
    return events


def _acknowledge(s: Any, x: End, y: End) -> tuple[bool, bool]:
    """Take the ACK of a segment from x: whether it covers y's SYN, and whether y's FIN."""
    number = int(s["ack"])
    if not y.known:
        y.start(number - 1, number)
        ack = number
    else:
        ack = near(number, y.nxt)
        if ack - y.nxt >= 2**30 or (y.fin_end is not None and ack > y.fin_end):
            return False, False
        if ack > y.edge:
            y.fill(y.edge, ack)
    x.acked = ack if x.acked is None else max(x.acked, ack)
    return ack > y.iss, y.fin_end is not None and ack >= y.fin_end


def _reset(s: Any, flags: int, x: End, y: End) -> None:
    ts, seq, ack = int(s["ts_ns"]), int(s["seq"]), int(s["ack"])
    if x.state == SYN_SENT and x.known and not x.iss < near(seq, x.nxt) <= x.nxt:
        return
    if not y.packets:
        valid = True
    elif y.state == SYN_SENT and not x.opened:
        valid = bool(flags & ACK) and near(ack, y.nxt) == y.nxt
    elif not x.known:
        valid = True
    else:
        number = near(seq, x.edge)
        valid = number == x.edge or (bool(x.ranges) and number == max(high for _, high in x.ranges))
    x.move(sent(x.state, Event.RST), ts)
    if valid:
        y.move(received(y.state, Event.RST), ts)
