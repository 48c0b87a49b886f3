"""The one ordered loop: each segment finds its connection and moves it.

Design, for a block of segments at a time:
  a. hash every 4-tuple (canonical: the lower of the two (address, port) first) and touch its slot of the index;
  b. probe the index by fingerprint and touch both lines of the record that it names, then the parts that these name;
  c. in order: compare the key, expire timers that have run out, and step. The plainest segments take the short ways of
     lanes.pxd; all others go to judge.pyx.
A connection that is over and forgotten, or whose 4-tuple is used again, is written to the retired array on the spot and
its record begins anew. Nothing depends on where a batch was cut. Allocates nothing; the tracker has made room for one
new record of each pool, and one retired row, a segment.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from .abi cimport SegmentRecord
from .clock cimport own_time, tell_time
from .copies cimport RECENT_IDS, behind_last
from .expand cimport END_FIN, END_REPLACED, OPEN_AT_END, expand
from .index cimport hash_words, home, mix, prefetch
from .judge cimport count_copy, is_copy, judge, replaces
from .lanes cimport lanes_fit, step_lane, step_plain
from .life cimport (
    ASSUMED, INFERRED, LINGERS, MARK_EVIDENCE_SHIFT, NO_TIME, SEEN, expire, is_forgotten, is_over, may_expire,
    release_parts, since_ts, states_of, take, trait, trouble_of,
)
from .live cimport (
    FirstSeen, LiveTable, MARK_CLIENT_IS_HIGH, MARK_DIRECTION, MARK_V6, NO_DELAY, REUSE_BY_RFC6191, SAW_SYN,
)
from .sides cimport KIND_ODD, KIND_OTHER, KIND_SYN, KIND_SYN_ACK, TCP_SYN, kind_of

import numpy as np

from .abi import SEGMENT_DTYPE

cdef enum:
    MOST_GENERATION = 65535     # later ones have this number too: 16 bits of LiveFlow.origin
    BLOCK = 64                  # segments whose slots and records are on the way at once

cdef enum:                      # states.DirectionEvidence
    BY_SYN = 0
    BY_SYN_ACK = 1
    BY_PORT = 2
    BY_FIRST_SENDER = 3

cdef struct Probe:
    uint32_t hash
    uint32_t record             # the first record with that fingerprint, 0 if there is none
    uint32_t source             # IPv4 addresses in host order; for IPv6 hashes of them
    uint32_t destination
    uint8_t from_high           # the sender has the higher (address, port)

cdef extern from *:
    uint32_t bswap32 "__builtin_bswap32" (uint32_t) noexcept nogil


cdef inline uint32_t _load32(const uint8_t* p) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, p, 4)
    return value


cdef inline uint64_t _load64(const uint8_t* p) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, p, 8)
    return value


cdef uint32_t _hash_v6(const uint8_t* low, const uint8_t* high, uint64_t ports, const uint64_t* key) noexcept nogil:
    cdef uint64_t first = mix(_load64(low) ^ key[0], _load64(low + 8) ^ key[2])
    cdef uint64_t second = mix(_load64(high) ^ key[1], _load64(high + 8) ^ key[3])
    return hash_words(first ^ (second << 1 | second >> 63), ports, key)


cdef inline uint32_t _fold_v6(const uint8_t* address, const uint64_t* key) noexcept nogil:
    return <uint32_t>mix(_load64(address) ^ key[2], _load64(address + 8) ^ key[1])


cdef inline uint32_t _hash_v4(uint64_t low, uint64_t high, uint64_t tag, const uint64_t* key) noexcept nogil:
    # Of the two (address, port), 48 bits each, the lower first.
    return hash_words(low | tag << 48, high | tag >> 16 << 48, key)


cdef inline void _probe(const Tables* t, const SegmentRecord* s, Probe* p) noexcept nogil:
    cdef int order
    cdef uint64_t tag = s.tag & t.tag_mask
    cdef uint64_t source, destination
    if s.ip_version == 4:                               # without branches: which end is higher cannot be predicted
        p.source = bswap32(_load32(s.src_ip + 12))
        p.destination = bswap32(_load32(s.dst_ip + 12))
        source = <uint64_t>p.source << 16 | s.src_port
        destination = <uint64_t>p.destination << 16 | s.dst_port
        p.from_high = source > destination
        p.hash = _hash_v4(
            destination if source > destination else source,
            source if source > destination else destination,
            tag,
            t.key,
        )
        return
    order = memcmp(s.src_ip, s.dst_ip, 16)
    p.source = _fold_v6(s.src_ip, t.key)
    p.destination = _fold_v6(s.dst_ip, t.key)
    p.from_high = order > 0 or (order == 0 and s.src_port > s.dst_port)
    if p.from_high:
        p.hash = _hash_v6(s.dst_ip, s.src_ip, tag << 32 | <uint32_t>s.dst_port << 16 | s.src_port, t.key)
    else:
        p.hash = _hash_v6(s.src_ip, s.dst_ip, tag << 32 | <uint32_t>s.src_port << 16 | s.dst_port, t.key)


cdef uint32_t hash_of(const Tables* t, const LiveFlow* f) noexcept nogil:
    """The hash of a record's own 4-tuple."""
    cdef bint high = f.marks & MARK_CLIENT_IS_HIGH
    cdef uint64_t tag = t.firsts[f - t.flows].tag & t.tag_mask
    cdef uint64_t ports = <uint32_t>f.port[high] << 16 | f.port[1 - high]
    cdef const uint8_t* pair
    if f.marks & MARK_V6:
        pair = t.pairs[f.address[0]].address
        return _hash_v6(pair + 16 * high, pair + 16 * (1 - high), tag << 32 | ports, t.key)
    return _hash_v4(
        <uint64_t>f.address[high] << 16 | f.port[high],
        <uint64_t>f.address[1 - high] << 16 | f.port[1 - high],
        tag,
        t.key,
    )


cdef inline bint _matches(
    const Tables* t, const LiveFlow* f, const SegmentRecord* s, const Probe* p, int side
) noexcept nogil:
    # Whether the segment is of this 4-tuple, given that `side` of it would be the sender.
    cdef const uint8_t* pair
    if f.port[side] != s.src_port or f.port[1 - side] != s.dst_port:
        return False
    if t.tag_mask and t.firsts[f - t.flows].tag != s.tag:
        return False
    if not f.marks & MARK_V6:
        return s.ip_version == 4 and f.address[side] == p.source and f.address[1 - side] == p.destination
    if s.ip_version == 4 or f.address[1] != p.source ^ p.destination:
        return False
    pair = t.pairs[f.address[0]].address
    return memcmp(pair + 16 * side, s.src_ip, 16) == 0 and memcmp(pair + 16 * (1 - side), s.dst_ip, 16) == 0


cdef inline int _side_of(const LiveFlow* f, const Probe* p) noexcept nogil:
    return p.from_high ^ (f.marks & MARK_CLIENT_IS_HIGH)


# --- Beginning --------------------------------------------------------------------------------------------------------

cdef int _begin(Tables* t, LiveFlow* f, const SegmentRecord* s, const Probe* p, uint32_t generation) noexcept nogil:
    """Make `f` the connection that `s` is the first segment of; the side that sent it."""
    cdef int kind = kind_of(s.flags)
    cdef int side, direction
    cdef int row = kind if kind < KIND_OTHER else KIND_OTHER
    cdef int evidence = SEEN if kind == KIND_SYN else INFERRED if kind == KIND_SYN_ACK else ASSUMED
    cdef uint32_t pair
    cdef FirstSeen* first
    if kind == KIND_SYN:
        side, direction = 0, BY_SYN
    elif kind == KIND_SYN_ACK:
        side, direction = 1, BY_SYN_ACK
    elif s.src_port != s.dst_port:
        side, direction = s.src_port < s.dst_port, BY_PORT
    else:
        side, direction = 0, BY_FIRST_SENDER
    memset(f, 0, sizeof(LiveFlow))
    if s.ip_version == 4:
        f.address[side] = p.source
        f.address[1 - side] = p.destination
    else:
        pair = take(&t.pair_pool, t.free_pairs)
        memcpy(t.pairs[pair].address + 16 * side, s.src_ip, 16)
        memcpy(t.pairs[pair].address + 16 * (1 - side), s.dst_ip, 16)
        f.address[0] = pair
        f.address[1] = p.source ^ p.destination
        f.marks = MARK_V6
    f.port[side] = s.src_port
    f.port[1 - side] = s.dst_port
    if p.from_high ^ side:
        f.marks |= MARK_CLIENT_IS_HIGH
    f.marks |= <uint8_t>(direction << MARK_DIRECTION | (evidence | evidence << 2) << MARK_EVIDENCE_SHIFT)
    f.scales = 0xFF
    f.first_ts_ns = f.last_ts_ns = s.ts_ns
    f.synack_after = f.established_after = <uint32_t>NO_DELAY
    f.origin = (s.frame & ((<uint64_t>1 << 48) - 1)) | <uint64_t>generation << 48
    states_of(f)[side] = t.start[2 * row]
    states_of(f)[1 - side] = t.start[2 * row + 1]
    if kind == KIND_ODD:                                # a probe opens nothing: leave both as a SYN would find them
        states_of(f)[side] = t.start[0]
        states_of(f)[1 - side] = t.start[1]
    if kind == KIND_SYN_ACK:
        f.iss[0] = s.ack - 1
        f.snd_nxt[0] = s.ack
    first = &t.firsts[f - t.flows]
    memset(first, 0, sizeof(FirstSeen))
    first.tag = s.tag
    first.path = s.path
    first.window_scale = 255                            # the rest when the SYN is judged
    return side


cdef int _begin_again(Tables* t, LiveFlow* f, const SegmentRecord* s, const Probe* p, int side) noexcept nogil:
    """Retire `f` and begin the connection that takes its place on the same 4-tuple; the side that sent `s`."""
    cdef bint forgotten = is_forgotten(t, f, own_time(f, s.ts_ns))
    cdef bint over = is_over(t, f)
    cdef uint32_t generation = <uint32_t>(f.origin >> 48)
    cdef int kind = kind_of(s.flags)
    cdef int peer = 1 - side
    cdef int reason
    cdef int64_t lingering_since = NO_TIME
    cdef bint by_rfc6191 = trait(t, f, peer) & LINGERS
    cdef uint32_t pending_iss = 0
    cdef int64_t pending_ts = NO_TIME
    if kind == KIND_SYN and not forgotten:
        if trait(t, f, peer) & LINGERS:
            lingering_since = since_ts(t, f, peer)
        elif trait(t, f, side) & LINGERS:
            lingering_since = since_ts(t, f, side)
    if kind == KIND_SYN_ACK and not forgotten and f.trouble and t.troubles[f.trouble].pending_role == peer + 1 \
            and t.troubles[f.trouble].pending_iss == s.ack - 1:
        pending_iss = t.troubles[f.trouble].pending_iss
        pending_ts = t.troubles[f.trouble].pending_ts_ns
    if over:
        reason = OPEN_AT_END                            # expand() knows how it ended
    else:
        reason = END_REPLACED if lingering_since == NO_TIME else END_FIN
    expand(t, f, reason, &t.retired[t.retired_count])
    t.retired_count += 1
    release_parts(t, f)
    side = _begin(t, f, s, p, 1 if forgotten else generation + 1 if generation < MOST_GENERATION else generation)
    if lingering_since != NO_TIME:
        trouble_of(t, f).reused_age_ns = s.ts_ns - lingering_since
        if by_rfc6191:
            trouble_of(t, f).marks |= REUSE_BY_RFC6191
    if pending_ts != NO_TIME:                           # the SYN was counted with the connection before
        f.flags |= SAW_SYN
        f.first_ts_ns = pending_ts if pending_ts < s.ts_ns else s.ts_ns
        f.iss[0] = pending_iss
        f.marks &= ~(3 << MARK_DIRECTION)               # BY_SYN
    return side


cdef LiveFlow* _find(Tables* t, const SegmentRecord* s, const Probe* p, int* side) noexcept nogil:
    """The record of the segment's 4-tuple, begun now if there is none; `side` is who sent it."""
    cdef uint64_t mask = (<uint64_t>1 << t.slot_bits) - 1
    cdef uint64_t at = home(p.hash, t.slot_bits)
    cdef uint32_t record
    cdef LiveFlow* f
    while t.slots[at]:
        if <uint32_t>(t.slots[at] >> 32) == p.hash:
            f = &t.flows[<uint32_t>t.slots[at]]
            side[0] = _side_of(f, p)
            if _matches(t, f, s, p, side[0]):
                return f
        at = (at + 1) & mask
    record = take(&t.flow_pool, t.free_flows)
    t.slots[at] = <uint64_t>p.hash << 32 | record
    t.slots_used += 1
    f = &t.flows[record]
    side[0] = _begin(t, f, s, p, 1)
    return f


# --- The loop ---------------------------------------------------------------------------------------------------------

cdef void _step_block(Tables* t, const SegmentRecord* segments, int n) noexcept nogil:
    cdef Probe[BLOCK] probes
    cdef Probe* p
    cdef const SegmentRecord* s
    cdef uint64_t mask = (<uint64_t>1 << t.slot_bits) - 1
    cdef uint64_t at
    cdef LiveFlow* f
    cdef int64_t now_ns
    cdef SegmentRecord late
    cdef int i, side
    for i in range(n):
        p = &probes[i]
        _probe(t, &segments[i], p)
        prefetch(&t.slots[home(p.hash, t.slot_bits)], 1)
    for i in range(n):
        p = &probes[i]
        p.record = 0
        at = home(p.hash, t.slot_bits)
        while t.slots[at]:
            if <uint32_t>(t.slots[at] >> 32) == p.hash:
                p.record = <uint32_t>t.slots[at]
                break
            at = (at + 1) & mask
        f = &t.flows[p.record if p.record else t.flow_pool.used]
        prefetch(f, 1)
        prefetch(<const char*>f + 64, 1)
    for i in range(n):
        f = &t.flows[probes[i].record]
        if f.closing:
            prefetch(&t.closings[f.closing], 1)
        if f.trouble:
            prefetch(&t.troubles[f.trouble], 1)
    for i in range(n):
        p = &probes[i]
        s = &segments[i]
        tell_time(t, s.ts_ns)
        f = &t.flows[p.record]
        side = _side_of(f, p)
        if p.record == 0 or not _matches(t, f, s, p, side):
            f = _find(t, s, p, &side)
        if t.lanes and (step_plain(t, f, s, side) or step_lane(t, f, s, side)):
            continue
        if f.packets[0] | f.packets[1]:
            if (behind_last(f, s, side) < RECENT_IDS or s.flags & TCP_SYN) and is_copy(t, f, s, side):
                count_copy(t, f, side)
                continue
            if s.ts_ns < f.first_ts_ns:                 # of what was before its first segment nothing is known
                late = s[0]
                late.ts_ns = f.first_ts_ns
                s = &late
            now_ns = own_time(f, s.ts_ns)
            if may_expire(t, f, now_ns):
                expire(t, f, now_ns)
            if is_over(t, f) or s.flags & TCP_SYN:
                if is_forgotten(t, f, now_ns) or replaces(t, f, s, side):
                    side = _begin_again(t, f, s, p, side)
        judge(t, f, s, side)


def step(LiveTable table not None, segments):
    """Step `segments` (SEGMENT_DTYPE, any length) in order.

    The table must have room for as many new records of each pool, index slots and retired rows as there are segments.

    Raises:
        TypeError: `segments` are not SEGMENT_DTYPE.
        ValueError: there is not room enough.
    """
    if segments.dtype is not SEGMENT_DTYPE and segments.dtype != SEGMENT_DTYPE:
        raise TypeError(f"segments are {SEGMENT_DTYPE}, not {segments.dtype}")
    cdef const uint8_t[::1] rows = segments.view(np.uint8)  # a view of structs would have its format read each time
    cdef Tables* t = &table.c
    cdef Py_ssize_t n = rows.shape[0] // <Py_ssize_t>sizeof(SegmentRecord)
    cdef Py_ssize_t i = 0
    if n == 0:
        return
    if n > 1 << 31 or not table.has_room(<uint32_t>n):
        raise ValueError("no room: the tracker must grow its arrays before a batch")
    with nogil:
        while i < n:
            _step_block(t, <const SegmentRecord*>&rows[0] + i, <int>(n - i) if n - i < BLOCK else BLOCK)
            i += BLOCK


def use_lanes(LiveTable table not None, bint wanted):
    """Have plain segments take the short ways of lanes.pxd, or every segment judged by every case, to the same result.

    Returns:
        whether they do: not if the table's rules are not those that the lanes take for granted.
    """
    table.c.lanes = lanes_fit(&table.c) and wanted
    return bool(table.c.lanes)
