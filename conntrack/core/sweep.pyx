"""Passes over all live records: retire those that are forgotten, expand all, check that everything fits together.

When to sweep is the tracker's business; that a connection is forgotten depends on the times of segments alone
(life.is_forgotten), never on when somebody looks.
"""

import numpy as np

from libc.stdint cimport int64_t, uint32_t, uint64_t

from libc.string cimport memset

from .abi cimport FlowRecord
from .expand cimport OPEN_AT_END, expand
from .index cimport home, index_remove
from .life cimport expire, give_back, is_forgotten, release_parts
from .live cimport Closing, LiveFlow, LiveTable, Tables
from .step cimport hash_of

from .abi import FLOW_DTYPE


cdef uint32_t _sweep(Tables* t, uint32_t record, Py_ssize_t room) noexcept nogil:
    cdef LiveFlow* f
    while record < t.flow_pool.used and room > 0:
        f = &t.flows[record]
        if f.origin:
            expire(t, f)
            if is_forgotten(t, f):
                expand(t, f, OPEN_AT_END, &t.retired[t.retired_count])
                t.retired_count += 1
                room -= 1
                index_remove(t.slots, t.slot_bits, hash_of(t, f), record)
                t.slots_used -= 1
                release_parts(t, f)
                memset(f, 0, sizeof(LiveFlow))
                give_back(&t.flow_pool, t.free_flows, record)
        record += 1
    return record if record < t.flow_pool.used else 0


def sweep(LiveTable table not None, uint32_t start=1):
    """Retire forgotten connections into the retired array, from record `start` on.

    Returns:
        0 when all records were visited, else the record to go on with once the retired array has been emptied.
    """
    cdef Tables* t = &table.c
    cdef Py_ssize_t room = len(table._kept[10]) - t.retired_count
    with nogil:
        start = _sweep(t, start if start else 1, room)
    return start


cdef void _expand_at(Tables* t, LiveFlow* f, int64_t now_ns, FlowRecord* out) noexcept nogil:
    # Expire at `now_ns`, expand, and put everything back: looking ahead changes nothing.
    cdef LiveFlow record = f[0]
    cdef Closing closing
    cdef int64_t now = t.now_ns
    if f.closing:
        closing = t.closings[f.closing]
    t.now_ns = now_ns
    expire(t, f)
    expand(t, f, OPEN_AT_END, out)
    t.now_ns = now
    if record.closing:
        t.closings[record.closing] = closing
    elif f.closing:
        give_back(&t.closing_pool, t.free_closings, f.closing)
    f[0] = record


def live_records(LiveTable table not None):
    """Return the numbers of the live records, lowest first: uint32 of shape (live,)."""
    cdef Tables* t = &table.c
    numbers = np.empty(t.slots_used, dtype=np.uint32)
    cdef uint32_t[::1] out = numbers
    cdef uint32_t record
    cdef Py_ssize_t n = 0
    with nogil:
        for record in range(1, t.flow_pool.used):
            if t.flows[record].origin and n < out.shape[0]:
                out[n] = record
                n += 1
    return numbers


def expand_live(LiveTable table not None, const uint32_t[::1] records, int64_t now_ns, out):
    """Write the live `records` as they are at `now_ns` to `out` (FLOW_DTYPE, as long). Changes nothing.

    Raises:
        TypeError, ValueError: `out` does not fit, a record does not exist, or there is no free Closing to work with.
    """
    if out.dtype != FLOW_DTYPE:
        raise TypeError(f"connections are {FLOW_DTYPE}, not {out.dtype}")
    cdef FlowRecord[::1] rows = out
    cdef Tables* t = &table.c
    cdef Py_ssize_t i
    if rows.shape[0] != records.shape[0]:
        raise ValueError(f"{records.shape[0]} records do not go into {rows.shape[0]} rows")
    if t.closing_pool.used - t.closing_pool.free >= t.closing_pool.capacity:
        raise ValueError("no room: the tracker must grow its arrays first")
    for i in range(records.shape[0]):
        if not 0 < records[i] < t.flow_pool.used or not t.flows[records[i]].origin:
            raise ValueError(f"record {records[i]} is not alive")
    with nogil:
        for i in range(records.shape[0]):
            _expand_at(t, &t.flows[records[i]], now_ns, &rows[i])


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
