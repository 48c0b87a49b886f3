# Numbers for the outer paths of segments, and what a path's description is made of. Read paths.pyx.
from libc.stdint cimport uint32_t

from conntrack.core.cursor cimport Cursor, Memory

cdef enum:
    OTHER_PATHS = 65535         # the number of all paths that found no room
    MOST_PROBES = 64            # slots looked at for one path: a bound on what crafted frames can cost


cpdef enum Token:               # one layer; a number is 4 bytes, big-endian. A trail: link type in 2 bytes, then these
    TOKEN_REST                  # the description is cut here: it had no room
    TOKEN_VLAN                  # number
    TOKEN_PBB                   # number: I-SID
    TOKEN_VNTAG
    TOKEN_FABRICPATH
    TOKEN_MPLS                  # number: label
    TOKEN_PPPOE                 # number: session
    TOKEN_WLAN
    TOKEN_IPV4                  # source and destination, 4 bytes each
    TOKEN_IPV6                  # source and destination, 16 bytes each
    TOKEN_GRE
    TOKEN_GRE_KEY               # number
    TOKEN_NVGRE                 # number: VSID
    TOKEN_PPTP
    TOKEN_ERSPAN                # number: session
    TOKEN_ETHERIP
    TOKEN_VXLAN                 # number: VNI
    TOKEN_GENEVE                # number: VNI
    TOKEN_GTP                   # number: TEID
    TOKEN_TEREDO
    TOKEN_L2TP                  # number: tunnel << 16 | session
    TOKEN_UDP                   # MPLS in UDP
    TOKENS                      # how many there are


cdef uint32_t number_of_path(const Cursor *cursor, Memory *memory) noexcept nogil
