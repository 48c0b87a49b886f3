# What IP carries and TCP may be in, and the ports that say so. Read tunnels.pyx.
from libc.stdint cimport uint32_t, uint64_t

from conntrack.core.cursor cimport Cursor

cdef enum:  # https://www.iana.org/assignments/service-names-port-numbers
    PORT_L2TP = 1701
    PORT_GTP = 2152
    PORT_TEREDO = 3544
    PORT_VXLAN = 4789
    PORT_VXLAN_GPE = 4790
    PORT_GENEVE = 6081
    PORT_MPLS = 6635
    PORT_VXLAN_LINUX = 8472         # the kernel's default, older than IANA's


cdef enum:
    PLACE_FACTOR = 348              # found by trying: sends each of these ports to a place of its own
    PLACE_SHIFT = 8


cdef inline bint is_tunnel(uint32_t port) noexcept nogil:
    # Every UDP frame asks twice, and no branch on its ports could be predicted: so the one port that may stand at this
    # port's place, of eight in two words, is looked at.
    cdef uint32_t place = port * PLACE_FACTOR >> PLACE_SHIFT & 7
    cdef uint64_t low = (
        <uint64_t> PORT_L2TP | <uint64_t> PORT_TEREDO << 16 | <uint64_t> PORT_GENEVE << 32
        | <uint64_t> PORT_MPLS << 48
    )
    cdef uint64_t high = (
        <uint64_t> PORT_VXLAN_LINUX | <uint64_t> PORT_GTP << 16 | <uint64_t> PORT_VXLAN << 32
        | <uint64_t> PORT_VXLAN_GPE << 48
    )
    return ((high if place & 4 else low) >> (place & 3) * 16 & 0xFFFF) == port


cdef int read_tunnel(Cursor *cursor, int layer) noexcept nogil
