# 802.11 frames and what radios put before them. Read wireless.pyx.
from conntrack.core.cursor cimport Cursor

cdef int read_radiotap(Cursor *cursor) noexcept nogil
cdef int read_prism(Cursor *cursor) noexcept nogil
cdef int read_avs(Cursor *cursor) noexcept nogil
cdef int read_wlan(Cursor *cursor, bint padded) noexcept nogil
