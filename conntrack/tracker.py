"""Tracker: owns every array, makes room between batches, steps segments, retires what is over.

Time comes from the segments (core/clock.pxd). What a connection is, and when it is forgotten, follows
from the segments alone, so that any split into batches gives the same rows; and they come out in an order that does not
depend on the split either: passes over the table happen at fixed counts of segments, the rows of each sorted (upkeep.py
says when; sharded.py has several tables at once). Knows nothing of files, of what is wrong with a connection, or of
output.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .core import live, sweep
from .core.abi import FLOW_DTYPE, SEGMENT_DTYPE, SOCKET_DTYPE
from .core.index import refill
from .core.step import step, use_lanes
from .memory import Reservation
from .states import EndReason, StateTrait, TcpState
from .timeouts import NO_TIMEOUT_NS, PROFILES, compile_timeouts
from .transitions import TRAITS, compile_start, compile_table, compile_traits
from .upkeep import LOOK_SEGMENTS, ROWS, Upkeep, in_batches, joined, plain

__all__ = ["MOST_BYTES_EACH", "Tracker"]

Array = np.ndarray[Any, Any]

CHUNK_SEGMENTS = 16_384
"""Most segments stepped at a time: each may begin or retire a connection, and there must be room for all of them."""
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
        max_memory: bytes for the connections in the table, at least upkeep.LEAST_BUDGET; beyond them those that have
            been idle for longest are evicted (upkeep.py has the rule). None for no limit.
        validate: check the table against itself after each batch (slow, for tests).
        key: secret of the hash, uint64 of shape (4,); random by default. Results do not depend on it.
        tag_in_key: the network that a segment was on (its tag: VLAN ids, tunnel id) is part of what makes a connection,
            so that the same addresses and ports on two networks are two. By default it is not: a mirror port or a
            router shows one connection on several, and some give each direction a VLAN of its own.
        reserve: records of each kind to reserve address space for; with more they are copied.
        lanes: plain segments take a short way (core/lanes.pxd); without, every one is judged by every case, to the same
            result (for tests).

    Attributes:
        segments: how many were processed.

    Raises:
        ValueError: no such profile, a timer for ESTABLISHED, or a limit of memory that is too small.

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
        max_memory: int | None = None,
        validate: bool = False,
        key: Array | None = None,
        tag_in_key: bool = False,
        reserve: int = FIRST_CAPACITY,
        lanes: bool = True,
    ) -> None:
        if profile not in PROFILES:
            raise ValueError(f"no profile {profile!r}; there are {', '.join(PROFILES)}")
        for state, seconds in (timeouts or {}).items():
            if seconds is not None and TRAITS[state] & StateTrait.STEADY:
                raise ValueError(f"{state.name} has no timer on any host")
        self.segments = 0
        self._validate = validate
        self._reserve = reserve
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
            np.frombuffer(os.urandom(32), dtype=np.uint64) if key is None else key,
            tag_in_key,
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
        self._deliver: Callable[[Array], None] | None = None
        self._ready: list[Array] = []
        self._upkeep = Upkeep(max_memory, MOST_BYTES_EACH)

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
            until_look = LOOK_SEGMENTS - self.segments % LOOK_SEGMENTS
            end = min(begin + min(CHUNK_SEGMENTS, until_look), len(segments))
            self.step(segments[begin:end])
            if self.segments % LOOK_SEGMENTS == 0 and self._upkeep.is_due(self.segments, self._table.settled_ns):
                self._ready.extend(self._upkeep.run_on(self, self.segments, self._table.settled_ns))
            begin = end
        if self._validate:
            sweep.check(self._table)

    @property
    def feeds(self) -> int:
        """How many feeds deliver_to() takes: one."""
        return 1

    @property
    def evicted(self) -> int:
        """How many connections were given up to stay within `max_memory`."""
        return self._upkeep.evicted

    def deliver_to(self, feeds: Sequence[Callable[[Array], None]]) -> None:
        """Have rows handed to the only one of `feeds` from now on, instead of yielding them, in no particular order.

        Each row once, FLOW_DTYPE of shape (1..n,), valid until it returns.
        """
        (self._deliver,) = feeds

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
        if self._deliver is not None:
            self.deliver_rest(self._table.now_ns)
        elif ordered:
            yield from (rows for _, rows in self._expand(self._table.now_ns, True))
        else:
            yield from self.empty(self._table.now_ns)

    def _begin_finish(self) -> None:
        if self._finished:
            raise RuntimeError("the tracker has been finished")
        self._finished = True
        self._ready.extend(in_batches(self.take_rows()))

    def snapshot(self, now_ns: int | None = None) -> Array:
        """Return the connections in the table as they are at `now_ns`: FLOW_DTYPE, shape (n,), by flow_id.

        Args:
            now_ns: not before the last segment's time; by default that time.

        Raises:
            ValueError: `now_ns` is in the past.
        """
        parts = list(self.snapshot_batches(now_ns, ordered=True))
        if len(parts) == 1:  # joining rows this wide costs more than making one
            return parts[0]
        return joined([np.empty(0, dtype=FLOW_DTYPE), *parts])

    def snapshot_batches(self, now_ns: int | None = None, *, ordered: bool = False) -> Iterator[Array]:
        """Yield the same in batches of at most ROWS, so that no more than one is in memory at a time.

        Where they come in no order, segments may be processed between one batch and the next. No connection comes twice
        then; one that began or retired since the first batch may be missing, one that went on is as it has become.

        Args:
            now_ns: as in `snapshot`.
            ordered: by flow_id (needs 16 bytes for each); else in no particular order.

        Raises:
            ValueError: `now_ns` is in the past, at the first batch.
        """
        if now_ns is None:
            now_ns = self._table.now_ns
        elif self.segments and now_ns < self._table.now_ns:
            raise ValueError(f"{now_ns} is before the last segment, at {self._table.now_ns}")
        for _, rows in self._expand(now_ns, ordered):
            yield rows

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
        pool = Reservation(max(self._reserve, 2 * least), dtype, least)
        free = Reservation(len(pool.records), np.dtype(np.uint32), len(pool.records))
        parts = [pool, free]
        if name == "flows":
            parts.append(Reservation(len(pool.records), live.FIRST_DTYPE, len(pool.records)))
        for old, new in zip(self._pools.get(name, ()), parts, strict=False):
            new.records[: len(old.records)] = old.records
        getattr(self._table, "set_" + name)(*(part.records for part in parts))
        self._pools[name] = parts

    # --- One table of several, or the only one (upkeep.py, sharded.py) ------------------------------------------------

    def step(self, segments: Array) -> None:
        """Step segments, at most CHUNK_SEGMENTS; upkeep is somebody else's."""
        if not self._table.has_room(len(segments)):
            self._make_room(len(segments))
        step(self._table, segments)
        self.segments += len(segments)
        if self._table.retired_count >= ROWS:
            self._collect()

    @property
    def waiting_rows(self) -> int:
        """How many rows take_rows() would return, or deliver."""
        return sum(map(len, self._unsorted)) + self._table.retired_count

    def take_rows(self) -> list[Array]:
        """Return the rows of what is over since the last call, unordered: FLOW_DTYPE, shape (1..n,) each.

        Where rows are delivered (deliver_to) they are now, and none is returned.
        """
        self._collect()
        rows, self._unsorted = self._unsorted, []
        return rows

    def retire_forgotten(self, settled_ns: int) -> None:
        """Retire the connections that are forgotten at a time that no segment will be much before."""
        self._make_room_to_expire()
        record = 1
        while record:
            record = sweep.sweep(self._table, record, settled_ns)
            self._collect()

    def evict(self, now_ns: int, last_ts_ns: int, flow_id: int) -> int:
        """Give up the connections that have been idle since before `last_ts_ns`; since then, up to `flow_id`.

        Those that were over (they are kept for a while, for what comes late) end as they ended.

        Returns:
            How many were not over.
        """
        self._make_room_to_expire()
        evicted = 0
        record = 1
        while record:
            record = sweep.evict(self._table, record, now_ns, last_ts_ns, flow_id)
            evicted += int(np.count_nonzero(self._collect()["end_reason"] == EndReason.EVICTED))
        return evicted

    def last_times(self) -> Array:
        """Return when each connection's last segment was, in no particular order: int64, shape (n,)."""
        return sweep.last_times(self._table)

    def last_seen_at(self, last_ts_ns: int) -> Array:
        """Return the flow_ids of those whose last segment was at that time: uint64, shape (n,)."""
        flows = self.flows
        origins: Array = flows["origin"][(flows["last_ts_ns"] == last_ts_ns) & (flows["origin"] != 0)]
        return origins & _FLOW_ID

    @property
    def bytes_used(self) -> int:
        """What the connections in the table take, records, index and the work of choosing among them included."""
        return sum(
            (used - 1 - free) * _EACH_BYTES[name]
            for name, (used, free, _) in zip(_POOLS, self._table.used(), strict=True)
        )

    def empty(self, now_ns: int, into: Array | None = None) -> Iterator[Array]:
        """Yield the connections in the table as they are at `now_ns`, and give back its memory as they leave it.

        With `into` (FLOW_DTYPE, at least ROWS) batches are written there, one over the other.
        """
        flows, _, firsts = self._pools["flows"]
        done = 0
        for records, rows in self._expand(now_ns, False, into):
            yield rows
            flows.give_back(done, int(records[-1]))
            firsts.give_back(done, int(records[-1]))
            done = int(records[-1])

    def deliver_rest(self, now_ns: int) -> None:
        """Deliver all that is left, the connections in the table as they are at `now_ns`; its memory is given back."""
        assert self._deliver is not None
        self.take_rows()
        for rows in self.empty(now_ns, self._retired):  # nothing will retire any more
            self._deliver(rows)

    def live_by_id(self) -> tuple[Array, Array]:
        """Return the flow_ids of the connections in the table and the numbers of their records, by flow_id."""
        records = sweep.live_records(self._table)
        origins = self._pools["flows"][0].records["origin"][records] & _FLOW_ID
        order = np.argsort(origins, kind="stable")
        return origins[order], records[order]

    def put_rows(self, records: Array, now_ns: int, rows: Array, places: Array) -> None:
        """Write connections by the numbers of their records, as they are at `now_ns`, to `places` of `rows`."""
        self._make_room(1)
        sweep.expand_live(self._table, records, now_ns, rows, places)

    def _make_room_to_expire(self) -> None:
        # Each connection whose timer runs out may take a part of each kind.
        for (name, dtype), (_, _, capacity) in zip(_POOLS.items(), self._table.used(), strict=True):
            if capacity < len(self) + 2:
                self._grow_pool(name, dtype, len(self) + 2)

    def close(self) -> None:
        """Nothing to let go of, as opposed to ShardedTracker."""

    # --- What is over -------------------------------------------------------------------------------------------------

    def _collect(self) -> Array:
        # The rows that retired since the last time: delivered from where they are, or copied, for they wait.
        rows = self._retired[: self._table.take_retired()]
        if not len(rows):
            return rows
        if self._deliver is not None:
            self._deliver(rows)
        else:
            self._unsorted.append(plain(rows).copy().view(FLOW_DTYPE))
        return rows

    def _expand(self, now_ns: int, ordered: bool, into: Array | None = None) -> Iterator[tuple[Array, Array]]:
        for part in self._by_id() if ordered else self._by_record():
            self._make_room(1)
            rows = np.empty(len(part), dtype=FLOW_DTYPE) if into is None else into[: len(part)]
            sweep.expand_live(self._table, part, now_ns, rows)
            yield part, rows

    def _by_id(self) -> Iterator[Array]:
        records = self.live_by_id()[1]
        for i in range(0, len(records), ROWS):
            yield records[i : i + ROWS]

    def _by_record(self) -> Iterator[Array]:
        # Those that are alive when their turn comes.
        part = sweep.live_records(self._table, 1, ROWS)
        while len(part):
            yield part
            part = sweep.live_records(self._table, int(part[-1]) + 1, ROWS)


_POOLS: dict[str, np.dtype[Any]] = {
    "flows": live.LIVE_DTYPE,
    "closings": live.CLOSING_DTYPE,
    "troubles": live.TROUBLE_DTYPE,
    "pairs": live.PAIR_DTYPE,
}

_FLOW_ID = np.uint64((1 << 48) - 1)
"""Of `origin`, whose other bits are the generation."""
_EACH_BYTES = {
    # Besides the record its place on the free list; a slot of the index, which may be but 3/8 full; and, while those to
    # evict are chosen, twice the time of its last segment.
    "flows": live.LIVE_DTYPE.itemsize + live.FIRST_DTYPE.itemsize + 4 + 22 + 16,
    "closings": live.CLOSING_DTYPE.itemsize + 4,
    "troubles": live.TROUBLE_DTYPE.itemsize + 4,
    "pairs": live.PAIR_DTYPE.itemsize + 4,
}
MOST_BYTES_EACH = sum(_EACH_BYTES.values())
"""What one connection can take."""
