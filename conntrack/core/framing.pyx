"""Framing: the headers between a link and IP that any link or tunnel may have.

Owns the EtherTypes and the readers of Ethernet, LLC/SNAP, VLAN, PBB, VN-Tag, FabricPath, MPLS, PPPoE and PPP. Each
reader goes over one header and returns what comes next, a Layer, or an Outcome when there is nothing more to read.

Read IEEE 802.3, 802.1Q and 802.1ah, 802.1BR (VN-Tag); RFC 1042 (SNAP), RFC 1661 and 1662 (PPP), RFC 2516 (PPPoE), RFC
3032 and 4385 (MPLS and its control word).
"""

from libc.stdint cimport uint8_t, uint32_t

from conntrack.core.cursor cimport (
    FIRST_LAYER,
    LAYER_ETHERNET,
    LAYER_FABRICPATH,
    LAYER_IPV4,
    LAYER_IPV6,
    LAYER_LLC,
    LAYER_MPLS,
    LAYER_PBB,
    LAYER_PPP,
    LAYER_PPPOE,
    LAYER_RADIOTAP,
    LAYER_VLAN,
    LAYER_VNTAG,
    LAYER_WLAN,
    Cursor,
    big16,
    big32,
    nest,
    put,
    put_number,
    shorten,
    step,
)
from conntrack.core.decode cimport ARP, CUT_SHORT_HEADER, MPLS, NOT_IP, PPPOE
from conntrack.core.paths cimport (
    TOKEN_FABRICPATH,
    TOKEN_MPLS,
    TOKEN_PBB,
    TOKEN_PPPOE,
    TOKEN_VLAN,
    TOKEN_VNTAG,
)
from conntrack.core.wireless cimport read_radiotap, read_wlan

cdef enum:  # https://www.iana.org/assignments/ieee-802-numbers
    ETHERTYPE_SMALLEST = 0x0600     # below it the field is a length (IEEE 802.3 clause 3.2.6)
    ETHERTYPE_IPV4 = 0x0800
    ETHERTYPE_ARP = 0x0806
    ETHERTYPE_BRIDGED = 0x6558      # transparent Ethernet bridging
    ETHERTYPE_REVERSE_ARP = 0x8035
    ETHERTYPE_VLAN = 0x8100
    ETHERTYPE_IPV6 = 0x86DD
    ETHERTYPE_PPP = 0x880B
    ETHERTYPE_MPLS = 0x8847
    ETHERTYPE_MPLS_MULTICAST = 0x8848
    ETHERTYPE_PPPOE_DISCOVERY = 0x8863
    ETHERTYPE_PPPOE_SESSION = 0x8864
    ETHERTYPE_JUMBO = 0x8870        # 802.2 in frames too long for a length
    ETHERTYPE_QINQ = 0x88A8
    ETHERTYPE_PBB = 0x88E7
    ETHERTYPE_FABRICPATH = 0x8903
    ETHERTYPE_VNTAG = 0x8926
    ETHERTYPE_QINQ_OLD = 0x9100
    ETHERTYPE_QINQ_OLDER = 0x9200

cdef enum:
    NLPID_IPV6 = 0x8E
    NLPID_IPV4 = 0xCC
    MPLS_IPV4_NULL = 0              # RFC 3032 section 2.1
    MPLS_IPV6_NULL = 2


cdef int by_ethertype(uint32_t ethertype) noexcept nogil:
    """Return the layer that an EtherType announces, or what to count."""
    if ethertype == ETHERTYPE_IPV4:
        return LAYER_IPV4
    if ethertype == ETHERTYPE_IPV6:
        return LAYER_IPV6
    if (
        ethertype == ETHERTYPE_VLAN or ethertype == ETHERTYPE_QINQ or ethertype == ETHERTYPE_QINQ_OLD
        or ethertype == ETHERTYPE_QINQ_OLDER
    ):
        return LAYER_VLAN
    if ethertype < ETHERTYPE_SMALLEST or ethertype == ETHERTYPE_JUMBO:
        return LAYER_LLC
    if ethertype == ETHERTYPE_MPLS or ethertype == ETHERTYPE_MPLS_MULTICAST:
        return LAYER_MPLS
    if ethertype == ETHERTYPE_PPPOE_SESSION:
        return LAYER_PPPOE
    if ethertype == ETHERTYPE_PBB:
        return LAYER_PBB
    if ethertype == ETHERTYPE_VNTAG:
        return LAYER_VNTAG
    if ethertype == ETHERTYPE_FABRICPATH:
        return LAYER_FABRICPATH
    if ethertype == ETHERTYPE_BRIDGED:
        return LAYER_ETHERNET
    if ethertype == ETHERTYPE_PPP:
        return LAYER_PPP
    if ethertype == ETHERTYPE_PPPOE_DISCOVERY:
        return PPPOE
    if ethertype == ETHERTYPE_ARP or ethertype == ETHERTYPE_REVERSE_ARP:
        return ARP
    return NOT_IP


cdef int by_ppp_protocol(uint32_t protocol) noexcept nogil:
    if protocol == 0x0021:
        return LAYER_IPV4
    if protocol == 0x0057:
        return LAYER_IPV6
    if protocol == 0x0281 or protocol == 0x0283:    # RFC 3032 section 4.3
        return LAYER_MPLS
    return NOT_IP


cdef int by_nlpid(uint32_t nlpid) noexcept nogil:
    """Return the layer that a network layer protocol identifier (ISO/IEC TR 9577) announces."""
    if nlpid == NLPID_IPV4:
        return LAYER_IPV4
    if nlpid == NLPID_IPV6:
        return LAYER_IPV6
    return NOT_IP


cdef int read_ethertype(Cursor *cursor, uint32_t header) noexcept nogil:
    # A header that ends with an EtherType.
    cdef uint32_t ethertype
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    ethertype = big16(cursor.at + header - 2)
    step(cursor, header)
    return by_ethertype(ethertype)


cdef int read_snap(Cursor *cursor) noexcept nogil:
    # RFC 1042: an organisation code and its protocol; 0 and 0000F8 have EtherTypes, 0080C2 is bridged (RFC 2684).
    cdef uint32_t organisation, protocol
    if cursor.captured < 5:
        return CUT_SHORT_HEADER
    organisation = big32(cursor.at) >> 8
    protocol = big16(cursor.at + 3)
    step(cursor, 5)
    if organisation == 0 or organisation == 0x0000F8:
        return by_ethertype(protocol) if protocol >= ETHERTYPE_SMALLEST else NOT_IP
    if organisation == 0x0080C2 and (protocol == 1 or protocol == 7):
        return LAYER_ETHERNET
    return NOT_IP


cdef int read_llc(Cursor *cursor) noexcept nogil:
    cdef uint32_t points
    if cursor.captured < 3:
        return CUT_SHORT_HEADER
    points = big16(cursor.at)
    if cursor.at[2] != 3:                           # unnumbered information
        return NOT_IP
    step(cursor, 3)
    if points == 0xAAAA:
        return read_snap(cursor)
    if points == 0x0606:
        return LAYER_IPV4
    if points == 0xFEFE:
        if cursor.captured < 1:
            return CUT_SHORT_HEADER
        points = cursor.at[0]
        step(cursor, 1)
        return by_nlpid(points)
    return NOT_IP


cdef int read_vlan(Cursor *cursor) noexcept nogil:
    cdef uint32_t number
    if cursor.captured < 4:
        return CUT_SHORT_HEADER
    number = big16(cursor.at) & 0xFFF
    if number:                                      # 0 is a priority and no network
        nest(cursor, number)
        put_number(cursor, TOKEN_VLAN, number)
    return read_ethertype(cursor, 4)


cdef inline bint carries_ip(uint32_t ethertype) noexcept nogil:
    return ethertype >= ETHERTYPE_SMALLEST and by_ethertype(ethertype) >= FIRST_LAYER


cdef int read_mpls(Cursor *cursor) noexcept nogil:
    # What is under the last label nothing says. IP is recognised by version and lengths, Ethernet by its EtherType.
    cdef uint32_t label, version
    cdef const uint8_t *at
    if cursor.captured < 4:
        return CUT_SHORT_HEADER
    label = big32(cursor.at)
    put_number(cursor, TOKEN_MPLS, label >> 12)
    step(cursor, 4)
    if not label >> 8 & 1:
        return LAYER_MPLS
    label >>= 12
    if label == MPLS_IPV4_NULL:
        return LAYER_IPV4
    if label == MPLS_IPV6_NULL:
        return LAYER_IPV6
    at = cursor.at
    if cursor.captured < 20:
        return CUT_SHORT_HEADER
    version = at[0] >> 4
    if version == 4 and at[0] & 15 >= 5 and 20 <= big16(at + 2) <= cursor.length:
        return LAYER_IPV4
    if version == 6 and big16(at + 4) != 0 and big16(at + 4) + 40 <= cursor.length:
        return LAYER_IPV6
    if version == 0 and carries_ip(big16(at + 16)):     # RFC 4385: a control word
        step(cursor, 4)
        return LAYER_ETHERNET
    if carries_ip(big16(at + 12)):
        return LAYER_ETHERNET
    return MPLS


cdef int read_pppoe(Cursor *cursor) noexcept nogil:
    cdef uint32_t session, length
    if cursor.captured < 6:
        return CUT_SHORT_HEADER
    if cursor.at[0] != 0x11 or cursor.at[1] != 0:   # version and type 1, code 0: a session's data
        return PPPOE
    session = big16(cursor.at + 2)
    length = big16(cursor.at + 4)
    nest(cursor, session)
    put_number(cursor, TOKEN_PPPOE, session)
    step(cursor, 6)
    shorten(cursor, length)
    return LAYER_PPP


cdef int read_ppp(Cursor *cursor) noexcept nogil:
    # RFC 1661 section 2, RFC 1662 section 3.1: address and control may be left out, the protocol may be one byte.
    cdef uint32_t header = 0, protocol
    if cursor.captured >= 2 and cursor.at[0] == 0xFF and cursor.at[1] == 0x03:
        header = 2
    if cursor.captured < header + 2:
        return CUT_SHORT_HEADER
    protocol = cursor.at[header]
    header += 1
    if protocol & 1 == 0:
        protocol = protocol << 8 | cursor.at[header]
        header += 1
    step(cursor, header)
    return by_ppp_protocol(protocol)


cdef int skip(Cursor *cursor, uint32_t header, int layer) noexcept nogil:
    """Go over a header of which nothing matters; return `layer`."""
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    step(cursor, header)
    return layer


cdef int read_link_layer(Cursor *cursor, int layer) noexcept nogil:
    """Read one header that is neither IP nor above it; return the next Layer, or an Outcome."""
    if layer == LAYER_ETHERNET:
        return read_ethertype(cursor, 14)
    if layer == LAYER_VLAN:
        return read_vlan(cursor)
    if layer == LAYER_LLC:
        return read_llc(cursor)
    if layer == LAYER_MPLS:
        return read_mpls(cursor)
    if layer == LAYER_PPPOE:
        return read_pppoe(cursor)
    if layer == LAYER_PPP:
        return read_ppp(cursor)
    if layer == LAYER_RADIOTAP:
        return read_radiotap(cursor)
    if layer == LAYER_WLAN:
        return read_wlan(cursor, False)
    if layer == LAYER_PBB:
        if cursor.captured < 4:
            return CUT_SHORT_HEADER
        nest(cursor, big32(cursor.at) & 0xFFFFFF)
        put_number(cursor, TOKEN_PBB, big32(cursor.at) & 0xFFFFFF)
        return skip(cursor, 4, LAYER_ETHERNET)
    if layer == LAYER_FABRICPATH:                   # its EtherType follows an outer Ethernet header, a tag follows it
        put(cursor, TOKEN_FABRICPATH, cursor.at, 0)
        return skip(cursor, 2, LAYER_ETHERNET)
    put(cursor, TOKEN_VNTAG, cursor.at, 0)          # LAYER_VNTAG is the last of them
    return read_ethertype(cursor, 6)
