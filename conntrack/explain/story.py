"""The teller: follows the segments of one 4-tuple through a Tracker of its own and keeps what each of them did.

Owns the order of the steps, the relative numbers, the timers between segments, the folding of what is ordinary and the
limit on what is kept. What a segment was taken for is in taken.py, why a state changed in reasons.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from conntrack.core.abi import HAS_TIMESTAMP
from conntrack.explain.model import Change, Expired, Folded, Story, StorySegment
from conntrack.explain.numbers import Numbers, Segment, less, signed
from conntrack.explain.reasons import by_segment, by_timer
from conntrack.explain.selection import FourTuple
from conntrack.explain.taken import Reply, take
from conntrack.states import SegmentEvent, TcpState
from conntrack.timeouts import NO_TIMEOUT_NS, compile_timeouts
from conntrack.tracker import Tracker
from conntrack.transitions import START

__all__ = ["MOST_STEPS", "StoryTeller"]

MOST_STEPS = 200_000
"""Steps kept of all connections on the 4-tuple, about 400 bytes each; what comes after is counted, not told."""
_EDGE = 3
"""Ordinary segments that are told at each end of a stretch that is folded."""
_LEAST_FOLDED = 5
"""A shorter stretch is told in full: folding it would save nothing."""
_FAR = 1 << 30
"""Octets after which relative numbers are carried along (_move_base), so that differences stay below 2^31."""

_FIELDS = (
    "ts_ns", "frame", "seq", "ack", "payload_bytes", "tsval", "window", "flags", "mss", "window_scale", "options",
)  # fmt: skip
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16


class StoryTeller:
    """Tells the connections on one 4-tuple.

    Args:
        tuple_: the 4-tuple; `feed` takes its segments only.
        profile: timers of which kind of host: a key of timeouts.PROFILES.
        fold: tell only both ends of long stretches of ordinary segments.
        only: a frame number: keep the steps of the connection that begins with that frame, of the others the end only.

    Attributes:
        owner: flow_id of the connection that the frame `only` is part of; None before it came.
    """

    def __init__(
        self, tuple_: FourTuple, *, profile: str = "linux", fold: bool = True, only: int | None = None
    ) -> None:
        self.owner: int | None = None
        self._tuple = tuple_
        self._tracker = Tracker(profile=profile)
        self._timeouts = compile_timeouts(profile).tolist()
        self._least_ns = min(timeout for timeout in self._timeouts if timeout != NO_TIMEOUT_NS)
        self._fold = fold
        self._only = only
        self._stories: list[Story] = []
        self._kept = 0
        self._run: list[StorySegment] = []
        self._folded: Folded | None = None
        self._numbers: Numbers | None = None
        self._client_is_a = True
        self._replies: list[Reply | None] = [None, None]
        self._zero: list[tuple[int, int] | None] = [None, None]

    def feed(self, segments: np.ndarray[Any, Any]) -> None:
        """Take in segments of the 4-tuple (SEGMENT_DTYPE, shape (n,)), in the order of the capture."""
        from_a = self._tuple.from_a(segments).tolist()
        columns = list(zip(*(segments[name].tolist() for name in _FIELDS), strict=True))
        at = 0
        while at < len(segments):
            plain = self._plain(columns, from_a, at)
            if plain:
                self._tracker.process(segments[at : at + len(plain)])
                self._numbers = Numbers.of(self._tracker)
                for segment in plain:
                    self._tell_plain(segment)
                self._move_base(self._numbers)
            else:
                self._step(segments[at : at + 1], columns[at], from_a[at])
            at += len(plain) or 1

    def finish(self, now_ns: int) -> list[Story]:
        """Return the stories, each with its connection as it is at `now_ns`, the last segment of the whole capture."""
        if not self._stories:
            return []
        self._expire(now_ns, at_end=True)
        self._flush()
        last = self._tracker.snapshot(max(now_ns, self._tracker.now_ns or now_ns))
        rows = np.concatenate([*self._tracker.finish(), last])  # the last two are the same connection, then and now
        by_id = {int(flow_id): at for at, flow_id in enumerate(rows["flow_id"])}
        for story in self._stories:
            at = by_id[story.flow_id]
            story.row = rows[at : at + 1]
            story.capture_last_ts_ns = now_ns
        return self._stories

    # --- Many segments of no interest -------------------------------------------------------------------------------

    def _plain(self, columns: list[tuple[int, ...]], from_a: list[bool], at: int) -> list[Segment]:
        """Return the segments from `at` on that are the next data or a newer ACK, and nothing else.

        What the tracker knows need not be looked at between those, which makes long transfers eight times as quick.
        """
        plain: list[Segment] = []
        numbers = self._numbers
        if numbers is None or not numbers.steady or self._replies != [None, None]:
            return plain
        snd_nxt, ack, stamp = list(numbers.snd_nxt), list(numbers.ack), list(numbers.ts_recent)
        for fields, a in zip(columns[at:], from_a[at:], strict=True):
            side = int(a != self._client_is_a)
            s = Segment._make((*fields, side))
            ahead = signed(s.ack - ack[side])
            if (
                s.flags & (_FIN | _SYN | _RST | _ACK) != _ACK
                or s.seq != snd_nxt[side]
                or not s.window
                or ahead < 0
                or not (ahead or s.payload_bytes)
                or less(snd_nxt[1 - side], s.ack)
                or (s.options & HAS_TIMESTAMP and less(s.tsval, stamp[side]))
                or s.frame == self._only
                or (s.seq - numbers.snd_nxt[side] & 0xFFFF_FFFF) > _FAR
            ):
                break
            snd_nxt[side] = s.seq + s.payload_bytes & 0xFFFF_FFFF
            ack[side] = s.ack
            if s.options & HAS_TIMESTAMP:
                stamp[side] = s.tsval
            plain.append(s)
        return plain

    def _tell_plain(self, s: Segment) -> None:
        assert self._numbers is not None
        self._keep(
            StorySegment(
                s.ts_ns,
                s.frame,
                s.side,
                s.flags,
                s.seq,
                s.ack,
                self._relative(s.side, s.seq),
                self._relative(1 - s.side, s.ack),
                s.payload_bytes,
                s.window << self._numbers.known_scale(s.side),
                ("data" if s.payload_bytes else "ACK",),
                (),
                *self._numbers.states,
                True,
            )
        )

    # --- One segment --------------------------------------------------------------------------------------------------

    def _step(self, row: np.ndarray[Any, Any], fields: tuple[int, ...], from_a: bool) -> None:
        self._expire(fields[0], at_end=False)
        before = self._numbers
        self._tracker.process(row)
        after = self._numbers = Numbers.of(self._tracker)
        if before is None or before.origin != after.origin:
            self._begin(after, fields[_FIELDS.index("flags")], before)
            before = None
        side = int(from_a != self._client_is_a)
        segment = Segment._make((*fields, side))
        if self._only == segment.frame:
            self.owner = after.flow_id
        changes, events = self._changes(before, after, segment)
        taken = take(before, after, segment, events, self._replies[1 - side])
        self._replies[side], self._replies[1 - side] = taken.reply, None
        self._base(before, after, segment)
        self._keep(
            StorySegment(
                segment.ts_ns,
                segment.frame,
                side,
                segment.flags,
                segment.seq,
                segment.ack if segment.flags & _ACK else None,
                self._relative(side, segment.seq),
                self._relative(1 - side, segment.ack) if segment.flags & _ACK else None,
                segment.payload_bytes,
                segment.window << (0 if segment.flags & _SYN else after.known_scale(side)),
                tuple(taken.words),
                changes,
                *after.states,
                taken.ordinary and not changes,
            )
        )
        self._move_base(after)

    def _begin(self, after: Numbers, flags: int, earlier: Numbers | None) -> None:
        self._flush()
        row = self._tracker.snapshot()[0]
        a = self._tuple.a
        self._client_is_a = row["client_ip"].tobytes() == a.ip and int(row["client_port"]) == a.port
        self._replies = [None, None]
        self._zero = [None, None]
        kind = flags & (_FIN | _SYN | _RST | _ACK)
        odd = kind not in (_ACK, _ACK | _FIN) and not (kind & _RST and not kind & _SYN)
        sender, receiver = START["syn_ack" if kind == _SYN | _ACK else "syn" if odd else "other"]
        begins = (sender, receiver)
        if kind == _SYN | _ACK or (kind != _SYN and self._sends_first(after)):
            begins = (receiver, sender)
        story = Story(after.flow_id, after.generation, begins)
        if earlier is not None and after.direction == 0 and kind == _SYN | _ACK:
            story.notes.append(
                f"Its SYN came while connection {earlier.flow_id} was alive and is told there, as a pending SYN."
            )
        self._stories.append(story)

    @staticmethod
    def _sends_first(after: Numbers) -> bool:
        """Whether the server sent the first segment."""
        return after.packets[1] > 0

    def _changes(
        self, before: Numbers | None, after: Numbers, segment: Segment
    ) -> tuple[tuple[Change, ...], frozenset[SegmentEvent]]:
        states = before.states if before is not None else self._stories[-1].begins
        changes: list[Change] = []
        events: frozenset[SegmentEvent] = frozenset()
        for side in (segment.side, 1 - segment.side):
            own, its = by_segment(
                side,
                states[side],
                after.states[side],
                after.evidence[side],
                segment.flags,
                segment.payload_bytes,
                sender=side == segment.side,
            )
            changes += own
            events |= its
        return tuple(changes), events

    # --- Relative numbers ---------------------------------------------------------------------------------------------

    def _base(self, before: Numbers | None, after: Numbers, segment: Segment) -> None:
        """Where relative numbers start: at the initial ones, as soon as anything is known of a side."""
        for side in (0, 1):
            known = after.packets[side] > 0 or after.iss[side] != 0
            if side == segment.side and segment.flags & _RST and self._zero[side] is None:
                known = after.iss[side] != 0
            other = before is not None and before.iss[side] != after.iss[side]
            if known and (self._zero[side] is None or other):
                self._zero[side] = (after.iss[side], 0)

    def _relative(self, side: int, number: int) -> int | None:
        zero = self._zero[side]
        return None if zero is None else zero[1] + signed(number - zero[0])

    def _move_base(self, after: Numbers) -> None:
        """Carry the base along, so that numbers go on beyond 2^31."""
        for side in (0, 1):
            zero = self._zero[side]
            if zero is not None and signed(after.snd_nxt[side] - zero[0]) > 1 << 20:
                self._zero[side] = (after.snd_nxt[side], zero[1] + signed(after.snd_nxt[side] - zero[0]))

    # --- Time ---------------------------------------------------------------------------------------------------------

    def _expire(self, now_ns: int, *, at_end: bool) -> None:
        """Tell the timers that run out until `now_ns`: of the next segment, or at the end of the capture."""
        numbers = self._numbers
        if numbers is None or all(self._timeouts[state] == NO_TIMEOUT_NS for state in numbers.states):
            return
        now_ns = max(now_ns, self._tracker.now_ns or now_ns)
        row = self._tracker.snapshot(now_ns)[0]
        if not at_end and now_ns - int(row["first_ts_ns"]) <= self._least_ns:
            return  # core/step.pyx does not look at timers either; where time goes back, that shows
        states = (TcpState(row["client_state"]), TcpState(row["server_state"]))
        over = [
            (int(row[f"{name}_since_ts_ns"]), side)
            for side, name in enumerate(("client", "server"))
            if states[side] != numbers.states[side]
        ]
        now = list(numbers.states)
        for ts_ns, side in sorted(over):
            change = by_timer(side, now[side], states[side])
            now[side] = states[side]
            self._keep(Expired(ts_ns, (change,), now[0], now[1]))
        if over:
            self._numbers = replace(numbers, states=states)

    # --- Keeping ------------------------------------------------------------------------------------------------------

    def _keep(self, step: StorySegment | Expired) -> None:
        story = self._stories[-1]
        if self._only is not None and story.flow_id != self._only:
            return
        if isinstance(step, StorySegment) and step.ordinary and self._fold:
            self._run.append(step)
            if len(self._run) >= 2 * (2 * _EDGE + _LEAST_FOLDED):
                self._fold_middle()
            return
        self._flush()
        self._add(step)

    def _fold_middle(self) -> None:
        for segment in self._run[_EDGE:-_EDGE]:
            if self._folded is None:
                self._folded = Folded.of(segment)
            else:
                self._folded.add(segment)
        del self._run[_EDGE:-_EDGE]

    def _flush(self) -> None:
        """Put the stretch of ordinary segments into the story."""
        if self._folded is not None or len(self._run) >= 2 * _EDGE + _LEAST_FOLDED:
            self._fold_middle()
        for at, segment in enumerate(self._run):
            if at == _EDGE and self._folded is not None:
                self._add(self._folded)
            self._add(segment)
        self._run, self._folded = [], None

    def _add(self, step: StorySegment | Expired | Folded) -> None:
        story = self._stories[-1]
        if self._kept < MOST_STEPS:
            self._kept += 1
            story.steps.append(step)
        elif isinstance(step, Folded):
            story.left_out += sum(step.segments)
        elif isinstance(step, StorySegment):
            story.left_out += 1
