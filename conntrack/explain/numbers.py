"""What the tracker knows of one live connection between two segments, as Python numbers.

The only place outside of the tracker that reads the private layout of live records (core/live.pxd). Sides are 0 for the
client and 1 for the server. Read core/live.pxd and core/sides.pxd.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from conntrack.states import NO_TIME_NS, FlowFlag, TcpState
from conntrack.tracker import Tracker

__all__ = ["LiveFlag", "Numbers", "Segment", "less", "signed"]

Pair = tuple[int, int]

_NONE: Pair = (0, 0)
_UNKNOWN_SCALE = 15
_LARGEST_SCALE = 14  # RFC 7323 section 2.3; also taken where the handshake was not captured
_RANGES = 4
_REUSE_BY_RFC6191 = 2  # of Trouble.marks, as the next
_OTHER_ISS = 4


class LiveFlag:
    """Bits of LiveFlow.flags that are not exported."""

    ACKED = 1 << 4  # two bits
    SAW_SYN = 1 << 16
    SAW_SYN_ACK = 1 << 17
    FIN_TAKEN = 1 << 19  # two bits
    SAW_TIMESTAMP = 1 << 21  # two bits


class Segment(NamedTuple):
    """One row of SEGMENT_DTYPE and who sent it, as Python numbers."""

    ts_ns: int
    frame: int
    seq: int
    ack: int
    payload_bytes: int
    tsval: int
    window: int
    flags: int
    mss: int
    window_scale: int
    options: int
    side: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """A live connection; pairs are [client, server]. See core/live.pxd for each.

    Attributes:
        reused_age_ns: how long the 4-tuple had been in TIME_WAIT when the connection took it; None if it had not.
        fins: whether a FIN of the side was seen.
        acked: whether the side has acknowledged anything.
    """

    origin: int
    states: tuple[TcpState, TcpState]
    packets: Pair
    iss: Pair
    snd_nxt: Pair
    ack: Pair
    ts_recent: Pair
    window: Pair
    scales: int
    flags: int
    evidence: Pair
    direction: int
    reused_age_ns: int | None
    fins: tuple[bool, bool]
    edge: Pair
    ranges: tuple[tuple[Pair, ...], tuple[Pair, ...]]
    other_iss: int
    gap_bytes: Pair
    retransmits: Pair
    retransmitted_bytes: Pair
    out_of_order: Pair
    duplicates: Pair
    acked: tuple[bool, bool]

    @classmethod
    def of(cls, tracker: Tracker) -> Numbers:
        """Return what `tracker`, which follows one 4-tuple only, knows of the connection on it now."""
        row: Any = tracker.flows[0]
        trouble = int(row["trouble"])
        marks = int(row["marks"])
        snd_nxt = _pair(row["snd_nxt"])
        edge, other_iss, reused_age_ns = snd_nxt, 0, None
        gaps = retransmits = retransmitted_bytes = out_of_order = duplicates = _NONE
        flags = int(row["flags"]) & ~int(FlowFlag.REUSED_TIME_WAIT | FlowFlag.REUSED_BY_RFC6191)
        ranges: tuple[tuple[Pair, ...], tuple[Pair, ...]] = ((), ())
        if trouble:
            part: Any = tracker.parts("troubles")[trouble]
            edge, gaps, duplicates = _pair(part["edge"]), _pair(part["gap_bytes"]), _pair(part["duplicates"])
            other_iss = int(part["stray_seq"]) if part["marks"] & _OTHER_ISS else 0
            if part["reused_age_ns"] != NO_TIME_NS:
                reused_age_ns = int(part["reused_age_ns"])
                flags |= FlowFlag.REUSED_TIME_WAIT
                flags |= FlowFlag.REUSED_BY_RFC6191 if part["marks"] & _REUSE_BY_RFC6191 else 0
            retransmits, retransmitted_bytes = _pair(part["retransmits"]), _pair(part["retransmitted_bytes"])
            out_of_order = _pair(part["out_of_order"])
            if part["ranges"].any():
                bounds = list(zip(part["range_start"].tolist(), part["range_end"].tolist(), strict=True))
                kept = part["ranges"].tolist()
                ranges = (tuple(bounds[: kept[0]]), tuple(bounds[_RANGES : _RANGES + kept[1]]))
        closing = int(row["closing"])
        fins = (False, False)
        if closing:
            client, server = tracker.parts("closings")[closing]["fin_ts_ns"].tolist()
            fins = (client != NO_TIME_NS, server != NO_TIME_NS)
        return cls(
            int(row["origin"]),
            (TcpState(row["client_state"]), TcpState(row["server_state"])),
            _pair(row["packets"]),
            _pair(row["iss"]),
            snd_nxt,
            _pair(row["ack"]),
            _pair(row["ts_recent"]),
            _pair(row["window"]),
            int(row["scales"]),
            flags,
            (marks >> 4 & 3, marks >> 6 & 3),
            marks >> 2 & 3,
            reused_age_ns,
            fins,
            edge,
            ranges,
            other_iss,
            gaps,
            retransmits,
            retransmitted_bytes,
            out_of_order,
            duplicates,
            (bool(row["flags"] & LiveFlag.ACKED), bool(row["flags"] & LiveFlag.ACKED << 1)),
        )

    @property
    def flow_id(self) -> int:
        """Frame number of the connection's first segment."""
        return self.origin & (1 << 48) - 1

    @property
    def steady(self) -> bool:
        """Whether both ends are ESTABLISHED and have all that was sent, with windows open."""
        return (
            self.states == (TcpState.ESTABLISHED, TcpState.ESTABLISHED)
            and self.fins == (False, False)
            and self.edge == self.snd_nxt
            and self.ranges == ((), ())
            and all(self.packets)
            and all(self.ack)
            and all(self.window)
        )

    @property
    def generation(self) -> int:
        """1 for the first connection on the 4-tuple."""
        return self.origin >> 48

    def scale(self, side: int) -> int:
        """Return the window scale of `side`: the largest where none is known, as in the core (RFC 7323, 2.3)."""
        scale = self.scales >> 4 * side & 15
        return _LARGEST_SCALE if scale == _UNKNOWN_SCALE else scale

    def known_scale(self, side: int) -> int:
        """Return the window scale of `side`, 0 where none is known."""
        scale = self.scales >> 4 * side & 15
        return 0 if scale == _UNKNOWN_SCALE else scale

    def covered(self, side: int, start: int, end: int) -> int:
        """Return how many octets of start..end lie in the pieces beyond the edge of `side`."""
        have = 0
        for low, high in self.ranges[side]:
            low = start if less(low, start) else low
            high = end if less(end, high) else high
            if less(low, high):
                have += signed(high - low)
        return have

    def highest(self, side: int) -> int:
        """Return the right edge of all that has arrived of `side`."""
        highest = self.edge[side]
        for _, high in self.ranges[side]:
            if less(highest, high):
                highest = high
        return highest


def _pair(values: Any) -> Pair:
    client, server = values.tolist()
    return client, server


def signed(difference: int) -> int:
    """Return a difference of sequence numbers as -2^31..2^31-1 (RFC 9293 section 3.4)."""
    return (difference + 0x8000_0000 & 0xFFFF_FFFF) - 0x8000_0000


def less(a: int, b: int) -> bool:
    """Return whether the sequence number `a` is before `b`."""
    return signed(a - b) < 0
