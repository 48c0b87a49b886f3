# Duplicated frames: one packet that the capture has twice, from a mirror port that sees it come and go, from all
# interfaces at once, from loopback. They are no retransmissions, and count for nothing but themselves.
#
# A host gives each packet another IPv4 identification (RFC 6864), a retransmission too. So a frame is a copy when its
# id was there, it says nothing new, and the connection has not been silent for long. LiveFlow.sent keeps the last id of
# each side; Trouble, which the first copy brings, keeps which of the last RECENT_IDS were there, by the anti-replay
# window of RFC 4303, section 3.4.3: a late original is none, and copies may come in bursts.
#
# IPv6 has no id, and some hosts send 0. Then only what takes sequence space can be told: the last segment of its side
# once more, nothing of the peer in between (no duplicate ACKs that ask for it), sooner than any timer sends it again
# (Linux TCP_TIMEOUT_MIN, 2 ms: the tail loss probe). ACKs and RSTs without an id may all be meant: equal ones are what
# asks for a fast retransmission (RFC 5681, section 3.2). A SYN+ACK without an id (Linux) is a copy though the client's
# ACK came between, unless a SYN came again: its timer is a second.
# So is the SYN so soon behind the handshake, with the id before that of its ACK.
#
# TTL, MAC and VLAN are not looked at: those of copies differ. The decision is judge.is_copy; this is what every segment
# goes through.
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from .abi cimport SegmentRecord
from .live cimport LiveFlow, Tables, Trouble

cdef enum:
    RECENT_IDS = 16
    ID_SHIFT = 48               # of LiveFlow.sent

cdef extern from *:
    """
    #include <stdint.h>
    #define CONNTRACK_PAYLOAD_MASK ((UINT64_C(1) << 48) - 1)
    #define CONNTRACK_FULL (UINT64_C(1) << 47)
    """
    uint64_t PAYLOAD_MASK "CONNTRACK_PAYLOAD_MASK"
    uint64_t FULL "CONNTRACK_FULL"          # of LiveFlow.sent: near the most payload that can be counted


cdef inline uint32_t id_of(const LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    # The id, or in its place how often the peer has spoken: the same again while it is silent.
    return s.ip_id if s.ip_id else <uint16_t>(f.packets[1 - side] + 1)


cdef inline uint64_t payload_of(const LiveFlow* f, int side) noexcept nogil:
    return f.sent[side] & PAYLOAD_MASK


cdef inline void note_payload(LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    # It stops at 2^48 - 1 bytes, 281 TB.
    cdef uint64_t payload = payload_of(f, side) + s.payload_bytes
    f.sent[side] = (f.sent[side] & ~PAYLOAD_MASK) | (payload if payload < PAYLOAD_MASK else PAYLOAD_MASK)


cdef inline uint32_t behind_last(const LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    # By how much the id is less than that of the side's last segment; below RECENT_IDS is_copy() knows more.
    return <uint16_t>((f.sent[side] >> ID_SHIFT) - id_of(f, s, side))


cdef inline void note_id(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil:
    """Remember the id of a segment that is no copy."""
    cdef uint32_t id = id_of(f, s, side)
    cdef uint32_t last = f.sent[side] >> ID_SHIFT
    cdef uint32_t ahead = <uint16_t>(id - last)
    cdef uint32_t behind = <uint16_t>(last - id)
    cdef Trouble* x = &t.troubles[f.trouble]
    if behind < RECENT_IDS and behind:
        if f.trouble:
            x.recent_ids[side] |= <uint16_t>(1 << behind)
        return
    f.sent[side] = payload_of(f, side) | <uint64_t>id << ID_SHIFT
    if f.trouble:
        x.recent_ids[side] = <uint16_t>((<uint32_t>x.recent_ids[side] << ahead if ahead < RECENT_IDS else 0) | 1)
