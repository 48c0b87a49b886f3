# What IP carries and TCP may be in. Read tunnels.pyx.
from conntrack.core.cursor cimport Cursor

cdef int read_tunnel(Cursor *cursor, int layer) noexcept nogil
