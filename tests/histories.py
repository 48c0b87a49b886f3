"""Random histories of one 4-tuple, as hostile as real captures are: what two ends send, and what a capture shows of it.

The ends open, talk and close in every way there is (simultaneously, with cookies, over a full accept queue, with Fast
Open, refused), send again, early, late and with numbers that fit nothing, vanish, come back on the same ports. The
capture begins midway, sees one direction only, loses, reorders, is out of order by a little, and has frames twice.
Everything is drawn from the `random.Random` that is handed in, so that a seed is a history. Knows no tracker, no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from segments import FLAGS, START_NS, pack_ip

from conntrack.core.abi import HAS_TIMESTAMP, SEGMENT_DTYPE

__all__ = ["History", "draw_history", "join"]

SECOND, MILLISECOND = 10**9, 10**6
RST, FIN = FLAGS["R"], FLAGS["F"]
MIB, GIB = 1 << 20, 1 << 30
NUMBERS = [[1_000_000, 5_000_000, 2**31 - 2000, 2**31], [1_000_000, 0, 2**32 - 1501, 2**32 - 6, 2**32 - 1]]
"""Of the two ways to wrap, signed and unsigned, a history has one: half the circle apart nothing is before or after."""
LENGTHS = [1, 1, 10, 536, 1448, 1448, 1448, 60_000]
OFFSETS = [0, 0, 0, -1, 1, -10, 10, 1448, -1448, 40_000, -40_000, 3_000_000, -3_000_000, GIB, GIB + 777]
HOLES = [1448, 1448, 14_480, 70_000, 2 * MIB, 40 * MIB, GIB, 2 * GIB + 4097, 3 * GIB, 5 * GIB]
WAITS = [0.0002, 0.02, 0.2, 0.2, 0.6, 1.0, 1.2, 2.2, 3.0, 7.0, 30.0, 59.9, 60.5, 64.0, 103.0, 128.0, 200.0]


class History(NamedTuple):
    """A capture of one 4-tuple."""

    segments: NDArray[np.void]
    copies: NDArray[np.bool_]  # which of them are frames that are there twice
    ended_ns: int  # not before the last of them: when somebody asks for the states


class _Ends:
    """Two ends, [client, server] at first; relative numbers that do not wrap, as in segments.Exchange."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.rows: list[dict[str, Any]] = []
        self.now_ns = START_NS
        self.next_id = [random.randrange(1, 60_000), random.randrange(1, 60_000)]
        self.version = random.choice([4, 4, 4, 6])
        self.step_ns = random.choice([20_000, MILLISECOND, MILLISECOND, 40 * MILLISECOND])
        if self.version == 6:  # without an id only the time tells what is sent again from a frame that is there twice
            self.step_ns = 40 * MILLISECOND
        self.timestamps = random.random() < 0.4
        self.scale = [random.choice([0, 7, 14, 255]), random.choice([0, 7, 14, 255])]
        self.numbers = random.choice(NUMBERS)
        self.wild = False  # numbers are so far off that a frame that is there twice cannot be told
        self.begin()

    def begin(self) -> None:
        """What follows is another connection."""
        self.iss = [self.random.choice(self.numbers), self.random.choice(self.numbers)]
        self.next = [0, 0]

    def send(
        self, side: int, flags: str, payload: int = 0, *, seq: int | None = None, ack: int | None = None, **fields: Any
    ) -> None:
        """One segment; what is not said follows from what was sent before. `lost`: not in the capture."""
        start = (0 if "S" in flags else self.next[side]) if seq is None else seq
        if "R" not in flags:
            self.next[side] = max(self.next[side], start + payload + ("S" in flags) + ("F" in flags))
        acked = self.next[1 - side] if ack is None else ack
        self.now_ns += self.step_ns
        self.next_id[side] = self.next_id[side] % 0xFFFF + 1
        row = {
            "ts_ns": self.now_ns,
            "side": side,
            "seq": (self.iss[side] + start) % 2**32,
            "ack": (self.iss[1 - side] + acked) % 2**32 if "." in flags else 0,
            "payload_bytes": payload,
            "window": 64_000,
            "flags": sum(FLAGS[letter] for letter in flags),
            "ip_id": self.next_id[side],
            "window_scale": self.scale[side] if "S" in flags else 255,
            "options": HAS_TIMESTAMP if self.timestamps else 0,
            "tsval": self.now_ns // MILLISECOND % 2**32 if self.timestamps else 0,
        }
        lost = fields.pop("lost", False)
        row.update(fields)
        if not lost:
            self.rows.append(row)

    def again(self, index: int) -> None:
        """A host sends a segment again: the same numbers, later, another id."""
        if self.rows:
            row = dict(self.rows[index])
            self.now_ns += self.step_ns
            side = row["side"]
            self.next_id[side] = self.next_id[side] % 0xFFFF + 1
            row |= {"ts_ns": self.now_ns, "ip_id": self.next_id[side]}
            if row["options"] and self.random.random() < 0.8:
                row["tsval"] = self.now_ns // MILLISECOND % 2**32
            self.rows.append(row)

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)

    def side(self) -> int:
        return self.random.randrange(2)

    def pick(self, values: list[Any]) -> Any:
        return self.random.choice(values)


# --- How a connection is opened ---------------------------------------------------------------------------------------


def _clean(e: _Ends) -> None:
    e.send(0, "S")
    e.send(1, "S.")
    e.send(0, ".")


def _repeated(e: _Ends) -> None:
    for _ in range(e.random.randrange(1, 4)):
        e.send(0, "S")
        e.wait(e.pick([0.0, 1.0, 3.0]))
    for _ in range(e.random.randrange(4)):
        e.send(1, "S.")
        e.wait(e.pick([0.0, 0.4, 1.0, 2.0, 4.1]))
        if e.random.random() < 0.3:
            e.send(0, "S")
    e.send(0, ".")


def _refused(e: _Ends) -> None:
    e.send(0, "S")
    e.send(1, "R.", seq=-e.iss[1], ack=e.pick([1, 1, 1, 0, 2]))
    e.wait(e.pick([0.0, 1.0]))


def _simultaneous(e: _Ends) -> None:
    e.send(0, "S")
    e.send(1, "S")
    for side in e.pick([(0, 1), (1, 0), (0,), (1,)]):
        e.send(side, "S.", seq=0, ack=1)


def _split(e: _Ends) -> None:
    e.send(0, "S")
    if e.random.random() < 0.3:
        e.send(1, ".", seq=0)
    e.send(1, "S")
    e.send(0, e.pick(["S.", "."]), seq=0, ack=1)
    e.send(1, ".", ack=1)


def _fast_open(e: _Ends) -> None:
    length = e.pick([1, 200, 1400])
    e.send(0, "S", length)
    e.send(1, "S.", e.pick([0, 0, 100]), ack=e.pick([1, 1 + length]))
    e.send(e.side(), e.pick([".", "P."]), e.pick([0, 200]), seq=None)


def _cookie(e: _Ends) -> None:
    e.send(0, "S")
    e.send(1, "S.")
    e.wait(e.pick([1.1, 1.5, 2.0, 5.0, 70.0]))
    e.send(0, ".")
    e.send(0, "P.", 100, lost=e.random.random() < 0.3)


def _full_queue(e: _Ends) -> None:
    _clean(e)
    for turn in range(e.random.randrange(1, 7)):
        e.wait(2**turn * e.pick([1.0, 1.05]))
        e.send(1, "S.", seq=0, ack=1)
        e.send(0, e.pick([".", ".", "P."]), e.pick([0, 100]), seq=e.pick([1, None]))


def _two_answers(e: _Ends) -> None:
    e.send(0, "S")
    e.send(1, "S.")
    other = e.pick([700, 90_000, -50])
    e.send(1, "S.", seq=other)
    e.send(0, ".", ack=e.pick([1, other + 1]))
    e.send(e.side(), "R", seq=e.pick([1, other + 1]))


def _old_duplicate(e: _Ends) -> None:
    e.send(0, "S", lost=e.random.random() < 0.5)
    e.send(0, "S", seq=e.pick([-10, 5000]))
    e.send(1, "S.", ack=e.pick([-9, 5001, 1]))
    e.send(0, "R", seq=e.pick([-9, 5001]))
    e.send(1, "S.", seq=e.pick([0, 100]), ack=1)
    e.send(0, ".", seq=1)


def _not_seen(e: _Ends) -> None:
    e.next = [1, 1]


OPENINGS: list[Callable[[_Ends], None]] = [
    *[_clean] * 8, *[_repeated] * 2, _refused, _simultaneous, _split, _fast_open, _cookie, _full_queue, _two_answers,
    _old_duplicate, *[_not_seen] * 2,
]  # fmt: skip


# --- What happens then ------------------------------------------------------------------------------------------------


def _data(e: _Ends) -> None:
    e.send(e.side(), "P.", e.pick(LENGTHS))


def _ack(e: _Ends) -> None:
    e.send(e.side(), ".")


def _lost_data(e: _Ends) -> None:
    e.send(e.side(), "P.", e.pick(LENGTHS), lost=True)


def _again(e: _Ends) -> None:
    if e.rows:
        e.again(e.random.randrange(len(e.rows)))


def _last_again(e: _Ends) -> None:
    e.wait(e.pick([0.0, 0.2, 1.0]))
    e.again(-1)


def _beyond_a_hole(e: _Ends) -> None:
    side, hole = e.side(), e.pick([1448, 2896, 14_480])
    begin = e.next[side]
    e.send(side, e.pick(["P.", "P.", "F."]), 1448, seq=begin + hole)
    e.send(1 - side, ".", ack=begin)
    if e.random.random() < 0.6:
        e.send(side, "P.", hole, seq=begin)


def _outage(e: _Ends) -> None:
    """The capture loses much, in one direction or both."""
    e.wild = True
    for side in e.pick([(0,), (1,), (0, 1)]):
        e.next[side] += e.pick(HOLES)
    side = e.side()
    e.send(side, e.pick(["P.", ".", "F."]), e.pick([0, 500]))
    e.send(1 - side, ".", lost=e.random.random() < 0.3)


def _keep_alive(e: _Ends) -> None:
    side = e.side()
    e.send(side, ".", e.pick([0, 1]), seq=e.next[side] - 1)
    if e.random.random() < 0.7:
        e.send(1 - side, ".")


def _zero_window(e: _Ends) -> None:
    side = e.side()
    e.send(side, ".", window=0)
    e.send(1 - side, e.pick(["P.", "."]), e.pick([0, 1]))


def _fin(e: _Ends) -> None:
    e.send(e.side(), "F.", e.pick([0, 0, 0, 100]))


def _fin_and_ack(e: _Ends) -> None:
    side = e.side()
    e.send(side, "F.")
    e.send(1 - side, ".")


def _crossing_fins(e: _Ends) -> None:
    side = e.side()
    known = e.next[side]
    e.send(side, "F.")
    e.send(1 - side, "F.", ack=known)
    for one in e.pick([(0, 1), (1, 0), (0,), (1,), ()]):
        e.send(one, ".")


def _close(e: _Ends) -> None:
    side = e.side()
    e.send(side, "F.")
    if e.random.random() < 0.5:
        e.send(1 - side, ".")
    for _ in range(e.random.randrange(2)):  # a half-close
        e.send(1 - side, "P.", 1000)
        e.send(side, ".")
    e.send(1 - side, "F.")
    e.send(side, ".")


def _late_fin_again(e: _Ends) -> None:
    """A FIN alone, on its timer."""
    fins = [index for index, row in enumerate(e.rows) if row["flags"] & 1]
    wait = e.pick([0.2, 0.4, 1.0])
    for turn in range(e.random.randrange(1, 5) if fins else 0):
        e.wait(wait * 2**turn)
        e.again(fins[-1])


def _reset(e: _Ends) -> None:
    side = e.side()
    seq = e.next[side] + e.pick([0, 0, 0, 0, 1, -1, 100, -100, 1448, 70_000, -70_000, GIB])
    e.send(side, e.pick(["R", "R.", "R."]), seq=e.pick([seq, seq, seq, -e.iss[side]]), ack=e.pick([None, None, 1, 0]))


def _other_syn(e: _Ends) -> None:
    """A SYN onto a connection that lives, and what may answer it."""
    side, number = e.side(), e.pick([700_000, -700_000, 3 * GIB])
    kept = list(e.next)
    e.send(side, "S", seq=number)
    e.next = kept
    match e.random.randrange(4):
        case 0:
            e.send(1 - side, ".")
            e.send(side, "R", seq=e.pick([e.next[side], number + 1]))
        case 1:
            e.send(1 - side, "S.", seq=e.pick([0, 90_000]), ack=number + 1)
            e.send(side, ".", seq=number + 1)
        case 2:
            e.send(1 - side, "R.", ack=number + 1)
    if e.random.random() < 0.5:
        e.next = kept


def _same_syn(e: _Ends) -> None:
    e.send(0, "S", seq=0)


def _same_answer(e: _Ends) -> None:
    e.send(e.pick([1, 1, 1, 0]), "S.", seq=e.pick([0, 0, 300]), ack=e.pick([1, None]))


def _odd(e: _Ends) -> None:
    e.send(e.side(), e.pick(["F", "SF", "", "SR", "FPU", "SFR."]), seq=e.pick([None, 1]))


def _any(e: _Ends) -> None:
    e.wild = True
    side = e.side()
    flags = e.pick([".", "P.", "F.", "R", "R.", "S", "S."])
    payload = e.pick([0, 1, 1448]) if "P" in flags or "F" in flags else 0
    seq = (0 if "S" in flags else e.next[side]) + e.pick(OFFSETS)
    kept = list(e.next)
    e.send(side, flags, payload, seq=seq, ack=e.next[1 - side] + e.pick(OFFSETS))
    if e.random.random() < 0.5:
        e.next = kept


def _old_timestamp(e: _Ends) -> None:
    back = e.pick([1, 500, 100_000])
    tsval = (e.now_ns // MILLISECOND - back) % 2**32
    e.send(e.side(), e.pick([".", "P.", "F.", "S"]), options=HAS_TIMESTAMP, tsval=tsval)


def _wait(e: _Ends) -> None:
    e.wait(e.pick(WAITS))


def _reopen(e: _Ends) -> None:
    """The same 4-tuple again, by the same end or the other."""
    e.wait(e.pick([0.0, 0.0, 1.0, 30.0, 61.0, 200.0]))
    if e.random.random() < 0.8:
        iss = e.iss[0] + e.next[0]
        e.begin()
        if e.random.random() < 0.5:
            e.iss[0] = (iss + e.pick([1, 1000, 64_000, -1000, -3_000_000])) % 2**32
    e.next = [0, 0]
    if e.random.random() < 0.15:  # the server calls back
        e.send(1, "S")
        e.send(0, "S.")
        e.send(1, ".")
    else:
        e.pick(OPENINGS)(e)


MOVES: list[Callable[[_Ends], None]] = [
    *[_data] * 10, *[_ack] * 8, *[_lost_data] * 2, *[_again] * 4, *[_last_again] * 2, *[_beyond_a_hole] * 2, _outage,
    _keep_alive, _zero_window, *[_fin] * 4, *[_fin_and_ack] * 2, *[_crossing_fins] * 2, *[_close] * 3, _late_fin_again,
    *[_reset] * 3, _other_syn, _same_syn, _same_answer, _odd, *[_any] * 3, _old_timestamp, *[_wait] * 4,
    *[_reopen] * 3,
]  # fmt: skip


# --- What the capture shows -------------------------------------------------------------------------------------------


def _captured(random: Random, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lose, and exchange neighbours (the times stay in order)."""
    loss = random.choice([0, 0, 0, 0.05, 0.25])
    reorder = random.choice([0, 0, 0, 0.05, 0.25])
    only = random.randrange(2) if random.random() < 0.06 else None
    begin = random.randrange(6) if random.random() < 0.15 else 0
    seen = [row for row in rows[begin:] if random.random() >= loss and only in (None, row["side"])]
    for one, other in pairwise(seen):
        if random.random() < reorder:
            times = one["ts_ns"], other["ts_ns"]
            kept = dict(one)
            one.update(other, ts_ns=times[0])
            other.update(kept, ts_ns=times[1])
    return seen


def _twice(random: Random, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some frames once more, as a mirror port shows them."""
    rate = random.choice([0, 0, 0, 0.1, 0.5])
    shown: list[dict[str, Any]] = []
    for row in rows:
        shown.append(row)
        if random.random() < rate and not row["flags"] & FIN:
            shown.append(row | {"copy": True, "ts_ns": row["ts_ns"] + random.choice([0, 2000, 10_000])})
    return shown


def draw_history(random: Random, number: int) -> History:
    """A history between a client of its own, which no other `number` below 2**24 has, and a server."""
    ends = _Ends(random)
    random.choice(OPENINGS)(ends)
    for _ in range(random.choice([0, 1, 2, 4, 6, 8, 12, 20])):
        random.choice(MOVES)(ends)
    version = ends.version
    rows = _captured(random, ends.rows)
    late = random.choice([0, 0, 0, 0.1])
    for row in rows:
        if random.random() < late:
            row["ts_ns"] -= random.choice([1000, MILLISECOND, 90 * MILLISECOND if version == 4 else 0])
    if version == 4 and not ends.wild:
        rows = _twice(random, rows)
    client = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    ends_of = [(client, 40_000), ("192.168.0.1", 80)]
    if version == 6:
        ends_of = [(f"2001:db8::{number >> 16:x}:{number & 0xFFFF:x}", 40_000), ("2001:db8:1::1", 80)]
    if random.random() < 0.3:  # the ports name the other end the client
        ends_of[0] = (ends_of[0][0], 79)
    ended_ns = max([ends.now_ns, *(row["ts_ns"] for row in rows)]) + round(random.choice([0.0, 0.0, *WAITS]) * SECOND)
    copies = np.array([row.get("copy", False) for row in rows], bool)
    return History(_packed(rows, ends_of, version), copies, ended_ns)


def _packed(rows: list[dict[str, Any]], ends: list[tuple[str, int]], version: int) -> NDArray[np.void]:
    segments = np.zeros(len(rows), SEGMENT_DTYPE)
    for name in (
        "ts_ns",
        "seq",
        "ack",
        "payload_bytes",
        "window",
        "flags",
        "ip_id",
        "window_scale",
        "options",
        "tsval",
    ):
        segments[name] = [row[name] for row in rows]
    if version == 6:
        segments["ip_id"] = 0
    segments["wire_bytes"] = segments["payload_bytes"] + 66
    segments["ip_version"], segments["ttl"] = version, 64
    sides = np.array([row["side"] for row in rows], int)
    addresses = np.array([np.frombuffer(pack_ip(host)[0], np.uint8) for host, _ in ends])
    ports = np.array([port for _, port in ends], np.uint16)
    for name, side in (("src", sides), ("dst", 1 - sides)):
        segments[f"{name}_ip"], segments[f"{name}_port"] = addresses[side], ports[side]
    segments["frame"] = np.arange(1, len(rows) + 1)
    return segments


def join(histories: Iterable[History], end_ns: int) -> History:
    """One capture of several that all end at the same time, each in its own order; frames are numbered again."""
    parts, reached, copies = [], [], []
    for segments, copied, ended_ns in histories:
        moved = segments.copy()
        moved["ts_ns"] += end_ns - ended_ns
        parts.append(moved)
        reached.append(np.maximum.accumulate(moved["ts_ns"]))
        copies.append(copied)
    order = np.argsort(np.concatenate(reached), kind="stable")
    segments = np.concatenate(parts)[order]
    segments["frame"] = np.arange(1, len(segments) + 1)
    return History(segments, np.concatenate(copies)[order], end_ns)
