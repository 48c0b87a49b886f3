"""One look at every row, for all that reads every row: its service, what became of it, and what is notable, as bits.

Most rows are healthy and have no bit, so that each detector touches only the rows that concern it. A row is 400 bytes,
and bringing it near takes longer than most that is asked of it: so everything is asked here, once. Decides nothing: how
many of a kind are too many is for detect/. Times are compared without their sign (grid.pxd).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from .abi cimport FlowRecord
from .ends cimport End, client_end, is_in_time_wait, server_end
from .expand cimport END_EVICTED, END_REFUSED, END_RESET, OPEN_AT_END
from .grid cimport FAR, TICK_BITS, Grid, grid_of, tally_key, tick_of
from .keys cimport hash_of, words_of
from .live cimport (
    FLAG_ACCEPT_QUEUE, FLAG_CAPTURE_LOSS, FLAG_MIDSTREAM, FLAG_ONE_SIDED, FLAG_PENDING_SYN, FLAG_REUSED_TIME_WAIT,
)

from .abi import flow_bytes

cpdef enum Attempt:  # columns of the count of handshakes begun
    IN_TIME
    LATE
    TURNED_AWAY
    FAILED

cpdef enum Fate:  # bits of a fate, above client state (4 bits), server state (4) and end reason (3)
    WAS_ESTABLISHED = 1 << 11
    WAS_UNANSWERED = 1 << 12
    WAS_MIDSTREAM = 1 << 13

cdef enum:
    HANDSHAKE_SHIFT = 20  # a float32 is ordered as its bits are: its exponent and 3 bits split an octave in 8
    WAIT_TICK_SHIFT = 28  # of a span as detect/occupancy.py keeps it, 36 bits of tick; 2 of kind, 0 here; 26 of length
    LONGEST_WAIT = (1 << 26) - 1

cpdef enum WaitColumn:  # of what is said of an end in TIME_WAIT
    KEY  # what hash_words says of the service's words; at the client's end with those of the client
    WHEN  # from when to when, on a grid: Occupancy's
    FLOW_ID
    ROW


cdef struct Limits:
    uint64_t wait
    uint64_t close_wait
    uint64_t linger
    uint64_t time_wait
    uint32_t fins
    uint8_t time_wait_state


cdef struct Wait:  # where the columns of an end in TIME_WAIT go
    uint64_t* key
    uint64_t* when
    uint64_t* flow_id
    uint64_t* row


cdef inline bint _lingered(uint64_t acked, uint64_t peer_fin_taken, uint64_t since, uint64_t least) noexcept nogil:
    # From the ACK of the own FIN to the peer's FIN, or to what else ended it; FAR - acked is long while it lasts.
    cdef uint64_t end = min(peer_fin_taken, since if since > acked else FAR)
    return acked != FAR and end >= acked + least


cdef inline bint _ignored(
    uint64_t fin, uint64_t acked, uint64_t peer_fin_taken, uint32_t fins, uint32_t least,
) noexcept nogil:
    return fin != FAR and acked == FAR and peer_fin_taken <= fin and fins > least


cdef inline uint32_t _traits(const FlowRecord* row, uint64_t begun, const Limits* limits) noexcept nogil:
    cdef uint32_t traits = 0
    cdef uint64_t established = row.established_ts_ns
    # A segment that is neither SYN nor RST proves that its sender was past the handshake (one-sided captures).
    cdef bint proven = (
        established != FAR
        or row.client_packets > <uint64_t>row.client_syns + row.client_rsts
        or row.server_packets > <uint64_t>row.server_syns + row.server_rsts
    )
    cdef uint64_t client_fin = row.client_fin_ts_ns
    cdef uint64_t server_fin = row.server_fin_ts_ns
    cdef uint64_t client_taken = row.client_fin_received_ts_ns
    cdef uint64_t server_taken = row.server_fin_received_ts_ns
    if begun != FAR:
        if established == FAR or (
            established >= begun + limits.wait and established >= <uint64_t>row.synack_ts_ns + limits.wait
        ):
            traits |= SLOW
            if not proven:
                traits |= NEVER_OPEN
                if not row.server_packets:
                    traits |= UNANSWERED
                if row.end_reason == END_REFUSED:
                    traits |= REFUSED
    if row.flags & (
        FLAG_ACCEPT_QUEUE | FLAG_ONE_SIDED | FLAG_CAPTURE_LOSS | FLAG_PENDING_SYN | FLAG_REUSED_TIME_WAIT
        | FLAG_MIDSTREAM
    ):
        if row.flags & FLAG_MIDSTREAM:
            traits |= HEADLESS
        if row.flags & FLAG_REUSED_TIME_WAIT:
            traits |= REUSED
        if row.flags & FLAG_ACCEPT_QUEUE:
            traits |= QUEUE_FULL
        if row.flags & FLAG_ONE_SIDED:
            traits |= ONE_WAY
        if row.flags & FLAG_CAPTURE_LOSS:
            traits |= GAPS
        if row.flags & FLAG_PENDING_SYN and min(client_taken, server_taken) != FAR:
            traits |= HALF_CLOSED
    if client_fin != FAR or server_fin != FAR:
        if client_taken != FAR and server_fin >= client_taken + limits.close_wait:
            traits |= HALF_CLOSED
        if server_taken != FAR and client_fin >= server_taken + limits.close_wait:
            traits |= HALF_CLOSED
        if _lingered(row.client_fin_acked_ts_ns, server_taken, row.client_since_ts_ns, limits.linger):
            traits |= LINGERED
        if _lingered(row.server_fin_acked_ts_ns, client_taken, row.server_since_ts_ns, limits.linger):
            traits |= LINGERED
        if _ignored(client_fin, row.client_fin_acked_ts_ns, server_taken, row.client_fins, limits.fins):
            traits |= FIN_IGNORED
        if _ignored(server_fin, row.server_fin_acked_ts_ns, client_taken, row.server_fins, limits.fins):
            traits |= FIN_IGNORED
    elif row.end_reason == END_RESET and proven:
        traits |= ABORTED
    if row.client_zero_windows | row.server_zero_windows:
        traits |= NO_WINDOW
    if row.client_duplicates | row.server_duplicates:
        traits |= COPIED
    if not row.server_payload_bytes and row.client_payload_bytes and established != FAR:
        if row.end_reason == OPEN_AT_END and server_fin == FAR and not row.client_retransmits:
            traits |= UNSERVED
    if row.end_reason == END_EVICTED:
        # Given up for want of memory: what had not come until then is no fault of anybody. A handshake that was begun
        # and not completed counts as such, for else a flood that fills the memory would not show.
        traits &= ~<uint32_t>(LINGERED | FIN_IGNORED | UNANSWERED)
        if max(client_fin, server_fin) == FAR:
            traits &= ~<uint32_t>HALF_CLOSED
    return traits


cdef inline int _outcome(const FlowRecord* row, uint64_t begun, uint32_t traits, uint64_t wait) noexcept nogil:
    if not traits & NEVER_OPEN:
        return LATE if FAR > <uint64_t>row.established_ts_ns >= begun + wait else IN_TIME
    return TURNED_AWAY if traits & REFUSED else FAILED


cdef inline uint64_t _fate(const FlowRecord* row) noexcept nogil:
    cdef uint64_t fate = (row.client_state & 15) | (row.server_state & 15) << 4 | (row.end_reason & 7) << 8
    if row.flags & FLAG_MIDSTREAM:
        fate |= WAS_MIDSTREAM
    if <uint64_t>row.established_ts_ns != FAR:
        return fate | WAS_ESTABLISHED
    return fate | WAS_UNANSWERED if <uint64_t>row.syn_ts_ns != FAR and not row.server_packets else fate


cdef inline uint32_t _handshake_cell(const FlowRecord* row) noexcept nogil:
    cdef float took = <float>max(row.established_ts_ns - row.syn_ts_ns, <int64_t>1)
    cdef uint32_t bits
    memcpy(&bits, &took, 4)
    return bits >> HANDSHAKE_SHIFT


cdef inline Py_ssize_t _wait_of(
    const FlowRecord* row, Py_ssize_t i, const End* end, const uint64_t* service, bint client, const Limits* limits,
    const Grid* grid, Wait* out,
) noexcept nogil:
    cdef uint64_t[6] words
    cdef uint64_t first, last
    if not is_in_time_wait(row, end, limits.time_wait_state, limits.time_wait, &first, &last):
        return 0
    if client:
        memcpy(words, service, 24)
        words_of(row, True, &words[3])
        words[5] &= ~<uint64_t>0xFFFF
        out.key[0] = hash_of(words, 6, 0)
    else:
        out.key[0] = hash_of(service, 3, 0)
    first = min(tick_of(grid, first), (<uint64_t>1 << TICK_BITS) - 1)
    last = min(tick_of(grid, last), (<uint64_t>1 << TICK_BITS) - 1)
    out.when[0] = first << WAIT_TICK_SHIFT | min(last - first, <uint64_t>LONGEST_WAIT)
    out.flow_id[0], out.row[0] = row.flow_id, <uint64_t>i
    return 1


def survey(
    flows, Py_ssize_t done, before, limits, uint64_t step_ns, uint64_t wait_step_ns, int64_t[:, ::1] sums,
    int64_t[:, ::1] states, int64_t[::1] services, uint32_t[::1] traits, uint64_t[:, ::1] counted,
    uint64_t[:, :, ::1] waits, uint64_t seed, Py_ssize_t limit, uint64_t[:, ::1] keys, int32_t[::1] table,
    Py_ssize_t count,
):
    """Write each row's service and traits, and what it counts for.

    Args:
        flows: FLOW_DTYPE, shape (n,).
        done, before: how many of them were looked at already, and how many of each were written then; 0 at first.
        limits: a handshake that takes longer than the first is late; CLOSE_WAIT that lasts as long as the second is
            notable; so is a wait for the peer's FIN as long as the third; TIME_WAIT lasts as long as the fourth unless
            the row says less (nanoseconds). More FINs than the fifth without an ACK are notable. The number of
            TIME_WAIT.
        step_ns, wait_step_ns: steps of the grids of handshakes begun, and of TIME_WAIT.
        sums: IN OUT, shape (as many as `keys`, 5): connections of each service, their payload bytes from client and
            server, and retransmits from client and server.
        states: IN OUT, shape (2, 16): how many clients' and servers' ends are in each state as their row ends.
        services: OUT, shape (n,), number of the server's endpoint; -1 past `limit`.
        traits: OUT, shape (n,), bits of Trait.
        counted: OUT, shape (3, n), keys of Tallies by service: with the time and the Attempt of each handshake begun;
            with the fate of the connection in place of a tick, which is the state of the client (4 bits) and of the
            server (4), the end reason (3) and bits of Fate; with the cell of a histogram of how long the handshake
            took, in nanoseconds with 8 cells an octave, in place of a tick, for those seen from the SYN on.
        waits: OUT, shape (2, 4, n): by WaitColumn, clients' ends that were in TIME_WAIT, and servers'.
        seed, limit, keys, table, count: as in keys.intern, of width 3.

    Returns:
        (done, count, (attempts, fates, handshakes, clients', servers' waits), packets, payload, evicted, first, last):
        as many rows as `keys` and `table` had room for, and those `done` before; how many of each were written;
        segments and distinct payload bytes of the rows looked at now, how many of them were evicted, and when the first
        began and the last ended.
    """
    cdef const uint8_t[::1] raw = flow_bytes(flows)
    cdef const FlowRecord* rows = <const FlowRecord*>&raw[0]
    cdef Py_ssize_t n = raw.shape[0] // <Py_ssize_t>sizeof(FlowRecord)
    cdef Py_ssize_t size = table.shape[0]
    if size < 2 or size & (size - 1) or not 0 <= 2 * count <= size or count > keys.shape[0] or keys.shape[1] != 3:
        raise ValueError(f"{count} keys do not go into {keys.shape[0]} places and {size} slots")
    if sums.shape[0] < keys.shape[0] or sums.shape[1] != 5 or states.shape[0] != 2 or states.shape[1] != 16:
        raise ValueError("expected sums as (services, 5) and states as (2, 16)")
    cdef Py_ssize_t room = min(min(services.shape[0], traits.shape[0]), min(counted.shape[1], waits.shape[2]))
    if room < n or counted.shape[0] != 3 or waits.shape[0] != 2 or waits.shape[1] != 4 or not 0 <= done <= n:
        raise ValueError(f"expected room for {n} rows")
    if not step_ns or not wait_step_ns:
        raise ValueError("expected steps")
    cdef Py_ssize_t[5] written = before
    if not done <= n or not 0 <= min(before) <= max(before) <= done:
        raise ValueError(f"{max(before)} of {done} rows cannot have been written")
    cdef uint64_t wait_ns = limits[0]
    cdef Limits least = Limits(wait_ns, limits[1], limits[2], limits[3], limits[4], limits[5])
    cdef Grid grid = grid_of(step_ns)
    cdef Grid ones = grid_of(1)
    cdef Grid wait_grid = grid_of(wait_step_ns)
    cdef Wait wait
    cdef uint64_t mask = <uint64_t>size - 1
    cdef uint64_t[3] words
    cdef uint64_t at, begun
    cdef int64_t number = -1
    cdef Py_ssize_t start = done
    cdef uint64_t packets = 0
    cdef uint64_t payload = 0
    cdef uint64_t evicted = 0
    cdef int64_t first = (<uint64_t>-1) >> 1
    cdef int64_t last = -first
    cdef const FlowRecord* row
    cdef End end
    cdef Py_ssize_t i
    room = min(keys.shape[0], size // 2)
    done = n
    with nogil:
        for i in range(start, n):
            row = &rows[i]
            words_of(row, False, words)
            if number < 0 or keys[number, 2] != words[2] or keys[number, 1] != words[1] or keys[number, 0] != words[0]:
                at = hash_of(words, 3, seed) & mask
                while table[at] >= 0:
                    number = table[at]
                    if keys[number, 2] == words[2] and keys[number, 1] == words[1] and keys[number, 0] == words[0]:
                        break
                    at = (at + 1) & mask
                if table[at] < 0:
                    number = -1
                    if count < limit:
                        if count == room:
                            done = i
                            break
                        memcpy(&keys[count, 0], words, sizeof(words))
                        table[at] = <int32_t>count
                        number = count
                        count += 1
            services[i] = number
            begun = min(<uint64_t>row.syn_ts_ns, <uint64_t>row.synack_ts_ns)
            traits[i] = _traits(row, begun, &least)
            packets += row.client_packets + row.server_packets
            payload += row.client_unique_bytes + row.server_unique_bytes
            evicted += row.end_reason == END_EVICTED
            first = min(first, row.first_ts_ns)
            last = max(last, row.last_ts_ns)
            states[0, row.client_state & 15] += 1
            states[1, row.server_state & 15] += 1
            if number >= 0:
                sums[number, 0] += 1
                sums[number, 1] += row.client_payload_bytes
                sums[number, 2] += row.server_payload_bytes
                sums[number, 3] += row.client_retransmits
                sums[number, 4] += row.server_retransmits
                if begun != FAR:
                    counted[0, written[0]] = tally_key(
                        &grid, number, begun, _outcome(row, begun, traits[i], wait_ns)
                    )
                    written[0] += 1
                counted[1, written[1]] = tally_key(&ones, number, _fate(row), 0)
                written[1] += 1
                if <uint64_t>row.established_ts_ns != FAR and <uint64_t>row.syn_ts_ns != FAR:
                    counted[2, written[2]] = tally_key(&ones, number, _handshake_cell(row), 0)
                    written[2] += 1
            if row.client_fin_ts_ns == row.server_fin_ts_ns and <uint64_t>row.client_fin_ts_ns == FAR:
                continue
            end = client_end(row)
            wait.key, wait.when = &waits[0, <int>KEY, written[3]], &waits[0, <int>WHEN, written[3]]
            wait.flow_id, wait.row = &waits[0, <int>FLOW_ID, written[3]], &waits[0, <int>ROW, written[3]]
            written[3] += _wait_of(row, i, &end, words, True, &least, &wait_grid, &wait)
            end = server_end(row)
            wait.key, wait.when = &waits[1, <int>KEY, written[4]], &waits[1, <int>WHEN, written[4]]
            wait.flow_id, wait.row = &waits[1, <int>FLOW_ID, written[4]], &waits[1, <int>ROW, written[4]]
            written[4] += _wait_of(row, i, &end, words, False, &least, &wait_grid, &wait)
    return done, count, written, packets, payload, evicted, first, last
