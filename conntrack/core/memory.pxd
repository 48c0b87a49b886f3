# What the decoder keeps from frame to frame, as an object. Read memory.pyx.
from libc.stdint cimport uint32_t

from conntrack.core.cursor cimport Fragmented, Journal, Memory, PathRecord


cdef class DecodeMemory:
    cdef Memory memory
    cdef Fragmented[::1] fragmented
    cdef PathRecord[::1] paths
    cdef uint32_t[::1] slots
    cdef Journal[::1] journal
