# One end of a row by itself: its own steps and what it took of the peer's. Times are compared without their sign
# (grid.pxd), so one that is not known is later than every other.
from libc.stdint cimport uint8_t, uint64_t

from .abi cimport FlowRecord
from .grid cimport FAR


cdef struct End:
    uint64_t opening
    uint64_t fin
    uint64_t fin_acked
    uint64_t peer_fin_taken
    uint64_t since
    uint8_t state


cdef inline End client_end(const FlowRecord* row) noexcept nogil:
    return End(
        row.syn_ts_ns, row.client_fin_ts_ns, row.client_fin_acked_ts_ns, row.server_fin_received_ts_ns,
        row.client_since_ts_ns, row.client_state,
    )


cdef inline End server_end(const FlowRecord* row) noexcept nogil:
    return End(
        row.synack_ts_ns, row.server_fin_ts_ns, row.server_fin_acked_ts_ns, row.client_fin_received_ts_ns,
        row.server_since_ts_ns, row.server_state,
    )


cdef inline bint is_in_time_wait(
    const FlowRecord* row, const End* side, uint8_t time_wait, uint64_t time_wait_ns, uint64_t* start, uint64_t* end,
) noexcept nogil:
    # It begins when the own FIN is acknowledged and the peer's FIN taken, whichever is later, at the end whose FIN was
    # sent before it took the peer's (RFC 9293 section 3.6). It ends with the row's next state, or after time_wait_ns.
    if side.state != time_wait and side.fin >= side.peer_fin_taken:
        return False
    start[0] = max(side.fin_acked, side.peer_fin_taken)
    if side.state == time_wait:
        start[0] = min(start[0], side.since)
        end[0] = min(<uint64_t>row.closed_ts_ns, side.since + time_wait_ns)
    else:
        end[0] = start[0] + time_wait_ns if side.since == FAR else side.since
    return start[0] < FAR and end[0] > start[0]
