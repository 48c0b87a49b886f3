"""A second opinion: the machine once more, one segment at a time, in plain Python, from the same documents.

Written from RFC 9293 and from what is known of Linux, without a look at the compiled core, and without the tables of
transitions.py: here a rule is a branch, numbers are integers that do not wrap, and every timer is worked out when
somebody asks. It is slow and keeps everything. Where it and the tracker differ, one of the two is wrong.

What an endpoint knows is in model_end.py, what a connection is in model_connection.py, the rules in model_rules.py, the
timers of retransmissions in model_timers.py.

What it does not keep: payload statistics, histories, evidence, duplicated frames; they have tests of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from model_connection import Connection, Row
from model_end import End, near
from model_rules import received, sent
from model_timers import SECOND
from numpy.typing import NDArray

from conntrack.states import SegmentEvent, TcpState

__all__ = ["Model", "Row"]

(CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED) = list(TcpState)[:5]
(FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT) = list(TcpState)[5:]
Event = SegmentEvent

FIN, SYN, RST, ACK = 1, 2, 4, 16
HAS_TIMESTAMP = 1
MIB = 1 << 20
TWO_MSL = 60 * SECOND
VALID = (SYN, SYN | ACK, RST, RST | ACK, FIN | ACK, ACK)


def reach(end: End) -> int:
    """How far from what an end has received in order anything can be that is sent to it."""
    return min((65_535 << end.scale) + MIB, 2**30 - MIB)


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

    def tell_times(self, segments: NDArray[np.void]) -> None:
        """Take nothing from the segments but when they were: frames that are there twice."""
        for segment in segments:
            self.now = max(self.now, int(segment["ts_ns"]))
            connection = self.table.get(frozenset((_end(segment, "src"), _end(segment, "dst"))))
            if connection is not None:
                connection.last = max(connection.last, int(segment["ts_ns"]))

    def rows(self, at_ns: int | None = None) -> list[Row]:
        """Every connection, in its state at `at_ns`, or at the latest time, by flow_id."""
        for connection in self.table.values():
            connection.expire(max(self.now if at_ns is None else at_ns, connection.last))
        return sorted(connection.row() for connection in [*self.finished, *self.table.values()])

    def _take(self, s: Any) -> None:
        ts = int(s["ts_ns"])
        self.now = max(self.now, ts)
        source, target = _end(s, "src"), _end(s, "dst")
        key = frozenset((source, target))
        flags = int(s["flags"]) & (FIN | SYN | RST | ACK)
        if flags == FIN | RST | ACK:
            flags = RST | ACK
        connection = self.table.get(key)
        if connection is not None:
            now = max(ts, connection.last)
            connection.expire(now)
            if connection.over() and now > connection.last + TWO_MSL:
                self.finished.append(self.table.pop(key))
                connection = None
        generation, syn_ts, asked = 1, ts, 0
        if connection is not None:
            if ts < connection.first:  # of what was before its first segment nothing is known
                ts = connection.first
                s = s.copy()
                s["ts_ns"] = syn_ts = ts
            x, y = connection.ends[source], connection.ends[target]
            if flags == SYN | ACK and y.pending and near(int(s["ack"]), y.pending[0]) == y.pending[0] + 1:
                syn_ts, asked = y.pending[1], 1
            match _relation(connection, s, flags, x, y):
                case "stray":
                    connection.count(x, ts)
                    _wind_up(s, flags, x, y)
                    if x.pending is None or x.pending[0] != int(s["seq"]):  # the last one is remembered
                        x.pending = (int(s["seq"]), ts)
                    y.pending = None
                    connection.asked += x is connection.ends[connection.client]
                    return
                case "next":
                    generation = connection.generation + 1
                    self.finished.append(self.table.pop(key))
                    connection = None
        if connection is None:
            connection = self.table[key] = _open(s, flags, source, target, generation, syn_ts)
            connection.asked = asked
            connection.own_syn = asked > 0
        connection.count(connection.ends[source], ts)
        _step(connection, s, flags, connection.ends[source], connection.ends[target])


def _end(s: Any, name: str) -> tuple[bytes, int]:
    return s[f"{name}_ip"].tobytes(), int(s[f"{name}_port"])


def _relation(c: Connection, s: Any, flags: int, x: End, y: End) -> str:
    """Whether a segment is of this connection ("same"), begins the "next", or is a "stray" SYN to be remembered."""
    seq, ack = int(s["seq"]), int(s["ack"])
    if flags == SYN:
        own = x.known and near(seq, x.iss) == x.iss
        if own and (x.opened or x.spoke):
            return "same"
        if c.lingering():
            dead = y.state != TIME_WAIT or _newer(s, x) or near(seq, x.nxt) > x.nxt
            return "next" if dead else "stray"
        if x.state in (LISTEN, CLOSED) and not x.spoke:
            return "same"
        if x.state == SYN_SENT and x.spoke and y.state == LISTEN:
            return "next"
        if _splits(c, x, y):
            return "same"
        return "same" if own else "stray"
    if flags == SYN | ACK:
        if y.pending is not None and ack == (y.pending[0] + 1) % 2**32:
            return "next"
        alone = x.greeting and x is c.ends[c.server] and not y.packets
        if alone and near(seq, x.iss) != x.iss and near(ack, y.iss) != y.iss + 1:
            return "next"  # one direction: it answers another SYN
        beyond = near(ack, y.iss) - y.iss - 1
        answers = y.spoke and 0 <= beyond < 2**30
        other = not x.known or near(seq, x.iss) != x.iss
        return "next" if c.over() and other and not answers else "same"
    if flags in (ACK, FIN | ACK) and c.over() and c.probed():
        return "next"
    if flags in (ACK, FIN | ACK) and c.over() and x.known:
        return "next" if (seq - x.iss) % 2**32 > (x.nxt + MIB - x.iss) % 2**32 else "same"
    return "same"


def _splits(c: Connection, x: End, y: End) -> bool:
    """Whether a SYN of x is its first although it spoke before: an ACK alone does not open."""
    return x is c.ends[c.server] and c.asked > 0 and x.state == SYN_RECEIVED and y.state == SYN_SENT and not x.opened


def _wind_up(s: Any, flags: int, x: End, y: End) -> None:
    """Start the TIME_WAIT of y again: for what carries an ACK, and for a SYN whose timestamp is old."""
    old = (
        int(s["options"]) & HAS_TIMESTAMP
        and x.ts_recent is not None
        and near(int(s["tsval"]), x.ts_recent) < x.ts_recent
    )
    if y.state == TIME_WAIT and flags in ((ACK, FIN | ACK, SYN | ACK, SYN) if old else (ACK, FIN | ACK, SYN | ACK)):
        y.alarm = max(y.alarm, int(s["ts_ns"]))


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
        state = ESTABLISHED if flags in VALID else CLOSED
        ends = {source: End(state, ts), target: End(state if state else LISTEN, ts)}
        if source[1] < target[1]:
            client, server = target, source
    return Connection(int(s["frame"]), generation, ends, client, server, min(ts, syn_ts))


def _step(c: Connection, s: Any, flags: int, x: End, y: End) -> None:
    """What a segment from x does to both ends."""
    if flags not in VALID:
        return
    ts, payload, fin = int(s["ts_ns"]), int(s["payload_bytes"]), bool(flags & FIN)
    _wind_up(s, flags, x, y)
    if flags & RST:
        _reset(s, flags, x, y)
    elif flags & SYN:
        event = _synchronise(c, s, flags, x, y)
        c.full_queue |= event == Event.SYN_ACK_AGAIN
        if event is not None:
            x.move(sent(x.state, event), ts)
            y.move(received(y.state, event), ts)
            if event == Event.SYN_ACK:
                x.move(ESTABLISHED if x.state == SYN_RECEIVED and x.greeted else x.state, ts)
    else:
        _transfer(c, s, ts, payload, fin, x, y)


def _transfer(c: Connection, s: Any, ts: int, payload: int, fin: bool, x: End, y: End) -> None:
    """A segment with an ACK and without SYN and RST: data, FIN, or nothing."""
    seq = int(s["seq"])
    beyond = (int(s["ack"]) - y.iss - 1) % 2**32
    if x.state in (LISTEN, SYN_SENT, SYN_RECEIVED) and y.opened and beyond > (y.nxt - y.iss - 1) % 2**32:
        ahead = near(seq, x.nxt) - x.nxt, near(int(s["ack"]), y.nxt) - y.nxt
        lost = x.opened and 0 <= ahead[0] <= reach(y) and 0 <= ahead[1] <= reach(x)  # by the capture
        if not lost or c.ends[c.server].other_iss is not None:
            return  # of an older connection: it does not acknowledge the SYN of the peer
    first, x.spoke = not x.spoke, True
    if first and not (x.known and (c.handshake or not y.packets) and 0 <= near(seq, x.nxt) - x.nxt < 2**30):
        x.start(seq - 1, seq)
        if y.acked is not None:  # or of an older connection
            y.acked = near(y.acked, seq) if abs(near(y.acked, seq) - seq) <= 2**30 else None
    if c.waits(x):
        x.move(sent(x.state, Event.DATA), ts)
        heard = near(int(s["ack"]), y.edge)
        if heard < y.edge:
            y.edge, y.ranges = heard, []
    elif c.resumes(x, y, s):
        y.move(SYN_RECEIVED, ts)
        x.edge, x.ranges = x.iss + 1, []
    seq = near(seq, x.edge)
    end = seq + payload + fin
    timed, tsval = bool(int(s["options"]) & HAS_TIMESTAMP), int(s["tsval"])
    old = timed and x.ts_recent is not None and near(tsval, x.ts_recent) < x.ts_recent
    if y.spoke and abs(seq - x.edge) > reach(y):
        if not old:
            _follow(int(s["ack"]), x, y)
            if x.state not in (SYN_SENT, SYN_RECEIVED) and x.fin_end is None:
                first_fin = fin and (x.stray_fin is None or x.stray != end % 2**32)
                x.stray_fin = ts if first_fin else x.stray_fin if fin else None
                x.stray, y.stray, x.other_iss, y.other_iss = end % 2**32, None, None, None
        return
    unopened = y.state == SYN_SENT and x is c.ends[c.server] and y.spoke and not x.greeting
    taken = not old and not (unopened and (c.fast_open or not (payload or fin)))
    processed = taken and (
        y.acked is None or near(end, y.acked) >= y.acked
    )  # what is wholly old is dropped with its ACK
    if processed and timed and (y.acked is None or near(seq, y.acked) <= y.acked):
        x.ts_recent = tsval if x.ts_recent is None else near(tsval, x.ts_recent)
    _acknowledge(c, s, x, y, ts, processed)
    if not y.fin_taken and y.edge == y.fin_end:  # what it acknowledges was all that was missing before the FIN
        y.fin_taken = True
        x.move(received(x.state, Event.FIN), ts)

    first_fin = fin and x.fin_end is None and end >= x.edge  # one that ends before its own data is not its FIN
    if (payload or fin) and (x.fin_end is None or end <= x.fin_end):
        if first_fin:
            x.fin_end, x.fin_sent = end, ts
        if c.waits(y):
            x.ranges = []
        if taken:
            x.fill(seq, end)
        if first_fin:
            x.nxt = end
    if (payload or fin) and not c.fast_open:
        if x.state in (LISTEN, SYN_SENT, SYN_RECEIVED):
            c.established = c.established or ts
            if x is c.ends[c.server]:
                y.move(received(y.state, Event.DATA), ts)
        x.move(sent(x.state, Event.DATA), ts)
    if first_fin:
        crossing = y.fin_taken and near(int(s["ack"]), y.nxt) < y.nxt
        x.move(sent(x.state, Event.FIN_CROSSING if crossing else Event.FIN), ts)
    if taken and not x.fin_taken and x.edge == x.fin_end and not c.waits(y):
        x.fin_taken = True
        y.move(received(y.state, Event.FIN), ts)


def _synchronise(c: Connection, s: Any, flags: int, x: End, y: End) -> Event | None:
    """What a SYN means; None where it says nothing new."""
    seq, payload = int(s["seq"]), int(s["payload_bytes"])
    again = x.known and near(seq, x.iss) == x.iss
    event, first = Event.SYN, False
    if flags == SYN:
        again = again and (x.opened or x.spoke or x.state not in (CLOSED, LISTEN))
        split = _splits(c, x, y)
        c.asked += x is c.ends[c.client]
        if split:
            again, c.established = False, None
        if again:
            if x.opened and not x.spoke and not c.own_syn:  # it comes behind its answer
                x.spoke = c.own_syn = True
                x.scale = 0 if int(s["window_scale"]) == 255 else min(int(s["window_scale"]), 14)
                if int(s["options"]) & HAS_TIMESTAMP:
                    x.ts_recent = int(s["tsval"])
            else:
                c.answers.asked = int(s["ts_ns"])
            return None
        c.own_syn |= x is c.ends[c.client]
        c.simultaneous |= y.state in (SYN_SENT, SYN_RECEIVED)
        if payload:
            c.fast_open = True
    else:
        ack = near(int(s["ack"]), y.iss)
        if not (y.known and y.opened and y.iss < ack <= (y.nxt if c.fast_open else y.iss + 1)):
            return None
        event = Event.SYN_ACK
        if not c.own_syn and not c.ends[c.server].greeting and x.state != LISTEN:
            return None  # nobody asked, or not as far as the capture goes back
        if x is c.ends[c.client] and x.state == CLOSED:
            return None
        if x.fin_end is not None or (not again and (c.simultaneous if x is c.ends[c.server] else x.opened)):
            return None  # late, or its SYN had another number
        if x.spoke and not again and x.state not in (CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED) and y.state != SYN_SENT:
            return None  # both are past the handshake
        if again and x is c.ends[c.client] and not c.simultaneous:
            return None  # it asked, and nobody asked it
        if not x.greeting:
            c.answers.sent = c.answers.sent or [int(s["ts_ns"])]
        elif x is c.ends[c.server] and (again or x.state in (SYN_SENT, SYN_RECEIVED, CLOSED)):
            c.answers.again(int(s["ts_ns"]), again)
        answered = y.acked is not None and y.acked > x.iss
        if x.greeting and answered and (again or x.state != SYN_RECEIVED):
            if x is c.ends[c.client] or c.simultaneous:
                return None  # it has no accept queue
            if not again or x.nxt != x.iss + 1 + payload or (x.acked is not None and x.acked > ack):
                return None
            if c.crossing(int(s["ts_ns"])):
                return None
            y.edge, y.ranges, y.fin_taken = y.iss + 1, [], False
            return Event.SYN_ACK_AGAIN
        if x.greeting and x.state == CLOSED and x.nxt != x.iss + 1 + payload:
            return None
        if x.greeting and again:
            return event if x.state == CLOSED else None  # it never took the RST
        if x.greeting and x.state == SYN_RECEIVED:
            x.other_iss, x.stray, y.stray = x.iss, None, None  # the ACK will choose
        first, x.greeting = not x.greeting, True
        y.greeted = True
        x.acked = ack if x.acked is None else max(x.acked, ack)
        if first and c.fast_open and x.acked == ack == y.iss + 1 and y.fin_end is None:
            y.nxt = y.edge = ack  # the data of the SYN was not taken
        if int(s["window_scale"]) == 255:
            y.scale = 0
    c.handshake = True
    if flags == SYN:
        y.acked = None  # those were other numbers
    if not again:
        x.start(seq, seq + 1 + payload)
        if y.acked is not None:
            y.acked = near(y.acked, x.nxt)
            if first and y.acked <= x.iss:
                y.acked = None  # or of an older connection
    x.opened = x.spoke = True
    if int(s["options"]) & HAS_TIMESTAMP:
        x.ts_recent = int(s["tsval"])
    x.scale = 0 if int(s["window_scale"]) == 255 else min(int(s["window_scale"]), 14)
    return event


def _acknowledge(c: Connection, s: Any, x: End, y: End, ts: int, processed: bool) -> None:
    """Take the ACK of a segment from x: what x has of y's SYN, data and FIN, and whether y learns it."""
    number = int(s["ack"])
    if not y.known:
        y.start(number - 1, number)
    if y.state == SYN_RECEIVED and y.other_iss is not None and near(number, y.other_iss) == y.other_iss + 1:
        y.start(y.other_iss, y.other_iss + 1)
        x.acked = None if x.acked is None else near(x.acked, y.nxt)
    _follow(number, x, y)
    ack = near(number, y.edge)
    if y.edge < ack < y.edge + 2**30 and (y.fin_end is None or ack <= y.fin_end):
        y.fill(y.edge, ack)
    if y.nxt - 2**30 <= ack <= y.nxt and (x.acked is None or x.acked < ack):
        x.acked = ack
    if y.iss < ack <= y.nxt:
        if x.state != SYN_RECEIVED and {x.state, y.state} & {LISTEN, SYN_SENT, SYN_RECEIVED}:
            c.established = c.established or ts
        x.move(sent(x.state, Event.ACK_OF_SYN), ts)
        if c.waits(y):
            c.answers.acked = True
        elif processed:
            y.move(received(y.state, Event.ACK_OF_SYN), ts)
    if y.fin_end is not None and ack == y.fin_end:
        y.fin_taken = True
        x.move(sent(x.state, Event.ACK_OF_FIN), ts)
        if processed:
            y.fin_acked = True
            y.move(received(y.state, Event.ACK_OF_FIN), ts)


def _follow(ack: int, x: End, y: End) -> None:
    """Believe numbers of y that were far from what it had sent before, where x acknowledges them."""
    if y.stray is None or (y.stray - ack) % 2**32 > reach(x) or y.fin_end is not None:
        return
    y.edge = y.nxt = y.edge + (y.stray - y.edge) % 2**32
    x.acked = near(ack, y.edge)
    if y.stray_fin is not None and x.acked == y.edge:
        y.fin_end, y.fin_sent = y.edge, y.stray_fin
        y.move(sent(y.state, Event.FIN), y.stray_fin)
    elif y.stray_fin is not None:  # of all but the FIN, which will be sent again
        y.edge = y.nxt = x.acked
    y.stray, y.ranges = None, []


def _reset(s: Any, flags: int, x: End, y: End) -> None:
    ts, seq, ack = int(s["ts_ns"]), int(s["seq"]), int(s["ack"])
    x.reset = True
    stray = x.state in (SYN_SENT, SYN_RECEIVED) and x.known and not x.iss < near(seq, x.nxt) <= x.nxt
    if not y.spoke:
        valid = True
    elif y.state == SYN_SENT and x.state in (LISTEN, CLOSED):
        valid = bool(flags & ACK) and y.iss < near(ack, y.nxt) <= y.nxt
    elif not x.known:
        valid = True
    else:
        number = near(seq, x.edge)
        valid = number == x.edge or (bool(x.ranges) and number == max(high for _, high in x.ranges))
        if x.state in (SYN_SENT, SYN_RECEIVED) and y.acked is not None:
            valid |= near(seq, y.acked) == y.acked  # of the SYN+ACK that it chose, where there were two
    if not stray:
        x.move(sent(x.state, Event.RST), ts)
    if valid:
        y.move(received(y.state, Event.RST), ts)
