# Short ways for the segments that nearly every connection has: the next data or ACK in order, the three of a clean
# handshake, the FINs of a clean close and their ACKs. Each does at once what the judges (judge.pyx, handshake.pyx,
# stream.pyx) come to by way of every case, and leaves alone whatever is not exactly its own: then False, nothing was
# done, and the judges decide. States come from the table as everywhere; lanes_fit() says whether the table's handshake
# is the one meant here. A tracker without lanes gives the same bytes (tests/property/test_lanes.py).
#
# All of them ask that the connection has no Trouble, that the segment can be no copy by its id (copies.pxd) and wraps
# no counter; where timers run, that none can have run out, and that the segment is not late.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from .abi cimport SEGMENT_HAS_TIMESTAMP, SegmentRecord
from .copies cimport FULL, ID_SHIFT, RECENT_IDS, behind_last, id_of, payload_of
from .life cimport (
    ACTIVE_OPEN, EVENT_ACK_OF_FIN, EVENT_ACK_OF_SYN, EVENT_FIN, EVENT_SYN, EVENT_SYN_ACK, IGNORE, INVALID, LETTER_FIN,
    LINGERS, MARK_EVIDENCE_SHIFT, N_EVENTS, N_STATES, NO_TIME, OPENING, OVER, PASSIVE, RECEIVED, SENT, STEADY,
    add_head_letter, add_letter, closing_of, delay_ns, delay_of, states_of,
)
from .live cimport (
    ACKED, FIN_TAKEN, FLAG_ACCEPT_QUEUE, FLAG_FAST_OPEN, FLAG_SIMULTANEOUS_OPEN, HEAD_COUNT, KNOWN, NO_DELAY,
    SAW_BARE_ACK, SAW_SYN, SAW_SYN_ACK, SAW_TIMESTAMP, Closing, FirstSeen, LiveFlow, Tables,
)
from .seqnum cimport seq_lt
from .sides cimport LARGEST_SCALE, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, note_timestamp, set_scale

cdef extern from *:
    """
    #define CONNTRACK_NO_TIMER (INT64_C(1) << 62)
    """
    int64_t NO_TIMER "CONNTRACK_NO_TIMER"

cdef enum:
    OPENED = SAW_SYN | SAW_SYN_ACK | FLAG_FAST_OPEN | FLAG_SIMULTANEOUS_OPEN | FLAG_ACCEPT_QUEUE


cdef inline uint8_t next_state(const Tables* t, int role, int event, uint8_t state) noexcept nogil:
    # As life.move reads it: the state itself where the event moves nothing, INVALID where no rule speaks of it.
    cdef uint8_t to = t.table[(role * N_EVENTS + event) * N_STATES + state]
    return state if to == IGNORE else to


cdef inline int64_t _least(int64_t a, int64_t b) noexcept nogil:
    # Of two timers, of which a negative one is none.
    return b if a < 0 or 0 <= b < a else a


cdef inline bint lanes_fit(Tables* t) noexcept nogil:
    """Find the states of a clean handshake in the table; whether their traits are what the lanes expect."""
    cdef int i
    cdef uint8_t client = t.start[0]
    cdef uint8_t server = t.start[1]
    cdef uint8_t asking = next_state(t, SENT, EVENT_SYN, client)
    cdef uint8_t answering = next_state(t, SENT, EVENT_SYN_ACK, server)
    cdef uint8_t open = next_state(t, SENT, EVENT_ACK_OF_SYN, asking)
    t.listening, t.asking, t.answering, t.open = server, asking, answering, open
    if client >= N_STATES or server >= N_STATES or asking >= N_STATES or answering >= N_STATES or open >= N_STATES:
        return False
    t.asking_ns = _least(t.timeouts[asking], NO_TIMER)
    t.answering_ns = _least(_least(t.timeouts[answering], t.synack_rto_ns if t.synack_rto_ns else -1), NO_TIMER)
    t.closing_ns = NO_TIMER
    for i in range(N_STATES):
        if not t.traits[i] & (OPENING | PASSIVE | OVER | STEADY):
            t.closing_ns = _least(t.timeouts[i], t.closing_ns)
    return (
        t.traits[client] & OVER and not t.traits[client] & ACTIVE_OPEN and t.traits[server] & PASSIVE
        and not t.traits[server] & (OPENING | OVER | STEADY)
        and t.traits[asking] & (OPENING | ACTIVE_OPEN | PASSIVE | OVER) == OPENING | ACTIVE_OPEN
        and t.traits[answering] & (OPENING | ACTIVE_OPEN | PASSIVE | OVER) == OPENING
        and t.traits[open] & STEADY and not t.traits[open] & (OPENING | PASSIVE | OVER)
        and next_state(t, RECEIVED, EVENT_SYN, server) == server
        and next_state(t, RECEIVED, EVENT_SYN_ACK, asking) == asking
        and next_state(t, RECEIVED, EVENT_ACK_OF_SYN, answering) == open
    )


cdef inline bint is_next(const LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """Whether `s`, which has an ACK, is the next in order of a side that is known, but for what it acknowledges."""
    cdef uint32_t header = s.wire_bytes - s.payload_bytes
    if s.seq != f.snd_nxt[side] or s.window == 0 or not f.flags & (KNOWN << side):
        return False
    if s.options & SEGMENT_HAS_TIMESTAMP and f.flags & (SAW_TIMESTAMP << side) and seq_lt(s.tsval, f.ts_recent[side]):
        return False
    if f.sent[side] & FULL or f.packets[side] == <uint32_t>0xFFFFFFFF:
        return False
    return s.wire_bytes >= s.payload_bytes and f.header_bytes[side] + header >= header


cdef inline void count_next(LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """Take in what is_next() has let pass."""
    note_timestamp(f, s, side)
    f.snd_nxt[side] += s.payload_bytes
    f.ack[side] = s.ack
    f.window[side] = s.window
    f.packets[side] += 1
    f.sent[side] = payload_of(f, side) + s.payload_bytes | <uint64_t>id_of(f, s, side) << ID_SHIFT
    f.header_bytes[side] += s.wire_bytes - s.payload_bytes
    if s.ts_ns > f.last_ts_ns:
        f.last_ts_ns = s.ts_ns


cdef inline bint step_plain(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """Step the next data or ACK of an established connection; False if it is not that, and then nothing was done."""
    cdef uint32_t behind
    if not t.traits[f.client_state] & t.traits[f.server_state] & STEADY or f.trouble | f.closing:
        return False
    if s.flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK) != TCP_ACK or not f.flags & (ACKED << side):
        return False
    if seq_lt(s.ack, f.ack[side]) or seq_lt(f.snd_nxt[1 - side], s.ack) or not is_next(f, s, side):
        return False
    behind = behind_last(f, s, side)
    if behind < RECENT_IDS and (behind or s.ip_id):     # a duplicated frame, perhaps, or a late original
        return False
    count_next(f, s, side)
    if (f.flags >> HEAD_COUNT) & 7 != 4:
        add_head_letter(t, f, side, s.payload_bytes != 0)
    return True


cdef inline void _begin_side(LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    # The first segment of a side, which is its SYN without data.
    cdef uint32_t scale = 0 if s.window_scale == 255 else s.window_scale
    f.flags |= <uint32_t>KNOWN << side
    f.iss[side] = s.seq
    f.snd_nxt[side] = s.seq + 1
    set_scale(f, side, scale if scale < LARGEST_SCALE else LARGEST_SCALE)
    f.window[side] = s.window
    if s.options & SEGMENT_HAS_TIMESTAMP:
        f.ts_recent[side] = s.tsval
        f.flags |= SAW_TIMESTAMP << side
    f.sent[side] = <uint64_t>id_of(f, s, side) << ID_SHIFT
    f.packets[side] = 1
    f.header_bytes[side] = s.wire_bytes


cdef inline void _see(LiveFlow* f, int side, uint8_t state) noexcept nogil:
    # Evidence SEEN is 0.
    states_of(f)[side] = state
    f.marks &= <uint8_t>~(3 << (MARK_EVIDENCE_SHIFT + 2 * side))


cdef inline bint _open_syn(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """The SYN that a connection begins with."""
    cdef FirstSeen* first = &t.firsts[f - t.flows]
    if side or f.packets[0] | f.packets[1] or s.payload_bytes or behind_last(f, s, side) < RECENT_IDS:
        return False
    _begin_side(f, s, side)
    f.flags |= SAW_SYN
    first.syn_window = s.window
    first.mss = s.mss
    first.syn_id = s.ip_id
    first.ttl = s.ttl
    first.window_scale = s.window_scale
    first.options = s.options
    _see(f, side, t.asking)
    return True


cdef inline bint _open_syn_ack(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """The first answer to it."""
    cdef int64_t delay = s.ts_ns - f.first_ts_ns
    cdef uint32_t after = delay_of(delay)
    if side == 0 or f.client_state != t.asking or f.server_state != t.listening:
        return False
    if f.flags & (OPENED | 3 * KNOWN | 3 * ACKED) != (SAW_SYN | KNOWN) or f.packets[1] or s.payload_bytes:
        return False
    if s.ack != f.iss[0] + 1 or s.ack != f.snd_nxt[0] or f.synack_after != <uint32_t>NO_DELAY:
        return False
    if after == <uint32_t>NO_DELAY:
        return False
    if f.closing or delay > t.asking_ns or behind_last(f, s, side) < RECENT_IDS:
        return False
    _begin_side(f, s, side)
    if s.window_scale == 255:
        set_scale(f, 0, 0)
    f.synack_after = after
    f.flags |= SAW_SYN_ACK | (ACKED << 1)
    f.ack[1] = s.ack
    f.last_ts_ns = s.ts_ns
    _see(f, side, t.answering)
    return True


cdef inline bint _open_ack(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """The ACK that completes the handshake."""
    cdef int64_t delay = s.ts_ns - f.first_ts_ns
    cdef uint32_t after = delay_of(delay)
    if side or f.client_state != t.asking or f.server_state != t.answering or s.payload_bytes:
        return False
    if f.flags & (OPENED | 3 * KNOWN | 3 * ACKED) != (SAW_SYN | SAW_SYN_ACK | 3 * KNOWN | ACKED << 1):
        return False
    if s.ack != f.iss[1] + 1 or s.ack != f.snd_nxt[1] or f.ack[1] != s.seq or behind_last(f, s, side) < RECENT_IDS:
        return False
    if f.established_after != <uint32_t>NO_DELAY or after == <uint32_t>NO_DELAY or not is_next(f, s, side):
        return False
    if delay > t.asking_ns or f.synack_after == <uint32_t>NO_DELAY:
        return False
    if delay - delay_ns(f.synack_after) > t.answering_ns:
        return False
    count_next(f, s, side)
    f.flags |= ACKED
    f.established_after = after
    _see(f, 0, t.open)
    _see(f, 1, t.open)
    add_head_letter(t, f, 0, False)
    return True


cdef inline bint _is_close(const Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """Whether `s` is the next in order, and acknowledges all that the peer has sent, of a connection that is open."""
    cdef int peer = 1 - side
    if (t.traits[f.client_state] | t.traits[f.server_state]) & (OPENING | ACTIVE_OPEN | PASSIVE | OVER):
        return False
    if t.traits[states_of(f)[peer]] & LINGERS or not f.flags & (ACKED << side) or s.ack != f.snd_nxt[peer]:
        return False
    if seq_lt(s.ack, f.ack[side]) or f.flags & (ACKED << peer) and seq_lt(s.seq, f.ack[peer]):
        return False
    if behind_last(f, s, side) < RECENT_IDS and (s.ip_id or behind_last(f, s, side)):
        return False                                    # without an id, what takes new sequence space is no copy
    return is_next(f, s, side)


cdef inline bint _close_fin(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """The next segment in order, with the side's FIN; of the peer's everything is acknowledged."""
    cdef int peer = 1 - side
    cdef uint8_t own = next_state(t, SENT, EVENT_FIN, states_of(f)[side])
    cdef uint8_t its = next_state(t, RECEIVED, EVENT_FIN, states_of(f)[peer])
    cdef Closing* c
    if own == INVALID or own == states_of(f)[side] or its == INVALID or its == states_of(f)[peer]:
        return False
    if t.traits[own] & LINGERS or s.payload_bytes and f.closing or not _is_close(t, f, s, side):
        return False
    if f.closing:
        c = &t.closings[f.closing]
        if c.fin_ts_ns[side] != NO_TIME or c.fin_acked_ts_ns[peer] == NO_TIME or not f.flags & (FIN_TAKEN << peer):
            return False
        if s.ts_ns - c.fin_ts_ns[peer] > t.closing_ns:
            return False
    count_next(f, s, side)
    f.snd_nxt[side] += 1
    if s.payload_bytes:
        add_head_letter(t, f, side, True)
    else:
        f.flags |= SAW_BARE_ACK
    c = closing_of(t, f)
    c.fin_ts_ns[side] = c.since_ts_ns[0] = c.since_ts_ns[1] = s.ts_ns
    add_letter(t, f, LETTER_FIN + side)
    f.flags |= FIN_TAKEN << side
    if t.traits[its] & LINGERS:
        c.timer_ts_ns = s.ts_ns
    _see(f, side, own)
    _see(f, peer, its)
    return True


cdef inline bint _close_ack(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """The next segment in order, without data: the first to acknowledge the peer's FIN."""
    cdef int peer = 1 - side
    cdef uint8_t its
    cdef Closing* c
    if s.payload_bytes or not f.flags & (FIN_TAKEN << peer) or not _is_close(t, f, s, side):
        return False
    c = &t.closings[f.closing]
    if c.fin_ts_ns[peer] == NO_TIME or c.fin_acked_ts_ns[peer] != NO_TIME:
        return False
    if s.ts_ns - c.fin_ts_ns[peer] > t.closing_ns or (
            c.fin_ts_ns[side] != NO_TIME and s.ts_ns - c.fin_ts_ns[side] > t.closing_ns):
        return False
    its = next_state(t, RECEIVED, EVENT_ACK_OF_FIN, states_of(f)[peer])
    if its == INVALID or its == states_of(f)[peer] or t.traits[its] & LINGERS:
        return False
    if next_state(t, SENT, EVENT_ACK_OF_FIN, states_of(f)[side]) != states_of(f)[side]:
        return False
    count_next(f, s, side)
    c.fin_acked_ts_ns[peer] = c.since_ts_ns[peer] = s.ts_ns
    _see(f, peer, its)
    add_head_letter(t, f, side, False)
    return True


cdef inline bint step_lane(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """Step `s` if it is one of those; False if it is not, and then nothing was done."""
    cdef uint32_t set_ = s.flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)
    if f.trouble or s.ts_ns < f.last_ts_ns or s.wire_bytes < s.payload_bytes:
        return False
    if set_ == TCP_ACK:
        return _close_ack(t, f, s, side) if f.closing else _open_ack(t, f, s, side)
    if set_ == (TCP_ACK | TCP_FIN):
        return _close_fin(t, f, s, side)
    if set_ == TCP_SYN:
        return _open_syn(t, f, s, side)
    return set_ == (TCP_SYN | TCP_ACK) and _open_syn_ack(t, f, s, side)
