"""What a segment was taken for, in words, from what was known before it and after it.

Where the tracker counts a thing (retransmissions, segments out of order, gaps, ...) the words follow its counters; what
it only keeps to itself (which RST, which ACK) is worked out from the same numbers by the same rules, those of
core/judge.pyx, core/handshake.pyx and core/stream.pyx. Knows no story: one segment at a time. Read RFC 9293 section
3.10.7, RFC 5961 (challenges), RFC 7323 section 5 (PAWS), RFC 9293 section 3.8.6 (windows) and 3.8.4 (keep-alives).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from conntrack.core.abi import HAS_SACK, HAS_TIMESTAMP
from conntrack.explain.numbers import LiveFlag, Numbers, Segment, less, signed
from conntrack.states import FlowFlag, SegmentEvent, StateTrait
from conntrack.transitions import TRAITS

__all__ = ["Reply", "Taken", "take"]

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
_PLAUSIBLE = 1 << 30
"""Largest window there can be (RFC 7323 section 2.3), as in core/sides.pxd."""
_MARGIN = 1 << 20
"""core/sides.pxd: the announced window was one round trip older than what the receiver offers now."""

_OPENING = StateTrait.OPENING
_PASSIVE = StateTrait.PASSIVE
_OVER = StateTrait.OVER
_ACTIVE = StateTrait.ACTIVE_OPEN


@dataclass(frozen=True, slots=True)
class Reply:
    """What an ACK from the other end that says nothing new will be the answer to."""

    words: str


_TO_KEEP_ALIVE = Reply("keep-alive reply")
_TO_PROBE = Reply("answer to the probe")
_TO_CHALLENGE = Reply("challenge ACK")
_TO_OLD = Reply("duplicate ACK")


@dataclass(slots=True)
class Taken:
    """What a segment was taken for.

    Attributes:
        words: the most telling first.
        ordinary: the next piece of data, or an ACK of more than before.
        reply: what an ACK of the other end without news would be.
    """

    words: list[str] = field(default_factory=list)
    ordinary: bool = False
    reply: Reply | None = None


def take(
    before: Numbers | None, after: Numbers, s: Segment, events: frozenset[SegmentEvent], expected: Reply | None
) -> Taken:
    """Return what `s` was taken for.

    Args:
        before: None where `s` is the first of its connection.
        after: once the tracker has stepped it.
        s: the segment.
        events: those that moved either end.
        expected: what an ACK without news would be, from the last segment of the other end.
    """
    if before is not None and before.duplicates != after.duplicates:
        return Taken(["duplicated frame, sent once"])
    flags = s.flags & (FIN | SYN | RST | ACK)
    if flags & RST and not flags & SYN:
        return _reset(before, after, s)
    if flags == SYN:
        return _syn(before, after, s)
    if flags == SYN | ACK:
        return _syn_ack(before, after, s, events)
    if flags in (ACK, FIN | ACK):
        return _stream(before, after, s, events, expected)
    return Taken(["odd flags: moves nothing"])


def _trait(numbers: Numbers, side: int) -> StateTrait:
    return TRAITS[numbers.states[side]]


def _options(s: Segment) -> str:
    words = [f"mss {s.mss}"] if s.mss else []
    if s.window_scale != 255:
        words.append(f"wscale {s.window_scale}")
    return " ".join([f"window {s.window}", *words])


def _bytes(number: int) -> str:
    return f"{number:,} byte{'' if number == 1 else 's'}"


# --- SYN and SYN+ACK --------------------------------------------------------------------------------------------------


def _syn(before: Numbers | None, after: Numbers, s: Segment) -> Taken:
    new = 0 if before is None else after.flags & ~before.flags
    if before is not None and before.packets[s.side]:
        if s.seq == before.iss[s.side]:
            return Taken(["SYN again"])
        if after.iss[s.side] != s.seq:
            return Taken(["pending SYN: another initial number, the connection lives"], reply=_TO_CHALLENGE)
        if new & FlowFlag.SIMULTANEOUS_OPEN:
            return Taken(["SYN, behind an ACK: split handshake", _options(s)])
    words = ["SYN", _options(s)]
    if before is None:
        if after.reused_age_ns is not None:
            why = "as RFC 6191 allows" if after.flags & FlowFlag.REUSED_BY_RFC6191 else "by the end that held it"
            words.append(f"takes the port after {after.reused_age_ns / 1e9:.3f} s of TIME_WAIT, {why}")
    elif new & FlowFlag.SIMULTANEOUS_OPEN:
        words[0] = "SYN, crossing the other: simultaneous open"
    elif new & FlowFlag.PENDING_SYN:
        return Taken(["pending SYN: another initial number, the connection lives"], reply=_TO_CHALLENGE)
    elif before.states == after.states:
        words.append("comes after its answer in the capture")
    if s.payload_bytes:
        words.append("with data (Fast Open)")
    return Taken(words)


def _syn_ack(before: Numbers | None, after: Numbers, s: Segment, events: frozenset[SegmentEvent]) -> Taken:
    peer = 1 - s.side
    if before is None:
        words = ["SYN+ACK", _options(s)]
        if after.direction:
            words.append("its SYN is not in the capture")
        return Taken(words)
    if SegmentEvent.SYN_ACK_AGAIN in events:
        return Taken(["SYN+ACK again, after the ACK: accept queue full"])
    acked = s.ack - before.iss[peer] - 1 & 0xFFFF_FFFF
    if before.packets[peer] and acked > (before.snd_nxt[peer] - before.iss[peer] - 1 & 0xFFFF_FFFF):
        return Taken(["SYN+ACK that answers no SYN of this connection"], reply=_TO_CHALLENGE)
    crossing = before.flags & FlowFlag.SIMULTANEOUS_OPEN and before.retransmits[s.side] == after.retransmits[s.side]
    if events or not before.packets[s.side] or (crossing and s.seq == before.iss[s.side]):
        words = ["SYN+ACK", _options(s)]
        if before.flags & FlowFlag.FAST_OPEN:
            words.append("takes the data of the SYN" if acked else "does not take the data of the SYN")
        return Taken(words)
    if s.seq != before.iss[s.side]:
        if after.iss[s.side] == s.seq and after.other_iss == before.iss[s.side]:
            return Taken(["another SYN+ACK: only an ACK of the client can choose"])
        if after.iss[s.side] == s.seq:
            return Taken(["SYN+ACK", _options(s)])
        return Taken(["SYN+ACK with another initial number: ignored"], reply=_TO_CHALLENGE)
    if before.acked[peer] and before.ack[peer] != s.seq:
        late = before.states[s.side] == after.states[s.side] and _trait(before, s.side) & _OPENING
        again = "SYN+ACK again: accept queue still full" if late else "SYN+ACK again, too late to matter"
        return Taken([again], reply=_TO_OLD)
    return Taken(["SYN+ACK again"], reply=_TO_OLD)


# --- RST --------------------------------------------------------------------------------------------------------------


def _reset(before: Numbers | None, after: Numbers, s: Segment) -> Taken:
    peer = 1 - s.side
    if before is None:
        return Taken(["RST"])
    if before.states == after.states and _trait(before, peer) & _OVER:
        return Taken(["RST, too late: nothing is left of the connection"])
    if before.states[peer] != after.states[peer]:
        refused = s.side == 1 and _trait(before, peer) & _ACTIVE and not before.flags & LiveFlag.SAW_SYN_ACK
        return Taken(["RST: refused" if refused else "RST"])
    if _trait(before, peer) & _ACTIVE and _trait(before, s.side) & (_PASSIVE | _OVER):
        return Taken(["RST, ignored: does not acknowledge the SYN"])
    edge = before.edge[s.side]
    offered = before.window[peer] << before.scale(peer)
    if s.seq in (edge, before.highest(s.side)) or not before.packets[peer] or _trait(before, peer) & (_PASSIVE | _OVER):
        return Taken(["RST"])
    if (s.seq - edge & 0xFFFF_FFFF) < offered:
        return Taken(["RST, challenged: in the window, not exact"], reply=_TO_CHALLENGE)
    return Taken(["RST, ignored: outside of the window"])


# --- ACK, data, FIN ---------------------------------------------------------------------------------------------------


def _stream(
    before: Numbers | None, after: Numbers, s: Segment, events: frozenset[SegmentEvent], expected: Reply | None
) -> Taken:
    side, peer = s.side, 1 - s.side
    fin = bool(s.flags & FIN)
    if before is None:
        words = [*(["FIN"] if fin else []), *(["data"] if s.payload_bytes else [])] or ["ACK"]
        words.append("the capture began midway")
        return Taken(words)
    edge = before.edge[side]
    known = before.packets[side] > 0
    stamped = s.options & HAS_TIMESTAMP and before.flags & LiveFlag.SAW_TIMESTAMP << side
    if stamped and less(s.tsval, before.ts_recent[side]):
        late = before.ts_recent[side] - s.tsval & 0xFFFF_FFFF
        return Taken([f"old timestamp, by {late:,} ticks: dropped (PAWS)"], reply=_TO_OLD)
    if not events and _is_of_another(before, s) and after.snd_nxt == before.snd_nxt:
        return Taken([*(["FIN"] if fin else []), "acknowledges what was never sent: of another connection"])
    ahead = s.seq - edge & 0xFFFF_FFFF
    if known and less(edge, s.seq) and before.packets[peer] and ahead > (65_535 << before.scale(peer)) + _MARGIN:
        return Taken(["out of window: dropped"], reply=_TO_OLD)
    taken = Taken()
    _ack_of_syn_or_fin(taken, events, after)
    missing = after.gap_bytes[peer] - before.gap_bytes[peer]
    if s.payload_bytes or fin:
        _data(taken, before, after, s)
    else:
        _pure_ack(taken, before, after, s, expected, first=not known)
    if missing:
        taken.words.append(f"acknowledges {_bytes(missing)} that the capture lacks")
        taken.ordinary = False
    if s.window == 0 and "zero window" not in taken.words:
        taken.words.append("zero window")
        taken.ordinary = False
    elif s.window and before.window[side] == 0 and known and "window update" not in taken.words:
        taken.words.append("window open again")
        taken.ordinary = False
    return taken


def _is_of_another(before: Numbers, s: Segment) -> bool:
    # An end that opens acknowledges anything but the SYN of its peer, which was seen (RFC 9293 section 3.10.7).
    peer = 1 - s.side
    if not _trait(before, s.side) & (_OPENING | _PASSIVE) or not before.packets[peer]:
        return False
    syn = before.iss[peer] + 1
    return (s.ack - syn & 0xFFFF_FFFF) > (before.snd_nxt[peer] - syn & 0xFFFF_FFFF)


def _ack_of_syn_or_fin(taken: Taken, events: frozenset[SegmentEvent], after: Numbers) -> None:
    if SegmentEvent.ACK_OF_SYN in events:
        opening = any(_trait(after, side) & _OPENING for side in (0, 1))
        taken.words.append("ACK of SYN" if opening else "handshake complete")
    if SegmentEvent.ACK_OF_FIN in events:
        taken.words.append("ACK of FIN")


def _is_keep_alive(before: Numbers, s: Segment) -> bool:
    # RFC 9293 section 3.8.4: one octet before the next, or none.
    return (
        s.payload_bytes <= 1
        and not s.flags & (FIN | SYN)
        and before.packets[s.side] > 0
        and s.seq == (before.snd_nxt[s.side] - 1 & 0xFFFF_FFFF)
        and s.seq != before.iss[s.side]
    )


def _probe(taken: Taken, before: Numbers, s: Segment) -> None:
    shut = before.window[1 - s.side] == 0
    taken.words.append("window probe" if shut else "keep-alive")
    taken.reply = _TO_PROBE if shut else _TO_KEEP_ALIVE


def _pure_ack(
    taken: Taken, before: Numbers, after: Numbers, s: Segment, expected: Reply | None, *, first: bool
) -> None:
    side, peer = s.side, 1 - s.side
    if _is_keep_alive(before, s):
        _probe(taken, before, s)
        return
    if first or not before.ack[side]:
        taken.words.extend([] if taken.words else ["ACK"])
        return
    ahead = signed(s.ack - before.ack[side])
    same_window = s.window == before.window[side]
    if s.window == 0:
        taken.words.append("zero window")
    if ahead > 0:
        if less(after.snd_nxt[peer], s.ack):
            taken.words.append("ACK of what was never sent")
        elif not taken.words:
            taken.words.append("ACK")
            taken.ordinary = True
    elif taken.words:
        if expected in (_TO_PROBE, _TO_KEEP_ALIVE) and expected is not None:
            taken.words.insert(0, expected.words)
    elif ahead < 0:
        taken.words.append("old ACK")
    elif expected is not None:
        taken.words.append(expected.words + (" (SACK)" if s.options & HAS_SACK else ""))
    elif not same_window:
        taken.words.append("window update")
        taken.words.append(f"window {s.window << before.known_scale(side)}")
    else:
        taken.words.append("duplicate ACK" + (" (SACK)" if s.options & HAS_SACK else ""))


def _data(taken: Taken, before: Numbers, after: Numbers, s: Segment) -> None:
    side = s.side
    fin = bool(s.flags & FIN)
    edge = before.edge[side] if before.packets[side] else s.seq
    start, end = s.seq, s.seq + s.payload_bytes + fin & 0xFFFF_FFFF
    whole = after.retransmits[side] > before.retransmits[side]
    again = after.retransmitted_bytes[side] - before.retransmitted_bytes[side] - (fin and before.fins[side])
    strayed = after.out_of_order[side] > before.out_of_order[side]
    if _is_keep_alive(before, s) and not whole:
        _probe(taken, before, s)
        return
    finished = before.fins[side]
    words = taken.words
    if fin:
        crossing = before.flags & LiveFlag.FIN_TAKEN << 1 - side and less(s.ack, before.snd_nxt[1 - side])
        words.insert(0, "FIN again" if finished else "FIN, crossing the other" if crossing else "FIN")
        if not after.fins[side]:
            words[0] = "FIN that cannot be: left out"
    if finished and less(before.snd_nxt[side], end):
        words.append("beyond the FIN: left out")
    elif whole:
        acked = before.ack[1 - side]
        if not fin:
            words.append("retransmission")
        if acked and not less(acked, end):
            words.append("had been acknowledged")
        taken.reply = _TO_OLD
    elif strayed and less(edge, start):
        missing = signed(start - edge) - before.covered(side, edge, start)
        words.append(f"out of order: {_bytes(missing)} missing before it")
        taken.reply = _TO_OLD
    elif strayed:
        closed = after.edge[side] != end or after.edge[side] == after.snd_nxt[side]
        words.append("fills a hole" if closed else "fills part of a hole")
    elif not less(edge, end) and not fin:
        words.append("old data")
        taken.reply = _TO_OLD
    elif not fin or s.payload_bytes:
        taken.ordinary = not words and start == edge
        words.append("data")
    if again > 0 and not whole:
        words.append(f"partial overlap: {_bytes(again)} again")
        taken.ordinary = False
    if fin and not finished and after.fins[side] and not after.flags & LiveFlag.FIN_TAKEN << side:
        words.append("not taken yet: data before it is missing")
