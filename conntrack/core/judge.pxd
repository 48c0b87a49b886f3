# What a segment is for a connection, by its numbers. See judge.pyx.
from .abi cimport SegmentRecord
from .live cimport LiveFlow, Tables

cdef bint replaces(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil
cdef bint is_copy(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil
cdef void count_copy(Tables* t, LiveFlow* f, int side) noexcept nogil
cdef void judge(Tables* t, LiveFlow* f, const SegmentRecord* s, int side) noexcept nogil
