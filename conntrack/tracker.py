"""Tracker: owns every array, makes room between batches, steps segments, retires what is over.

Time comes from the segments (core/clock.pxd). What a connection is, and when it is forgotten, follows
from the segments alone, so that any split into batches gives the same rows; and they come out in an order that does not
depend on the split either: passes over the table (sweeps) happen at fixed counts of segments, the rows of each sorted.
Knows nothing of files, of what is wrong with a connection, or of output.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .core import live, sweep
from .core.abi import FLOW_DTYPE, SEGMENT_DTYPE, SOCKET_DTYPE
from .core.index import refill
from .core.step import step, use_lanes
from .memory import Reservation
from .states import StateTrait, TcpState
from .timeouts import NO_TIMEOUT_NS, PROFILES, compile_timeouts
from .transitions import TRAITS, compile_start, compile_table, compile_traits

__all__ = ["Tracker"]

Array = np.ndarray[Any, Any]

CHUNK_SEGMENTS = 16_384
"""Most segments stepped at a time: each may begin or retire a connection, and there must be room for all of them."""
SWEEP_SEGMENTS = 65_536
"""Sweeps happen only at multiples of this many segments, so that they do not depend on batches."""
SWEEP_NS = 5_000_000_000
"""... and no more often than this, in time of the capture: a twelfth of the shortest common timer (60 s)."""
ROWS = 16_384
"""Rows in a batch that comes out, and in the array that connections retire to."""
_FARTHEST_NS = 1 << 62
"""Times of segments are below this (core/walk.pyx); looking ahead goes no further, so that differences fit."""
FIRST_CAPACITY = 1 << 25
"""Records reserved in each pool to begin with: address space, not memory."""
FIRST_SLOTS = 1 << 12
"""Slots of the index to begin with; it doubles when three quarters are filled."""


class Tracker:
    """Follows every TCP connection in a stream of segments.

    Args:
        profile: timers of which kind of host: a key of timeouts.PROFILES.
        timeouts: seconds by state that replace the profile's; None takes the timer away. ESTABLISHED has none.
        validate: check the table against itself after each batch (slow, for tests).
        key: secret of the hash, uint64 of shape (4,); random by default. Results do not depend on it.
        key_tag: the network that a segment was on (its tag: VLAN ids, tunnel id) is part of what makes a connection, so
            that the same addresses and ports on two networks are two. By default it is not: a mirror port or a router
            shows one connection on several.
        lanes: plain segments take a short way (core/lanes.pxd); without, every one is judged by every case, to the same
            result (for tests).

    Attributes:
        segments: how many were processed.

    Raises:
        ValueError: no such profile, or a timer for ESTABLISHED.

    Example:
        >>> import conntrack
        >>> tracker = conntrack.Tracker(profile="linux")
        >>> for segments in conntrack.read_segments("tests/captures/incident.pcap"):
        ...     tracker.process(segments)
        >>> live = tracker.flows
        >>> int((live["server_state"] == conntrack.CLOSE_WAIT).sum())
        76
    """

    def __init__(
        self,
        profile: str = "linux",
        *,
        timeouts: Mapping[TcpState, float | None] | None = None,
        validate: bool = False,
        key: Array | None = None,
        key_tag: bool = False,
        lanes: bool = True,
    ) -> None:
        if profile not in PROFILES:
            raise ValueError(f"no profile {profile!r}; there are {', '.join(PROFILES)}")
        for state, seconds in (timeouts or {}).items():
            if seconds is not None and TRAITS[state] & StateTrait.STEADY:
                raise ValueError(f"{state.name} has no timer on any host")
        self.segments = 0
        self._validate = validate
        synack_rto_s = None if TcpState.SYN_RECEIVED in (timeouts or {}) else PROFILES[profile].synack_rto_s
        self._invalid = np.zeros((2, 10, 11), dtype=np.uint64)
        self._table = live.LiveTable(
            compile_table(),
            compile_start(),
            compile_traits(),
            compile_timeouts(profile, timeouts),
            self._invalid,
            round(PROFILES[profile].two_msl_s * 1e9),
            NO_TIMEOUT_NS if synack_rto_s is None else round(synack_rto_s * 1e9),
            np.frombuffer(secrets.token_bytes(32), dtype=np.uint64) if key is None else key,
            key_tag,
        )
        use_lanes(self._table, lanes)
        self._pools: dict[str, list[Reservation]] = {}
        for name, dtype in _POOLS.items():
            self._grow_pool(name, dtype, 0)
        self._slots: Array = np.zeros(FIRST_SLOTS, dtype=np.uint64)
        self._finished = False
        self._table.set_slots(self._slots, 0)
        self._retired = np.empty(ROWS + CHUNK_SEGMENTS, dtype=FLOW_DTYPE)
        self._table.set_retired(self._retired)
        self._unsorted: list[Array] = []
        self._ready: list[Array] = []
        self._swept_ns: int | None = None
        self._swept_segments = 0

    # --- What there is ------------------------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int | None:
        """The time that the segments have reached, nanoseconds since 1970; None before the first.

        That of the latest one, but for a lone one that the next takes back (core/clock.pxd).
        """
        return self._table.now_ns if self.segments else None

    def __len__(self) -> int:
        """How many connections are in the table: alive, or over and not yet forgotten."""
        return int(self._table.slots_used)

    @property
    def flows(self) -> Array:
        """The live table itself, without a copy: shape (n,), fields client_state, server_state, packets, ...

        Its layout is core/live.pxd's and private but for the fields that FLOW_DTYPE has too. Rows not in use have
        `origin` 0. Read-only, and valid until the next process().
        """
        used = self._table.used()[0][0]
        view = self._pools["flows"][0].records[1:used]
        view.flags.writeable = False
        return view

    def parts(self, pool: str) -> Array:
        """The records of "closings" or "troubles": what live connections have besides `flows`, whose fields point here.

        As with `flows`, the layout is private (core/live.pxd), read-only, and valid until the next process(). Record 0
        stands for none.
        """
        used = dict(zip(_POOLS, self._table.used(), strict=True))[pool][0]
        view = self._pools[pool][0].records[:used]
        view.flags.writeable = False
        return view

    def invalid(self) -> dict[tuple[str, str, str], int]:
        """How often an event met a state for which no rule speaks: {(role, event, state): n}, from transitions.py."""
        from .states import Role, SegmentEvent

        return {
            (Role(r).name, SegmentEvent(e).name, TcpState(s).name): int(self._invalid[r, e, s])
            for r, e, s in zip(*np.nonzero(self._invalid), strict=True)
        }

    # --- Going on -----------------------------------------------------------------------------------------------------

    def process(self, segments: Array) -> None:
        """Step `segments` (SEGMENT_DTYPE, shape (n,)) in order.

        Raises:
            TypeError: they are of another dtype.
            RuntimeError: the tracker has been finished.
        """
        if segments.dtype is not SEGMENT_DTYPE and segments.dtype != SEGMENT_DTYPE:
            raise TypeError(f"segments are of SEGMENT_DTYPE, not {segments.dtype}")
        if self._finished:
            raise RuntimeError("the tracker has been finished")
        begin = 0
        while begin < len(segments):
            until_sweep = SWEEP_SEGMENTS - self.segments % SWEEP_SEGMENTS
            end = min(begin + min(CHUNK_SEGMENTS, until_sweep), len(segments))
            if not self._table.has_room(end - begin):
                self._make_room(end - begin)
            step(self._table, segments[begin:end])
            self.segments += end - begin
            self._collect()
            if self.segments % SWEEP_SEGMENTS == 0:
                self._sweep_if_due()
            begin = end
        if self._validate:
            sweep.check(self._table)

    def retired(self) -> Iterator[Array]:
        """Yield the connections that are over for good since the last call: FLOW_DTYPE, shape (1..n,), by flow_id."""
        while self._ready:
            yield self._ready.pop(0)

    def finish(self, *, ordered: bool = True) -> Iterator[Array]:
        """Yield all that is left: what retired, then the live connections as they are at the last segment.

        It can be done once. The table's memory is given back as the connections leave it.

        Args:
            ordered: sort the live ones by flow_id (needs 16 bytes for each); else they come in no particular order.

        Raises:
            RuntimeError: the tracker has been finished before.
        """
        self._begin_finish()
        yield from self.retired()
        flows, _, firsts = self._pools["flows"]
        done = 0
        for records, rows in self._expand(self._table.now_ns, ordered):
            yield rows
            if not ordered:
                flows.give_back(done, int(records[-1]))
                firsts.give_back(done, int(records[-1]))
                done = int(records[-1])

    def _begin_finish(self) -> None:
        if self._finished:
            raise RuntimeError("the tracker has been finished")
        self._finished = True
        self._collect()
        self._sort_retired()

    def snapshot(self, now_ns: int | None = None) -> Array:
        """Return the connections in the table as they are at `now_ns`: FLOW_DTYPE, shape (n,), by flow_id.

        Args:
            now_ns: not before the last segment's time; by default that time.

        Raises:
            ValueError: `now_ns` is in the past.
        """
        if now_ns is None:
            now_ns = self._table.now_ns
        elif self.segments and now_ns < self._table.now_ns:
            raise ValueError(f"{now_ns} is before the last segment, at {self._table.now_ns}")
        parts = [rows for _, rows in self._expand(now_ns, True)]
        if len(parts) == 1:  # joining rows this wide costs more than making one
            return parts[0]
        return np.concatenate([np.empty(0, dtype=FLOW_DTYPE), *parts])

    def sockets(self, at_ns: int | None = None, *, host: tuple[bytes, int] | None = None) -> Array:
        """Return the ends that are in a state other than CLOSED and LISTEN at `at_ns`: SOCKET_DTYPE, shape (n,).

        They come by flow_id, the client's end first. One pass over the table; nothing is changed.

        Args:
            at_ns: not before the last segment's time; by default that time.
            host: only the ends at this address, as addresses.parse_ip returns it; both ends of each by default.

        Raises:
            ValueError: `at_ns` is in the past.
        """
        now_ns = self._table.now_ns
        if at_ns is None:
            at_ns = now_ns
        elif self.segments and at_ns < now_ns:
            raise ValueError(f"{at_ns} is before the last segment, at {now_ns}")
        ip, version = host or (bytes(16), 0)
        looked_ns = max(-_FARTHEST_NS, min(at_ns, _FARTHEST_NS))
        self._make_room(1)
        rows = np.empty(2 * self._table.slots_used, dtype=SOCKET_DTYPE)
        count = sweep.sockets(self._table, looked_ns, version, np.frombuffer(ip, np.uint8), rows)
        rows = rows[:count]
        if looked_ns != at_ns:
            rows["at_ts_ns"] = at_ns
        flow_ids = rows["flow_id"]
        if (flow_ids[1:] < flow_ids[:-1]).any():  # rows as plain bytes: numpy would copy structs field by field
            rows = rows.view(f"V{SOCKET_DTYPE.itemsize}")[np.argsort(flow_ids, kind="stable")].view(SOCKET_DTYPE)
        return rows

    # --- Room ---------------------------------------------------------------------------------------------------------

    def _make_room(self, n: int) -> None:
        for (name, dtype), (used, free, capacity) in zip(_POOLS.items(), self._table.used(), strict=True):
            if capacity - used + free < n + 1:
                self._grow_pool(name, dtype, used + n + 1)
        slots = len(self._slots)
        while (self._table.slots_used + n) * 4 > slots * 3:
            slots *= 2
        if slots != len(self._slots):
            grown = Reservation(slots, np.dtype(np.uint64), slots, huge_from_bytes=0).records
            refill(self._slots, grown)
            self._table.set_slots(grown, self._table.slots_used)
            self._slots = grown

    def _grow_pool(self, name: str, dtype: np.dtype[Any], least: int) -> None:
        least = max(least, CHUNK_SEGMENTS + 2)
        pool = Reservation(max(FIRST_CAPACITY, 2 * least), dtype, least)
        free = Reservation(len(pool.records), np.dtype(np.uint32), len(pool.records))
        parts = [pool, free]
        if name == "flows":
            parts.append(Reservation(len(pool.records), live.FIRST_DTYPE, len(pool.records)))
        for old, new in zip(self._pools.get(name, ()), parts, strict=False):
            new.records[: len(old.records)] = old.records
        getattr(self._table, "set_" + name)(*(part.records for part in parts))
        self._pools[name] = parts

    # --- What is over -------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        count = self._table.take_retired()
        if count:
            self._unsorted.append(self._retired[:count].copy())

    def _sweep_if_due(self) -> None:
        now_ns = self._table.settled_ns
        if self._swept_ns is None:
            self._swept_ns = now_ns
        since_segments = self.segments - self._swept_segments
        if abs(now_ns - self._swept_ns) >= SWEEP_NS and since_segments >= self._table.slots_used:
            self._swept_ns, self._swept_segments = now_ns, self.segments
            record = 1
            while record:
                record = sweep.sweep(self._table, record)
                self._collect()
            self._sort_retired()

    def _sort_retired(self) -> None:
        if self._unsorted:
            rows = np.concatenate(self._unsorted)
            self._unsorted.clear()
            rows = rows[np.argsort(rows["flow_id"], kind="stable")]
            self._ready.extend(rows[i : i + ROWS] for i in range(0, len(rows), ROWS))

    def _expand(self, now_ns: int, ordered: bool) -> Iterator[tuple[Array, Array]]:
        records = sweep.live_records(self._table)
        if ordered:
            origins = self._pools["flows"][0].records["origin"][records] & np.uint64((1 << 48) - 1)
            records = records[np.argsort(origins, kind="stable")]
        self._make_room(1)
        for i in range(0, len(records), ROWS):
            part = records[i : i + ROWS]
            rows = np.empty(len(part), dtype=FLOW_DTYPE)
            sweep.expand_live(self._table, part, now_ns, rows)
            yield part, rows


_POOLS: dict[str, np.dtype[Any]] = {
    "flows": live.LIVE_DTYPE,
    "closings": live.CLOSING_DTYPE,
    "troubles": live.TROUBLE_DTYPE,
    "pairs": live.PAIR_DTYPE,
}
