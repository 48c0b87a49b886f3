"""SYN and SYN+ACK: first, repeated, crossing, of another connection, or of a server that dropped the client's ACK.

RFC 9293 sections 3.5 and 3.10.7.3, RFC 7413 (Fast Open). Called by judge.pyx, which has counted the segment.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from .abi cimport SEGMENT_HAS_TIMESTAMP
from .life cimport (
    ACTIVE_OPEN, EVENT_SYN, EVENT_SYN_ACK, EVENT_SYN_ACK_AGAIN, INFERRED, LETTER_SYN, LETTER_SYN_ACK, LINGERS, NO_TIME,
    OPENING, OVER, PASSIVE, RECEIVED, SEEN, SENT, add_letter, established_ts, has_letter, move, set_synack_ts,
    synack_ts, trait, trouble_of,
)
from .live cimport (
    ACKED, ASKED_AGAIN, FIN_TAKEN, FLAG_ACCEPT_QUEUE, FLAG_FAST_OPEN, FLAG_PENDING_SYN, FLAG_SIMULTANEOUS_OPEN, KNOWN,
    MOST_TURNS, NO_DELAY, OTHER_ISS, SAW_SYN, SAW_SYN_ACK, SAW_TIMESTAMP, STRAY, FirstSeen, Trouble,
)
from .seqnum cimport seq_lt
from .sides cimport LARGEST_SCALE, has_acked, has_fin, is_known, set_scale
from .stream cimport count_retransmit

cdef enum:
    ANSWER_NS = 500000000       # how long a server may leave a repeated SYN unanswered (Linux tcp_invalid_ratelimit)


cdef void note_syn(FirstSeen* first, const SegmentRecord* s) noexcept nogil:
    first.syn_window = s.window
    first.mss = s.mss
    first.syn_id = s.ip_id
    first.ttl = s.ttl
    first.window_scale = s.window_scale
    first.options = s.options


cdef void _take_options(LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    cdef uint32_t scale = 0 if s.window_scale == 255 else s.window_scale
    set_scale(f, side, scale if scale < LARGEST_SCALE else LARGEST_SCALE)
    f.window[side] = s.window
    if s.options & SEGMENT_HAS_TIMESTAMP:
        f.ts_recent[side] = s.tsval
        f.flags |= SAW_TIMESTAMP << side


cdef void _begin_side(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    # The side's SYN (with or without ACK) sets its numbers.
    f.flags |= <uint32_t>KNOWN << side
    f.iss[side] = s.seq
    f.snd_nxt[side] = s.seq + 1 + s.payload_bytes
    if f.trouble:
        t.troubles[f.trouble].edge[side] = f.snd_nxt[side]
        t.troubles[f.trouble].ranges[side] = 0
    _take_options(f, s, side)


cdef inline bint _is_acked(LiveFlow* f, int side) noexcept nogil:
    # Whether the peer has acknowledged its SYN. That may be more than 2 GiB ago.
    cdef uint32_t syn = f.iss[side]
    cdef uint32_t ack = f.ack[1 - side]
    return has_acked(f, 1 - side) and (seq_lt(syn, ack) or ack - syn - 1 <= f.snd_nxt[side] - syn - 1)


cdef inline void _note_syn_acked(LiveFlow* f, int side, uint32_t ack) noexcept nogil:
    # As note_ack, of a SYN+ACK: what its sender has acknowledged since is more, though it may be gigabytes ahead.
    cdef uint32_t syn = f.iss[1 - side]
    cdef uint32_t so_far = f.ack[side] - syn - 1
    if not has_acked(f, side) or so_far > f.snd_nxt[1 - side] - syn - 1 or so_far < ack - syn - 1:
        f.ack[side] = ack
        f.flags |= <uint32_t>ACKED << side


cdef void judge_syn(Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint first) noexcept nogil:
    cdef int peer = 1 - side
    cdef Trouble* x
    cdef bint split = side == 1 and trait(t, f, 0) & ACTIVE_OPEN and f.flags & SAW_SYN and not f.flags & SAW_SYN_ACK \
        and trait(t, f, 1) & (OPENING | ACTIVE_OPEN) == OPENING
    if split:                                           # an ACK came before its SYN: only the SYN opens (section 3.5)
        f.established_after = <uint32_t>NO_DELAY
        if f.trouble:
            t.troubles[f.trouble].established_ts_ns = NO_TIME
    if first and side == 0 and f.flags & (SAW_SYN | SAW_SYN_ACK) == SAW_SYN_ACK and s.seq == f.iss[0]:
        # The SYN+ACK came first in the file: this is the SYN that it answers.
        f.flags |= SAW_SYN
        note_syn(&t.firsts[f - t.flows], s)
        f.flags |= KNOWN                                # what data it had was not taken: its number alone is answered
        _take_options(f, s, side)
        return
    if split or first and trait(t, f, side) & (PASSIVE | OVER) and not (
            side == 0 and f.flags & SAW_SYN_ACK and s.seq == f.iss[0]):
        if trait(t, f, peer) & OPENING:
            f.flags |= FLAG_SIMULTANEOUS_OPEN
        if side == 0:
            f.flags |= SAW_SYN
            note_syn(&t.firsts[f - t.flows], s)
        else:
            add_letter(t, f, LETTER_SYN + side)
        if s.payload_bytes:
            f.flags |= FLAG_FAST_OPEN
        _begin_side(t, f, s, side)
        f.flags &= ~(<uint32_t>ACKED << peer)           # what the peer had acknowledged were other numbers
        move(t, f, SENT, EVENT_SYN, side, s.ts_ns, SEEN)
        move(t, f, RECEIVED, EVENT_SYN, peer, s.ts_ns, SEEN)
        return
    x = trouble_of(t, f)
    x.more_syns[side] += 1
    if side == 0:
        x.marks |= ASKED_AGAIN
    if s.seq == f.iss[side]:
        x.synack_asked_ts_ns = s.ts_ns
        count_retransmit(t, f, side, s.payload_bytes, True)
        return
    if x.pending_role != side + 1 or x.pending_iss != s.seq:    # else it asks again
        x.pending_role = <uint8_t>(side + 1)
        x.pending_iss = s.seq
        x.pending_ts_ns = s.ts_ns
    f.flags |= FLAG_PENDING_SYN


cdef void _note_answer(Tables* t, LiveFlow* f, const SegmentRecord* s, Trouble* x, bint same) noexcept nogil:
    # A SYN+ACK beyond the first: which turn of the server's timer it was. What answers a SYN that came again starts the
    # timer again and is no turn (Linux tcp_check_req): it comes before that is due, or right behind the SYN. One that
    # comes later is a turn; the SYN was lost on the way, or was one of too many (tcp_oow_rate_limited). One that comes
    # in half the time is no turn, whatever was seen of the SYN. Where some are missing, the time gone says how many.
    cdef int64_t last = synack_ts(t, f) if x.second_timer_ts_ns == NO_TIME else x.second_timer_ts_ns
    cdef int64_t waited = s.ts_ns - last
    if not same:
        x.synack_turns = 0
    elif x.synack_turns < MOST_TURNS and 2 * waited >= t.synack_rto_ns << x.synack_turns and (
            x.synack_asked_ts_ns == NO_TIME or (
                s.ts_ns - x.synack_asked_ts_ns > ANSWER_NS and waited >= t.synack_rto_ns << x.synack_turns)):
        x.synack_turns += 1
        while x.synack_turns < MOST_TURNS and 0 < t.synack_rto_ns << x.synack_turns <= waited:
            x.synack_turns += 1
    x.synack_acked = 0
    x.synack_asked_ts_ns = NO_TIME
    x.second_timer_ts_ns = s.ts_ns


cdef int64_t _server_rtt_ns(Tables* t, LiveFlow* f, const Trouble* x) noexcept nogil:
    # From the capture point to the server and back: a SYN+ACK that comes sooner after the client's ACK was sent before
    # that arrived. Where the SYN was repeated it is not known which was answered; less than its timer, then.
    cdef int64_t rtt = synack_ts(t, f) - f.first_ts_ns
    if not f.flags & SAW_SYN or rtt < 0:
        return 0
    return t.synack_rto_ns // 2 if x.marks & ASKED_AGAIN and 0 < t.synack_rto_ns // 2 < rtt else rtt


cdef void judge_syn_ack(Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint first) noexcept nogil:
    cdef int peer = 1 - side
    cdef Trouble* x
    cdef bint answered                                  # this side has sent a SYN+ACK before
    cdef uint32_t acked = s.ack - f.iss[peer] - 1      # octets behind the peer's SYN that are acknowledged too
    if (is_known(f, peer) or f.flags & (SAW_SYN | SAW_SYN_ACK)) and acked > (
            f.snd_nxt[peer] - f.iss[peer] - 1 if f.flags & FLAG_FAST_OPEN else 0):
        trouble_of(t, f).more_syns[side] += 1
        return                                          # answers no SYN of this connection
    if side == 0 and not is_known(f, peer) or not f.flags & (SAW_SYN | SAW_SYN_ACK) and not trait(t, f, side) & PASSIVE:
        trouble_of(t, f).more_syns[side] += 1
        return                                          # nobody asked, or not as far as the capture goes back
    if has_fin(t, f, side) or side == 0 and trait(t, f, 0) & OVER or s.seq != f.iss[side] and f.flags & (
            FLAG_SIMULTANEOUS_OPEN if side else SAW_SYN | SAW_SYN_ACK):
        trouble_of(t, f).more_syns[side] += 1
        return                                          # late, or its SYN had another number
    if not first and s.seq != f.iss[side] and not (
            trait(t, f, side) & (OPENING | PASSIVE | OVER) or trait(t, f, peer) & ACTIVE_OPEN):
        trouble_of(t, f).more_syns[side] += 1
        return                                          # both are past the handshake
    if side == 0 and s.seq == f.iss[0] and not f.flags & FLAG_SIMULTANEOUS_OPEN:
        first = False                                   # it asked, and nobody asked it
    answered = (f.flags & SAW_SYN_ACK) != 0 if side else has_letter(t, f, LETTER_SYN_ACK)
    if first or (not answered and (side or f.flags & FLAG_SIMULTANEOUS_OPEN and s.seq == f.iss[0])) or (
            f.flags & FLAG_SIMULTANEOUS_OPEN and s.seq == f.iss[side]
            and (trait(t, f, side) | trait(t, f, peer)) & OPENING):
        if s.seq != f.iss[side] or not is_known(f, side) and not has_acked(f, peer):
            _begin_side(t, f, s, side)
            if not _is_acked(f, side):
                f.flags &= ~(<uint32_t>ACKED << peer)   # that was of an older connection
        else:                                           # its number is known, and what was acknowledged behind it
            trouble_of(t, f).more_syns[side] += not first
            f.flags |= <uint32_t>KNOWN << side
            _take_options(f, s, side)
        if s.window_scale == 255:
            set_scale(f, peer, 0)
        _note_syn_acked(f, side, s.ack)
        if acked == 0 and f.flags & FLAG_FAST_OPEN and f.snd_nxt[peer] != s.ack and f.ack[side] == s.ack \
                and not has_fin(t, f, peer):
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
        if f.flags & FLAG_SIMULTANEOUS_OPEN and _is_acked(f, side) \
                and (peer == 1 and f.flags & SAW_SYN_ACK or peer == 0 and has_letter(t, f, LETTER_SYN_ACK)):
            # The peer's SYN+ACK is on its way, or has come: figure 7, last lines.
            move(t, f, RECEIVED, EVENT_SYN_ACK, side, s.ts_ns, INFERRED)
    else:
        x = trouble_of(t, f)
        x.more_syns[side] += 1
        if trait(t, f, side) & OVER and side == 1 and not _is_acked(f, 1) \
                and f.snd_nxt[1] == f.iss[1] + 1 + s.payload_bytes:
            # It goes on answering: it never took the RST, or its timer is longer than was thought.
            _note_answer(t, f, s, x, s.seq == f.iss[side])
            if s.seq != f.iss[side]:
                _begin_side(t, f, s, side)
            move(t, f, SENT, EVENT_SYN_ACK, side, s.ts_ns, SEEN)
            _note_syn_acked(f, side, s.ack)
            return
        if s.seq != f.iss[side]:
            if side == 1 and trait(t, f, side) & OPENING:   # two that differ: the client's ACK will choose
                x.stray_seq = f.iss[side]
                x.marks = <uint8_t>(x.marks & ~(3 * STRAY) | OTHER_ISS)
                _begin_side(t, f, s, side)
                _note_answer(t, f, s, x, False)
            elif side == 1 and trait(t, f, peer) & ACTIVE_OPEN and not trait(t, f, 1) & OVER:    # the client asks anew
                _begin_side(t, f, s, side)
                _note_syn_acked(f, side, s.ack)
            return
        count_retransmit(t, f, side, s.payload_bytes, True)
        if side == 1 and not trait(t, f, 0) & trait(t, f, 1) & LINGERS:     # there second_timer_ts_ns has another use
            _note_answer(t, f, s, x, True)
        if side == 1 and not f.flags & FLAG_SIMULTANEOUS_OPEN and _is_acked(f, side) \
                and f.snd_nxt[side] == s.seq + 1 + s.payload_bytes \
                and f.ack[side] - f.iss[peer] <= s.ack - f.iss[peer] \
                and s.ts_ns - established_ts(t, f) >= _server_rtt_ns(t, f, x):
            # The server has forgotten the client's ACK, and all that came with it (it has acknowledged none of that).
            f.flags |= FLAG_ACCEPT_QUEUE
            f.flags &= ~(<uint32_t>FIN_TAKEN << peer)
            x.edge[peer] = f.iss[peer] + 1
            x.ranges[peer] = 0
            move(t, f, SENT, EVENT_SYN_ACK_AGAIN, side, s.ts_ns, SEEN)
            move(t, f, RECEIVED, EVENT_SYN_ACK_AGAIN, peer, s.ts_ns, SEEN)
