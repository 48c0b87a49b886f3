"""How TCP behaves in a generated capture: connections in, packets and final states out, all of them at once.

Owns CONNECTION_DTYPE, PACKET_DTYPE and the endings. Knows no scenario (which connections there are) and no bytes (what
a packet looks like). Read RFC 9293 section 3.6 and RFC 5681 first.

The capture is taken beside the server: a segment of the server is seen as it leaves, a segment of the client as it
arrives, so an answer of the client is seen one round-trip time after what it answers, and an answer of the server after
some tens of microseconds. Each phase (handshake, exchanges, closing) adds the packets of all connections as arrays; the
phases of one connection follow one another in time, so that a stable sort by time gives the capture.

Not here: reordering, loss before the capture point, zero windows, selective acknowledgement, keep-alives.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from conntrack.states import TcpState

__all__ = ["CONNECTION_DTYPE", "MSS", "PACKET_DTYPE", "Conversation", "Ending", "Layout", "Loss"]

Array = NDArray[Any]

CONNECTION_DTYPE: Final = np.dtype(
    [
        ("start_ns", "i8"),  # first SYN at the capture point
        ("rtt_ns", "i8"),  # capture point to client and back
        ("client_ip", "u4"),  # host order; IPv6 takes it as the low 32 bits
        ("server_ip", "u4"),
        ("client_isn", "u4"),
        ("server_isn", "u4"),
        ("client_clock", "u4"),  # RFC 7323 timestamp clock at time 0, milliseconds
        ("server_clock", "u4"),
        ("client_port", "u2"),
        ("server_port", "u2"),
        ("exchanges", "u2"),  # requests, each with its response
        ("ending", "u1"),  # Ending
        ("loss", "u1"),  # Loss
        ("client_ttl", "u1"),  # as it arrives
        ("bare", "u1"),  # the client's SYN has no options (a forged SYN, a scanner)
    ]
)

PACKET_DTYPE: Final = np.dtype(
    [
        ("ts_ns", "i8"),
        ("echo_ns", "i8"),  # when the segment was seen whose timestamp this one echoes; 0: none
        ("connection", "u4"),  # row in the connections
        ("seq", "u4"),  # relative to the sender's initial sequence number
        ("ack", "u4"),  # relative to the receiver's; 0 without the ACK flag
        ("payload", "u2"),
        ("flags", "u1"),
        ("layout", "u1"),  # Layout
        ("from_client", "?"),
    ],
    align=True,
)

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
US, MS, S = 1_000, 1_000_000, 1_000_000_000

MSS: Final = 1448
"""Payload of a full segment: 1460 (RFC 9293 section 3.7.1 over Ethernet) less 12 bytes of timestamps."""

SYN_SENT_S: Final = 127
"""Linux tcp_syn_retries 6: 1+2+4+8+16+32+64 (Documentation/networking/ip-sysctl.rst)."""
SYN_RECEIVED_S: Final = 63
"""Linux tcp_synack_retries 5: 1+2+4+8+16+32 (ip-sysctl.rst)."""
TIME_WAIT_S: Final = 60
"""Linux TCP_TIMEWAIT_LEN (include/net/tcp.h)."""
RTO_MIN_NS: Final = 200 * MS
"""Linux TCP_RTO_MIN (include/net/tcp.h); the retransmission comes this long after the round-trip time."""
DELAYED_ACK_NS: Final = 40 * MS
"""Linux TCP_DELACK_MIN (include/net/tcp.h)."""
SEGMENT_GAP_NS: Final = 3 * US
"""Between full segments of a burst: about 4 Gbit/s."""
NEVER: Final = 2**63 - 1


class Ending(IntEnum):
    """What becomes of a connection."""

    CLEAN_CLIENT = 0
    """The client closes first, the server at once after it."""
    CLEAN_SERVER = 1
    HALF_CLOSE = 2
    """The client closes its side; the server goes on sending for seconds, then closes."""
    SIMULTANEOUS_CLOSE = 3
    """The FINs cross: both ends go through CLOSING."""
    OPEN = 4
    """Nobody closes: idle when the capture ends."""
    RESET_CLIENT = 5
    RESET_SERVER = 6
    REFUSED = 7
    """RST to the SYN."""
    HALF_OPEN = 8
    """The client never answers the SYN+ACK, which the server repeats."""
    COOKIE = 9
    """The client never answers the SYN+ACK, and the server keeps nothing that would let it repeat it."""
    UNANSWERED = 10
    """The SYN is repeated until the client gives up."""
    FILTERED = 11
    """The SYN is not answered and not repeated (a scanner)."""
    PROBED = 12
    """RST to the SYN+ACK (a scanner on an open port)."""
    CLOSE_WAIT = 13
    """The client closes; the server acknowledges that and never closes."""


class Loss(IntEnum):
    """What is lost between the capture point and the client, and sent again."""

    NONE = 0
    SYN_ACK = 1
    DATA = 2
    """The last segment of the last response."""
    FIN = 3
    """The server's FIN (with Ending.CLEAN_CLIENT)."""


class Layout(IntEnum):
    """Which TCP options a segment carries."""

    PLAIN = 0
    MSS = 1
    TIMESTAMPS = 2
    SYN = 3
    """MSS, SACK permitted, timestamps, window scale: the order of Linux."""


def _excl_cumsum(values: Array, counts: Array) -> Array:
    """Return for each value the sum of those before it in its group; `counts` are the lengths of the groups."""
    before: Array = np.cumsum(values) - values
    filled = counts[counts > 0]
    before -= np.repeat(before[np.cumsum(filled) - filled], filled)
    return before


def _rank(counts: Array) -> Array:
    """Return 0, 1, 2, ... within each group; `counts` are the lengths of the groups."""
    rank: Array = np.arange(counts.sum())
    rank -= np.repeat(np.cumsum(counts) - counts, counts)
    return rank


class Conversation:
    """The packets of some connections, and the states in which they end.

    Attributes:
        client_state, server_state: uint8 (n,), TcpState when nothing more is sent.
        client_until_ns, server_until_ns: int64 (n,), when a timer of the host makes that CLOSED; NEVER if none does.
        retransmissions: segments sent again, by kind.
    """

    def __init__(self, connections: Array, rng: np.random.Generator) -> None:
        """Play all `connections` (CONNECTION_DTYPE, shape (n,))."""
        n = len(connections)
        self._c = connections
        self._rng = rng
        self._parts: list[Array] = []
        self._t = connections["start_ns"].copy()  # when the last packet was seen
        self._nxt = {True: np.zeros(n, "i8"), False: np.zeros(n, "i8")}  # next sequence number, by from_client
        self._seen = {True: np.zeros(n, "i8"), False: np.zeros(n, "i8")}  # last time, by from_client
        self.client_state = np.full(n, TcpState.CLOSED, "u1")
        self.server_state = np.full(n, TcpState.CLOSED, "u1")
        self.client_until_ns = np.full(n, NEVER)
        self.server_until_ns = np.full(n, NEVER)
        self.retransmissions = {"syn": 0, "syn_ack": 0, "data": 0, "fin": 0}
        talking = self._open()
        self._exchange(talking)
        self._close(talking)

    def packets(self) -> Array:
        """Return all packets (PACKET_DTYPE, shape (m,)), those of a connection in the order of their times."""
        return np.concatenate(self._parts)

    def _add(
        self, i: Array, ts_ns: Array, flags: Any, seq: Any, ack: Any, *, client: bool, payload: Any = 0, echo: Any = 0
    ) -> Array:
        part = np.empty(len(i), PACKET_DTYPE)
        part["ts_ns"] = ts_ns
        part["echo_ns"] = echo
        part["connection"] = i
        part["seq"] = seq
        part["ack"] = ack
        part["payload"] = payload
        part["flags"] = flags
        part["from_client"] = client
        part["layout"] = np.where(self._c["bare"][i] == 1, Layout.PLAIN, Layout.TIMESTAMPS)
        self._parts.append(part)
        return part

    def _send(
        self, i: Array, ts_ns: Array, flags: int, *, client: bool, payload: int = 0, again: int = 0, behind: int = 0
    ) -> Array:
        """Add one packet to each of the connections `i`, and let their sequence numbers go on; return the packets.

        Args:
            i: rows of the connections.
            ts_ns: when, one for each.
            flags: of all of them.
            client: who sends.
            payload: bytes.
            again: 1 where it repeats the SYN or FIN that came before.
            behind: how much of what the peer sent has not arrived (1: its FIN).
        """
        seq = self._nxt[client][i] - again
        ack = self._nxt[not client][i] - behind if flags & ACK else 0
        echo = self._seen[not client][i] if flags & ACK else 0
        part = self._add(i, ts_ns, flags, seq, ack, client=client, payload=payload, echo=echo)
        if flags & SYN:
            bare = self._c["bare"][i] == 1
            part["layout"] = np.where(bare, Layout.PLAIN if client else Layout.MSS, Layout.SYN)
        if not again:
            self._nxt[client][i] += payload + (flags & SYN != 0) + (flags & FIN != 0)
        self._seen[client][i] = ts_ns
        self._t[i] = ts_ns
        return part

    def _where(self, *endings: Ending) -> Array:
        return np.flatnonzero(np.isin(self._c["ending"], endings))

    def _open(self) -> Array:
        """Play the handshakes; return the rows of those that are complete."""
        c, n = self._c, len(self._c)
        reply = self._rng.integers(20 * US, 80 * US, n)
        self._send(np.arange(n), self._t, SYN, client=True)

        for i in (self._where(Ending.UNANSWERED), self._where(Ending.FILTERED)):
            self.client_state[i] = TcpState.SYN_SENT
            self.client_until_ns[i] = c["start_ns"][i] + SYN_SENT_S * S
            self.server_state[i] = TcpState.LISTEN
        i = self._where(Ending.UNANSWERED)
        for later_s in (1, 3, 7, 15, 31, 63):
            self._send(i, c["start_ns"][i] + later_s * S, SYN, client=True, again=1)
            self.retransmissions["syn"] += len(i)

        i = self._where(Ending.REFUSED)
        part = self._add(i, self._t[i] + reply[i], RST | ACK, -c["server_isn"][i].astype("i8"), 1, client=False)
        part["layout"] = Layout.PLAIN  # sent by no socket (RFC 9293 section 3.5.2): sequence number 0, no options

        silent = np.isin(c["ending"], (Ending.UNANSWERED, Ending.FILTERED, Ending.REFUSED))
        i = np.flatnonzero(~silent)
        self._send(i, self._t[i] + reply[i], SYN | ACK, client=False)
        i = np.flatnonzero(~silent & (c["loss"] == Loss.SYN_ACK))
        self._send(i, c["start_ns"][i] + S, SYN, client=True, again=1)
        self._send(i, c["start_ns"][i] + S + reply[i], SYN | ACK, client=False, again=1)
        self.retransmissions["syn"] += len(i)
        self.retransmissions["syn_ack"] += len(i)

        i = self._where(Ending.HALF_OPEN, Ending.COOKIE)
        self.client_state[i], self.client_until_ns[i] = TcpState.SYN_SENT, c["start_ns"][i] + SYN_SENT_S * S
        self.server_state[i], self.server_until_ns[i] = TcpState.SYN_RECEIVED, self._t[i] + SYN_RECEIVED_S * S
        i = self._where(Ending.HALF_OPEN)
        first = self._t[i].copy()
        for later_s in (1, 3, 7, 15, 31):
            self._send(i, first + later_s * S, SYN | ACK, client=False, again=1)
            self.retransmissions["syn_ack"] += len(i)

        i = self._where(Ending.PROBED)
        part = self._add(i, self._t[i] + c["rtt_ns"][i], RST, 1, 0, client=True)
        part["layout"] = Layout.PLAIN

        talking = np.flatnonzero(~silent & ~np.isin(c["ending"], (Ending.HALF_OPEN, Ending.COOKIE, Ending.PROBED)))
        self._send(talking, self._t[talking] + c["rtt_ns"][talking], ACK, client=True)
        self.client_state[talking] = self.server_state[talking] = TcpState.ESTABLISHED
        return talking

    def _exchange(self, talking: Array) -> None:
        """Play requests and responses: slow start from 10 segments (RFC 6928) up to 40, an ACK to every second one."""
        c, rng = self._c, self._rng
        counts = c["exchanges"][talking].astype("i8")
        i = np.repeat(talking, counts)
        n = len(i)
        if n == 0:
            return
        request = rng.integers(80, 900, n)
        response = np.clip(rng.lognormal(np.log(1500), 1.0, n), 120, 120_000).astype("i8")
        server_think = np.clip(rng.lognormal(np.log(3 * MS), 1.0, n), 100 * US, 800 * MS).astype("i8")
        client_think = np.clip(rng.lognormal(np.log(100 * MS), 1.0, n), MS, 5 * S).astype("i8")
        last = np.zeros(n, "?")
        last[np.cumsum(counts[counts > 0]) - 1] = True
        lossy = last & (c["loss"][i] == Loss.DATA)
        rtt = c["rtt_ns"][i]
        rto = np.where(lossy, rtt + RTO_MIN_NS, 0)

        # Position of each segment of a response: which round trip, and where in its burst of 10, 20, 40, 40, ...
        full = -(-response // MSS)
        e = np.repeat(np.arange(n), full)
        j = _rank(full)
        turn = np.where(j < 10, 0, np.where(j < 30, 1, 2 + (j - 30) // 40))
        place = np.where(j < 10, j, np.where(j < 30, j - 10, (j - 30) % 40))
        after = turn * (rtt[e] + 50 * US) + place * SEGMENT_GAP_NS  # 50 us: to take the ACK that lets it go on
        is_last = j == full[e] - 1

        took = server_think + after[is_last] + rto + rtt
        asked = self._t[i] + 50 * US + _excl_cumsum(took + client_think, counts)
        client_seq = 1 + _excl_cumsum(request, counts)
        server_seq = 1 + _excl_cumsum(response, counts)
        before = self._seen[False][i]  # what the request echoes: the end of the response before it, or the SYN+ACK
        before[~self._first(counts)] = (asked + took - rtt)[~last]
        self._add(i, asked, PSH | ACK, client_seq, server_seq, client=True, payload=request, echo=before)

        slow = server_think > DELAYED_ACK_NS
        acked = client_seq + request
        self._add(i[slow], asked[slow] + DELAYED_ACK_NS, ACK, server_seq[slow], acked[slow], client=False,
                  echo=asked[slow])  # fmt: skip

        ts_ns = (asked + server_think)[e] + after
        seq = server_seq[e] + j * MSS
        size = np.where(is_last, response[e] - j * MSS, MSS)
        flags = np.where(is_last, PSH | ACK, ACK)
        heard = np.where(turn == 0, asked[e], ts_ns - place * SEGMENT_GAP_NS - 40 * US)
        self._add(i[e], ts_ns, flags, seq, acked[e], client=False, payload=size, echo=heard)
        again = is_last & lossy[e]
        self._add(i[e[again]], ts_ns[again] + rto[e[again]], PSH | ACK, seq[again], acked[e[again]], client=False,
                  payload=size[again], echo=heard[again])  # fmt: skip
        self.retransmissions["data"] += int(again.sum())

        # The client acknowledges every second segment and the last; where the last is lost, the one before it as well.
        pair = lossy[e] & (full[e] % 2 == 0) & (j == full[e] - 2)
        acks = (j % 2 == 1) | is_last | pair
        answered = ts_ns + rtt[e] + np.where(is_last, rto[e], 0) + np.where(pair, DELAYED_ACK_NS, 0)
        self._add(i[e[acks]], answered[acks], ACK, acked[e[acks]], (seq + size)[acks], client=True,
                  echo=(ts_ns + np.where(is_last, rto[e], 0))[acks])  # fmt: skip

        done = i[last]
        self._t[done] = self._seen[True][done] = (asked + took)[last]
        self._seen[False][done] = (asked + took - rtt)[last]
        self._nxt[True][done] = acked[last]
        self._nxt[False][done] = (server_seq + response)[last]

    @staticmethod
    def _first(counts: Array) -> Array:
        """Return which value is the first of its group; `counts` are the lengths of the groups."""
        first = np.zeros(counts.sum(), "?")
        filled = counts[counts > 0]
        first[np.cumsum(filled) - filled] = True
        return first

    def _close(self, talking: Array) -> None:
        """Play the closings. Every ending has its think time before it."""
        rng, n = self._rng, len(self._c)
        think = np.clip(rng.lognormal(np.log(50 * MS), 1.0, n), MS, 3 * S).astype("i8")
        reply = rng.integers(30 * US, 90 * US, n)
        self._t[talking] += think[talking]
        rtt = self._c["rtt_ns"]

        fin_lost = self._c["loss"] == Loss.FIN
        together = (rng.random(n) < 0.7) & ~fin_lost  # FIN and ACK in one segment: the application closes at once
        i = self._where(Ending.CLEAN_CLIENT)
        self._send(i, self._t[i], FIN | ACK, client=True)
        apart = i[~together[i]]
        self._send(apart, self._t[apart] + reply[apart], ACK, client=False)
        self._send(i, self._t[i] + reply[i], FIN | ACK, client=False)
        lost = i[fin_lost[i]]
        self._send(lost, self._t[lost] + rtt[lost] + RTO_MIN_NS, FIN | ACK, client=False, again=1)
        self.retransmissions["fin"] += len(lost)
        self._lingers(i, client=True)
        self._send(i, self._t[i] + rtt[i], ACK, client=True)

        i = self._where(Ending.CLEAN_SERVER)
        self._send(i, self._t[i], FIN | ACK, client=False)
        apart = i[~together[i]]
        self._send(apart, self._t[apart] + rtt[apart], ACK, client=True)
        joint = i[together[i]]
        self._send(joint, self._t[joint] + rtt[joint], FIN | ACK, client=True)
        self._send(apart, self._t[apart] + 2 * MS, FIN | ACK, client=True)
        self._lingers(i, client=False)
        self._send(i, self._t[i] + reply[i], ACK, client=False)

        i = self._where(Ending.SIMULTANEOUS_CLOSE)
        heard = self._seen[False][i]
        self._send(i, self._t[i], FIN | ACK, client=False)
        self._send(i, self._t[i] + rtt[i] // 2, FIN | ACK, client=True, behind=1)["echo_ns"] = heard
        heard = self._seen[False][i]
        self._send(i, self._t[i] + 20 * US, ACK, client=False)
        self._lingers(i, client=True)
        self._send(i, self._t[i] + rtt[i] // 2, ACK, client=True)["echo_ns"] = heard  # it answers the FIN
        self._lingers(i, client=False)

        self._half_close(self._where(Ending.HALF_CLOSE), reply)

        i = self._where(Ending.CLOSE_WAIT)
        self._send(i, self._t[i], FIN | ACK, client=True)
        self._send(i, self._t[i] + reply[i], ACK, client=False)
        self.client_state[i], self.server_state[i] = TcpState.FIN_WAIT_2, TcpState.CLOSE_WAIT

        for ending, client in ((Ending.RESET_CLIENT, True), (Ending.RESET_SERVER, False)):
            i = self._where(ending)
            self._send(i, self._t[i], RST | ACK, client=client)
            self.client_state[i] = self.server_state[i] = TcpState.CLOSED

    def _half_close(self, i: Array, reply: Array) -> None:
        """The client closes; the server sends 5 to 20 more segments over seconds, each acknowledged, then closes."""
        rtt = self._c["rtt_ns"]
        self._send(i, self._t[i], FIN | ACK, client=True)
        self._send(i, self._t[i] + reply[i], ACK, client=False)
        more = np.zeros(len(self._c), "i8")
        more[i] = self._rng.integers(5, 21, len(i))
        pause = self._rng.integers(200 * MS, S, len(self._c))
        for step in range(20):
            left = i[more[i] > step]
            self._send(left, self._t[left] + pause[left], PSH | ACK, client=False, payload=MSS)
            self._send(left, self._t[left] + rtt[left], ACK, client=True)
        self._send(i, self._t[i] + pause[i], FIN | ACK, client=False)
        self._lingers(i, client=True)
        self._send(i, self._t[i] + rtt[i], ACK, client=True)

    def _lingers(self, i: Array, *, client: bool) -> None:
        """The last packets added put this end in TIME_WAIT, from when they were seen; a peer not lingering is gone."""
        state, until = (
            (self.client_state, self.client_until_ns) if client else (self.server_state, self.server_until_ns)
        )
        peer = self.server_state if client else self.client_state
        state[i], until[i] = TcpState.TIME_WAIT, self._t[i] + TIME_WAIT_S * S
        peer[i] = np.where(peer[i] == TcpState.TIME_WAIT, TcpState.TIME_WAIT, TcpState.CLOSED)
