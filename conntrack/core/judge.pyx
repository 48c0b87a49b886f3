"""What a segment is for the connection it belongs to: numbers first, then events, then the table.

`judge` takes any segment of a known connection (step.pyx keeps the plainest ones for itself: the next piece of data, in
order, of an established connection without trouble). It counts the segment, decides by sequence arithmetic what it is,
and hands the events to life.move: for SYNs in handshake.pyx, for ACKs, data and FINs in stream.pyx, for RSTs here.
`replaces` says when a segment does not belong to the connection on its 4-tuple any more, but begins a new one.

A segment that goes X -> Y is *delivered* unless Y will drop it: its timestamp is old (PAWS, RFC 7323 section 5), or it
lies beyond any window that Y may have offered. Then only X learns something from it. Read RFC 9293
sections 3.4 and 3.10.7, RFC 5961 (resets), RFC 6191 (reuse of TIME_WAIT).

Sides are 0 for the client and 1 for the server; X is `side`, Y is `1 - side`.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from .abi cimport SEGMENT_HAS_TIMESTAMP
from .copies cimport RECENT_IDS, behind_last, note_id, note_payload
from .handshake cimport judge_syn, judge_syn_ack
from .life cimport (
    ACTIVE_OPEN, EVENT_RST, LETTER_RST, LINGERS, OPENING, OVER, PASSIVE, RECEIVED, RESET_BY, RESET_WHEN, SEEN, SENT,
    NO_TIME, add_letter, closing_of, is_over, move, synack_ts, timer_of, trait, trouble_of,
)
from .live cimport (
    FLAG_ODD_FLAGS, FLAG_RST_CHALLENGED, FLAG_RST_IGNORED, KNOWN, ONE_ID, RANGES, SAW_BARE_ACK, SAW_SYN, SAW_SYN_ACK,
    SAW_TIMESTAMP, Closing, Trouble,
)
from .seqnum cimport seq_le, seq_lt, seq_max
from .sides cimport (
    KIND_ODD, KIND_OTHER, KIND_RST, KIND_SYN, KIND_SYN_ACK, PLAUSIBLE, TCP_ACK, TCP_FIN, TCP_SYN, WINDOW_MARGIN,
    edge_of, has_acked, is_known, kind_of, scale_of,
)
from .stream cimport covered, judge_stream

cdef enum:                      # how long after the connection's last segment a copy may come (copies.pxd)
    COPY_NS = 5000000           # "a few milliseconds"; in public captures they come within 2 ms
    COPY_WITHOUT_ID_NS = 1000000


cdef bint replaces(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """Whether `s` begins a new connection on the 4-tuple of `f` (whose timers are up to date)."""
    cdef int kind = kind_of(s.flags)
    cdef int peer = 1 - side
    cdef uint8_t own = trait(t, f, side)
    cdef uint8_t its = trait(t, f, peer)
    cdef bint gone = is_over(t, f)
    cdef bint has_number = is_known(f, side) or has_acked(f, peer) or side == 0 and f.flags & (SAW_SYN | SAW_SYN_ACK)
    cdef Trouble* x
    if kind == KIND_SYN:
        if s.seq == f.iss[side] and (is_known(f, side) or side == 0 and f.flags & SAW_SYN_ACK):
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
        return own & ACTIVE_OPEN and its & PASSIVE and is_known(f, side)
    if kind == KIND_SYN_ACK:
        if f.trouble:
            x = &t.troubles[f.trouble]
            if x.pending_role == peer + 1 and s.ack == x.pending_iss + 1:
                return True
        if f.flags & SAW_SYN_ACK and side == 1 and not f.packets[0] and s.seq != f.iss[1] and s.ack != f.iss[0] + 1:
            return True                                 # of the client nothing is captured: this answers another SYN
        return gone and not (has_number and s.seq == f.iss[side]) \
            and not (is_known(f, peer) and s.ack - f.iss[peer] - 1 < PLAUSIBLE)
    if kind == KIND_OTHER and gone and not f.flags & (3 * KNOWN) and not f.closing:
        return True                                     # there were only probes
    if kind == KIND_OTHER and gone and has_number:
        return s.seq - f.iss[side] > f.snd_nxt[side] + WINDOW_MARGIN - f.iss[side]
    return False


cdef bint _rst_counts(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    # Whether the receiver of a RST takes it (RFC 5961 section 3.2, Linux tcp_validate_incoming).
    cdef int peer = 1 - side
    cdef uint32_t edge = edge_of(t, f, side)
    cdef uint32_t highest = edge
    cdef Trouble* x
    cdef int i
    if not is_known(f, peer):
        return True                                     # nothing is known of what it expects
    if trait(t, f, peer) & ACTIVE_OPEN and trait(t, f, side) & (PASSIVE | OVER):
        return s.flags & TCP_ACK and s.ack - f.iss[peer] - 1 <= f.snd_nxt[peer] - f.iss[peer] - 1
    if not is_known(f, side) and not has_acked(f, peer):
        return True                                     # its sender was never seen, nor acknowledged
    if trait(t, f, side) & OPENING and has_acked(f, peer) and s.seq == f.ack[peer]:
        return True                                     # of two SYN+ACKs that differ, the one that the client chose
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
    cdef bint has_number = is_known(f, side) or side == 0 and f.flags & (SAW_SYN | SAW_SYN_ACK)
    cdef bint stray = trait(t, f, side) & OPENING and has_number and not (
        s.seq - f.iss[side] - 1 <= f.snd_nxt[side] - f.iss[side] - 1)
    cdef bint counts = _rst_counts(t, f, s, side)
    cdef Closing* c
    cdef int when = 0
    if s.flags & TCP_ACK and not s.payload_bytes:
        f.flags |= SAW_BARE_ACK
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


cdef bint is_copy(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """Whether `s`, which is not plainly new, is a frame that was there before (copies.pxd)."""
    cdef int64_t since = s.ts_ns - f.last_ts_ns
    cdef uint32_t behind = behind_last(f, s, side)
    cdef uint32_t length = s.payload_bytes + (s.flags & TCP_FIN) + (s.flags & TCP_SYN != 0)
    cdef uint32_t end = s.seq + length
    cdef int kind = kind_of(s.flags)
    cdef Trouble* x = &t.troubles[f.trouble]
    cdef int64_t answered
    if not -COPY_NS <= since <= COPY_NS or not f.packets[side] or f.trouble and x.marks & (ONE_ID << side):
        return False
    if kind == KIND_SYN and s.ip_id and s.ip_id == t.firsts[f - t.flows].syn_id and side == 0 and f.flags & SAW_SYN \
            and s.seq == f.iss[0] and s.ts_ns - f.first_ts_ns <= COPY_NS:
        return True                                     # though more came between: its timer is a second
    if kind == KIND_SYN_ACK and not s.ip_id and side == 1 and f.flags & SAW_SYN_ACK and s.seq == f.iss[1] \
            and s.ack - f.iss[0] - 1 <= f.ack[1] - f.iss[0] - 1:
        # Linux gives its SYN+ACK the id 0, and sends it again for its timer, or for a SYN that came again.
        answered = synack_ts(t, f)
        if f.trouble and x.second_timer_ts_ns != NO_TIME:
            answered = x.second_timer_ts_ns
        if answered != NO_TIME and s.ts_ns - answered <= COPY_NS:
            return not f.trouble or x.synack_asked_ts_ns == NO_TIME
    if behind and not (f.trouble and s.ip_id and behind < RECENT_IDS and x.recent_ids[side] >> behind & 1):
        return False
    # A newer timestamp is news, but for the very last segment again: that may have been too old to be remembered by it.
    if (behind or not s.ip_id) and s.options & SEGMENT_HAS_TIMESTAMP and f.flags & (SAW_TIMESTAMP << side) \
            and seq_lt(f.ts_recent[side], s.tsval):
        return False
    if kind == KIND_ODD:                                # their numbers need not be those of the connection
        return s.ip_id and f.flags & FLAG_ODD_FLAGS
    if kind == KIND_RST:
        return s.ip_id and f.closing and ((t.closings[f.closing].history >> RESET_BY) & 3 == <uint64_t>(side + 1)
                                          or f.trouble and x.rsts[side])
    if not is_known(f, side) or s.flags & TCP_ACK and not (has_acked(f, side) and seq_le(s.ack, f.ack[side])):
        return False
    if kind == KIND_SYN and not s.ip_id and not (side == 0 and f.flags & SAW_SYN):
        return False                                    # the first SYN there is, behind an ACK that fits it
    if not s.ip_id:
        return length and end == f.snd_nxt[side] and -COPY_WITHOUT_ID_NS < since < COPY_WITHOUT_ID_NS
    return seq_le(end, edge_of(t, f, side)) or length and f.trouble and covered(x, side, s.seq, end) == length


cdef void count_copy(Tables* t, LiveFlow* f, int side) noexcept nogil:
    """Count a duplicated frame: all that is done with one."""
    trouble_of(t, f).duplicates[side] += 1


cdef inline void _count(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """Count a segment, whatever it is."""
    cdef uint32_t header = s.wire_bytes - s.payload_bytes if s.wire_bytes > s.payload_bytes else 0
    if f.packets[side] != <uint32_t>0xFFFFFFFF:
        f.packets[side] += 1
    note_payload(f, s, side)
    if 0 < behind_last(f, s, side) < RECENT_IDS:        # a late original: its copies must find it
        trouble_of(t, f)
    elif s.ip_id and f.packets[side] > 1 and not behind_last(f, s, side) and is_known(f, side) and seq_lt(
            f.snd_nxt[side], s.seq + s.payload_bytes):
        trouble_of(t, f).marks |= <uint8_t>(ONE_ID << side)     # something new, which no copy has
    note_id(t, f, s, side)
    f.header_bytes[side] += header
    if f.header_bytes[side] < header:
        trouble_of(t, f).header_wraps[side] += 1
    if s.ts_ns > f.last_ts_ns:
        f.last_ts_ns = s.ts_ns


cdef void judge(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """Count the segment `s` that `side` sent, and let it move both sides."""
    cdef int kind = kind_of(s.flags)
    cdef bint first = not is_known(f, side)
    cdef int64_t* timer
    _count(t, f, s, side)
    if trait(t, f, 1 - side) & LINGERS and f.closing and (kind == KIND_OTHER or kind == KIND_SYN_ACK or (
            kind == KIND_SYN and s.options & SEGMENT_HAS_TIMESTAMP and f.flags & (SAW_TIMESTAMP << side)
            and seq_lt(s.tsval, f.ts_recent[side]))):
        # Linux tcp_timewait_state_process: whatever carries an ACK starts TIME_WAIT again, and what PAWS rejects.
        timer = timer_of(t, f, 1 - side)
        if s.ts_ns > timer[0]:
            timer[0] = s.ts_ns
    if kind == KIND_SYN:
        judge_syn(t, f, s, side, first)
    elif kind == KIND_SYN_ACK:
        judge_syn_ack(t, f, s, side, first)
    elif kind == KIND_OTHER:
        judge_stream(t, f, s, side, first)
    elif kind == KIND_RST:
        _judge_rst(t, f, s, side)
    else:
        f.flags |= FLAG_ODD_FLAGS
