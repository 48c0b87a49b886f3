# The headers between a link and IP. Read framing.pyx.
from libc.stdint cimport uint32_t

from conntrack.core.cursor cimport Cursor

cdef int by_ethertype(uint32_t ethertype) noexcept nogil
cdef int by_nlpid(uint32_t nlpid) noexcept nogil
cdef int read_ethertype(Cursor *cursor, uint32_t header) noexcept nogil
cdef int read_snap(Cursor *cursor) noexcept nogil
cdef int skip(Cursor *cursor, uint32_t header, int layer) noexcept nogil
cdef int read_link_layer(Cursor *cursor, int layer) noexcept nogil
