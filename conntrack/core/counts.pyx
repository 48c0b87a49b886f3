"""What rows add to the counts of their services, as keys of a Tally: handshakes and what became of them, and fates.

Decides nothing: which counts are too many is for detect/. Groups are the numbers of the rows' services, negative where
a service has none; such rows are left out.
"""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from .abi cimport FlowRecord
from .expand cimport END_REFUSED
from .grid cimport FAR, Grid, grid_of, tally_key
from .live cimport FLAG_MIDSTREAM

from .abi import flow_bytes

cpdef enum Attempt:  # columns of the count of handshakes begun
    IN_TIME
    LATE
    REFUSED
    FAILED

cpdef enum Slow:  # columns of the grid of handshakes that took long or failed
    OPENED
    OVER
    ABANDONED
    ABANDONED_OVER
    ONE_SYNACK
    SYNACK_AGAIN
    SYN_AGAIN
    UNANSWERED
    ONCE

cpdef enum Fate:  # bits of a fate, above client state (4 bits), server state (4) and end reason (3)
    WAS_ESTABLISHED = 1 << 11
    WAS_UNANSWERED = 1 << 12
    WAS_MIDSTREAM = 1 << 13

cdef enum:
    SLOW_KEYS = 6  # of a row, at most
    HANDSHAKE_SHIFT = 20  # a float32 is ordered as its bits are: its exponent and 3 bits split an octave in 8


cdef struct Events:
    uint64_t* attempts
    uint64_t* slow
    uint64_t* again
    int64_t* repeats
    int64_t* behind
    Py_ssize_t n_attempts
    Py_ssize_t n_slow
    Py_ssize_t n_again
    Py_ssize_t n_behind


cdef inline void _attempt(Events* e, const Grid* grid, uint64_t group, uint64_t time, int column) noexcept nogil:
    e.attempts[e.n_attempts] = tally_key(grid, group, time, column)
    e.n_attempts += 1


cdef inline void _slow(Events* e, const Grid* grid, uint64_t group, uint64_t time, int column) noexcept nogil:
    e.slow[e.n_slow] = tally_key(grid, group, time, column)
    e.n_slow += 1


cdef void _failed(
    Events* e, const Grid* attempts, const Grid* grid, const FlowRecord* row, Py_ssize_t i, uint64_t group,
    uint64_t begun, uint64_t wait, uint64_t timeout,
) noexcept nogil:
    # A handshake that took long or failed.
    cdef uint64_t synack = row.synack_ts_ns
    cdef uint64_t reset = row.reset_ts_ns
    cdef bint established = <uint64_t>row.established_ts_ns != FAR
    # A segment that is neither SYN nor RST proves that its sender was past the handshake (one-sided captures).
    cdef bint proven = (
        established
        or row.client_packets > <uint64_t>row.client_syns + row.client_rsts
        or row.server_packets > <uint64_t>row.server_syns + row.server_rsts
    )
    if not established:
        _attempt(e, attempts, group, begun, IN_TIME if proven else REFUSED if row.end_reason == END_REFUSED else FAILED)
    cdef uint64_t end
    if synack != FAR:
        end = min(min(<uint64_t>row.established_ts_ns, reset), min(<uint64_t>row.closed_ts_ns, synack + timeout))
        if (proven and not established) or end < synack + wait:
            return
        _slow(e, grid, group, synack, OPENED)
        _slow(e, grid, group, end, OVER)
        if proven or reset != FAR:
            return
        _slow(e, grid, group, synack + wait, ABANDONED)
        _slow(e, grid, group, end, ABANDONED_OVER)
        if row.client_syns > 1:
            _slow(e, grid, group, synack + wait, SYN_AGAIN)
        if row.server_syns <= 1:
            _slow(e, grid, group, synack + wait, ONE_SYNACK)
        else:
            e.again[e.n_again] = tally_key(grid, group, synack + wait, SYNACK_AGAIN)
            e.repeats[e.n_again] = <int64_t>row.server_syns - 1
            e.n_again += 1
    else:
        if proven or reset != FAR:
            return
        _slow(e, grid, group, begun, UNANSWERED)
        if row.client_syns > 1:
            return
        _slow(e, grid, group, begun, ONCE)
    e.behind[e.n_behind] = i
    e.n_behind += 1


def handshakes(
    flows, const int64_t[::1] groups not None, uint64_t wait_ns, uint64_t timeout_ns,
    uint64_t attempt_step_ns, uint64_t slow_step_ns,
):
    """Return what the handshakes of connections count for: (attempts, slow, again, repeats, behind).

    Connections that were open before the capture began count for nothing.

    Args:
        flows, groups: FLOW_DTYPE and int64, shape (n,).
        wait_ns: what takes longer is late, or slow.
        timeout_ns: how long a server keeps a half-open connection.
        attempt_step_ns, slow_step_ns: steps of the two grids.

    Returns:
        attempts, slow: uint64 keys of a Tally with columns Attempt and Slow, each for one.
        again, repeats: keys of column SYNACK_AGAIN, and for how many each is (int64).
        behind: int64, rows that were abandoned, or whose one SYN nobody answered.
    """
    cdef const uint8_t[::1] raw = flow_bytes(flows)
    cdef const FlowRecord* rows = <const FlowRecord*>&raw[0]
    cdef Py_ssize_t n = raw.shape[0] // <Py_ssize_t>sizeof(FlowRecord)
    if groups.shape[0] != n or not attempt_step_ns or not slow_step_ns:
        raise ValueError(f"expected {n} groups and two steps, got {groups.shape[0]}")
    attempts, again = np.empty(n + 1, np.uint64), np.empty(n + 1, np.uint64)
    slow = np.empty(SLOW_KEYS * n + 1, np.uint64)
    repeats, behind = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
    cdef uint64_t[::1] attempt_keys = attempts
    cdef uint64_t[::1] slow_keys = slow
    cdef uint64_t[::1] again_keys = again
    cdef int64_t[::1] repeat_counts = repeats
    cdef int64_t[::1] behind_rows = behind
    cdef Events e = Events(
        &attempt_keys[0], &slow_keys[0], &again_keys[0], &repeat_counts[0], &behind_rows[0], 0, 0, 0, 0
    )
    cdef Grid attempt_grid = grid_of(attempt_step_ns)
    cdef Grid slow_grid = grid_of(slow_step_ns)
    cdef uint64_t begun, synack, established
    cdef Py_ssize_t i
    with nogil:
        for i in range(n):
            synack = rows[i].synack_ts_ns
            established = rows[i].established_ts_ns
            begun = min(<uint64_t>rows[i].syn_ts_ns, synack)
            if begun == FAR or groups[i] < 0:
                continue
            if established != FAR:
                _attempt(&e, &attempt_grid, groups[i], begun, IN_TIME if established < begun + wait_ns else LATE)
                if established < begun + wait_ns or established < synack + wait_ns:
                    continue
            _failed(&e, &attempt_grid, &slow_grid, &rows[i], i, groups[i], begun, wait_ns, timeout_ns)
    return (
        attempts[: e.n_attempts].copy(), slow[: e.n_slow].copy(), again[: e.n_again].copy(),
        repeats[: e.n_again].copy(), behind[: e.n_behind],
    )


def fates(flows, const int64_t[::1] groups not None, int64_t[:, ::1] sums not None):
    """Return what became of connections, and how long their handshakes took: (fates, handshakes), keys of a Tally.

    A fate is the state of the client (4 bits) and of the server (4), the end reason (3), and bits of Fate, all in place
    of a tick; so is the cell of a histogram of nanoseconds with 8 cells an octave, for handshakes seen from the SYN on.

    Args:
        flows, groups: FLOW_DTYPE and int64, shape (n,).
        sums: int64, shape (more than any group, 4); payload bytes of client and server, and retransmits of client and
            server, are added to the group's row.
    """
    cdef const uint8_t[::1] raw = flow_bytes(flows)
    cdef const FlowRecord* rows = <const FlowRecord*>&raw[0]
    cdef Py_ssize_t n = raw.shape[0] // <Py_ssize_t>sizeof(FlowRecord)
    if groups.shape[0] != n or sums.shape[1] != 4 or (n and np.max(groups) >= sums.shape[0]):
        raise ValueError(f"expected {n} groups of {sums.shape[0]} with 4 sums, got {groups.shape[0]}, {sums.shape[1]}")
    fates, handshakes = np.empty(n, np.uint64), np.empty(n, np.uint64)
    cdef uint64_t[::1] fate_keys = fates
    cdef uint64_t[::1] handshake_keys = handshakes
    cdef Grid grid = grid_of(1)
    cdef Py_ssize_t n_fates = 0
    cdef Py_ssize_t n_handshakes = 0
    cdef const FlowRecord* row
    cdef uint64_t fate
    cdef uint32_t bits
    cdef float took
    cdef bint timed
    cdef Py_ssize_t i
    with nogil:
        for i in range(n):
            if groups[i] < 0:
                continue
            row = &rows[i]
            timed = <uint64_t>row.syn_ts_ns != FAR
            fate = (row.client_state & 15) | (row.server_state & 15) << 4 | (row.end_reason & 7) << 8
            if row.flags & FLAG_MIDSTREAM:
                fate |= WAS_MIDSTREAM
            if <uint64_t>row.established_ts_ns != FAR:
                fate |= WAS_ESTABLISHED
                if timed:
                    took = <float>max(row.established_ts_ns - row.syn_ts_ns, <int64_t>1)
                    memcpy(&bits, &took, 4)
                    handshake_keys[n_handshakes] = tally_key(&grid, groups[i], bits >> HANDSHAKE_SHIFT, 0)
                    n_handshakes += 1
            elif timed and not row.server_packets:
                fate |= WAS_UNANSWERED
            fate_keys[n_fates] = tally_key(&grid, groups[i], fate, 0)
            n_fates += 1
            sums[groups[i], 0] += row.client_payload_bytes
            sums[groups[i], 1] += row.server_payload_bytes
            sums[groups[i], 2] += row.client_retransmits
            sums[groups[i], 3] += row.server_retransmits
    return fates[:n_fates].copy(), handshakes[:n_handshakes].copy()


def count(const int64_t[::1] groups not None, int64_t[::1] counts not None):
    """Add 1 to the count of each group (int64, shape (n,); below 0 is none).

    Raises:
        IndexError: a group is not in `counts`; those before it were counted.
    """
    cdef Py_ssize_t i
    for i in range(groups.shape[0]):
        if groups[i] >= counts.shape[0]:
            raise IndexError(f"group {groups[i]} is not among {counts.shape[0]}")
        if groups[i] >= 0:
            counts[groups[i]] += 1
