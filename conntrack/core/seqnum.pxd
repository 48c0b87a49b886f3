# Sequence arithmetic modulo 2^32 (RFC 9293 section 3.4): the only place that compares sequence numbers.
from libc.stdint cimport int32_t, uint32_t


cdef inline bint seq_lt(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) < 0


cdef inline bint seq_le(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) <= 0


cdef inline uint32_t seq_max(uint32_t a, uint32_t b) noexcept nogil:
    return b if <int32_t>(a - b) < 0 else a
