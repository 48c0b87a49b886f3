"""Signs of trouble in rows, and which rows could be among those that are shown one by one (report/chosen.py).

Reads each row once. Which rows are kept is decided there; this leaves out only what cannot be kept.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t

from .abi cimport FlowRecord
from .expand cimport END_REFUSED, END_RESET, END_TIMEOUT
from .grid cimport FAR
from .live cimport FLAG_ACCEPT_QUEUE, FLAG_CAPTURE_LOSS

from .abi import flow_bytes

cdef enum:  # bits, in the order of report.chosen.SIGNS
    UNANSWERED = 1 << 0
    REFUSED = 1 << 1
    HALF_OPEN = 1 << 2
    RESET = 1 << 3
    TIMED_OUT = 1 << 4
    IN_CLOSE_WAIT = 1 << 5
    RETRANSMITS = 1 << 6
    NO_WINDOW = 1 << 7
    QUEUE_FULL = 1 << 8
    GAPS = 1 << 9
    COMBINATIONS = 1 << 10


cdef inline int _signs(const FlowRecord* row, uint8_t close_wait) noexcept nogil:
    cdef int signs = 0
    cdef bint over = row.end_reason == END_REFUSED or row.end_reason == END_RESET
    if row.client_syns and not row.server_packets:
        signs |= UNANSWERED
    if over:
        signs |= RESET if row.end_reason == END_RESET else REFUSED
    elif <uint64_t>row.synack_ts_ns != FAR and <uint64_t>row.established_ts_ns == FAR:
        signs |= HALF_OPEN
    if row.end_reason == END_TIMEOUT:
        signs |= TIMED_OUT
    if row.client_state == close_wait or row.server_state == close_wait:
        signs |= IN_CLOSE_WAIT
    if row.client_retransmits | row.server_retransmits:
        signs |= RETRANSMITS
    if row.client_zero_windows | row.server_zero_windows:
        signs |= NO_WINDOW
    if row.flags & FLAG_ACCEPT_QUEUE:
        signs |= QUEUE_FULL
    if row.flags & FLAG_CAPTURE_LOSS:
        signs |= GAPS
    return signs


def look(
    flows, uint8_t close_wait, const uint64_t[::1] bars not None, int64_t least_ns, uint64_t least_id,
    uint16_t[::1] signs not None, int64_t[::1] candidates not None,
):
    """Write the signs of each row, and which rows could be kept.

    Args:
        flows: FLOW_DTYPE, shape (n,).
        close_wait: number of the state.
        bars: by combination of signs, shape (1024,): rows whose flow_id is lower could be kept for their signs.
        least_ns, least_id: so could, for their length, those that last longer than the first; or as long, if their
            flow_id is lower than the second.
        signs: OUT, shape (n,).
        candidates: OUT, shape (n,), row numbers, ascending.

    Returns:
        How many candidates there are.
    """
    cdef const uint8_t[::1] raw = flow_bytes(flows)
    cdef Py_ssize_t n = raw.shape[0] // <Py_ssize_t>sizeof(FlowRecord)
    cdef const FlowRecord* rows = <const FlowRecord*>&raw[0] if n else NULL
    if bars.shape[0] != COMBINATIONS or min(signs.shape[0], candidates.shape[0]) < n:
        raise ValueError(f"expected {COMBINATIONS} bars, and room for {n} rows")
    cdef Py_ssize_t i
    cdef Py_ssize_t count = 0
    cdef int64_t lasted
    with nogil:
        for i in range(n):
            signs[i] = _signs(&rows[i], close_wait)
            lasted = rows[i].last_ts_ns - rows[i].first_ts_ns
            if (
                rows[i].flow_id < bars[signs[i]] or lasted > least_ns
                or (lasted == least_ns and rows[i].flow_id < least_id)
            ):
                candidates[count] = i
                count += 1
    return count
