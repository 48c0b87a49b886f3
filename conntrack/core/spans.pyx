"""From when to when each end of a connection was in each state, out of the times in its row.

The tracker owns the states; this reads them back. A row keeps when each step happened (SYN, first ACK, FIN sent, taken
and acknowledged) and the last state with the time it began. RFC 9293 Figure 5 gives the states in between, and the last
state has the last word: whatever the steps say, from `*_since_ts_ns` on the end is in the state that the row names.

Times are compared without their sign, so one that is not known (int64 minimum) is later than every other. Numbers of
states come as an argument (SPAN_STATES in detect/spans.py has their order).
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from .abi cimport FlowRecord
from .expand cimport END_REPLACED, OPEN_AT_END
from .grid cimport FAR, Grid, grid_of, tally_key, tick_of
from .keys cimport hash_of, words_of
from .life cimport ASSUMED
from .live cimport FLAG_CAPTURE_LOSS, FLAG_MIDSTREAM, FLAG_PENDING_SYN

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


cdef struct End:  # one end of a row
    uint64_t opening
    uint64_t fin
    uint64_t fin_acked
    uint64_t peer_fin_taken
    uint64_t since
    uint8_t state


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


cdef Span _span
cdef SilentEnd _silent_end

SPAN_DTYPE = np.asarray(<Span[:1]> &_span).dtype
SILENT_DTYPE = np.asarray(<SilentEnd[:1]> &_silent_end).dtype


cdef struct Found:
    Span* spans
    Py_ssize_t n
    int32_t row
    uint64_t low
    uint64_t high
    uint64_t far  # the tick from which on nothing has happened


cdef inline End _client(const FlowRecord* row) noexcept nogil:
    return End(
        row.syn_ts_ns, row.client_fin_ts_ns, row.client_fin_acked_ts_ns, row.server_fin_received_ts_ns,
        row.client_since_ts_ns, row.client_state,
    )


cdef inline End _server(const FlowRecord* row) noexcept nogil:
    return End(
        row.synack_ts_ns, row.server_fin_ts_ns, row.server_fin_acked_ts_ns, row.client_fin_received_ts_ns,
        row.server_since_ts_ns, row.server_state,
    )


cdef inline void _add(Found* found, int32_t state, uint64_t begin, uint64_t end) noexcept nogil:
    if begin >= end or begin >= found.far:  # most states of a short connection hold no instant of the grid
        return
    found.spans[found.n] = Span(begin, end, found.row, state)
    found.n += 1
    found.low = min(found.low, begin)
    found.high = max(found.high, end if end < found.far else begin)


cdef inline void _add_last(
    Found* found, const Grid* grid, const FlowRecord* row, const End* end, const uint8_t* states, uint64_t counted,
    uint64_t time_wait, uint64_t last,
) noexcept nogil:
    # The last state: until the connection was closed or, when replaced or evicted, its record ended.
    cdef uint8_t state = min(end.state, <uint8_t>MOST)
    cdef uint64_t over = row.closed_ts_ns
    if counted >> state & 1 and end.since < FAR:
        if state == states[WAIT]:
            over = min(over, end.since + time_wait)
        elif over == FAR and row.end_reason != OPEN_AT_END:
            over = row.last_ts_ns
        _add(found, state, last, tick_of(grid, over))


cdef inline void _add_end(
    Found* found, const Grid* grid, const FlowRecord* row, const End* end, const uint8_t* states, uint64_t counted,
    uint64_t time_wait, bint server,
) noexcept nogil:
    # Most connections are short: where no instant lies between the first state and the last, only that one counts.
    cdef uint64_t last = tick_of(grid, end.since)
    if end.since < FAR and tick_of(grid, min(end.opening, <uint64_t>row.first_ts_ns)) == last:
        _add_last(found, grid, row, end, states, counted, time_wait, last)
        return
    cdef bint active = end.fin < end.peer_fin_taken
    cdef bint crossed = end.peer_fin_taken < end.fin_acked
    cdef uint64_t opened = row.established_ts_ns
    if row.flags & FLAG_MIDSTREAM:
        opened = min(opened, <uint64_t>row.first_ts_ns)
    cdef uint64_t finished = max(end.fin_acked, end.peer_fin_taken) if active else end.fin_acked
    cdef uint64_t established = tick_of(grid, opened)
    cdef uint64_t first = tick_of(grid, min(end.fin, end.peer_fin_taken))
    cdef uint64_t second = tick_of(grid, min(end.fin_acked, end.peer_fin_taken) if active else end.fin)
    cdef uint64_t closed = tick_of(grid, finished)
    cdef uint64_t before = min(first, last)
    _add(found, states[OPENING + server], tick_of(grid, end.opening), min(established, before))
    _add(found, states[OPEN], established, before)
    _add(found, states[FIRST_CLOSE + active], first, min(second, last))
    _add(found, states[SECOND_CLOSE + (1 + crossed if active else 0)], second, min(closed, last))
    if active and closed < last:
        _add(found, states[WAIT], closed, min(last, tick_of(grid, finished + time_wait)))
    _add_last(found, grid, row, end, states, counted, time_wait, last)


def state_spans(flows, const uint8_t[::1] states not None, uint64_t counted, uint64_t time_wait_ns, uint64_t step_ns):
    """Return the spans of time that hold an instant of a grid: (clients, servers, low, high).

    Args:
        flows: FLOW_DTYPE, shape (n,).
        states: numbers of states, in the order of SPAN_STATES.
        counted: mask of the states that a last state is counted in.
        time_wait_ns: how long TIME_WAIT lasts unless the row says less.
        step_ns: the instants are its multiples, and ticks count them.

    Returns:
        clients, servers: SPAN_DTYPE, shape (m,), those of the clients' ends and of the servers', in the order of rows.
        low, high: the lowest and highest of their ticks; low > high where there is none.
    """
    if states.shape[0] != PLACES or not step_ns:
        raise ValueError(f"expected {PLACES} states and a step, got {states.shape[0]} and {step_ns}")
    cdef const uint8_t[::1] raw = flow_bytes(flows)
    cdef const FlowRecord* rows = <const FlowRecord*>&raw[0]
    cdef Py_ssize_t total = raw.shape[0] // <Py_ssize_t>sizeof(FlowRecord)
    clients, servers = np.empty(SPANS * total + 1, SPAN_DTYPE), np.empty(SPANS * total + 1, SPAN_DTYPE)
    cdef Span[::1] of_clients = clients
    cdef Span[::1] of_servers = servers
    cdef Found client = Found(&of_clients[0], 0, 0, <uint64_t>-1, 0, FAR // step_ns)
    cdef Found server = Found(&of_servers[0], 0, 0, <uint64_t>-1, 0, FAR // step_ns)
    cdef Grid grid = grid_of(step_ns)
    cdef End end
    cdef Py_ssize_t i
    with nogil:
        for i in range(total):
            client.row = server.row = <int32_t>i
            end = _client(&rows[i])
            _add_end(&client, &grid, &rows[i], &end, &states[0], counted, time_wait_ns, False)
            end = _server(&rows[i])
            _add_end(&server, &grid, &rows[i], &end, &states[0], counted, time_wait_ns, True)
    return clients[: client.n], servers[: server.n], min(client.low, server.low), max(client.high, server.high)


def add_spans(int64_t[:, ::1] changes, const Span[::1] spans, uint64_t far, uint64_t first, uint64_t factor):
    """Add spans to `changes` (shape (states, width)): +1 where each begins, -1 where it ends, if before tick `far`.

    Column 0 is tick `first` of a grid that is `factor` times coarser than that of the spans.

    Raises:
        IndexError: a span is outside; those before it were added.
    """
    if not factor or changes.shape[0] != MOST + 1:
        raise ValueError(f"expected {MOST + 1} states and a factor, got {changes.shape[0]} and {factor}")
    cdef Grid grid = grid_of(factor)
    cdef uint64_t width = changes.shape[1]
    cdef uint64_t begin, end
    cdef Py_ssize_t i
    cdef Py_ssize_t outside = -1
    with nogil:
        for i in range(spans.shape[0]):
            begin = tick_of(&grid, spans[i].begin) - first
            end = tick_of(&grid, spans[i].end) - first if spans[i].end < far else begin
            if begin >= width or end >= width:
                outside = i
                break
            changes[spans[i].state, begin] += 1
            if spans[i].end < far:
                changes[spans[i].state, end] -= 1
    if outside >= 0:
        raise IndexError(f"span {outside} is outside of the grid")


def rows_of(const Span[::1] spans, uint64_t factor):
    """Return the rows that have a span in a grid `factor` times coarser: int64, shape (m,), ascending."""
    if not factor:
        raise ValueError("expected a factor")
    found = np.empty(spans.shape[0] + 1, np.int64)
    cdef int64_t[::1] row = found
    cdef Grid grid = grid_of(factor)
    cdef Py_ssize_t i
    cdef Py_ssize_t n = 0
    with nogil:
        for i in range(spans.shape[0]):
            if n and row[n - 1] == spans[i].row:
                continue
            if tick_of(&grid, spans[i].begin) < tick_of(&grid, spans[i].end):
                row[n] = spans[i].row
                n += 1
    return found[:n]


def span_keys(const Span[::1] spans, const int64_t[::1] groups not None, uint64_t far, uint64_t factor):
    """Pack spans as keys of a Tally: by group and state, when each began, and when it was over.

    Args:
        spans: SPAN_DTYPE, shape (n,).
        groups: group by row; below 0 where the row is to be left out.
        far: tick of the keys' grid from which on nothing has happened.
        factor: how many times coarser that grid is than that of the spans.

    Returns:
        (begun, over), uint64; fewer are over.

    Raises:
        IndexError: a row has no group.
    """
    if not factor:
        raise ValueError("expected a factor")
    begun, over = np.empty(spans.shape[0] + 1, np.uint64), np.empty(spans.shape[0] + 1, np.uint64)
    cdef uint64_t[::1] begin = begun
    cdef uint64_t[::1] end = over
    cdef Grid grid = grid_of(factor)
    cdef Py_ssize_t n_begun = 0
    cdef Py_ssize_t n_over = 0
    cdef Py_ssize_t outside = -1
    cdef int64_t group
    cdef uint64_t past
    cdef Py_ssize_t i
    with nogil:
        for i in range(spans.shape[0]):
            if not 0 <= spans[i].row < groups.shape[0]:
                outside = i
                break
            group = groups[spans[i].row]
            if group < 0:
                continue
            past = tick_of(&grid, spans[i].end)
            if tick_of(&grid, spans[i].begin) >= min(past, far):
                continue
            begin[n_begun] = tally_key(&grid, group, spans[i].begin, spans[i].state)
            n_begun += 1
            if past < far:
                end[n_over] = tally_key(&grid, group, spans[i].end, spans[i].state)
                n_over += 1
    if outside >= 0:
        raise IndexError(f"span {outside} is of a row without a group")
    return begun[:n_begun].copy(), over[:n_over].copy()  # for they are kept


cdef inline bint _time_wait(
    const FlowRecord* row, const End* side, uint8_t time_wait, uint64_t time_wait_ns, uint64_t* start, uint64_t* end,
) noexcept nogil:
    if side.state != time_wait and side.fin >= side.peer_fin_taken:
        return False
    start[0] = max(side.fin_acked, side.peer_fin_taken)
    if side.state == time_wait:
        start[0] = min(start[0], side.since)
        end[0] = min(<uint64_t>row.closed_ts_ns, side.since + time_wait_ns)
    else:
        end[0] = start[0] + time_wait_ns if side.since == FAR else side.since
    return start[0] < FAR and end[0] > start[0]


def time_wait_spans(flows, uint8_t time_wait, uint64_t time_wait_ns):
    """Return the rows whose client's end was in TIME_WAIT, and those whose server's end was.

    It begins when the own FIN is acknowledged and the peer's FIN taken, whichever is later, at the end whose FIN was
    sent before it took the peer's (RFC 9293 section 3.6). It ends with the row's next state, or after `time_wait_ns`.

    Args:
        flows: FLOW_DTYPE, shape (n,).
        time_wait: number of the state.
        time_wait_ns: how long it lasts unless the row says less.

    Returns:
        For the client's end and for the server's (rows, key, start, end):
        rows: int64, shape (m,).
        key: uint64, what `hash_words` says of the words of the service, at the client's end with those of the client
            and port 0 after them.
        start, end: uint64 nanoseconds.
    """
    cdef const uint8_t[::1] raw = flow_bytes(flows)
    cdef const FlowRecord* rows = <const FlowRecord*>&raw[0]
    cdef Py_ssize_t total = raw.shape[0] // <Py_ssize_t>sizeof(FlowRecord)
    picks = np.empty((2, total + 1), np.int64)
    times = np.empty((2, 3, total + 1), np.uint64)
    cdef int64_t[:, ::1] pick = picks
    cdef uint64_t[:, :, ::1] time = times
    cdef uint64_t[6] words
    cdef Py_ssize_t[2] n
    cdef Py_ssize_t i, m
    cdef int side
    cdef End end
    n[0] = n[1] = 0
    with nogil:
        for i in range(total):
            if rows[i].client_fin_ts_ns == rows[i].server_fin_ts_ns and <uint64_t>rows[i].client_fin_ts_ns == FAR:
                continue
            for side in range(2):
                end = _server(&rows[i]) if side else _client(&rows[i])
                m = n[side]
                if _time_wait(&rows[i], &end, time_wait, time_wait_ns, &time[side, 1, m], &time[side, 2, m]):
                    words_of(&rows[i], False, words)
                    words_of(&rows[i], True, &words[3])
                    words[5] &= ~<uint64_t>0xFFFF
                    pick[side, m] = i
                    time[side, 0, m] = hash_of(words, 3 if side else 6, 0)
                    n[side] += 1
    return [(picks[side, : n[side]], *times[side, :, : n[side]]) for side in range(2)]


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
            side = _server(&rows[picks[i]])
            n += _silent(&ends[n], &rows[picks[i]], &side, False, close_wait, age_ns)
            side = _client(&rows[picks[i]])
            n += _silent(&ends[n], &rows[picks[i]], &side, True, close_wait, age_ns)
    return found[: n * <Py_ssize_t>sizeof(SilentEnd)].copy().view(SILENT_DTYPE)
