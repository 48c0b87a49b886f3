# What one frame turned out to be, and the kernel that tells. Read decode.pyx.
from libc.stdint cimport uint8_t, uint32_t

from conntrack.core.abi cimport SegmentRecord
from conntrack.core.cursor cimport Memory


cpdef enum Outcome:     # TCP, or the reason why not; an index into the counters of walk.pyx
    TCP
    ARP
    NOT_IP              # another EtherType or protocol family: LLDP, spanning tree, netlink, ...
    MPLS                # neither IP nor Ethernet under the labels
    PPPOE               # no session's data
    ENCRYPTED_LINK      # 802.11
    IP_FRAGMENT         # a piece of an IP packet, of which others are missing when it comes
    BAD_FRAGMENT        # a piece that contradicts others
    UDP
    ICMP                # ICMPv6 too
    SCTP
    IP_TUNNEL           # one whose contents are not known
    TOO_DEEP            # more than MOST_LAYERS (cursor.pxd)
    ESP
    OTHER_IP_PROTOCOL
    CUT_SHORT_HEADER    # what was captured ends before the headers do
    BAD_IP_HEADER
    BAD_TCP_HEADER
    UNSUPPORTED_LINK_TYPE
    UNKNOWN_INTERFACE   # a pcapng packet of an interface that the section does not describe
    FILTERED            # not decoded: the user's filter does not let it through
    OUTCOMES            # how many there are


cdef int decode_frame(
    const uint8_t *frame, uint32_t captured, uint32_t on_wire, uint32_t link_type, SegmentRecord *segment,
    Memory *memory
) noexcept nogil
