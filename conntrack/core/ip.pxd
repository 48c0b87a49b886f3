# IP headers. Read ip.pyx.
from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memset

from conntrack.core.cursor cimport Cursor


cdef inline void write_ipv4(uint8_t *address, const uint8_t *ip) noexcept nogil:
    memset(address, 0, 10)
    memset(address + 10, 0xFF, 2)
    memcpy(address + 12, ip, 4)


cdef int read_ip(Cursor *cursor) noexcept nogil
cdef int read_ipv4(Cursor *cursor) noexcept nogil
cdef int read_ipv6(Cursor *cursor) noexcept nogil
