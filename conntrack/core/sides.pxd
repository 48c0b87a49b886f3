# What one side of a connection has sent, in sequence numbers; and the kinds of segments. Shared by the judges
# (judge.pyx, handshake.pyx, stream.pyx). Sides are 0 for the client and 1 for the server.
from libc.stdint cimport uint8_t, uint32_t

from .abi cimport SEGMENT_HAS_TIMESTAMP, SegmentRecord
from .life cimport NO_TIME
from .live cimport ACKED, KNOWN, SAW_TIMESTAMP, UNKNOWN_SCALE, LiveFlow, Tables
from .seqnum cimport seq_le, seq_max

cdef enum:                      # what the flags of a segment make it (RFC 9293 3.1; netfilter's tcp_valid_flags)
    KIND_SYN = 0
    KIND_SYN_ACK = 1
    KIND_OTHER = 2              # ACK, or FIN+ACK
    KIND_RST = 3
    KIND_ODD = 4                # SYN+FIN, none at all, FIN without ACK, ...: a probe; moves nothing

cdef enum:                      # SegmentRecord.flags
    TCP_FIN = 1
    TCP_SYN = 2
    TCP_RST = 4
    TCP_ACK = 16

cdef enum:
    LARGEST_SCALE = 14              # RFC 7323 section 2.3; also taken where the handshake was not captured
    WINDOW_MARGIN = 1 << 20         # the announced window was one round trip older than what the receiver offers now
    PLAUSIBLE = 1 << 30             # largest window there can be: RFC 7323 section 2.3


cdef inline int kind_of(uint32_t flags) noexcept nogil:
    cdef uint32_t set_ = flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)
    if set_ == TCP_ACK or set_ == (TCP_FIN | TCP_ACK):
        return KIND_OTHER
    if set_ == TCP_SYN:
        return KIND_SYN
    if set_ == (TCP_SYN | TCP_ACK):
        return KIND_SYN_ACK
    if set_ & TCP_RST and not set_ & TCP_SYN:
        return KIND_RST
    return KIND_ODD


cdef inline uint32_t edge_of(Tables* t, LiveFlow* f, int side) noexcept nogil:
    return t.troubles[f.trouble].edge[side] if f.trouble else f.snd_nxt[side]


cdef inline bint is_known(const LiveFlow* f, int side) noexcept nogil:
    return f.flags & (<uint32_t>KNOWN << side) != 0


cdef inline bint has_acked(const LiveFlow* f, int side) noexcept nogil:
    return f.flags & (<uint32_t>ACKED << side) != 0


cdef inline void note_ack(LiveFlow* f, int side, uint32_t ack) noexcept nogil:
    # The highest stays.
    f.ack[side] = seq_max(f.ack[side], ack) if has_acked(f, side) else ack
    f.flags |= <uint32_t>ACKED << side


cdef inline uint32_t scale_of(LiveFlow* f, int side) noexcept nogil:
    cdef uint32_t scale = (f.scales >> (4 * side)) & 15
    return LARGEST_SCALE if scale == UNKNOWN_SCALE else scale


cdef inline void set_scale(LiveFlow* f, int side, uint32_t scale) noexcept nogil:
    f.scales = <uint8_t>((f.scales & ~(15 << (4 * side))) | scale << (4 * side))


cdef inline bint has_fin(Tables* t, LiveFlow* f, int side) noexcept nogil:
    return f.closing != 0 and t.closings[f.closing].fin_ts_ns[side] != NO_TIME


cdef inline void note_timestamp(LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    # RFC 7323 section 4.3, Linux tcp_replace_ts_recent: not from a segment that begins beyond the last ACK sent.
    if s.options & SEGMENT_HAS_TIMESTAMP and (not has_acked(f, 1 - side) or seq_le(s.seq, f.ack[1 - side])):
        f.ts_recent[side] = s.tsval
        f.flags |= SAW_TIMESTAMP << side


cdef inline bint decade(uint32_t n) noexcept nogil:
    return n == 1 or n == 10 or n == 100 or n == 1000 or n == 10000 or n == 100000 or n == 1000000
