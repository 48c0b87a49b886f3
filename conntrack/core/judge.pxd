# What a segment is for a connection, by its numbers. See judge.pyx.
from libc.stdint cimport uint32_t

from .abi cimport SegmentRecord
from .live cimport LiveFlow, Tables

cdef enum:                      # what the flags of a segment make it (RFC 9293 section 3.1; netfilter's valid combinations)
    KIND_SYN = 0
    KIND_SYN_ACK = 1
    KIND_OTHER = 2              # ACK, or FIN+ACK
    KIND_RST = 3
    KIND_ODD = 4                # SYN+FIN, none at all, FIN without ACK, ...: a probe; moves nothing

cdef enum:
    TCP_FIN = 1
    TCP_SYN = 2
    TCP_RST = 4
    TCP_ACK = 16


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


cdef bint replaces(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil
cdef void judge(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil
cdef void count(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil
