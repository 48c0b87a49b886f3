# SYN and SYN+ACK. See handshake.pyx.
from .abi cimport SegmentRecord
from .live cimport LiveFlow, Tables

cdef void judge_syn(Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint first) noexcept nogil
cdef void judge_syn_ack(Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint first) noexcept nogil
