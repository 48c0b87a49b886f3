"""From a live record and its parts to a FlowRecord: what it left out because it follows from the rest is worked out.

Changes nothing; the live layout is in live.pxd, the row in abi.pxd.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from .copies cimport payload_of
from .life cimport (
    HISTORY_MASK, NO_TIME, RESET_BY, RESET_WHEN, established_ts, is_over, since_ts, synack_ts,
)
from .live cimport (
    ACKED, FIN_TAKEN, FINS_CROSSED, FLAG_FAST_OPEN, FLAG_MIDSTREAM, FLAG_ONE_SIDED, FLAG_REUSED_BY_RFC6191,
    FLAG_REUSED_TIME_WAIT, FLAG_SIMULTANEOUS_OPEN, FLAGS_EXPORTED, HEAD_COUNT, HEAD_LETTERS, MARK_DIRECTION, MARK_V6,
    REUSE_BY_RFC6191, SAW_BARE_ACK, SAW_SYN, SAW_SYN_ACK, Closing, FirstSeen, Trouble,
)

cdef enum:                      # states.ClosedBy
    BY_NEITHER = 0
    BY_BOTH = 3

cdef enum:                      # Wireshark's tcp.completeness
    HAS_SYN = 1
    HAS_SYN_ACK = 2
    HAS_ACK = 4
    HAS_DATA = 8
    HAS_FIN = 16
    HAS_RST = 32

cdef extern from *:
    """
    /* indexed by the letters of life.pxd */
    static const char conntrack_letters[33] = "?SsHhAaDdFfRrTtCcGgWwIiQq^^??????";
    static const char conntrack_head[5] = "AaDd";   /* the first three, by payload and side */
    /* what the letters from S to d say of completeness; the others nothing */
    static const unsigned char conntrack_complete[32] = {0, 1, 1, 2, 2, 4, 4, 8, 8};
    static const unsigned char conntrack_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    """
    const char LETTERS "conntrack_letters"[33]
    const char HEAD "conntrack_head"[5]
    const uint8_t COMPLETE "conntrack_complete"[32]
    const uint8_t MAPPED "conntrack_mapped"[12]


cdef inline uint64_t _at_most(uint64_t value, uint64_t limit) noexcept nogil:
    return value if value < limit else limit


cdef void put_ip(Tables* t, LiveFlow* f, int side, uint8_t* to) noexcept nogil:
    """Write the address of `side` to the 16 bytes at `to`."""
    cdef uint32_t address = f.address[side]
    if f.marks & MARK_V6:
        memcpy(to, t.pairs[f.address[0]].address + 16 * side, 16)
        return
    memcpy(to, MAPPED, 12)
    to[12] = address >> 24
    to[13] = (address >> 16) & 255
    to[14] = (address >> 8) & 255
    to[15] = address & 255


cdef int _put_history(Tables* t, LiveFlow* f, FlowRecord* out) noexcept nogil:
    # Returns what its letters say of completeness.
    cdef uint32_t count = (f.flags >> HEAD_COUNT) & 7
    cdef uint32_t code
    cdef uint32_t seen = 0
    cdef uint32_t i
    cdef int n = 0
    cdef int bits = 0
    cdef uint64_t letters
    if f.flags & SAW_SYN:
        out.history[n] = b"S"
        bits = HAS_SYN
        n += 1
    elif out.direction_evidence == 1:                   # its first sender turned out to be the server
        out.history[n] = b"^"
        n += 1
    if f.flags & SAW_SYN_ACK:
        out.history[n] = b"h"
        bits |= HAS_SYN_ACK
        n += 1
    for i in range(count):
        code = 6 - seen if i == 3 else (f.flags >> (HEAD_LETTERS + 2 * i)) & 3     # the four codes add up to 6
        seen += code
        out.history[n] = HEAD[2 * (code & 1) + (code >> 1)]
        bits |= HAS_DATA if code & 1 else HAS_ACK
        n += 1
    if f.closing:
        letters = t.closings[f.closing].history & HISTORY_MASK
        while letters & 31:
            out.history[n] = LETTERS[letters & 31]
            bits |= COMPLETE[letters & 31]
            letters >>= 5
            n += 1
    return bits


cdef int64_t _fin_taken(Tables* t, LiveFlow* f, int side) noexcept nogil:
    if not f.flags & (<uint32_t>FIN_TAKEN << side) or not f.closing:
        return NO_TIME
    if f.trouble and t.troubles[f.trouble].fin_taken_ts_ns[side] != NO_TIME:
        return t.troubles[f.trouble].fin_taken_ts_ns[side]
    return t.closings[f.closing].fin_ts_ns[side]


cdef int _closed_by(const Closing* c, int reset_by) noexcept nogil:
    cdef int64_t client = c.fin_ts_ns[0]
    cdef int64_t server = c.fin_ts_ns[1]
    if client == NO_TIME and server == NO_TIME:
        return reset_by
    if server == NO_TIME or (client != NO_TIME and client < server):
        return 1
    if client == NO_TIME or server < client:
        return 2
    return BY_BOTH


cdef inline int _completeness(const FlowRecord* out, int bits, bint bare_ack) noexcept nogil:
    # Wireshark's bits (packet-tcp.c): ACK is a segment with ACK, without SYN and payload, be it a FIN or a RST; DATA is
    # payload of a segment with ACK and without SYN, or of a SYN. The history has most, and those are there already.
    if bare_ack:
        bits |= HAS_ACK
    if out.client_fins + out.server_fins:
        bits |= HAS_FIN
    if out.client_rsts + out.server_rsts:
        bits |= HAS_RST
    if out.flags & FLAG_FAST_OPEN:
        bits |= HAS_DATA
    return bits


cdef void expand(Tables* t, LiveFlow* f, int end_reason, FlowRecord* out) noexcept nogil:
    """Write the connection `f` to `out`; `end_reason` other than OPEN_AT_END is kept as it is."""
    cdef Closing* c
    cdef Trouble* x
    cdef const FirstSeen* first = &t.firsts[f - t.flows]
    cdef int reset_by = 0
    cdef int reset_when = 0
    cdef bint over = is_over(t, f)
    cdef bint refused
    memset(out, 0, sizeof(FlowRecord))
    out.flow_id = f.origin & ((<uint64_t>1 << 48) - 1)
    out.generation = <uint32_t>(f.origin >> 48)
    put_ip(t, f, 0, out.client_ip)
    put_ip(t, f, 1, out.server_ip)
    out.ip_version = 6 if f.marks & MARK_V6 else 4
    out.client_port = f.port[0]
    out.server_port = f.port[1]
    out.client_state = f.client_state
    out.server_state = f.server_state
    out.client_state_evidence = (f.marks >> 4) & 3
    out.server_state_evidence = (f.marks >> 6) & 3
    out.direction_evidence = (f.marks >> MARK_DIRECTION) & 3
    out.flags = f.flags & FLAGS_EXPORTED
    out.tag = first.tag
    out.path = first.path
    out.client_syn_window = first.syn_window
    out.client_mss = first.mss
    out.client_ttl = first.ttl
    out.client_window_scale = first.window_scale
    out.client_options = first.options
    out.first_ts_ns = f.first_ts_ns
    out.last_ts_ns = f.last_ts_ns
    out.syn_ts_ns = f.first_ts_ns if f.flags & SAW_SYN and out.direction_evidence == 0 else NO_TIME
    out.synack_ts_ns = synack_ts(t, f)
    out.established_ts_ns = established_ts(t, f)
    out.client_since_ts_ns = since_ts(t, f, 0)
    out.server_since_ts_ns = since_ts(t, f, 1)
    out.client_fin_received_ts_ns = _fin_taken(t, f, 0)
    out.server_fin_received_ts_ns = _fin_taken(t, f, 1)
    out.client_packets = f.packets[0]
    out.server_packets = f.packets[1]
    out.client_payload_bytes = out.client_unique_bytes = payload_of(f, 0)
    out.server_payload_bytes = out.server_unique_bytes = payload_of(f, 1)
    out.client_wire_bytes = payload_of(f, 0) + f.header_bytes[0]
    out.server_wire_bytes = payload_of(f, 1) + f.header_bytes[1]
    out.client_isn = f.iss[0]
    out.server_isn = f.iss[1]
    out.client_syns = f.flags & SAW_SYN != 0
    out.server_syns = f.flags & (SAW_SYN_ACK | FLAG_SIMULTANEOUS_OPEN) != 0
    out.client_fin_ts_ns = out.server_fin_ts_ns = out.client_fin_acked_ts_ns = out.server_fin_acked_ts_ns = NO_TIME
    out.reset_ts_ns = out.closed_ts_ns = out.half_close_payload_ts_ns = out.reused_age_ns = NO_TIME
    if f.closing:
        c = &t.closings[f.closing]
        out.client_fin_ts_ns = c.fin_ts_ns[0]
        out.server_fin_ts_ns = c.fin_ts_ns[1]
        out.client_fin_acked_ts_ns = c.fin_acked_ts_ns[0]
        out.server_fin_acked_ts_ns = c.fin_acked_ts_ns[1]
        out.client_fins = c.fin_ts_ns[0] != NO_TIME
        out.server_fins = c.fin_ts_ns[1] != NO_TIME
        reset_by = (c.history >> RESET_BY) & 3
        reset_when = (c.history >> RESET_WHEN) & 3
        if reset_when:
            out.reset_ts_ns = c.since_ts_ns[reset_when - 1]
        out.client_rsts = reset_by == 1
        out.server_rsts = reset_by == 2
        out.closed_by = _closed_by(c, reset_by)
    if f.trouble:
        x = &t.troubles[f.trouble]
        out.client_wire_bytes += <uint64_t>x.header_wraps[0] << 32
        out.server_wire_bytes += <uint64_t>x.header_wraps[1] << 32
        out.client_unique_bytes -= _at_most(x.retransmitted_bytes[0], payload_of(f, 0))
        out.server_unique_bytes -= _at_most(x.retransmitted_bytes[1], payload_of(f, 1))
        out.client_duplicates = x.duplicates[0]
        out.server_duplicates = x.duplicates[1]
        out.client_gap_bytes = x.gap_bytes[0]
        out.server_gap_bytes = x.gap_bytes[1]
        out.client_retransmits = x.retransmits[0]
        out.server_retransmits = x.retransmits[1]
        out.client_out_of_order = x.out_of_order[0]
        out.server_out_of_order = x.out_of_order[1]
        out.client_zero_windows = x.zero_windows[0]
        out.server_zero_windows = x.zero_windows[1]
        out.client_syns += x.more_syns[0]
        out.server_syns += x.more_syns[1]
        out.client_fins += x.more_fins[0]
        out.server_fins += x.more_fins[1]
        out.client_rsts += x.rsts[0]
        out.server_rsts += x.rsts[1]
        out.half_close_payload_ts_ns = x.half_close_payload_ts_ns
        out.half_close_payload_bytes = x.half_close_payload_bytes
        out.reused_age_ns = x.reused_age_ns
        if x.reused_age_ns != NO_TIME:
            out.flags |= FLAG_REUSED_TIME_WAIT
            if x.marks & REUSE_BY_RFC6191:
                out.flags |= FLAG_REUSED_BY_RFC6191
        if x.marks & FINS_CROSSED:
            out.closed_by = BY_BOTH
    if over:
        out.closed_ts_ns = out.client_since_ts_ns
        if out.server_since_ts_ns > out.closed_ts_ns:
            out.closed_ts_ns = out.server_since_ts_ns
    if not f.flags & (SAW_SYN | SAW_SYN_ACK):
        out.flags |= FLAG_MIDSTREAM
    if (f.packets[1] == 0 and f.flags & ACKED) or (f.packets[0] == 0 and f.packets[1]):
        out.flags |= FLAG_ONE_SIDED
    if end_reason != OPEN_AT_END:
        out.end_reason = end_reason
    elif out.client_fin_acked_ts_ns != NO_TIME and out.server_fin_acked_ts_ns != NO_TIME and over:
        out.end_reason = END_FIN
    elif reset_by and over:
        refused = reset_by == 2 and f.flags & SAW_SYN and not f.flags & SAW_SYN_ACK
        out.end_reason = END_REFUSED if refused else END_RESET
    elif over:
        out.end_reason = END_TIMEOUT
    out.completeness = _completeness(out, _put_history(t, f, out), f.flags & SAW_BARE_ACK != 0)
