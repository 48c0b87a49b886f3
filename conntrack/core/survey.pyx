"""One look at every row, for all detectors: the number of its service, and what is notable about it, as bits.

Most rows are healthy and have no bit, so that each detector touches only the rows that concern it. Decides nothing:
how many of a kind are too many is for detect/. Times are compared without their sign (grid.pxd).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from .abi cimport FlowRecord
from .expand cimport END_EVICTED, END_REFUSED, END_RESET, OPEN_AT_END
from .grid cimport FAR, Grid, grid_of, tally_key
from .keys cimport hash_of, words_of
from .live cimport FLAG_ACCEPT_QUEUE, FLAG_CAPTURE_LOSS, FLAG_ONE_SIDED, FLAG_PENDING_SYN

from .abi import flow_bytes

cpdef enum Trait:
    SLOW = 1 << 0           # its handshake took long or failed
    NEVER_OPEN = 1 << 1     # a handshake was begun, and nothing shows that anybody was past it
    UNANSWERED = 1 << 2     # of these: the other end sent nothing at all
    REFUSED = 1 << 3        # the SYN was answered by a RST
    QUEUE_FULL = 1 << 4     # the SYN+ACK was sent again after the client's ACK
    HALF_CLOSED = 1 << 5    # an end took the peer's FIN and sent none for long, or a new SYN came meanwhile
    LINGERED = 1 << 6       # an end whose FIN was acknowledged waited long for the peer's
    FIN_IGNORED = 1 << 7    # an end that closed second sent its FIN again and again, and nobody acknowledged it
    ABORTED = 1 << 8        # open, then ended by a RST, with no FIN from either end
    NO_WINDOW = 1 << 9      # a window of 0 was announced
    ONE_WAY = 1 << 10       # segments of one direction only, and not for want of an answer
    GAPS = 1 << 11          # acknowledged data is not in the capture
    COPIED = 1 << 12        # frames are in the capture twice
    UNSERVED = 1 << 13      # open to the end, and the client's data arrived, but the server never sent any

cpdef enum Attempt:  # columns of the count of handshakes begun
    IN_TIME
    LATE
    TURNED_AWAY
    FAILED


cdef struct Limits:
    uint64_t wait
    uint64_t close_wait
    uint64_t linger
    uint32_t fins


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
    if row.flags & (FLAG_ACCEPT_QUEUE | FLAG_ONE_SIDED | FLAG_CAPTURE_LOSS | FLAG_PENDING_SYN):
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


def survey(
    flows, limits_ns, uint32_t fins, uint64_t step_ns, int64_t[::1] counts, int64_t[::1] services, uint32_t[::1] traits,
    uint64_t[::1] attempts, uint64_t seed, Py_ssize_t limit, uint64_t[:, ::1] keys, int32_t[::1] table,
    Py_ssize_t count,
):
    """Write each row's service and traits, and what its handshake counts for.

    Args:
        flows: FLOW_DTYPE, shape (n,).
        limits_ns: three durations: a handshake that takes longer than the first is late; CLOSE_WAIT that lasts as long
            as the second is notable; so is a wait for the peer's FIN as long as the third.
        fins: more FINs than this without an ACK are.
        step_ns: step of the grid of `attempts`.
        counts: IN OUT, as many as `keys`: connections of each service.
        services: OUT, shape (n,), number of the server's endpoint; -1 past `limit`.
        traits: OUT, shape (n,), bits of Trait.
        attempts: OUT, shape (n,), keys of a Tally by service with columns Attempt.
        seed, limit, keys, table, count: as in keys.intern, of width 3.

    Returns:
        (done, count, n_attempts, packets, payload, first, last): as many rows as `keys` and `table` had room for;
        segments and distinct payload bytes of these, and when the first of them began and the last ended.
    """
    cdef const uint8_t[::1] raw = flow_bytes(flows)
    cdef const FlowRecord* rows = <const FlowRecord*>&raw[0]
    cdef Py_ssize_t n = raw.shape[0] // <Py_ssize_t>sizeof(FlowRecord)
    cdef Py_ssize_t size = table.shape[0]
    if size < 2 or size & (size - 1) or not 0 <= 2 * count <= size or count > keys.shape[0] or keys.shape[1] != 3:
        raise ValueError(f"{count} keys do not go into {keys.shape[0]} places and {size} slots")
    if counts.shape[0] < keys.shape[0] or min(services.shape[0], traits.shape[0], attempts.shape[0]) < n or not step_ns:
        raise ValueError(f"expected room for {n} rows, and a step")
    cdef uint64_t wait_ns = limits_ns[0]
    cdef Limits limits = Limits(wait_ns, limits_ns[1], limits_ns[2], fins)
    cdef Grid grid = grid_of(step_ns)
    cdef uint64_t mask = <uint64_t>size - 1
    cdef uint64_t[3] words
    cdef uint64_t at, begun
    cdef int64_t number = -1
    cdef Py_ssize_t room = min(keys.shape[0], size // 2)
    cdef Py_ssize_t n_attempts = 0
    cdef Py_ssize_t done = n
    cdef uint64_t packets = 0
    cdef uint64_t payload = 0
    cdef int64_t first = (<uint64_t>-1) >> 1
    cdef int64_t last = -first
    cdef Py_ssize_t i
    with nogil:
        for i in range(n):
            words_of(&rows[i], False, words)
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
            if number >= 0:
                counts[number] += 1
            packets += rows[i].client_packets + rows[i].server_packets
            payload += rows[i].client_unique_bytes + rows[i].server_unique_bytes
            first = min(first, rows[i].first_ts_ns)
            last = max(last, rows[i].last_ts_ns)
            begun = min(<uint64_t>rows[i].syn_ts_ns, <uint64_t>rows[i].synack_ts_ns)
            traits[i] = _traits(&rows[i], begun, &limits)
            if begun != FAR and number >= 0:
                attempts[n_attempts] = tally_key(
                    &grid, number, begun, _outcome(&rows[i], begun, traits[i], wait_ns)
                )
                n_attempts += 1
    return done, count, n_attempts, packets, payload, first, last
