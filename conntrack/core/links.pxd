# Link types. Read links.pyx.
from libc.stdint cimport uint32_t

from conntrack.core.cursor cimport Cursor

cdef int first_layer(Cursor *cursor, uint32_t link_type) noexcept nogil
