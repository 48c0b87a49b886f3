"""What slow and failed handshakes add to the counts of their services, as keys of a Tally.

Decides nothing: which counts are too many is for detect/. Groups are the numbers of the rows' services, negative where
a service has none; such rows are left out.
"""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint64_t

from .abi cimport FlowRecord
from .grid cimport FAR, Grid, grid_of, tally_key
from .life cimport EXPIRED

from .abi import flow_bytes

cpdef enum Slow:  # columns of the grid of handshakes that took long or failed
    OPENED
    OVER
    ABANDONED
    ABANDONED_OVER
    ONE_SYNACK
    REPEATED
    SYNACK_AGAIN
    SYN_AGAIN
    UNANSWERED
    ONCE

cdef enum:
    SLOW_KEYS = 6  # of a row, at most


cdef struct Events:
    uint64_t* slow
    uint64_t* again
    int64_t* repeats
    int64_t* behind
    Py_ssize_t n_slow
    Py_ssize_t n_again
    Py_ssize_t n_behind


cdef inline void _slow(Events* e, const Grid* grid, uint64_t group, uint64_t time, int column) noexcept nogil:
    e.slow[e.n_slow] = tally_key(grid, group, time, column)
    e.n_slow += 1


cdef void _handshake(
    Events* e, const Grid* grid, const FlowRecord* row, Py_ssize_t i, uint64_t group, bint open, uint64_t wait,
    uint64_t timeout,
) noexcept nogil:
    cdef uint64_t synack = row.synack_ts_ns
    cdef uint64_t reset = row.reset_ts_ns
    cdef uint64_t end
    if synack == FAR:
        if open or reset != FAR or row.server_packets:
            return
        _slow(e, grid, group, row.syn_ts_ns, UNANSWERED)
        if row.client_syns > 1:
            return
        _slow(e, grid, group, row.syn_ts_ns, ONCE)
    else:
        end = min(min(<uint64_t>row.established_ts_ns, reset), min(<uint64_t>row.closed_ts_ns, synack + timeout))
        if row.server_state_evidence == EXPIRED:
            end = min(end, <uint64_t>row.server_since_ts_ns)  # the server gave it up, or kept nothing (a SYN cookie)
        if open and <uint64_t>row.established_ts_ns == FAR:
            return
        if end > synack:
            _slow(e, grid, group, synack, OPENED)
            _slow(e, grid, group, end, OVER)
        if open or reset != FAR:
            return
        if row.client_syns > 1:
            _slow(e, grid, group, synack + wait, SYN_AGAIN)
        if row.server_syns <= 1:
            _slow(e, grid, group, synack + wait, ONE_SYNACK)
        else:
            _slow(e, grid, group, synack + wait, REPEATED)
            e.again[e.n_again] = tally_key(grid, group, synack + wait, SYNACK_AGAIN)
            e.repeats[e.n_again] = <int64_t>row.server_syns - 1
            e.n_again += 1
        if end > synack + wait:
            _slow(e, grid, group, synack + wait, ABANDONED)
            _slow(e, grid, group, end, ABANDONED_OVER)
    e.behind[e.n_behind] = i
    e.n_behind += 1


def handshakes(
    flows, const int64_t[::1] picks not None, const int64_t[::1] groups not None, const uint8_t[::1] opened not None,
    uint64_t wait_ns, uint64_t timeout_ns, uint64_t step_ns,
):
    """Return what handshakes that took long or failed count for: (slow, again, repeats, behind).

    Args:
        flows: FLOW_DTYPE, shape (n,).
        picks, groups, opened: which rows, their services (none negative), and whether anybody got past the handshake;
            int64, int64 and uint8, shape (m,).
        wait_ns: what takes longer is late, or slow.
        timeout_ns: how long a server keeps a half-open connection at most.
        step_ns: step of the grid.

    Returns:
        slow: uint64 keys of a Tally with columns Slow, each for one.
        again, repeats: keys of column SYNACK_AGAIN, and for how many each is (int64).
        behind: int64, which of the picks were abandoned, or one SYN that nobody answered.
    """
    cdef const uint8_t[::1] raw = flow_bytes(flows)
    cdef const FlowRecord* rows = <const FlowRecord*>&raw[0]
    cdef Py_ssize_t total = raw.shape[0] // <Py_ssize_t>sizeof(FlowRecord)
    cdef Py_ssize_t n = picks.shape[0]
    if groups.shape[0] != n or opened.shape[0] != n or not step_ns:
        raise ValueError(f"expected {n} groups and a step, got {groups.shape[0]}")
    if n and not 0 <= np.min(picks) <= np.max(picks) < total:
        raise IndexError(f"picks are not all in the {total} rows")
    again, slow = np.empty(n + 1, np.uint64), np.empty(SLOW_KEYS * n + 1, np.uint64)
    repeats, behind = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
    cdef uint64_t[::1] slow_keys = slow
    cdef uint64_t[::1] again_keys = again
    cdef int64_t[::1] repeat_counts = repeats
    cdef int64_t[::1] behind_picks = behind
    cdef Events e = Events(&slow_keys[0], &again_keys[0], &repeat_counts[0], &behind_picks[0], 0, 0, 0)
    cdef Grid grid = grid_of(step_ns)
    cdef Py_ssize_t i
    with nogil:
        for i in range(n):
            _handshake(&e, &grid, &rows[picks[i]], i, groups[i], opened[i], wait_ns, timeout_ns)
    return slow[: e.n_slow], again[: e.n_again], repeats[: e.n_again], behind[: e.n_behind]
