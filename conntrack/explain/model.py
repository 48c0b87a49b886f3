"""The story of a connection as plain data: segments, timers, and what was folded. Knows no tracker and no output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from conntrack.states import Evidence, TcpState

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SIDES", "Change", "Expired", "Folded", "Step", "Story", "StorySegment"]

SIDES = ("client", "server")


@dataclass(frozen=True, slots=True)
class Change:
    """One end went from one state to another, by one rule.

    Attributes:
        side: 0 the client, 1 the server.
        reason, source: of the rule (transitions.RULES); empty where no single rule says it.
    """

    side: int
    before: TcpState
    after: TcpState
    reason: str
    source: str
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class StorySegment:
    """One segment.

    Attributes:
        side: who sent it, 0 the client, 1 the server.
        flags: as in the header.
        seq, ack: as in the header; `ack` is None without the ACK flag.
        relative_seq, relative_ack: from the initial sequence numbers (the first byte of a connection without a SYN in
            the capture is 1), never wrapping; None where no number of that side is known.
        window: announced, in bytes where the scale is known.
        taken_for: what it was taken for, the most telling first.
        changes: in order.
        client_state, server_state: after it.
        ordinary: the next piece of data, or an ACK of more than before, and nothing else.
    """

    ts_ns: int
    frame: int
    side: int
    flags: int
    seq: int
    ack: int | None
    relative_seq: int | None
    relative_ack: int | None
    payload_bytes: int
    window: int
    taken_for: tuple[str, ...]
    changes: tuple[Change, ...]
    client_state: TcpState
    server_state: TcpState
    ordinary: bool


@dataclass(frozen=True, slots=True)
class Expired:
    """A timer of a host ran out between two segments, or after the last."""

    ts_ns: int
    changes: tuple[Change, ...]
    client_state: TcpState
    server_state: TcpState


@dataclass(slots=True)
class Folded:
    """A stretch of ordinary segments that is not told one by one; [client, server]."""

    first_ts_ns: int
    last_ts_ns: int
    first_frame: int
    last_frame: int
    segments: list[int] = field(default_factory=lambda: [0, 0])
    payload_bytes: list[int] = field(default_factory=lambda: [0, 0])

    @classmethod
    def of(cls, first: StorySegment) -> Folded:
        """Return a stretch that is `first` alone."""
        folded = cls(first.ts_ns, first.ts_ns, first.frame, first.frame)
        folded.add(first)
        return folded

    def add(self, segment: StorySegment) -> None:
        """Take in the next one."""
        self.last_ts_ns, self.last_frame = segment.ts_ns, segment.frame
        self.segments[segment.side] += 1
        self.payload_bytes[segment.side] += segment.payload_bytes


Step = StorySegment | Expired | Folded


@dataclass(slots=True)
class Story:
    """A connection from its first segment to its end, or to the end of the capture.

    Attributes:
        flow_id: frame number of its first segment.
        generation: 1 for the first connection on the 4-tuple.
        begins: states of client and server just before its first segment, as the tracker takes them to be.
        steps: in order.
        left_out: segments that are counted in `row` and not told, for there are too many.
        row: the connection at the end, FLOW_DTYPE, shape (1,).
        capture_last_ts_ns: time of the last segment of the whole capture.
        notes: what a reader must know of how it was found.
    """

    flow_id: int
    generation: int
    begins: tuple[TcpState, TcpState]
    steps: list[Step] = field(default_factory=list)
    left_out: int = 0
    row: np.ndarray[Any, Any] | None = None
    capture_last_ts_ns: int = 0
    notes: list[str] = field(default_factory=list)
