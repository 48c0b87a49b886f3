"""From when to when each end of a connection was in each state, out of the times in its row.

The tracker owns the states; this reads them back. A row keeps when each step happened (SYN, first ACK, FIN sent, taken
and acknowledged) and the last state with the time it began. RFC 9293 Figure 5 gives the states in between, and the last
state has the last word: whatever the steps say, from `*_since_ts_ns` on the end is in the state that the row names.

Times are compared without their sign, so one that is not known (int64 minimum) is later than every other. Numbers of
states come as an argument (SPAN_STATES in detect/spans.py has their order).
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from .abi cimport FlowRecord
from .ends cimport End, client_end, server_end
from .expand cimport END_REPLACED, OPEN_AT_END
from .grid cimport FAR, Grid, grid_of, tally_key, tick_of
from .keys cimport words_of
from .life cimport ASSUMED
from .live cimport FLAG_CAPTURE_LOSS, FLAG_MIDSTREAM, FLAG_PENDING_SYN
from .survey cimport NEVER_OPEN

from .abi import flow_bytes

cdef enum:  # places in `states`
    OPENING = 0  # the client's, then the server's
    OPEN = 2
    FIRST_CLOSE = 3  # of the end that closes second, then of the one that closes first
    SECOND_CLOSE = 5  # of the end that closes second; of the one that closes first, then if the FINs crossed
    WAIT = 8
    PLACES = 9
    MOST = 10  # the highest state there is
    SPANS = 6  # of an end, at most


cdef struct Span:  # an end in a state, in ticks
    uint64_t begin
    uint64_t end   # first tick past it, FAR // step or more when there is none
    int32_t row
    int32_t state


cdef struct SilentEnd:  # an end that is silent in CLOSE_WAIT
    uint64_t subject[3]  # endpoint words (keys.pyx) of the service, or of the client's host (port 0)
    uint64_t peer[2]     # address words of the other end
    uint64_t flow_id
    uint64_t start       # the peer's FIN taken
    uint64_t quiet       # last sign of the application: that, or the last payload since
    uint64_t end         # CLOSE_WAIT left, FAR while in it
    uint8_t is_client
    uint8_t never_sent   # not one byte from this end on the whole connection
    uint8_t spoke        # payload since the peer's FIN
    uint8_t stale        # the client's new SYN came onto the 4-tuple
    uint8_t midstream    # not seen from its start, or its state is assumed
    uint8_t pad0[3]


cdef struct Lingering:  # an end that waited for its peer's FIN
    uint64_t subject[4]  # endpoint words of the service, or of the client's host (port 0); 1 for a client's end
    uint64_t flow_id
    int64_t start        # its own FIN acknowledged, or the last payload since
    int64_t end          # half of FAR while it lasts


cdef Span _span
cdef Lingering _lingering
cdef SilentEnd _silent_end

SPAN_DTYPE = np.asarray(<Span[:1]> &_span).dtype
LINGERING_DTYPE = np.asarray(<Lingering[:1]> &_lingering).dtype
SILENT_DTYPE = np.asarray(<SilentEnd[:1]> &_silent_end).dtype


cdef struct States:
    const uint8_t* numbers
    uint64_t counted
    uint64_t time_wait


cdef struct Found:  # spans of one row
    Span[2 * SPANS] spans
    int n
    uint64_t low
    uint64_t high
    uint64_t far  # the tick from which on nothing has happened


cdef inline void _add(Found* found, int32_t state, uint64_t begin, uint64_t end) noexcept nogil:
    if begin >= end or begin >= found.far:  # most states of a short connection hold no instant of the grid
        return
    found.spans[found.n].begin, found.spans[found.n].end, found.spans[found.n].state = begin, end, state
    found.n += 1
    found.low = min(found.low, begin)
    found.high = max(found.high, end if end < found.far else begin)


cdef inline void _add_last(
    Found* found, const Grid* grid, const FlowRecord* row, const End* end, const States* states, uint64_t last,
) noexcept nogil:
    # The last state: until the connection was closed or, when replaced or evicted, its record ended.
    cdef uint8_t state = min(end.state, <uint8_t>MOST)
    cdef uint64_t over = row.closed_ts_ns
    if states.counted >> state & 1 and end.since < FAR:
        if state == states.numbers[WAIT]:
            over = min(over, end.since + states.time_wait)
        elif over == FAR and row.end_reason != OPEN_AT_END:
            over = row.last_ts_ns
        _add(found, state, last, tick_of(grid, over))


cdef inline void _add_end(
    Found* found, const Grid* grid, const FlowRecord* row, const End* end, const States* states, uint64_t first,
    uint64_t established, bint closing, bint server,
) noexcept nogil:
    # `first` and `established` are ticks: of the first segment, and of when both ends were open.
    cdef const uint8_t* numbers = states.numbers
    cdef uint64_t last = tick_of(grid, end.since)
    cdef uint64_t opening = tick_of(grid, end.opening)
    # Most connections are short: where no instant lies between the first state and the last, only that one counts.
    if end.since < FAR and min(opening, first) == last:
        _add_last(found, grid, row, end, states, last)
        return
    if not closing:
        _add(found, numbers[OPENING + server], opening, min(established, last))
        _add(found, numbers[OPEN], established, last)
        _add_last(found, grid, row, end, states, last)
        return
    cdef bint active = end.fin < end.peer_fin_taken
    cdef bint crossed = end.peer_fin_taken < end.fin_acked
    cdef uint64_t fin = tick_of(grid, end.fin)
    cdef uint64_t fin_acked = tick_of(grid, end.fin_acked)
    cdef uint64_t taken = tick_of(grid, end.peer_fin_taken)
    cdef uint64_t closed = max(fin_acked, taken) if active else fin_acked
    cdef uint64_t begun = min(fin, taken)
    cdef uint64_t second = min(fin_acked, taken) if active else fin
    _add(found, numbers[OPENING + server], opening, min(established, min(begun, last)))
    _add(found, numbers[OPEN], established, min(begun, last))
    _add(found, numbers[FIRST_CLOSE + active], begun, min(second, last))
    _add(found, numbers[SECOND_CLOSE + (1 + crossed if active else 0)], second, min(closed, last))
    if active and closed < last:
        fin = tick_of(grid, max(end.fin_acked, end.peer_fin_taken) + states.time_wait)
        _add(found, numbers[WAIT], closed, min(last, fin))
    _add_last(found, grid, row, end, states, last)


def count_states(
    flows, const uint8_t[::1] states not None, uint64_t counted, uint64_t time_wait_ns, uint64_t step_ns,
    int64_t[:, ::1] changes, uint64_t first, uint64_t factor, const int64_t[::1] services not None,
    const uint32_t[::1] traits not None, bint want_proven, bint want_unproven, uint64_t[:, ::1] keys not None,
    uint8_t[::1] clients not None,
):
    """Add every state of every end to `changes`: +1 at the first instant that it holds, -1 at the first past it.

    Args:
        flows: FLOW_DTYPE, shape (n,).
        states: numbers of states, in the order of SPAN_STATES.
        counted: mask of the states that a last state is counted in.
        time_wait_ns: how long TIME_WAIT lasts unless the row says less.
        step_ns: the instants are its multiples, and ticks count them.
        changes: IN OUT, shape (22, width): by state, clients' ends and then servers'; by tick from `first` on.
        factor: how many times coarser the grid of the rest is, whose instants few spans hold.
        services: numbers of the servers, shape (n,); negative where there is none.
        traits: bits of survey.Trait, shape (n,).
        want_proven, want_unproven: of which clients spans are wanted: those that got past a handshake, those that did
            not.
        keys: OUT, shape (2, 6 n): when servers' ends entered and left states, as keys of Tallies by service and state.
        clients: OUT, octets of SPAN_DTYPE, shape (6 n,): spans of clients' ends, in the order of rows.

    Returns:
        (done, n_begun, n_over, n_clients, low, high): stops before a row that does not go into `changes`; how many keys
        and spans were written, and the lowest and highest tick of that row.
    """
    if states.shape[0] != PLACES or not step_ns or not factor or changes.shape[0] != 2 * (MOST + 1):
        raise ValueError(f"expected {PLACES} states, a step, a factor and {2 * (MOST + 1)} rows of changes")
    cdef const uint8_t[::1] raw = flow_bytes(flows)
    cdef const FlowRecord* rows = <const FlowRecord*>&raw[0]
    cdef Py_ssize_t total = raw.shape[0] // <Py_ssize_t>sizeof(FlowRecord)
    cdef Py_ssize_t room = min(keys.shape[1], clients.shape[0] // <Py_ssize_t>sizeof(Span))
    if not total:
        return 0, 0, 0, 0, 0, 0
    if min(services.shape[0], traits.shape[0]) < total or keys.shape[0] != 2 or room < SPANS * total:
        raise ValueError(f"expected services and traits of {total} rows, and room for {SPANS * total} keys and spans")
    cdef Span* of_clients = <Span*>&clients[0]
    cdef bint wanted
    cdef uint64_t width = changes.shape[1]
    cdef States asked = States(&states[0], counted, time_wait_ns)
    cdef Grid grid = grid_of(step_ns)
    cdef Grid coarse = grid_of(factor)
    cdef Found found
    found.far = FAR // step_ns
    cdef Grid ones = grid_of(1)
    cdef Py_ssize_t n_clients = 0
    cdef Py_ssize_t n_begun = 0
    cdef Py_ssize_t n_over = 0
    cdef uint64_t coarse_far = FAR // step_ns // factor
    cdef Py_ssize_t done = total
    cdef uint64_t begin, end, established
    cdef const FlowRecord* row
    cdef End side
    cdef bint closing
    cdef int k, split
    cdef Py_ssize_t i
    with nogil:
        for i in range(total):
            row = &rows[i]
            found.n, found.low, found.high = 0, <uint64_t>-1, 0
            begin = tick_of(&grid, row.first_ts_ns)
            established = tick_of(&grid, row.established_ts_ns)
            if row.flags & FLAG_MIDSTREAM:
                established = min(established, begin)
            closing = min(
                min(<uint64_t>row.client_fin_ts_ns, <uint64_t>row.server_fin_ts_ns),
                min(<uint64_t>row.client_fin_received_ts_ns, <uint64_t>row.server_fin_received_ts_ns),
            ) != FAR
            side = client_end(row)
            _add_end(&found, &grid, row, &side, &asked, begin, established, closing, False)
            split = found.n
            side = server_end(row)
            _add_end(&found, &grid, row, &side, &asked, begin, established, closing, True)
            if not found.n:
                continue
            if found.low < first or found.high - first >= width:
                done = i
                break
            wanted = want_unproven if traits[i] & NEVER_OPEN else want_proven
            for k in range(found.n):
                begin, end = found.spans[k].begin, found.spans[k].end
                changes[found.spans[k].state + (MOST + 1 if k >= split else 0), begin - first] += 1
                if end < found.far:
                    changes[found.spans[k].state + (MOST + 1 if k >= split else 0), end - first] -= 1
                if not wanted if k < split else services[i] < 0:
                    continue
                begin, end = tick_of(&coarse, begin), tick_of(&coarse, end)
                if begin >= end:
                    continue
                if k < split:
                    of_clients[n_clients] = Span(begin, end, <int32_t>i, found.spans[k].state)
                    n_clients += 1
                else:
                    keys[0, n_begun] = tally_key(&ones, services[i], begin, found.spans[k].state)
                    n_begun += 1
                    if end < coarse_far:
                        keys[1, n_over] = tally_key(&ones, services[i], end, found.spans[k].state)
                        n_over += 1
    return done, n_begun, n_over, n_clients, found.low, found.high


def rows_of(const Span[::1] spans):
    """Return the rows that have a span: int64, shape (m,), ascending."""
    found = np.empty(spans.shape[0] + 1, np.int64)
    cdef int64_t[::1] row = found
    cdef Py_ssize_t i
    cdef Py_ssize_t n = 0
    with nogil:
        for i in range(spans.shape[0]):
            if not n or row[n - 1] != spans[i].row:
                row[n] = spans[i].row
                n += 1
    return found[:n]


def span_keys(const Span[::1] spans, const int64_t[::1] groups not None, uint64_t far):
    """Pack spans as keys of a Tally: by group and state, when each began, and when it was over.

    Args:
        spans: SPAN_DTYPE, shape (n,).
        groups: group by row; below 0 where the row is to be left out.
        far: the tick from which on nothing has happened.

    Returns:
        (begun, over), uint64; fewer are over.

    Raises:
        IndexError: a row has no group.
    """
    begun, over = np.empty(spans.shape[0] + 1, np.uint64), np.empty(spans.shape[0] + 1, np.uint64)
    cdef uint64_t[::1] begin = begun
    cdef uint64_t[::1] end = over
    cdef Grid ones = grid_of(1)
    cdef Py_ssize_t n_begun = 0
    cdef Py_ssize_t n_over = 0
    cdef Py_ssize_t outside = -1
    cdef int64_t group
    cdef Py_ssize_t i
    with nogil:
        for i in range(spans.shape[0]):
            if not 0 <= spans[i].row < groups.shape[0]:
                outside = i
                break
            group = groups[spans[i].row]
            if group < 0:
                continue
            begin[n_begun] = tally_key(&ones, group, spans[i].begin, spans[i].state)
            n_begun += 1
            if spans[i].end < far:
                end[n_over] = tally_key(&ones, group, spans[i].end, spans[i].state)
                n_over += 1
    if outside >= 0:
        raise IndexError(f"span {outside} is of a row without a group")
    return begun[:n_begun], over[:n_over]


cdef inline bint _silent(
    SilentEnd* out, const FlowRecord* row, const End* side, bint client, uint8_t close_wait, uint64_t age,
) noexcept nogil:
    cdef uint64_t[3] peer
    cdef uint64_t start = side.peer_fin_taken
    cdef bint replaced = row.end_reason == END_REPLACED  # a new connection was let in: this one was over, unseen
    cdef bint stale = not client and not replaced and row.flags & FLAG_PENDING_SYN and side.fin == FAR
    if row.flags & FLAG_CAPTURE_LOSS:
        stale = False  # the SYN+ACK that let the new connection in may be what the capture lost
    if start == FAR or side.fin < start + age:
        return False
    if row.client_gap_bytes if client else row.server_gap_bytes:
        return False  # the peer acknowledged more than the capture has: what is missing may be its FIN
    if <uint64_t>(row.server_fin_acked_ts_ns if client else row.client_fin_acked_ts_ns) == FAR:
        return False  # nothing shows that it took the FIN
    cdef uint64_t end = min(side.fin, min(<uint64_t>row.reset_ts_ns, <uint64_t>row.closed_ts_ns))
    if replaced:
        end = min(end, <uint64_t>row.last_ts_ns)
    if side.state != close_wait:
        end = min(end, side.since)
    cdef uint64_t quiet = row.half_close_payload_ts_ns
    if quiet == FAR or quiet < start:
        quiet = start
    if end < quiet + age and not stale:
        return False
    words_of(row, client, out.subject)
    words_of(row, not client, peer)
    if client:
        out.subject[2] &= ~<uint64_t>0xFFFF  # the subject is the host
    out.peer[0], out.peer[1] = peer[0], peer[1]
    out.flow_id, out.start, out.quiet, out.end = row.flow_id, start, quiet, end
    out.is_client = client
    out.never_sent = (row.client_payload_bytes if client else row.server_payload_bytes) == 0
    out.spoke = quiet > start
    out.stale = stale
    out.midstream = (
        row.flags & FLAG_MIDSTREAM != 0
        or (row.client_state_evidence if client else row.server_state_evidence) == ASSUMED
    )
    return True


def silent_ends(flows, const int64_t[::1] picks not None, uint8_t close_wait, uint64_t age_ns):
    """Return the ends that sent nothing in CLOSE_WAIT for `age_ns`, or are in it: SILENT_DTYPE, shape (k,).

    A server's end that the client's next SYN found in it is among them whatever its age.

    Args:
        flows: FLOW_DTYPE, shape (n,).
        picks: which rows, int64, shape (m,).
        close_wait: number of the state.
        age_ns: how long silence must last.
    """
    cdef const uint8_t[::1] raw = flow_bytes(flows)
    cdef const FlowRecord* rows = <const FlowRecord*>&raw[0]
    cdef Py_ssize_t total = raw.shape[0] // <Py_ssize_t>sizeof(FlowRecord)
    if picks.shape[0] and not 0 <= np.min(picks) <= np.max(picks) < total:
        raise IndexError(f"picks are not all in the {total} rows")
    found = np.empty((2 * picks.shape[0] + 1) * sizeof(SilentEnd), np.uint8)
    cdef uint8_t[::1] room = found
    cdef SilentEnd* ends = <SilentEnd*>&room[0]
    cdef Py_ssize_t i
    cdef Py_ssize_t n = 0
    cdef End side
    with nogil:
        for i in range(picks.shape[0]):
            side = server_end(&rows[picks[i]])
            n += _silent(&ends[n], &rows[picks[i]], &side, False, close_wait, age_ns)
            side = client_end(&rows[picks[i]])
            n += _silent(&ends[n], &rows[picks[i]], &side, True, close_wait, age_ns)
    return found[: n * <Py_ssize_t>sizeof(SilentEnd)].copy().view(SILENT_DTYPE)


cdef inline bint _lingers(
    Lingering* out, const FlowRecord* row, const End* side, bint client, uint64_t age,
) noexcept nogil:
    cdef uint64_t end = min(side.peer_fin_taken, min(<uint64_t>row.closed_ts_ns, FAR >> 1))
    cdef uint64_t start = side.fin_acked
    if start == FAR:
        return False
    if row.server_gap_bytes if client else row.client_gap_bytes:
        return False  # the end acknowledged more than the capture has: what is missing may be the peer's FIN
    if row.flags & FLAG_MIDSTREAM and not (row.server_payload_bytes if client else row.client_payload_bytes):
        return False  # the peer may have sent its FIN before the capture began: no data of its own shows otherwise
    if side.since > start:
        end = min(end, side.since)
    # A peer that still sends is no fault: the half-close is in use.
    if <uint64_t>row.half_close_payload_ts_ns != FAR:
        start = max(start, <uint64_t>row.half_close_payload_ts_ns)
    if end < start + age:
        return False
    words_of(row, client, out.subject)
    if client:
        out.subject[2] &= ~<uint64_t>0xFFFF
    out.subject[3] = client
    out.flow_id, out.start, out.end = row.flow_id, <int64_t>start, <int64_t>end
    return True


def lingering_ends(flows, const int64_t[::1] picks not None, uint64_t age_ns):
    """Return the ends that waited for their peer's FIN for `age_ns`: LINGERING_DTYPE, shape (k,).

    Args:
        flows: FLOW_DTYPE, shape (n,).
        picks: which rows, int64, shape (m,).
        age_ns: how long, from the ACK of the own FIN or the last payload after it.
    """
    cdef const uint8_t[::1] raw = flow_bytes(flows)
    cdef const FlowRecord* rows = <const FlowRecord*>&raw[0]
    cdef Py_ssize_t total = raw.shape[0] // <Py_ssize_t>sizeof(FlowRecord)
    if picks.shape[0] and not 0 <= np.min(picks) <= np.max(picks) < total:
        raise IndexError(f"picks are not all in the {total} rows")
    found = np.empty((2 * picks.shape[0] + 1) * sizeof(Lingering), np.uint8)
    cdef uint8_t[::1] room = found
    cdef Lingering* ends = <Lingering*>&room[0]
    cdef Py_ssize_t i
    cdef Py_ssize_t n = 0
    cdef End side
    with nogil:
        for i in range(picks.shape[0]):
            side = client_end(&rows[picks[i]])
            n += _lingers(&ends[n], &rows[picks[i]], &side, True, age_ns)
            side = server_end(&rows[picks[i]])
            n += _lingers(&ends[n], &rows[picks[i]], &side, False, age_ns)
    return found[: n * <Py_ssize_t>sizeof(Lingering)].copy().view(LINGERING_DTYPE)
