# Shared with sweep.pyx: the hash of a live record's 4-tuple.
from libc.stdint cimport uint32_t

from .live cimport LiveFlow, Tables

cdef uint32_t hash_of(const Tables* t, const LiveFlow* f) noexcept nogil
