# Keys of connections as words of 64 bits, and their hash: the inline half of keys.pyx.
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from .abi cimport FlowRecord


cdef inline uint64_t hash_of(const uint64_t* words, Py_ssize_t width, uint64_t seed) noexcept nogil:
    # Each step maps its word one to one, so keys that differ in one word never meet. The factor is 2**64 / golden
    # ratio (Knuth, The Art of Computer Programming 3, 6.4).
    cdef uint64_t hash = seed
    cdef Py_ssize_t i
    for i in range(width):
        hash ^= words[i]
        hash ^= hash >> 32
        hash *= 0x9E3779B97F4A7C15ULL
        hash ^= hash >> 32
    hash *= 0x9E3779B97F4A7C15ULL
    return hash ^ (hash >> 32)


cdef inline void words_of(const FlowRecord* row, bint client, uint64_t* out) noexcept nogil:
    if client:
        memcpy(out, row.client_ip, 16)
        out[2] = <uint64_t>row.ip_version << 16 | row.client_port
    else:
        memcpy(out, row.server_ip, 16)
        out[2] = <uint64_t>row.ip_version << 16 | row.server_port
