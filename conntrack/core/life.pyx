"""The life of one live record: taking and giving back its parts, entering a state, its timers, its history.

The only place where a state changes (`move`), and it does so by the table that it is handed. The layouts, and why a
record has parts at all, are in live.pxd. All of it is one record at a time, without the GIL, and allocates nothing.
"""

from libc.string cimport memset

from .live cimport (
    FLAG_HISTORY_CUT, FLAG_SIMULTANEOUS_OPEN, HEAD_COUNT, HEAD_LETTERS, MARK_V6, NO_DELAY,
)

cdef enum:                      # how late a timer of a host may be: Linux rounds up by as much as an eighth
    LATE_SHARE = 8              # (kernel/time/timer.c), and the host may be busy
    LATE_NS = 250000000

cdef extern from *:
    """
    #define CONNTRACK_LONGEST_RTO (INT64_C(120) * 1000000000)   /* Linux TCP_RTO_MAX */
    """
    int64_t LONGEST_RTO_NS "CONNTRACK_LONGEST_RTO"


cdef Closing* closing_of(Tables* t, LiveFlow* f) noexcept nogil:
    """The record's Closing, taken now if it has none."""
    cdef Closing* c
    cdef int64_t client, server
    if f.closing == 0:
        client = since_ts(t, f, 0)
        server = since_ts(t, f, 1)
        f.closing = take(&t.closing_pool, t.free_closings)
        c = &t.closings[f.closing]
        c.fin_ts_ns[0] = c.fin_ts_ns[1] = NO_TIME
        c.fin_acked_ts_ns[0] = c.fin_acked_ts_ns[1] = NO_TIME
        c.since_ts_ns[0] = client
        c.since_ts_ns[1] = server
        c.timer_ts_ns = f.last_ts_ns
        c.history = 0
    return &t.closings[f.closing]


cdef Trouble* trouble_of(Tables* t, LiveFlow* f) noexcept nogil:
    """The record's Trouble, taken now if it has none: from here on its edges are kept apart from snd_nxt."""
    cdef Trouble* x
    if f.trouble == 0:
        f.trouble = take(&t.trouble_pool, t.free_troubles)
        x = &t.troubles[f.trouble]
        memset(x, 0, sizeof(Trouble))
        x.edge[0] = f.snd_nxt[0]
        x.edge[1] = f.snd_nxt[1]
        x.pending_ts_ns = x.synack_ts_ns = x.established_ts_ns = NO_TIME
        x.fin_taken_ts_ns[0] = x.fin_taken_ts_ns[1] = NO_TIME
        x.half_close_payload_ts_ns = x.reused_age_ns = x.second_timer_ts_ns = NO_TIME
        x.synack_asked_ts_ns = x.stray_fin_ts_ns = NO_TIME
        x.recent_ids[0] = x.recent_ids[1] = 1
    return &t.troubles[f.trouble]


cdef void release_parts(Tables* t, LiveFlow* f) noexcept nogil:
    """Give back what the record has besides itself."""
    if f.closing:
        give_back(&t.closing_pool, t.free_closings, f.closing)
        f.closing = 0
    if f.trouble:
        give_back(&t.trouble_pool, t.free_troubles, f.trouble)
        f.trouble = 0
    if f.marks & MARK_V6:
        give_back(&t.pair_pool, t.free_pairs, f.address[0])


cdef int64_t synack_ts(Tables* t, LiveFlow* f) noexcept nogil:
    """When the first SYN+ACK was seen, or NO_TIME."""
    if f.synack_after != <uint32_t>NO_DELAY:
        return f.first_ts_ns + delay_ns(f.synack_after)
    return t.troubles[f.trouble].synack_ts_ns if f.trouble else NO_TIME


cdef int64_t established_ts(Tables* t, LiveFlow* f) noexcept nogil:
    """When the handshake was first seen to be complete, or NO_TIME."""
    if f.established_after != <uint32_t>NO_DELAY:
        return f.first_ts_ns + delay_ns(f.established_after)
    return t.troubles[f.trouble].established_ts_ns if f.trouble else NO_TIME


cdef void set_synack_ts(Tables* t, LiveFlow* f, int64_t ts) noexcept nogil:
    cdef uint32_t delay = delay_of(ts - f.first_ts_ns)
    if delay != <uint32_t>NO_DELAY:
        f.synack_after = delay
    else:
        trouble_of(t, f).synack_ts_ns = ts


cdef void set_established_ts(Tables* t, LiveFlow* f, int64_t ts) noexcept nogil:
    cdef uint32_t delay = delay_of(ts - f.first_ts_ns)
    if delay != <uint32_t>NO_DELAY:
        f.established_after = delay
    else:
        trouble_of(t, f).established_ts_ns = ts


cdef int64_t since_ts(Tables* t, LiveFlow* f, int side) noexcept nogil:
    """When `side` entered its state; while nobody closes, that is the time of a step of the handshake."""
    cdef uint8_t kind
    cdef int64_t ts = NO_TIME
    if f.closing:
        return t.closings[f.closing].since_ts_ns[side]
    kind = trait(t, f, side)
    if kind & STEADY:
        ts = established_ts(t, f)
    elif kind & OPENING and not kind & ACTIVE_OPEN:
        ts = synack_ts(t, f)
    return f.first_ts_ns if ts == NO_TIME else ts


cdef int64_t* timer_of(Tables* t, LiveFlow* f, int side) noexcept nogil:
    """Where the time stands from which the timer of `side` runs, which lingers; the record has a Closing."""
    if side == 1 and trait(t, f, 0) & trait(t, f, 1) & LINGERS:
        return &trouble_of(t, f).second_timer_ts_ns
    return &t.closings[f.closing].timer_ts_ns


cdef void _give_back_empty(Tables* t, LiveFlow* f) noexcept nogil:
    # A Closing that says nothing which the record does not say: of a handshake that a timer had ended already.
    cdef Closing* c = &t.closings[f.closing]
    cdef uint32_t number = f.closing
    if c.history or c.fin_ts_ns[0] != NO_TIME or c.fin_ts_ns[1] != NO_TIME or not (
            trait(t, f, 0) & trait(t, f, 1) & STEADY):
        return
    f.closing = 0
    if since_ts(t, f, 0) == c.since_ts_ns[0] and since_ts(t, f, 1) == c.since_ts_ns[1]:
        give_back(&t.closing_pool, t.free_closings, number)
    else:
        f.closing = number


cdef void _enter(Tables* t, LiveFlow* f, int side, int state, int64_t ts, int evidence) noexcept nogil:
    cdef Closing* c
    cdef int64_t other
    cdef uint8_t before = trait(t, f, side)
    cdef int shift = MARK_EVIDENCE_SHIFT + 2 * side
    if not f.closing:
        other = since_ts(t, f, 1 - side)
        states_of(f)[side] = <uint8_t>state
        if since_ts(t, f, side) != ts or since_ts(t, f, 1 - side) != other or not t.traits[state] & (STEADY | OPENING):
            closing_of(t, f).since_ts_ns[1 - side] = other
    if f.closing:
        states_of(f)[side] = <uint8_t>state
        c = &t.closings[f.closing]
        c.since_ts_ns[side] = ts
        if t.traits[state] & LINGERS:
            if trait(t, f, 1 - side) & LINGERS:         # both: the server's has been the only one, or comes now
                trouble_of(t, f).second_timer_ts_ns = c.timer_ts_ns
            timer_of(t, f, side)[0] = ts
        elif side == 0 and before & trait(t, f, 1) & LINGERS:
            c.timer_ts_ns = t.troubles[f.trouble].second_timer_ts_ns
        elif t.traits[state] & STEADY:
            _give_back_empty(t, f)
    f.marks = <uint8_t>((f.marks & ~(3 << shift)) | evidence << shift)


cdef bint move(Tables* t, LiveFlow* f, int role, int event, int side, int64_t ts, int evidence) noexcept nogil:
    """Apply one event to one side by the table; True where its state changed."""
    cdef int cell = (role * N_EVENTS + event) * N_STATES + states_of(f)[side]
    cdef int state = t.table[cell]
    if state == IGNORE or state == states_of(f)[side]:
        return False
    if state == INVALID:
        t.invalid[cell] += 1
        return False
    _enter(t, f, side, state, ts, evidence)
    return True


cdef bint _answers(Tables* t, LiveFlow* f, int side) noexcept nogil:
    # Whether the end is one whose SYN+ACK would be repeated on a schedule that is known, and would have been seen.
    return t.synack_rto_ns > 0 and side == 1 and trait(t, f, side) & (OPENING | ACTIVE_OPEN) == OPENING \
        and synack_ts(t, f) != NO_TIME and not f.flags & FLAG_SIMULTANEOUS_OPEN


cdef void _expire_answer(Tables* t, LiveFlow* f, int side, int64_t now_ns) noexcept nogil:
    # A SYN+ACK whose repetition is overdue: the server keeps nothing (a SYN cookie, RFC 4987 section 3.6; or given up,
    # early under pressure: Linux reqsk_timer_handler), or it has taken an ACK since, and had no reason to say so.
    cdef Trouble* x
    cdef int64_t last = synack_ts(t, f)
    cdef int64_t after = t.synack_rto_ns
    cdef bint acked = False
    cdef bint last_turn
    if f.trouble:
        x = &t.troubles[f.trouble]
        if x.second_timer_ts_ns != NO_TIME:
            last = x.second_timer_ts_ns
        after <<= x.synack_turns
        acked = x.synack_acked
    last_turn = 2 * after > t.timeouts[states_of(f)[side]]
    if now_ns - last <= after + (0 if last_turn else after // LATE_SHARE + LATE_NS):
        return
    if acked and not last_turn:
        move(t, f, RECEIVED, EVENT_ACK_OF_SYN, side, last + after, INFERRED)
    else:
        move(t, f, SENT, EVENT_TIMEOUT, side, last + after, EXPIRED)


cdef void _expire_fin(Tables* t, LiveFlow* f, int side, int64_t fin, int64_t now_ns) noexcept nogil:
    # A FIN that nobody acknowledges is sent again after twice as long each time. The host gives up in the place of the
    # first repetition that would come later than its timer says (Linux tcp_write_timeout): it is due, and not seen.
    cdef int64_t timeout = t.timeouts[states_of(f)[side]]
    cdef int64_t gap = f.last_ts_ns - fin
    cdef int64_t due
    if gap > LONGEST_RTO_NS:
        gap = LONGEST_RTO_NS
    due = f.last_ts_ns + gap
    while due - fin < timeout and gap < LONGEST_RTO_NS:
        gap = due - fin if due - fin < LONGEST_RTO_NS else LONGEST_RTO_NS
        due += gap
    if due - fin < timeout:
        due += (timeout - (due - fin) + gap - 1) // gap * gap
    if now_ns - due > gap // LATE_SHARE + LATE_NS:
        move(t, f, SENT, EVENT_TIMEOUT, side, due, EXPIRED)


cdef void expire(Tables* t, LiveFlow* f, int64_t now_ns) noexcept nogil:
    """Let the timers that have run out by `now_ns` take effect, at the instant at which they did."""
    cdef int side
    cdef uint8_t kind
    cdef int64_t timeout, base, fin
    for side in range(2):
        timeout = t.timeouts[states_of(f)[side]]
        if timeout < 0:
            continue
        kind = trait(t, f, side)
        if _answers(t, f, side):
            _expire_answer(t, f, side, now_ns)
            continue
        if f.closing and not kind & LINGERS:
            fin = t.closings[f.closing].fin_ts_ns[side]
            if fin != NO_TIME and t.closings[f.closing].fin_acked_ts_ns[side] == NO_TIME and f.last_ts_ns > fin:
                _expire_fin(t, f, side, fin, now_ns)
                continue
        if kind & OPENING:
            base = since_ts(t, f, side)
        elif kind & LINGERS and f.closing:
            base = timer_of(t, f, side)[0]
        else:
            base = f.last_ts_ns
        if now_ns - base > timeout:
            move(t, f, SENT, EVENT_TIMEOUT, side, base + timeout, EXPIRED)


cdef bint has_letter(Tables* t, LiveFlow* f, int letter) noexcept nogil:
    """Whether the history has a letter, of those behind the first four."""
    cdef int i
    if f.closing:
        for i in range(HISTORY_LETTERS):
            if <int>((t.closings[f.closing].history >> (5 * i)) & 31) == letter:
                return True
    return False


cdef void add_letter(Tables* t, LiveFlow* f, int letter) noexcept nogil:
    """Add a letter to the history, behind those that the record itself keeps."""
    cdef Closing* c = closing_of(t, f)
    cdef int i
    for i in range(HISTORY_LETTERS):
        if (c.history >> (5 * i)) & 31 == 0:
            c.history |= <uint64_t>letter << (5 * i)
            return
    f.flags |= FLAG_HISTORY_CUT


cdef void add_head_letter(Tables* t, LiveFlow* f, int side, bint payload) noexcept nogil:
    """Note the first segment with payload, or without, from a side: a, d, A and D in the order in which they came."""
    cdef uint32_t count = (f.flags >> HEAD_COUNT) & 7
    cdef uint32_t code = 2 * side + payload
    cdef uint32_t i
    cdef int letter
    if count == 4:
        return
    for i in range(count):
        if (f.flags >> (HEAD_LETTERS + 2 * i)) & 3 == code:
            return
    if f.closing and t.closings[f.closing].history & HISTORY_MASK:
        letter = (LETTER_DATA if payload else LETTER_ACK) + side
        if not has_letter(t, f, letter):
            add_letter(t, f, letter)
        return
    if count < 3:
        f.flags |= code << (HEAD_LETTERS + 2 * count)
    f.flags = (f.flags & ~(<uint32_t>7 << HEAD_COUNT)) | (count + 1) << HEAD_COUNT
