# ACKs, data and FINs. See stream.pyx.
from libc.stdint cimport uint32_t

from .abi cimport SegmentRecord
from .live cimport LiveFlow, Tables, Trouble

cdef void count_retransmit(Tables* t, LiveFlow* f, int side, uint32_t repeated, bint whole) noexcept nogil
cdef uint32_t covered(Trouble* x, int side, uint32_t start, uint32_t end) noexcept nogil
cdef void judge_stream(Tables* t, LiveFlow* f, const SegmentRecord* s, int side, bint first) noexcept nogil
