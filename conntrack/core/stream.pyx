"""ACKs, data and FINs: what was sent, what of it has arrived without a hole, what was acknowledged.

Where a side's data has no hole, its contiguous edge is its snd_nxt and nothing more is kept; the first segment that is
not the next one gives the connection a Trouble (live.pxd), with the edge and up to RANGES pieces beyond it. A FIN
counts as received when the edge has reached its end, or when an ACK covers it, whichever comes first. Called by
judge.pyx, which has counted the segment. RFC 9293 sections 3.4 and 3.10.7.4, RFC 7323 section 5 (PAWS).
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from .abi cimport SEGMENT_HAS_TIMESTAMP
from .life cimport (
    ACTIVE_OPEN, EVENT_ACK_OF_FIN, EVENT_ACK_OF_SYN, EVENT_DATA, EVENT_FIN, EVENT_FIN_CROSSING, EVENT_SYN_ACK,
    HALF_CLOSED, INFERRED, LETTER_FIN, LETTER_GAP, LETTER_RETRANSMIT, LETTER_ZERO_WINDOW, NO_TIME, OPENING, OVER,
    PASSIVE, RECEIVED, SEEN, SENT,
    add_head_letter, add_letter, closing_of, established_ts, move, set_established_ts, trait, trouble_of,
)
from .live cimport (
    ACKED, FIN_TAKEN, FINS_CROSSED, FLAG_ACCEPT_QUEUE, FLAG_CAPTURE_LOSS, FLAG_FAST_OPEN, FLAG_OUT_OF_WINDOW,
    FLAG_PAWS_REJECTED, FLAG_SIMULTANEOUS_OPEN, KNOWN,
    OTHER_ISS, RANGES, SAW_BARE_ACK, SAW_SYN, SAW_SYN_ACK, SAW_TIMESTAMP, STRAY, Closing,
    Trouble,
)
from .seqnum cimport seq_le, seq_lt, seq_max
from .sides cimport (
    PLAUSIBLE, TCP_FIN, WINDOW_MARGIN, decade, edge_of, has_acked, has_fin, is_known, note_ack, note_timestamp,
    scale_of,
)


cdef void count_retransmit(Tables* t, LiveFlow* f, int side, uint32_t repeated, bint whole) noexcept nogil:
    cdef Trouble* x = trouble_of(t, f)
    x.retransmitted_bytes[side] += repeated
    if whole:
        x.retransmits[side] += 1
        if decade(x.retransmits[side]):
            add_letter(t, f, LETTER_RETRANSMIT + side)


cdef uint32_t covered(Trouble* x, int side, uint32_t start, uint32_t end) noexcept nogil:
    """How many octets of start..end the out-of-order ranges hold."""
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


cdef inline bint _is_waiting(Tables* t, LiveFlow* f, int side) noexcept nogil:
    # Its accept queue was full when the handshake's last ACK came, and will be still: what comes is dropped, until it
    # sends something that only an open connection sends (Linux tcp_check_req, listen_overflow).
    return f.flags & FLAG_ACCEPT_QUEUE and trait(t, f, side) & OPENING and f.trouble


cdef inline uint32_t _reach(LiveFlow* f, int side) noexcept nogil:
    # How far from what `side` has received in order anything can be that is sent to it: its largest window, and less
    # than what an ACK is believed at once; what is sent again is no older than that.
    cdef uint32_t reach = (<uint32_t>65535 << scale_of(f, side)) + WINDOW_MARGIN
    return reach if reach < PLAUSIBLE - WINDOW_MARGIN else PLAUSIBLE - WINDOW_MARGIN


cdef void _note_stray(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    # Remember where a segment beyond any window ends: the capture may have lost all between.
    cdef uint32_t end = s.seq + s.payload_bytes + (s.flags & TCP_FIN)
    cdef Trouble* x
    if trait(t, f, side) & OPENING or has_fin(t, f, side):
        return
    x = trouble_of(t, f)
    if not s.flags & TCP_FIN:
        x.stray_fin_ts_ns = NO_TIME
    elif x.stray_fin_ts_ns == NO_TIME or not x.marks & (STRAY << side) or x.stray_seq != end:
        x.stray_fin_ts_ns = s.ts_ns                     # else it is sent again
    x.marks = <uint8_t>(x.marks & ~(OTHER_ISS | 3 * STRAY) | STRAY << side)
    x.stray_seq = end


cdef void _follow_stray(Tables* t, LiveFlow* f, uint32_t ack, int side) noexcept nogil:
    # The peer of `side` is far from what is known of it; where `side` acknowledges that, both are. By how much modulo
    # 2^32 says nothing: it may look like an old number.
    cdef int peer = 1 - side
    cdef Trouble* x = &t.troubles[f.trouble]
    if not x.marks & (STRAY << peer) or x.stray_seq - ack > _reach(f, side) or has_fin(t, f, peer):
        return
    x.marks &= <uint8_t>~(3 * STRAY)
    x.gap_bytes[peer] += <uint32_t>(ack - x.edge[peer])     # and any number of times 4 GiB
    f.flags |= FLAG_CAPTURE_LOSS
    add_letter(t, f, LETTER_GAP + peer)
    f.ack[side] = ack
    x.ranges[peer] = 0
    f.snd_nxt[peer] = x.edge[peer] = x.stray_seq
    if x.stray_fin_ts_ns == NO_TIME:
        return
    if ack != x.stray_seq:                              # of all but the FIN, which will be sent again
        f.snd_nxt[peer] = x.edge[peer] = ack
        return
    closing_of(t, f).fin_ts_ns[peer] = x.stray_fin_ts_ns
    add_letter(t, f, LETTER_FIN + peer)
    move(t, f, SENT, EVENT_FIN, peer, x.stray_fin_ts_ns, INFERRED)


cdef void _take_ack(Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint processed) noexcept nogil:
    # What the ACK says about the peer's SYN and data. That its sender has them is true whether the peer processes it or
    # not.
    cdef int peer = 1 - side
    cdef uint32_t edge, missing
    cdef Trouble* x
    cdef int evidence = SEEN
    if not is_known(f, peer) and not f.flags & SAW_SYN_ACK and not has_acked(f, side):
        f.iss[peer] = s.ack - 1                         # never seen: the ACK is all there is to know it by
        f.snd_nxt[peer] = s.ack
        if f.trouble:
            t.troubles[f.trouble].edge[peer] = s.ack
        evidence = INFERRED
    elif side == 0 and f.trouble and t.troubles[f.trouble].marks & OTHER_ISS \
            and s.ack == t.troubles[f.trouble].stray_seq + 1 and trait(t, f, peer) & OPENING:
        f.iss[peer] = t.troubles[f.trouble].stray_seq   # the client chose the earlier of two SYN+ACKs
        f.snd_nxt[peer] = t.troubles[f.trouble].edge[peer] = s.ack
    if f.trouble:
        _follow_stray(t, f, s.ack, side)
    edge = edge_of(t, f, peer)
    if seq_lt(edge, s.ack) and s.ack - edge < PLAUSIBLE and not (
            has_fin(t, f, peer) and seq_lt(f.snd_nxt[peer], s.ack)):
        x = trouble_of(t, f)
        missing = s.ack - edge - covered(x, peer, edge, s.ack)
        if missing and is_known(f, peer) and not f.flags & FLAG_ACCEPT_QUEUE:   # there data was dropped, not missed
            x.gap_bytes[peer] += missing
            f.flags |= FLAG_CAPTURE_LOSS
            add_letter(t, f, LETTER_GAP + peer)
        x.edge[peer] = s.ack
        f.snd_nxt[peer] = seq_max(f.snd_nxt[peer], s.ack)
        _absorb(x, peer)
    if f.snd_nxt[peer] - s.ack <= PLAUSIBLE:            # else it acknowledges what was never sent
        note_ack(f, side, s.ack)
    if (trait(t, f, peer) & (OPENING | PASSIVE) or trait(t, f, side) & (OPENING | PASSIVE)) \
            and s.ack - f.iss[peer] - 1 <= f.snd_nxt[peer] - f.iss[peer] - 1:
        if established_ts(t, f) == NO_TIME and trait(t, f, side) & (OPENING | ACTIVE_OPEN) != OPENING:
            set_established_ts(t, f, s.ts_ns)
        if trait(t, f, peer) & PASSIVE or trait(t, f, side) & PASSIVE:
            evidence = INFERRED
        move(t, f, SENT, EVENT_ACK_OF_SYN, side, s.ts_ns, evidence)
        if _is_waiting(t, f, peer):
            t.troubles[f.trouble].synack_acked = 1
        elif processed:
            move(t, f, RECEIVED, EVENT_ACK_OF_SYN, peer, s.ts_ns, evidence)


cdef void _take_ack_of_fin(
    Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint processed
) noexcept nogil:
    cdef int peer = 1 - side
    cdef Closing* c
    if not has_fin(t, f, peer) or s.ack != f.snd_nxt[peer]:
        return
    c = &t.closings[f.closing]
    if not f.flags & (<uint32_t>FIN_TAKEN << peer):
        f.flags |= <uint32_t>FIN_TAKEN << peer
        trouble_of(t, f).fin_taken_ts_ns[peer] = s.ts_ns
    move(t, f, SENT, EVENT_ACK_OF_FIN, side, s.ts_ns, SEEN)
    if processed and c.fin_acked_ts_ns[peer] == NO_TIME:
        c.fin_acked_ts_ns[peer] = s.ts_ns
        move(t, f, RECEIVED, EVENT_ACK_OF_FIN, peer, s.ts_ns, SEEN)


cdef bint _take_data(Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint delivered) noexcept nogil:
    # Place payload and FIN among what the side has sent; True where this is the FIN, for the first time.
    cdef bint fin = s.flags & TCP_FIN != 0
    cdef uint32_t length = s.payload_bytes + fin
    cdef uint32_t start = s.seq
    cdef uint32_t end = start + length
    cdef uint32_t edge = edge_of(t, f, side)
    cdef bint known_fin = has_fin(t, f, side)
    cdef bint keep_alive
    cdef Trouble* x
    if length == 0 or (known_fin and seq_lt(f.snd_nxt[side], end)):
        return False                                    # nothing, or beyond the FIN
    if fin and not known_fin and seq_lt(end, edge):
        return False                                    # before what it has sent: not its FIN
    if not delivered:
        if not fin or known_fin:
            return False
        trouble_of(t, f)                                # sent, not received: the edge stays behind
        f.snd_nxt[side] = seq_max(f.snd_nxt[side], end)
    elif seq_le(end, edge):
        # A keep-alive repeats one octet that was acknowledged (RFC 9293 3.8.4).
        keep_alive = s.payload_bytes <= 1 and not fin and s.seq == f.snd_nxt[side] - 1 \
            and has_acked(f, 1 - side) and f.ack[1 - side] == f.snd_nxt[side]
        count_retransmit(t, f, side, s.payload_bytes, not keep_alive and (not fin or known_fin))
    elif seq_le(start, edge):
        if start != edge and s.payload_bytes:
            count_retransmit(t, f, side, edge - start, False)
        if f.trouble:
            x = &t.troubles[f.trouble]
            if x.edge[side] != f.snd_nxt[side]:
                x.out_of_order[side] += 1
                x.retransmitted_bytes[side] += covered(x, side, edge, start + s.payload_bytes)
            x.edge[side] = end
            _absorb(x, side)
        f.snd_nxt[side] = seq_max(f.snd_nxt[side], end)
    else:
        x = trouble_of(t, f)
        if covered(x, side, start, end) == length:
            count_retransmit(t, f, side, s.payload_bytes, True)
        else:
            x.out_of_order[side] += 1
            x.retransmitted_bytes[side] += covered(x, side, start, start + s.payload_bytes)
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


cdef void _fin_arrives(Tables* t, LiveFlow* f, int side, int64_t ts_ns, bint at_once) noexcept nogil:
    # The peer takes the FIN of `side` when nothing is missing before it.
    if f.flags & (<uint32_t>FIN_TAKEN << side) or not has_fin(t, f, side) or edge_of(t, f, side) != f.snd_nxt[side]:
        return
    f.flags |= <uint32_t>FIN_TAKEN << side
    if not at_once:
        trouble_of(t, f).fin_taken_ts_ns[side] = ts_ns
    move(t, f, RECEIVED, EVENT_FIN, 1 - side, ts_ns, SEEN)


cdef bint _goes_on(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    # Whether a segment goes on from the SYNs of both, and the capture lost no more than a window between.
    cdef int peer = 1 - side
    if not f.flags & (SAW_SYN_ACK | FLAG_SIMULTANEOUS_OPEN) and not trait(t, f, side) & ACTIVE_OPEN:
        return False
    if f.trouble and t.troubles[f.trouble].marks & OTHER_ISS:
        return False                                    # there are two SYN+ACKs, and this is an answer to neither
    return s.seq - f.snd_nxt[side] <= _reach(f, peer) and s.ack - f.snd_nxt[peer] <= _reach(f, side)


cdef void judge_stream(Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint first) noexcept nogil:
    cdef int peer = 1 - side
    cdef bint delivered = True
    cdef bint had_half_closed = trait(t, f, side) & HALF_CLOSED
    cdef bint new_fin, processed
    cdef uint32_t edge
    cdef Trouble* x
    if trait(t, f, side) & (OPENING | PASSIVE) and f.flags & (
            SAW_SYN | SAW_SYN_ACK if side else SAW_SYN_ACK | FLAG_SIMULTANEOUS_OPEN) \
            and s.ack - f.iss[peer] - 1 > f.snd_nxt[peer] - f.iss[peer] - 1 and not _goes_on(t, f, s, side):
        return                                          # of an older connection: it does not acknowledge the peer's SYN
    f.flags |= <uint32_t>KNOWN << side
    if first and not (
            f.flags & (SAW_SYN | SAW_SYN_ACK) and has_acked(f, peer) and s.seq - f.snd_nxt[side] < PLAUSIBLE):
        f.iss[side] = s.seq - 1
        f.snd_nxt[side] = s.seq
        if s.seq - f.ack[peer] > PLAUSIBLE and f.ack[peer] - s.seq > PLAUSIBLE:
            f.flags &= ~(<uint32_t>ACKED << peer)       # what it acknowledged was of an older connection
        if f.trouble:
            t.troubles[f.trouble].edge[side] = s.seq
    if _is_waiting(t, f, side):
        x = &t.troubles[f.trouble]
        move(t, f, SENT, EVENT_DATA, side, s.ts_ns, INFERRED)
        if seq_lt(s.ack, x.edge[peer]):
            x.edge[peer] = s.ack                        # all beyond was dropped
            x.ranges[peer] = 0
    elif trait(t, f, peer) & OVER and side == 0 and f.flags & SAW_SYN_ACK and s.seq == f.iss[0] + 1 \
            and s.ack == f.iss[1] + 1 and has_acked(f, 1) and f.ack[1] == s.seq and f.snd_nxt[1] == s.ack \
            and not has_fin(t, f, 1):
        # A SYN cookie was all there was of it, and what came out of order was dropped, or even answered with a RST.
        move(t, f, SENT, EVENT_SYN_ACK, peer, s.ts_ns, INFERRED)
        if f.trouble or f.snd_nxt[0] != s.seq:
            x = trouble_of(t, f)
            x.edge[0] = s.seq
            x.ranges[0] = 0
    edge = edge_of(t, f, side)
    if s.options & SEGMENT_HAS_TIMESTAMP and f.flags & (SAW_TIMESTAMP << side) and seq_lt(s.tsval, f.ts_recent[side]):
        f.flags |= FLAG_PAWS_REJECTED
        delivered = False
    if is_known(f, peer) and s.seq - edge > _reach(f, peer) and edge - s.seq > _reach(f, peer):
        f.flags |= FLAG_OUT_OF_WINDOW
        if delivered:
            if f.trouble:
                _follow_stray(t, f, s.ack, side)
            _note_stray(t, f, s, side)
        return
    if trait(t, f, peer) & ACTIVE_OPEN and side == 1 and is_known(f, 0) and not f.flags & SAW_SYN_ACK \
            and (f.flags & FLAG_FAST_OPEN or not (s.payload_bytes or s.flags & TCP_FIN)):
        delivered = False                               # a SYN must come first (RFC 9293 3.10.7.3, fifth)
    # A segment that lies wholly before what its receiver has acknowledged is answered and dropped, its ACK with it
    # (RFC 9293 3.10.7.4, first check; Linux tcp_sequence).
    processed = delivered and not (
        has_acked(f, peer) and seq_lt(s.seq + s.payload_bytes + (s.flags & TCP_FIN), f.ack[peer]))
    if processed:
        note_timestamp(f, s, side)
        f.window[side] = s.window
    _take_ack(t, f, s, side, processed)
    _take_ack_of_fin(t, f, s, side, processed)
    _fin_arrives(t, f, peer, s.ts_ns, False)            # where the ACK says that all before a FIN has arrived
    if s.flags & TCP_FIN and not s.payload_bytes:
        f.flags |= SAW_BARE_ACK
    else:
        add_head_letter(t, f, side, s.payload_bytes != 0)
    if s.window == 0:
        x = trouble_of(t, f)
        x.zero_windows[side] += 1
        if decade(x.zero_windows[side]):
            add_letter(t, f, LETTER_ZERO_WINDOW + side)
    if (s.payload_bytes or s.flags & TCP_FIN) and _is_waiting(t, f, peer) and not (
            has_fin(t, f, side) and seq_lt(f.snd_nxt[side], s.seq + s.payload_bytes + (s.flags & TCP_FIN))):
        # What came beyond a hole before was dropped: an open server would have answered it at once (RFC 5681 4.2).
        t.troubles[f.trouble].ranges[side] = 0
    new_fin = _take_data(t, f, s, side, delivered)
    if s.payload_bytes or s.flags & TCP_FIN:
        if trait(t, f, side) & (OPENING | PASSIVE) and not f.flags & FLAG_FAST_OPEN:
            if established_ts(t, f) == NO_TIME:
                set_established_ts(t, f, s.ts_ns)
            move(t, f, SENT, EVENT_DATA, side, s.ts_ns, INFERRED)
            if side == 1:
                move(t, f, RECEIVED, EVENT_DATA, peer, s.ts_ns, INFERRED)
    if s.payload_bytes and had_half_closed:
        x = trouble_of(t, f)
        x.half_close_payload_ts_ns = s.ts_ns
        x.half_close_payload_bytes += s.payload_bytes
    if new_fin:
        if f.flags & (<uint32_t>FIN_TAKEN << peer) and seq_lt(s.ack, f.snd_nxt[peer]):
            trouble_of(t, f).marks |= FINS_CROSSED
            move(t, f, SENT, EVENT_FIN_CROSSING, side, s.ts_ns, SEEN)
        else:
            move(t, f, SENT, EVENT_FIN, side, s.ts_ns, SEEN)
    if delivered and not _is_waiting(t, f, peer):
        _fin_arrives(t, f, side, s.ts_ns, new_fin)
