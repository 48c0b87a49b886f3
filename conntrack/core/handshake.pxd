# SYN and SYN+ACK. See handshake.pyx.
from .abi cimport SegmentRecord
from .live cimport FirstSeen, LiveFlow, Tables

cdef void note_syn(FirstSeen* first, const SegmentRecord* s) noexcept nogil
cdef void judge_syn(Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint first) noexcept nogil
cdef void judge_syn_ack(Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint first) noexcept nogil
