"""What slow and failed handshakes add to the counts of their services, as keys of a Tally; and who tried what in vain.

Decides nothing: which counts are too many is for detect/. Groups are the numbers of the rows' services, negative where
a service has none; such rows are left out.
"""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .abi cimport FlowRecord
from .grid cimport FAR, Grid, grid_of, tally_key
from .keys cimport hash_of, words_of
from .life cimport EXPIRED
from .survey cimport REFUSED
from .survey cimport UNANSWERED as NEVER_ANSWERED

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

cpdef enum Who:  # words about the client that is behind one
    SOURCE  # hash of its address
    FLOW_ID
    FLOW_HASH
    LOOK  # its SYN's TTL (8 bits), window (16), MSS (16), window scale (8) and options (8): detect/portraits.py
    ISN

cpdef enum Outcome:  # bits of what became of a try
    WAS_REFUSED = 1
    WAS_SILENT = 2
    WAS_GIVEN_UP = 4
    WAS_REPEATED = 8

cdef enum:
    WHO_WORDS = 5
    SLOW_KEYS = 6  # of a row, at most


cdef struct Try:  # a connection that was tried in vain
    uint64_t hash  # of host and target
    uint64_t flow_id
    int64_t ts_ns
    uint64_t host[2]
    uint64_t target[2]
    uint16_t port
    uint8_t version
    uint8_t outcome
    uint8_t pad0[4]


cdef Try _try

TRY_DTYPE = np.asarray(<Try[:1]> &_try).dtype


cdef struct Events:
    uint64_t* slow
    uint64_t* again
    int64_t* repeats
    int64_t* behind
    uint64_t* who
    Py_ssize_t n_slow
    Py_ssize_t n_again
    Py_ssize_t n_behind


cdef inline void _slow(Events* e, const Grid* grid, uint64_t group, uint64_t time, int column) noexcept nogil:
    e.slow[e.n_slow] = tally_key(grid, group, time, column)
    e.n_slow += 1


cdef inline void _introduce(uint64_t* who, const FlowRecord* row) noexcept nogil:
    cdef uint64_t[3] words
    words_of(row, True, words)
    who[<int>SOURCE] = hash_of(words, 2, 0)
    who[<int>FLOW_ID] = row.flow_id
    who[<int>FLOW_HASH] = hash_of(&row.flow_id, 1, 0)
    who[<int>LOOK] = (
        row.client_ttl | <uint64_t>row.client_syn_window << 8 | <uint64_t>row.client_mss << 24
        | <uint64_t>row.client_window_scale << 40 | <uint64_t>row.client_options << 48
    )
    who[<int>ISN] = row.client_isn


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
    _introduce(&e.who[e.n_behind * <int>WHO_WORDS], row)
    e.n_behind += 1


def handshakes(
    flows, const int64_t[::1] picks not None, const int64_t[::1] groups not None, const uint8_t[::1] opened not None,
    uint64_t wait_ns, uint64_t timeout_ns, uint64_t step_ns,
):
    """Return what handshakes that took long or failed count for: (slow, again, repeats, behind, who).

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
        behind: int64, which of the picks were abandoned, or one SYN that nobody answered; shape (k,).
        who: uint64, shape (k, 5), by Who: their clients.
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
    who = np.empty((n + 1, <int>WHO_WORDS), np.uint64)
    cdef uint64_t[:, ::1] who_words = who
    cdef uint64_t[::1] slow_keys = slow
    cdef uint64_t[::1] again_keys = again
    cdef int64_t[::1] repeat_counts = repeats
    cdef int64_t[::1] behind_picks = behind
    cdef Events e = Events(
        &slow_keys[0], &again_keys[0], &repeat_counts[0], &behind_picks[0], &who_words[0, 0], 0, 0, 0
    )
    cdef Grid grid = grid_of(step_ns)
    cdef Py_ssize_t i
    with nogil:
        for i in range(n):
            _handshake(&e, &grid, &rows[picks[i]], i, groups[i], opened[i], wait_ns, timeout_ns)
    return slow[: e.n_slow], again[: e.n_again], repeats[: e.n_again], behind[: e.n_behind], who[: e.n_behind]


def tries(flows, const int64_t[::1] picks not None, const uint32_t[::1] traits not None, int level):
    """Return who tried what in vain: TRY_DTYPE, shape (k,).

    Args:
        flows: FLOW_DTYPE, shape (n,).
        picks: which rows, int64, shape (m,).
        traits: bits of survey.Trait, shape (n,).
        level: those are left out whose hash does not end in so many zeros, 0 to 63.
    """
    cdef const uint8_t[::1] raw = flow_bytes(flows)
    cdef const FlowRecord* rows = <const FlowRecord*>&raw[0]
    cdef Py_ssize_t total = raw.shape[0] // <Py_ssize_t>sizeof(FlowRecord)
    if traits.shape[0] != total or not 0 <= level <= 63:
        raise ValueError(f"expected traits of {total} rows, and a level of 0 to 63")
    if picks.shape[0] and not 0 <= np.min(picks) <= np.max(picks) < total:
        raise IndexError(f"picks are not all in the {total} rows")
    found = np.zeros((picks.shape[0] + 1) * sizeof(Try), np.uint8)
    cdef uint8_t[::1] room = found
    cdef Try* out = <Try*>&room[0]
    cdef uint64_t mask = (<uint64_t>1 << level) - 1
    cdef uint64_t[6] words
    cdef const FlowRecord* row
    cdef uint32_t trait
    cdef Py_ssize_t i
    cdef Py_ssize_t n = 0
    with nogil:
        for i in range(picks.shape[0]):
            row = &rows[picks[i]]
            words_of(row, True, words)
            words_of(row, False, &words[2])  # in place of the client's port
            out[n].hash = hash_of(words, 5, 0)
            if out[n].hash & mask:
                continue
            trait = traits[picks[i]]
            out[n].flow_id, out[n].ts_ns = row.flow_id, row.first_ts_ns
            out[n].host[0], out[n].host[1] = words[0], words[1]
            out[n].target[0], out[n].target[1] = words[2], words[3]
            out[n].port, out[n].version = row.server_port, row.ip_version
            if trait & REFUSED:
                out[n].outcome = WAS_REFUSED
            else:
                out[n].outcome = WAS_SILENT if trait & NEVER_ANSWERED else WAS_GIVEN_UP
                if row.client_syns > 1:
                    out[n].outcome |= WAS_REPEATED
            n += 1
    return found[: n * <Py_ssize_t>sizeof(Try)].copy().view(TRY_DTYPE)
