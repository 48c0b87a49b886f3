"""What a segment is for the connection it belongs to: numbers first, then events, then the table.

`judge` takes any segment of a known connection (step.pyx keeps the plainest ones for itself: the next piece of data, in
order, of an established connection without trouble). It counts the segment, decides by sequence arithmetic what it is
(a first SYN, a repeated one, an ACK of the FIN, a FIN in order, a RST that counts, ...), and hands the events to
life.move. `replaces` says when a segment does not belong to the connection on its 4-tuple any more, but begins a new one.

A segment that goes X -> Y is *delivered* unless Y will drop it: its timestamp is old (PAWS, RFC 7323 section 5), or it
lies beyond any window that Y may have offered. Then only X learns something from it. Read RFC 9293
sections 3.4 and 3.10.7, RFC 5961 (resets), RFC 6191 (reuse of TIME_WAIT).

Sides are 0 for the client and 1 for the server; X is `side`, Y is `1 - side`.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t

from .abi cimport SEGMENT_HAS_TIMESTAMP
from .life cimport (
    ACTIVE_OPEN, EVENT_ACK_OF_FIN, EVENT_ACK_OF_SYN, EVENT_DATA, EVENT_FIN, EVENT_FIN_CROSSING, EVENT_RST, EVENT_SYN,
    EVENT_SYN_ACK, EVENT_SYN_ACK_AGAIN, HALF_CLOSED, INFERRED, LETTER_FIN, LETTER_GAP, LETTER_RETRANSMIT,
    LETTER_RST, LETTER_SYN, LETTER_SYN_ACK, LETTER_ZERO_WINDOW, LINGERS, NO_TIME, OPENING, OVER, PASSIVE, RECEIVED,
    RESET_BY, RESET_WHEN, SEEN, SENT, add_head_letter, add_letter, closing_of, established_ts, is_over, move,
    set_established_ts, set_synack_ts, states_of, synack_ts, trait, trouble_of,
)
from .live cimport (
    FIN_TAKEN, FLAG_ACCEPT_QUEUE, FLAG_CAPTURE_LOSS, FLAG_FAST_OPEN, FLAG_ODD_FLAGS, FLAG_OUT_OF_WINDOW,
    FLAG_PAWS_REJECTED, FLAG_PENDING_SYN, FLAG_RST_CHALLENGED, FLAG_RST_IGNORED, FLAG_SIMULTANEOUS_OPEN, RANGES,
    SAW_ACK_OF_SYN, SAW_SYN, SAW_SYN_ACK, SAW_TIMESTAMP, UNKNOWN_SCALE, Closing, Trouble,
)
from .seqnum cimport seq_le, seq_lt, seq_max

cdef enum:
    LARGEST_SCALE = 14              # RFC 7323 section 2.3; also taken where the handshake was not captured
    WINDOW_MARGIN = 1 << 20         # the announced window was one round trip older than what the receiver offers now
    PLAUSIBLE = 1 << 30             # largest window there can be: RFC 7323 section 2.3


cdef inline uint32_t edge_of(Tables* t, LiveFlow* f, int side) noexcept nogil:
    return t.troubles[f.trouble].edge[side] if f.trouble else f.snd_nxt[side]


cdef inline uint32_t scale_of(LiveFlow* f, int side) noexcept nogil:
    cdef uint32_t scale = (f.scales >> (4 * side)) & 15
    return LARGEST_SCALE if scale == UNKNOWN_SCALE else scale


cdef inline void set_scale(LiveFlow* f, int side, uint32_t scale) noexcept nogil:
    f.scales = <uint8_t>((f.scales & ~(15 << (4 * side))) | scale << (4 * side))


cdef inline bint has_fin(Tables* t, LiveFlow* f, int side) noexcept nogil:
    return f.closing != 0 and t.closings[f.closing].fin_ts_ns[side] != NO_TIME


cdef inline bint decade(uint32_t n) noexcept nogil:
    return n == 1 or n == 10 or n == 100 or n == 1000 or n == 10000 or n == 100000 or n == 1000000


# --- Another connection on the same 4-tuple ---------------------------------------------------------------------------

cdef bint replaces(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """Whether `s` begins a new connection on the 4-tuple of `f` (whose timers are up to date)."""
    cdef int kind = kind_of(s.flags)
    cdef int peer = 1 - side
    cdef uint8_t own = trait(t, f, side)
    cdef uint8_t its = trait(t, f, peer)
    cdef bint gone = is_over(t, f)
    cdef Trouble* x
    if kind == KIND_SYN:
        if f.packets[side] and s.seq == f.iss[side]:
            return False
        if gone:
            return True
        if own & (OVER | PASSIVE | LINGERS) and its & LINGERS:
            # RFC 6191 section 2, Linux tcp_timewait_state_process: a larger sequence number or a newer timestamp.
            return seq_lt(f.snd_nxt[side], s.seq) or (
                s.options & SEGMENT_HAS_TIMESTAMP and f.flags & (SAW_TIMESTAMP << side)
                and seq_lt(f.ts_recent[side], s.tsval))
        if own & LINGERS and its & (OVER | PASSIVE):
            return True
        return own & ACTIVE_OPEN and its & PASSIVE and f.packets[side] > 0
    if kind == KIND_SYN_ACK:
        if f.trouble:
            x = &t.troubles[f.trouble]
            if x.pending_role == peer + 1 and s.ack == x.pending_iss + 1:
                return True
        return gone and s.seq != f.iss[side] and not (f.packets[peer] and s.ack - f.iss[peer] - 1 < PLAUSIBLE)
    if kind == KIND_OTHER and gone and f.packets[side]:
        return (seq_lt(f.snd_nxt[side], s.seq) and s.seq - f.snd_nxt[side] > WINDOW_MARGIN) or seq_lt(s.seq, f.iss[side])
    return False


# --- Counting ---------------------------------------------------------------------------------------------------------

cdef void count(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """Count a segment, whatever it is."""
    cdef uint32_t header = s.wire_bytes - s.payload_bytes if s.wire_bytes > s.payload_bytes else 0
    if f.packets[side] != <uint32_t>0xFFFFFFFF:
        f.packets[side] += 1
    f.payload_bytes[side] += s.payload_bytes
    f.header_bytes[side] += header
    if f.header_bytes[side] < header:
        trouble_of(t, f).header_wraps[side] += 1
    if s.ts_ns > f.last_ts_ns:
        f.last_ts_ns = s.ts_ns


cdef void _count_retransmit(Tables* t, LiveFlow* f, int side, uint32_t repeated, bint whole) noexcept nogil:
    cdef Trouble* x = trouble_of(t, f)
    x.retransmitted_bytes[side] += repeated
    if whole:
        x.retransmits[side] += 1
        if decade(x.retransmits[side]):
            add_letter(t, f, LETTER_RETRANSMIT + side)


# --- SYN and SYN+ACK --------------------------------------------------------------------------------------------------

cdef void _take_options(LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    set_scale(f, side, 0 if s.window_scale == 255 else s.window_scale if s.window_scale < LARGEST_SCALE else LARGEST_SCALE)
    f.window[side] = s.window
    if s.options & SEGMENT_HAS_TIMESTAMP:
        f.ts_recent[side] = s.tsval
        f.flags |= SAW_TIMESTAMP << side


cdef void _begin_side(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    # The side's SYN (with or without ACK) sets its numbers.
    f.iss[side] = s.seq
    f.snd_nxt[side] = s.seq + 1 + s.payload_bytes
    if f.trouble:
        t.troubles[f.trouble].edge[side] = f.snd_nxt[side]
    _take_options(f, s, side)


cdef void _judge_syn(Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint first) noexcept nogil:
    cdef int peer = 1 - side
    cdef Trouble* x
    if first and (trait(t, f, side) & (PASSIVE | OVER) or trait(t, f, side) & ACTIVE_OPEN and not f.flags & SAW_SYN):
        if trait(t, f, side) & ACTIVE_OPEN:
            # The SYN+ACK came first in the file: this is the SYN that it answers.
            f.flags |= SAW_SYN if side == 0 else 0
            _begin_side(t, f, s, side)
            return
        if trait(t, f, peer) & OPENING:
            f.flags |= FLAG_SIMULTANEOUS_OPEN
        if side == 0:
            f.flags |= SAW_SYN
        else:
            add_letter(t, f, LETTER_SYN + side)
        if s.payload_bytes:
            f.flags |= FLAG_FAST_OPEN
        _begin_side(t, f, s, side)
        move(t, f, SENT, EVENT_SYN, side, s.ts_ns, SEEN)
        move(t, f, RECEIVED, EVENT_SYN, peer, s.ts_ns, SEEN)
        return
    x = trouble_of(t, f)
    x.more_syns[side] += 1
    if s.seq == f.iss[side]:
        _count_retransmit(t, f, side, s.payload_bytes, True)
        return
    x.pending_role = <uint8_t>(side + 1)
    x.pending_iss = s.seq
    x.pending_ts_ns = s.ts_ns
    f.flags |= FLAG_PENDING_SYN


cdef void _judge_syn_ack(Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint first) noexcept nogil:
    cdef int peer = 1 - side
    cdef Trouble* x
    cdef uint32_t acked = s.ack - f.iss[peer] - 1      # octets behind the peer's SYN that are acknowledged too
    if f.packets[peer] and acked > f.snd_nxt[peer] - f.iss[peer] - 1:
        trouble_of(t, f).more_syns[side] += 1
        return                                          # answers no SYN of this connection
    if first or (side == 1 and not f.flags & SAW_SYN_ACK) or (side == 0 and f.flags & FLAG_SIMULTANEOUS_OPEN
                                                              and trait(t, f, side) & ACTIVE_OPEN):
        if first or s.seq != f.iss[side]:
            _begin_side(t, f, s, side)
        else:
            trouble_of(t, f).more_syns[side] += 1
            _take_options(f, s, side)
        if s.window_scale == 255:
            set_scale(f, peer, 0)
        if acked == 0 and f.flags & FLAG_FAST_OPEN and f.snd_nxt[peer] != s.ack:
            # The server did not take the data of the SYN (RFC 7413 section 4.2.2): the client will send it again.
            x = trouble_of(t, f)
            x.retransmitted_bytes[peer] += f.snd_nxt[peer] - s.ack
            f.snd_nxt[peer] = x.edge[peer] = s.ack
        if synack_ts(t, f) == NO_TIME:
            set_synack_ts(t, f, s.ts_ns)
        if side == 1:
            f.flags |= SAW_SYN_ACK
        else:
            add_letter(t, f, LETTER_SYN_ACK + side)
        move(t, f, SENT, EVENT_SYN_ACK, side, s.ts_ns, SEEN)
        move(t, f, RECEIVED, EVENT_SYN_ACK, peer, s.ts_ns, SEEN)
    else:
        x = trouble_of(t, f)
        x.more_syns[side] += 1
        if s.seq != f.iss[side]:
            if trait(t, f, side) & OPENING:             # two that differ: the client's ACK will choose
                x.other_iss = f.iss[side]
                _begin_side(t, f, s, side)
            return
        _count_retransmit(t, f, side, s.payload_bytes, True)
        if f.flags & SAW_ACK_OF_SYN and f.snd_nxt[side] == s.seq + 1 + s.payload_bytes:
            # The server has forgotten the client's ACK, and all that came with it.
            f.flags |= FLAG_ACCEPT_QUEUE
            f.flags &= ~(<uint32_t>FIN_TAKEN << peer)
            x.edge[peer] = f.iss[peer] + 1
            move(t, f, SENT, EVENT_SYN_ACK_AGAIN, side, s.ts_ns, SEEN)
            move(t, f, RECEIVED, EVENT_SYN_ACK_AGAIN, peer, s.ts_ns, SEEN)
    f.ack[side] = s.ack if not f.ack[side] else seq_max(f.ack[side], s.ack)


# --- RST --------------------------------------------------------------------------------------------------------------

cdef bint _rst_counts(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    # Whether the receiver of a RST takes it (RFC 5961 section 3.2, Linux tcp_validate_incoming).
    cdef int peer = 1 - side
    cdef uint32_t edge = edge_of(t, f, side)
    cdef uint32_t highest = edge
    cdef Trouble* x
    cdef int i
    if f.packets[peer] == 0:
        return True                                     # nothing is known of what it expects
    if trait(t, f, peer) & ACTIVE_OPEN and trait(t, f, side) & (PASSIVE | OVER):
        return s.flags & TCP_ACK and s.ack - f.iss[peer] - 1 <= f.snd_nxt[peer] - f.iss[peer] - 1
    if f.packets[side] == 0 and not f.ack[peer]:
        return True                                     # its sender was never seen, nor acknowledged
    if f.trouble:
        x = &t.troubles[f.trouble]
        for i in range(x.ranges[side]):
            highest = seq_max(highest, x.range_end[side * RANGES + i])
    if s.seq == edge or s.seq == highest:
        return True
    if s.seq - edge < (<uint32_t>f.window[peer] << scale_of(f, peer)):
        f.flags |= FLAG_RST_CHALLENGED
    else:
        f.flags |= FLAG_RST_IGNORED
    return False


cdef void _judge_rst(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    cdef int peer = 1 - side
    cdef bint over = is_over(t, f)
    cdef bint stray = trait(t, f, side) & ACTIVE_OPEN and f.packets[side] > 1 and not (
        s.seq - f.iss[side] - 1 <= f.snd_nxt[side] - f.iss[side] - 1)
    cdef bint counts = _rst_counts(t, f, s, side)
    cdef Closing* c
    cdef int when = 0
    # A RST answers a stray segment with the number that it asked for; its sender keeps what it has (figures 8 and 9).
    if not stray and move(t, f, SENT, EVENT_RST, side, s.ts_ns, SEEN):
        when = side + 1
    if counts and move(t, f, RECEIVED, EVENT_RST, peer, s.ts_ns, SEEN):
        when = peer + 1
    c = closing_of(t, f)
    if when and not over and not (c.history >> RESET_BY) & 3:
        c.history |= <uint64_t>(side + 1) << RESET_BY | <uint64_t>when << RESET_WHEN
        add_letter(t, f, LETTER_RST + side)
    else:
        trouble_of(t, f).rsts[side] += 1


# --- ACK, data, FIN ---------------------------------------------------------------------------------------------------

cdef uint32_t _covered(Trouble* x, int side, uint32_t start, uint32_t end) noexcept nogil:
    # Octets of start..end that the out-of-order ranges hold.
    cdef uint32_t have = 0
    cdef uint32_t low, high
    cdef int i
    for i in range(x.ranges[side]):
        low = seq_max(start, x.range_start[side * RANGES + i])
        high = x.range_end[side * RANGES + i]
        if seq_lt(end, high):
            high = end
        if seq_lt(low, high):
            have += high - low
    return have


cdef void _absorb(Trouble* x, int side) noexcept nogil:
    # Ranges that the contiguous edge has reached become part of it.
    cdef int i = 0
    cdef int at
    while i < x.ranges[side]:
        at = side * RANGES + i
        if seq_le(x.range_start[at], x.edge[side]):
            x.edge[side] = seq_max(x.edge[side], x.range_end[at])
            x.ranges[side] -= 1
            x.range_start[at] = x.range_start[side * RANGES + x.ranges[side]]
            x.range_end[at] = x.range_end[side * RANGES + x.ranges[side]]
            i = 0
        else:
            i += 1


cdef void _add_range(Trouble* x, int side, uint32_t start, uint32_t end) noexcept nogil:
    # Keep start..end, joined with what it touches. Where there is no room it is forgotten: an ACK will repair the edge.
    cdef int i = 0
    cdef int at, last
    while i < x.ranges[side]:
        at = side * RANGES + i
        if seq_le(x.range_start[at], end) and seq_le(start, x.range_end[at]):
            if seq_lt(x.range_start[at], start):
                start = x.range_start[at]
            end = seq_max(end, x.range_end[at])
            x.ranges[side] -= 1
            last = side * RANGES + x.ranges[side]
            x.range_start[at] = x.range_start[last]
            x.range_end[at] = x.range_end[last]
            i = 0
        else:
            i += 1
    if x.ranges[side] < RANGES:
        at = side * RANGES + x.ranges[side]
        x.range_start[at] = start
        x.range_end[at] = end
        x.ranges[side] += 1


cdef void _take_ack(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    # What the ACK of a delivered segment says about the peer's SYN and data.
    cdef int peer = 1 - side
    cdef uint32_t edge, missing
    cdef Trouble* x
    cdef int evidence = SEEN
    if f.packets[peer] == 0 and not f.flags & SAW_SYN_ACK and not f.ack[side]:
        f.iss[peer] = s.ack - 1                         # never seen: the ACK is all there is to know it by
        f.snd_nxt[peer] = s.ack
        if f.trouble:
            t.troubles[f.trouble].edge[peer] = s.ack
        evidence = INFERRED
    elif f.trouble and t.troubles[f.trouble].other_iss and s.ack == t.troubles[f.trouble].other_iss + 1 \
            and trait(t, f, peer) & OPENING:
        f.iss[peer] = t.troubles[f.trouble].other_iss   # the client chose the earlier of two SYN+ACKs
        f.snd_nxt[peer] = t.troubles[f.trouble].edge[peer] = s.ack
    edge = edge_of(t, f, peer)
    if seq_lt(edge, s.ack) and not (has_fin(t, f, peer) and seq_lt(f.snd_nxt[peer], s.ack)) and s.ack - edge < PLAUSIBLE:
        x = trouble_of(t, f)
        missing = s.ack - edge - _covered(x, peer, edge, s.ack)
        if missing and f.packets[peer]:
            x.gap_bytes[peer] += missing
            f.flags |= FLAG_CAPTURE_LOSS
            add_letter(t, f, LETTER_GAP + peer)
        x.edge[peer] = s.ack
        f.snd_nxt[peer] = seq_max(f.snd_nxt[peer], s.ack)
        _absorb(x, peer)
    if not f.ack[side] or (seq_lt(f.ack[side], s.ack) and seq_le(s.ack, f.snd_nxt[peer])):
        f.ack[side] = s.ack
    if (trait(t, f, peer) & (OPENING | PASSIVE) or trait(t, f, side) & (OPENING | PASSIVE)) \
            and s.ack - f.iss[peer] - 1 <= f.snd_nxt[peer] - f.iss[peer] - 1:
        if side == 0:
            f.flags |= SAW_ACK_OF_SYN
        if established_ts(t, f) == NO_TIME and not (trait(t, f, side) & OPENING and not trait(t, f, side) & ACTIVE_OPEN):
            set_established_ts(t, f, s.ts_ns)
        if trait(t, f, peer) & PASSIVE or trait(t, f, side) & PASSIVE:
            evidence = INFERRED
        move(t, f, SENT, EVENT_ACK_OF_SYN, side, s.ts_ns, evidence)
        move(t, f, RECEIVED, EVENT_ACK_OF_SYN, peer, s.ts_ns, evidence)


cdef void _take_ack_of_fin(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    cdef int peer = 1 - side
    cdef Closing* c
    if not has_fin(t, f, peer) or s.ack != f.snd_nxt[peer]:
        return
    c = &t.closings[f.closing]
    if not f.flags & (<uint32_t>FIN_TAKEN << peer):
        f.flags |= <uint32_t>FIN_TAKEN << peer
        trouble_of(t, f).fin_taken_ts_ns[peer] = s.ts_ns
    if c.fin_acked_ts_ns[peer] == NO_TIME:
        c.fin_acked_ts_ns[peer] = s.ts_ns
        move(t, f, SENT, EVENT_ACK_OF_FIN, side, s.ts_ns, SEEN)
        move(t, f, RECEIVED, EVENT_ACK_OF_FIN, peer, s.ts_ns, SEEN)


cdef bint _take_data(Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint delivered) noexcept nogil:
    # Place payload and FIN among what the side has sent; True where this is the FIN, for the first time.
    cdef bint fin = s.flags & TCP_FIN != 0
    cdef uint32_t length = s.payload_bytes + fin
    cdef uint32_t start = s.seq
    cdef uint32_t end = start + length
    cdef uint32_t edge = edge_of(t, f, side)
    cdef bint known_fin = has_fin(t, f, side)
    cdef Trouble* x
    if length == 0 or (known_fin and seq_lt(f.snd_nxt[side], end)):
        return False                                    # nothing, or beyond the FIN
    if not delivered:
        if not fin or known_fin:
            return False
        trouble_of(t, f)                                # sent, not received: the edge stays behind
        f.snd_nxt[side] = seq_max(f.snd_nxt[side], end)
    elif seq_le(end, edge):
        if not (s.payload_bytes <= 1 and not fin and s.seq == f.snd_nxt[side] - 1):     # a keep-alive repeats one octet
            _count_retransmit(t, f, side, s.payload_bytes, not fin or known_fin)
    elif seq_le(start, edge):
        if start != edge and s.payload_bytes:
            _count_retransmit(t, f, side, edge - start, False)
        if f.trouble:
            x = &t.troubles[f.trouble]
            if x.edge[side] != f.snd_nxt[side]:
                x.out_of_order[side] += 1
                x.retransmitted_bytes[side] += _covered(x, side, edge, end)
            x.edge[side] = end
            _absorb(x, side)
        f.snd_nxt[side] = seq_max(f.snd_nxt[side], end)
    else:
        x = trouble_of(t, f)
        if _covered(x, side, start, end) == length:
            _count_retransmit(t, f, side, s.payload_bytes, True)
        else:
            x.out_of_order[side] += 1
            x.retransmitted_bytes[side] += _covered(x, side, start, end)
            _add_range(x, side, start, end)
        f.snd_nxt[side] = seq_max(f.snd_nxt[side], end)
    if not fin:
        return False
    if known_fin:
        trouble_of(t, f).more_fins[side] += 1
        return False
    closing_of(t, f).fin_ts_ns[side] = s.ts_ns
    if f.snd_nxt[side] != end:
        trouble_of(t, f)
        f.snd_nxt[side] = end                           # what lay beyond the FIN was never there
    add_letter(t, f, LETTER_FIN + side)
    return True


cdef void _judge_other(Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint first) noexcept nogil:
    cdef int peer = 1 - side
    cdef bint delivered = True
    cdef bint had_half_closed = trait(t, f, side) & HALF_CLOSED
    cdef bint new_fin
    cdef uint32_t edge
    cdef Trouble* x
    if first and not (f.flags & (SAW_SYN | SAW_SYN_ACK) and f.ack[peer] and s.seq - f.snd_nxt[side] < PLAUSIBLE):
        f.iss[side] = f.snd_nxt[side] = s.seq
        if f.trouble:
            t.troubles[f.trouble].edge[side] = s.seq
    edge = edge_of(t, f, side)
    if s.options & SEGMENT_HAS_TIMESTAMP and f.flags & (SAW_TIMESTAMP << side) and seq_lt(s.tsval, f.ts_recent[side]):
        f.flags |= FLAG_PAWS_REJECTED
        delivered = False
    elif seq_lt(edge, s.seq) and f.packets[peer] and \
            s.seq - edge > (<uint32_t>65535 << scale_of(f, peer)) + WINDOW_MARGIN:
        f.flags |= FLAG_OUT_OF_WINDOW
        return
    if delivered:
        if s.options & SEGMENT_HAS_TIMESTAMP and seq_le(s.seq, edge):
            f.ts_recent[side] = s.tsval
            f.flags |= SAW_TIMESTAMP << side
        f.window[side] = s.window
        _take_ack(t, f, s, side)
        _take_ack_of_fin(t, f, s, side)
    add_head_letter(t, f, side, s.payload_bytes != 0)
    if s.window == 0:
        x = trouble_of(t, f)
        x.zero_windows[side] += 1
        if decade(x.zero_windows[side]):
            add_letter(t, f, LETTER_ZERO_WINDOW + side)
    new_fin = _take_data(t, f, s, side, delivered)
    if s.payload_bytes or s.flags & TCP_FIN:
        if trait(t, f, side) & (OPENING | PASSIVE) and not f.flags & FLAG_FAST_OPEN:
            if established_ts(t, f) == NO_TIME:
                set_established_ts(t, f, s.ts_ns)
            move(t, f, SENT, EVENT_DATA, side, s.ts_ns, INFERRED)
    if s.payload_bytes and had_half_closed:
        x = trouble_of(t, f)
        x.half_close_payload_ts_ns = s.ts_ns
        x.half_close_payload_bytes += s.payload_bytes
    if new_fin:
        if f.flags & (<uint32_t>FIN_TAKEN << peer) and seq_lt(s.ack, f.snd_nxt[peer]):
            move(t, f, SENT, EVENT_FIN_CROSSING, side, s.ts_ns, SEEN)
        else:
            move(t, f, SENT, EVENT_FIN, side, s.ts_ns, SEEN)
    if delivered and has_fin(t, f, side) and not f.flags & (<uint32_t>FIN_TAKEN << side) \
            and edge_of(t, f, side) == f.snd_nxt[side]:
        f.flags |= <uint32_t>FIN_TAKEN << side
        if not new_fin:
            trouble_of(t, f).fin_taken_ts_ns[side] = s.ts_ns
        move(t, f, RECEIVED, EVENT_FIN, peer, s.ts_ns, SEEN)


cdef void judge(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """Count the segment `s` that `side` sent, and let it move both sides."""
    cdef int kind = kind_of(s.flags)
    cdef bint first = f.packets[side] == 0
    count(t, f, s, side)
    if (kind == KIND_OTHER or kind == KIND_SYN_ACK) and trait(t, f, 1 - side) & LINGERS and f.closing:
        # Linux tcp_timewait_state_process: whatever carries an ACK starts TIME_WAIT again.
        if s.ts_ns > t.closings[f.closing].timer_ts_ns:
            t.closings[f.closing].timer_ts_ns = s.ts_ns
    if kind == KIND_SYN:
        _judge_syn(t, f, s, side, first)
    elif kind == KIND_SYN_ACK:
        _judge_syn_ack(t, f, s, side, first)
    elif kind == KIND_OTHER:
        _judge_other(t, f, s, side, first)
    elif kind == KIND_RST:
        _judge_rst(t, f, s, side)
    else:
        f.flags |= FLAG_ODD_FLAGS
