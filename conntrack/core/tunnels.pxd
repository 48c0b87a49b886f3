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
    LOW_BITS = 0x60092001000002     # bit n: the number of one of these ports ends with the six bits n


cdef inline bint is_tunnel(uint32_t port) noexcept nogil:
    # The lowest six bits tell nine ports in ten that it is none.
    if not LOW_BITS >> (port & 63) & 1:
        return False
    return (
        port == PORT_VXLAN or port == PORT_VXLAN_LINUX or port == PORT_GENEVE or port == PORT_GTP
        or port == PORT_TEREDO or port == PORT_L2TP or port == PORT_VXLAN_GPE or port == PORT_MPLS
    )


cdef int read_tunnel(Cursor *cursor, int layer) noexcept nogil
