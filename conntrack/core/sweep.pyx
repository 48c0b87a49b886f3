"""Passes over all live records: retire those that are forgotten, evict the idle, expand all, list the ends that are
open at an instant, check that everything fits together.

When to sweep is the tracker's business; that a connection is forgotten depends on the times of segments alone
(life.is_forgotten), never on when somebody looks.
"""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from .abi cimport FlowRecord, SocketRecord
from .clock cimport LEAP_NS, own_time, settled_ns
from .expand cimport END_EVICTED, OPEN_AT_END, expand, put_ip
from .index cimport home, index_remove, prefetch
from .life cimport (
    MARK_EVIDENCE_SHIFT, OVER, PASSIVE, expire, give_back, is_forgotten, is_over, may_expire, release_parts, since_ts,
    states_of, trait,
)
from .live cimport MARK_V6, Closing, LiveFlow, LiveTable, Tables
from .step cimport hash_of

from .abi import FLOW_DTYPE, SOCKET_DTYPE


cdef void _retire(Tables* t, LiveFlow* f, uint32_t record, int end_reason) noexcept nogil:
    expand(t, f, end_reason, &t.retired[t.retired_count])
    t.retired_count += 1
    index_remove(t.slots, t.slot_bits, hash_of(t, f), record)
    t.slots_used -= 1
    release_parts(t, f)
    memset(f, 0, sizeof(LiveFlow))
    give_back(&t.flow_pool, t.free_flows, record)


cdef enum:
    AHEAD = 8                   # records whose parts are on the way while one is looked at


cdef inline bint _can_expire(const Tables* t, const LiveFlow* f, int64_t at_ns) noexcept nogil:
    return may_expire(t, f, at_ns) and (
        t.timeouts[f.client_state] >= 0 or t.timeouts[f.server_state] >= 0)


cdef inline void _fetch(const Tables* t, const LiveFlow* f, int64_t now_ns) noexcept nogil:
    # Bring near what a record has elsewhere: its Closing; where it may have to be retired, its slot of the index.
    if f.closing:
        prefetch(&t.closings[f.closing], 1)
        if now_ns - f.last_ts_ns > t.two_msl_ns:
            prefetch(&t.slots[home(hash_of(t, f), t.slot_bits)], 1)


cdef uint32_t _sweep(Tables* t, uint32_t record, Py_ssize_t room, int64_t now_ns) noexcept nogil:
    # What comes late still finds the connection, and in the state that it would be in without a sweep.
    cdef LiveFlow* f
    now_ns -= LEAP_NS
    while record < t.flow_pool.used and room > 0:
        f = &t.flows[record]
        if record + AHEAD < t.flow_pool.used:
            _fetch(t, &t.flows[record + AHEAD], now_ns)
        if f.origin:
            if _can_expire(t, f, now_ns):
                expire(t, f, now_ns)
            if is_forgotten(t, f, now_ns):
                _retire(t, f, record, OPEN_AT_END)
                room -= 1
        record += 1
    return record if record < t.flow_pool.used else 0


def sweep(LiveTable table not None, uint32_t start=1, now_ns=None):
    """Retire forgotten connections into the retired array, from record `start` on.

    Args:
        table: the live connections.
        start: a record number.
        now_ns: the time that no segment will be much before; that of the table's own segments by default.

    Returns:
        0 when all records were visited, else the record to go on with once the retired array has been emptied.
    """
    cdef Tables* t = &table.c
    cdef Py_ssize_t room = len(table._kept[10]) - t.retired_count
    cdef int64_t now = settled_ns(t) if now_ns is None else now_ns
    with nogil:
        start = _sweep(t, start if start else 1, room, now)
    return start


cdef inline bint _is_idle(const LiveFlow* f, int64_t last_ts_ns, uint64_t flow_id) noexcept nogil:
    if f.last_ts_ns != last_ts_ns:
        return f.last_ts_ns < last_ts_ns
    return f.origin & ((<uint64_t>1 << 48) - 1) <= flow_id


cdef uint32_t _evict(
    Tables* t, uint32_t record, Py_ssize_t room, int64_t now_ns, int64_t last_ts_ns, uint64_t flow_id
) noexcept nogil:
    cdef LiveFlow* f
    while record < t.flow_pool.used and room > 0:
        f = &t.flows[record]
        if f.origin and _is_idle(f, last_ts_ns, flow_id):
            expire(t, f, own_time(f, now_ns))
            _retire(t, f, record, OPEN_AT_END if is_over(t, f) else END_EVICTED)
            room -= 1
        record += 1
    return record if record < t.flow_pool.used else 0


def evict(LiveTable table not None, uint32_t start, int64_t now_ns, int64_t last_ts_ns, uint64_t flow_id):
    """Retire the connections that have been idle for longest into the retired array, from record `start` on.

    Args:
        table: the live connections; one Closing and one Trouble of it are free.
        start: a record number.
        now_ns: the time it is.
        last_ts_ns, flow_id: those go whose last segment was before, or then and whose number is at most this.

    Returns:
        0 when all records were visited, else the record to go on with once the retired array has been emptied.
    """
    cdef Tables* t = &table.c
    cdef Py_ssize_t room = len(table._kept[10]) - t.retired_count
    with nogil:
        start = _evict(t, start if start else 1, room, now_ns, last_ts_ns, flow_id)
    return start


def last_times(LiveTable table not None):
    """Return when the last segment of each live connection was, in no stated order: int64, shape (live,)."""
    cdef Tables* t = &table.c
    times = np.empty(t.slots_used, dtype=np.int64)
    cdef int64_t[::1] out = times
    cdef uint32_t record
    cdef Py_ssize_t n = 0
    with nogil:
        for record in range(1, t.flow_pool.used):
            if t.flows[record].origin and n < out.shape[0]:
                out[n] = t.flows[record].last_ts_ns
                n += 1
    return times


cdef struct Before:             # a record as it was before somebody looked ahead
    LiveFlow record
    Closing closing


cdef inline void _look_ahead(Tables* t, LiveFlow* f, int64_t now_ns, Before* before) noexcept nogil:
    # Expire as if it were `now_ns`; _put_back undoes it, so that looking ahead changes nothing.
    before.record = f[0]
    if f.closing:
        before.closing = t.closings[f.closing]
    expire(t, f, own_time(f, now_ns))


cdef inline void _put_back(Tables* t, LiveFlow* f, const Before* before) noexcept nogil:
    if before.record.closing:
        t.closings[before.record.closing] = before.closing
    elif f.closing:
        give_back(&t.closing_pool, t.free_closings, f.closing)
    f[0] = before.record


cdef inline bint _has_room_to_look_ahead(const Tables* t) noexcept nogil:
    # It may take one Closing, and gives it back.
    return t.closing_pool.used - t.closing_pool.free < t.closing_pool.capacity


cdef void _expand_at(Tables* t, LiveFlow* f, int64_t now_ns, FlowRecord* out) noexcept nogil:
    cdef Before before
    if not _can_expire(t, f, own_time(f, now_ns)):
        expand(t, f, OPEN_AT_END, out)
        return
    _look_ahead(t, f, now_ns, &before)
    expand(t, f, OPEN_AT_END, out)
    _put_back(t, f, &before)


def live_records(LiveTable table not None, uint32_t start=1, most=None):
    """Return the numbers of the live records from `start` on, lowest first, `most` at most: uint32 of shape (n,)."""
    cdef Tables* t = &table.c
    numbers = np.empty(t.slots_used if most is None else min(t.slots_used, most), dtype=np.uint32)
    cdef uint32_t[::1] out = numbers
    cdef uint32_t record = start if start else 1
    cdef Py_ssize_t n = 0
    with nogil:
        while record < t.flow_pool.used and n < out.shape[0]:
            if t.flows[record].origin:
                out[n] = record
                n += 1
            record += 1
    return numbers[:n]


def expand_live(LiveTable table not None, const uint32_t[::1] records, int64_t now_ns, out, places=None):
    """Write the live `records` as they are at `now_ns` to `out` (FLOW_DTYPE, as long). Changes nothing.

    Args:
        table: the live connections.
        records: their numbers.
        now_ns: the time it is.
        out: where they go.
        places: uint32, as long as `records`: the row that each goes to, of any number of them; one after the other by
            default.

    Raises:
        TypeError, ValueError: `out` does not fit, a record does not exist, or there is no free Closing to work with.
    """
    if out.dtype != FLOW_DTYPE:
        raise TypeError(f"connections are {FLOW_DTYPE}, not {out.dtype}")
    cdef uint8_t[::1] raw = out.view(np.uint8)  # acquiring a struct's own takes 100 us
    cdef Py_ssize_t room = raw.shape[0] // <Py_ssize_t>sizeof(FlowRecord)
    if not records.shape[0]:
        return
    cdef FlowRecord* rows = <FlowRecord*>&raw[0]
    cdef Tables* t = &table.c
    cdef Py_ssize_t i
    cdef const uint32_t[::1] where = np.arange(room, dtype=np.uint32) if places is None else places
    if where.shape[0] != records.shape[0]:
        raise ValueError(f"{records.shape[0]} records do not go into {where.shape[0]} rows")
    if not _has_room_to_look_ahead(t):
        raise ValueError("no room: the tracker must grow its arrays first")
    for i in range(records.shape[0]):
        if not 0 < records[i] < t.flow_pool.used or not t.flows[records[i]].origin:
            raise ValueError(f"record {records[i]} is not alive")
        if where[i] >= room:
            raise ValueError(f"there is no row {where[i]}")
    with nogil:
        for i in range(records.shape[0]):
            if i + 2 * AHEAD < records.shape[0]:
                prefetch(&t.flows[records[i + 2 * AHEAD]], 0)
                prefetch(<const char*>&t.flows[records[i + 2 * AHEAD]] + 64, 0)
            if i + AHEAD < records.shape[0]:
                prefetch(&t.closings[t.flows[records[i + AHEAD]].closing], 0)
            _expand_at(t, &t.flows[records[i]], now_ns, &rows[where[i]])


cdef struct Host:               # whose sockets are asked for
    int ip_version              # 0: everybody's
    uint32_t v4                 # host order
    uint8_t v6[16]


cdef inline bint _is_open(const Tables* t, LiveFlow* f, int side) noexcept nogil:
    return not trait(t, f, side) & (OVER | PASSIVE)


cdef inline bint _is_of(const Tables* t, const LiveFlow* f, int side, const Host* host) noexcept nogil:
    if not host.ip_version:
        return True
    if f.marks & MARK_V6:
        return host.ip_version == 6 and memcmp(t.pairs[f.address[0]].address + 16 * side, host.v6, 16) == 0
    return host.ip_version == 4 and f.address[side] == host.v4


cdef inline void _put_socket(Tables* t, LiveFlow* f, int side, int64_t at_ns, SocketRecord* out) noexcept nogil:
    out.flow_id = f.origin & ((<uint64_t>1 << 48) - 1)
    out.at_ts_ns = at_ns
    out.since_ts_ns = since_ts(t, f, side)
    put_ip(t, f, side, out.local_ip)
    put_ip(t, f, 1 - side, out.remote_ip)
    out.local_port = f.port[side]
    out.remote_port = f.port[1 - side]
    out.ip_version = 6 if f.marks & MARK_V6 else 4
    out.state = states_of(f)[side]
    out.evidence = (f.marks >> (MARK_EVIDENCE_SHIFT + 2 * side)) & 3
    out.pad0 = 0


cdef inline int _put_open(
    Tables* t, LiveFlow* f, int64_t at_ns, const Host* host, SocketRecord* out
) noexcept nogil:
    # Write the open ends of a record, the client's first; how many they are.
    cdef int n = 0
    cdef int side
    for side in range(2):
        if _is_open(t, f, side) and _is_of(t, f, side, host):
            _put_socket(t, f, side, at_ns, &out[n])
            n += 1
    return n


cdef int _put_open_ahead(Tables* t, LiveFlow* f, int64_t at_ns, const Host* host, SocketRecord* out) noexcept nogil:
    cdef Before before
    cdef int n
    _look_ahead(t, f, at_ns, &before)
    n = _put_open(t, f, at_ns, host, out)
    _put_back(t, f, &before)
    return n


cdef Py_ssize_t _sockets(Tables* t, int64_t at_ns, const Host* host, SocketRecord* out) noexcept nogil:
    # Most records are over or somebody else's, which shows in the first line of each; few have a timer to look after.
    cdef LiveFlow* f
    cdef uint32_t record
    cdef Py_ssize_t n = 0
    for record in range(1, t.flow_pool.used):
        f = &t.flows[record]
        if record + AHEAD < t.flow_pool.used:
            prefetch(&t.closings[t.flows[record + AHEAD].closing], 0)
        if not f.origin or not (_is_open(t, f, 0) or _is_open(t, f, 1)):
            continue
        if _can_expire(t, f, at_ns):
            n += _put_open_ahead(t, f, at_ns, host, &out[n])
        else:
            n += _put_open(t, f, at_ns, host, &out[n])
    return n


def sockets(LiveTable table not None, int64_t at_ns, int ip_version, const uint8_t[::1] ip, out):
    """Write the ends that are in a state at `at_ns`, neither over nor waiting for a first segment. Changes nothing.

    Args:
        table: the live connections.
        at_ns: the instant, not before the last segment.
        ip_version: 4 or 6 for the ends of one host; 0 for everybody's.
        ip: its address, uint8 of shape (16,); not looked at for everybody's.
        out: SOCKET_DTYPE, room for two rows of each live connection.

    Returns:
        How many rows were written, the client's before the server's of one connection.

    Raises:
        TypeError, ValueError: `ip` or `out` does not fit, or there is no free Closing to work with.
    """
    if out.dtype != SOCKET_DTYPE:
        raise TypeError(f"sockets are {SOCKET_DTYPE}, not {out.dtype}")
    cdef SocketRecord[::1] rows = out
    cdef Tables* t = &table.c
    cdef Host host
    cdef Py_ssize_t n
    if rows.shape[0] < 2 * <Py_ssize_t>t.slots_used or ip.shape[0] != 16:
        raise ValueError(f"expected {2 * t.slots_used} rows and 16 bytes, got {rows.shape[0]} and {ip.shape[0]}")
    if not _has_room_to_look_ahead(t):
        raise ValueError("no room: the tracker must grow its arrays first")
    if rows.shape[0] == 0:
        return 0
    host.ip_version = ip_version
    host.v4 = <uint32_t>ip[12] << 24 | <uint32_t>ip[13] << 16 | <uint32_t>ip[14] << 8 | ip[15]
    memcpy(host.v6, &ip[0], 16)
    with nogil:
        n = _sockets(t, at_ns, &host, &rows[0])
    return n


cdef int _check(const Tables* t) noexcept nogil:
    cdef uint64_t mask = (<uint64_t>1 << t.slot_bits) - 1
    cdef uint64_t at
    cdef uint32_t record, live, closings, troubles
    cdef const LiveFlow* f
    live = closings = troubles = 0
    for record in range(1, t.flow_pool.used):
        f = &t.flows[record]
        if not f.origin:
            continue
        live += 1
        closings += f.closing != 0
        troubles += f.trouble != 0
        if f.client_state > 10 or f.server_state > 10:
            return 1
        if f.closing >= t.closing_pool.used or f.trouble >= t.trouble_pool.used:
            return 2
        at = home(hash_of(t, f), t.slot_bits)
        while t.slots[at] != (<uint64_t>hash_of(t, f) << 32 | record):
            if t.slots[at] == 0:
                return 3
            at = (at + 1) & mask
    if live != t.slots_used or live != t.flow_pool.used - 1 - t.flow_pool.free:
        return 4
    if closings != t.closing_pool.used - 1 - t.closing_pool.free:
        return 5
    if troubles != t.trouble_pool.used - 1 - t.trouble_pool.free:
        return 5
    return 0


FAULTS = {
    1: "a state that does not exist",
    2: "a part that does not exist",
    3: "a record that the index does not find",
    4: "live records, index slots and free records do not add up",
    5: "parts in use and free parts do not add up",
}


def check(LiveTable table not None):
    """Check every live record against the index and the free lists (a test's tool: slow).

    Raises:
        AssertionError: something does not fit, with what.
    """
    fault = _check(&table.c)
    if fault:
        raise AssertionError(f"the live table is broken: {FAULTS[fault]}")
