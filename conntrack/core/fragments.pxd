# IP packets in pieces. Read fragments.pyx.
from libc.stdint cimport uint32_t

from conntrack.core.cursor cimport Cursor

cdef enum:
    WAYS = 8                    # places in which a packet may be: the oldest of them leaves

cdef enum Gathered:
    NOT_YET
    WHOLE                       # the cursor is at the beginning of the packet that was put together
    CONTRADICTION

cdef int gather(
    Cursor *cursor, uint32_t *protocol, bint ipv6, uint32_t identification, uint32_t offset, bint more
) noexcept nogil
