"""Link types: what each puts before a layer that others read.

Owns the link types' numbers and the headers that only one of them has. Each reader goes over a header and returns what
comes next, a Layer, or an Outcome when there is nothing more to read.

Read https://www.tcpdump.org/linktypes.html; RFC 2427 (frame relay), RFC 1201 and 1051 (ARCNET), linux/nfnetlink_log.h,
Endace's ERF types reference (EDM11-01).
"""

from libc.stdint cimport uint32_t

from conntrack.core.cursor cimport (
    LAYER_ETHERNET,
    LAYER_IP,
    LAYER_IPV4,
    LAYER_IPV6,
    LAYER_LLC,
    LAYER_PPP,
    LAYER_PPPOE,
    LAYER_RADIOTAP,
    LAYER_WLAN,
    Cursor,
    big16,
    big32,
    little16,
    little32,
    shorten,
    step,
)
from conntrack.core.decode cimport CUT_SHORT_HEADER, IP_FRAGMENT, NOT_IP, UNSUPPORTED_LINK_TYPE
from conntrack.core.framing cimport by_ethertype, by_nlpid, read_ethertype, read_snap, skip
from conntrack.core.wireless cimport read_avs, read_prism

cdef enum:  # https://www.tcpdump.org/linktypes.html; 12 and 14 are what DLT_RAW was on some systems
    LINK_NULL = 0
    LINK_ETHERNET = 1
    LINK_TOKEN_RING = 6
    LINK_ARCNET = 7
    LINK_PPP = 9
    LINK_FDDI = 10
    LINK_RAW_BSD = 12
    LINK_RAW_OPENBSD = 14
    LINK_PPP_HDLC = 50
    LINK_PPP_ETHER = 51
    LINK_ATM_RFC1483 = 100
    LINK_RAW = 101
    LINK_C_HDLC = 104
    LINK_WLAN = 105
    LINK_FRAME_RELAY = 107
    LINK_LOOP = 108
    LINK_ENC = 109
    LINK_LINUX_SLL = 113
    LINK_PFLOG = 117
    LINK_PRISM = 119
    LINK_IP_OVER_FC = 122
    LINK_RADIOTAP = 127
    LINK_ARCNET_LINUX = 129
    LINK_IEEE1394 = 138
    LINK_AVS = 163
    LINK_PPP_PPPD = 166
    LINK_JUNIPER_ETHER = 178
    LINK_PPI = 192
    LINK_ERF = 197
    LINK_PPP_WITH_DIR = 204
    LINK_C_HDLC_WITH_DIR = 205
    LINK_IPV4 = 228
    LINK_IPV6 = 229
    LINK_NFLOG = 239
    LINK_IPOIB = 242
    LINK_PKTAP = 258
    LINK_LINUX_SLL2 = 276
    ARPHRD_NETLINK = 824            # Linux cooked: the protocol is not an EtherType

cdef enum:
    NLPID_SNAP = 0x80               # ISO/IEC TR 9577
    NFULA_PAYLOAD = 9               # linux/netfilter/nfnetlink_log.h
    ARCNET_IP_OLD = 0xF0            # RFC 1051
    ARCNET_IP = 0xD4                # RFC 1201
    ARCNET_IPV6 = 0xC4              # RFC 2497
    ERF_RECORD = 16                 # Endace Extensible Record Format, types of records
    ERF_POS = 1
    ERF_ETHERNET = 2
    ERF_COLOR_POS = 10
    ERF_COLOR_ETHERNET = 11
    ERF_DSM_POS = 15
    ERF_DSM_ETHERNET = 16
    ERF_HASH_POS = 19
    ERF_HASH_ETHERNET = 20
    ERF_IPV4 = 22
    ERF_IPV6 = 23
    ERF_MORE = 0x80                 # of the type, and of each extension header: another follows


cdef int by_family(uint32_t family) noexcept nogil:
    if family == 2:
        return LAYER_IPV4
    if family == 10 or family == 24 or family == 28 or family == 30:
        return LAYER_IPV6
    return NOT_IP


cdef int read_family(Cursor *cursor, uint32_t header) noexcept nogil:
    # NULL, LOOP, ENC: the protocol family, in the byte order of whoever wrote it. IPv6 has a number on each system.
    cdef uint32_t family
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    family = big32(cursor.at)
    if family & 0xFFFF == 0:
        family = (family >> 24) | (family >> 8 & 0xFF00)
    step(cursor, header)
    return by_family(family)


cdef int read_cooked(Cursor *cursor, uint32_t header, uint32_t hardware, uint32_t protocol) noexcept nogil:
    # Linux cooked, of both versions: where the type of the interface is, and where the protocol.
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    hardware = big16(cursor.at + hardware)
    protocol = big16(cursor.at + protocol)
    step(cursor, header)
    return NOT_IP if hardware == ARPHRD_NETLINK else by_ethertype(protocol)


cdef int read_frame_relay(Cursor *cursor) noexcept nogil:
    # RFC 2427; Cisco's own has an EtherType right after the address, whose last byte has the lowest bit set.
    cdef uint32_t header = 1
    cdef uint32_t nlpid
    while header <= cursor.captured and header <= 4 and cursor.at[header - 1] & 1 == 0:
        header += 1
    if header > 4:
        return NOT_IP
    if cursor.captured < header + 3:
        return CUT_SHORT_HEADER
    step(cursor, header)
    if cursor.at[0] != 3:
        return read_ethertype(cursor, 2)
    step(cursor, 1)
    if cursor.at[0] == 0:                           # padding
        step(cursor, 1)
    if cursor.captured < 1:
        return CUT_SHORT_HEADER
    nlpid = cursor.at[0]
    step(cursor, 1)
    return read_snap(cursor) if nlpid == NLPID_SNAP else by_nlpid(nlpid)


cdef int read_nflog(Cursor *cursor) noexcept nogil:
    # Attributes of a length and a type in the byte order of the host, each padded to 4 bytes; one has the packet.
    cdef uint32_t family, length, kind
    cdef bint little
    if cursor.captured < 4:
        return CUT_SHORT_HEADER
    family = cursor.at[0]
    if cursor.at[1] != 0:
        return NOT_IP
    step(cursor, 4)
    while cursor.captured >= 4:
        little = cursor.at[3] == 0                  # types are below 256
        length = little16(cursor.at) if little else big16(cursor.at)
        kind = little16(cursor.at + 2) if little else big16(cursor.at + 2)
        if length < 4 or length > cursor.length:
            return NOT_IP
        if kind == NFULA_PAYLOAD:
            shorten(cursor, length)
            step(cursor, 4)
            return by_family(family)
        length = (length + 3) & ~<uint32_t> 3
        if length > cursor.captured:
            return CUT_SHORT_HEADER
        step(cursor, length)
    return CUT_SHORT_HEADER


cdef int read_token_ring(Cursor *cursor) noexcept nogil:
    # IEEE 802.5: access and frame control, addresses, and a route where the highest bit of the source says so.
    cdef uint32_t header = 14
    if cursor.captured < 15:
        return CUT_SHORT_HEADER
    if cursor.at[1] >> 6 != 1:
        return NOT_IP
    if cursor.at[8] & 0x80:
        header += cursor.at[14] & 0x1F
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    step(cursor, header)
    return LAYER_LLC


cdef int read_fddi(Cursor *cursor) noexcept nogil:
    if cursor.captured < 13:
        return CUT_SHORT_HEADER
    if cursor.at[0] & 0x70 != 0x50:                 # frame control: LLC
        return NOT_IP
    step(cursor, 13)
    return LAYER_LLC


cdef int read_arcnet(Cursor *cursor, uint32_t header) noexcept nogil:
    # Source and destination, on Linux an offset of two bytes, then the type; RFC 1201 adds a flag and a number.
    cdef uint32_t kind
    if cursor.captured < header + 1:
        return CUT_SHORT_HEADER
    kind = cursor.at[header]
    step(cursor, header + 1)
    if kind == ARCNET_IP_OLD:
        return LAYER_IPV4
    if kind != ARCNET_IP and kind != ARCNET_IPV6:
        return NOT_IP
    header = 3
    if cursor.captured < 3:
        return CUT_SHORT_HEADER
    if cursor.at[0] == 0xFF:                        # an exception frame repeats them
        header = 7
        if cursor.captured < 7:
            return CUT_SHORT_HEADER
    if cursor.at[header - 3] & 1 == 0 and cursor.at[header - 3] != 0:
        return IP_FRAGMENT                          # of ARCNET's own, not the first
    step(cursor, header)
    return LAYER_IPV4 if kind == ARCNET_IP else LAYER_IPV6


cdef int read_juniper(Cursor *cursor) noexcept nogil:
    cdef uint32_t header = 4
    if cursor.captured < 6:
        return CUT_SHORT_HEADER
    if big32(cursor.at) >> 8 != 0x4D4743:
        return NOT_IP
    if cursor.at[3] & 2:                            # without a link layer
        return NOT_IP
    if cursor.at[3] & 0x80:
        header = 6 + big16(cursor.at + 4)
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    step(cursor, header)
    return LAYER_ETHERNET


cdef int read_wrapped(Cursor *cursor, uint32_t least, uint32_t length_at, uint32_t link_at) noexcept nogil:
    # PPI and PKTAP: a header, little-endian, with its own length and the link type of what it wraps.
    cdef uint32_t header, link_type
    if cursor.captured < least:
        return CUT_SHORT_HEADER
    header = little16(cursor.at + length_at) if least == 8 else little32(cursor.at + length_at)
    link_type = little32(cursor.at + link_at)
    if header < least:
        return NOT_IP
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    if link_type == LINK_PPI or link_type == LINK_PKTAP:
        return NOT_IP
    step(cursor, header)
    return first_layer(cursor, link_type)


cdef int read_erf(Cursor *cursor) noexcept nogil:
    # A record's header, extension headers of 8 bytes, for Ethernet two bytes more; packet over SONET is HDLC or PPP.
    cdef uint32_t header = ERF_RECORD
    cdef uint32_t kind, more
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    kind = cursor.at[8] & ~ERF_MORE
    more = cursor.at[8] & ERF_MORE
    while more:
        if cursor.captured < header + 8:
            return CUT_SHORT_HEADER
        more = cursor.at[header] & ERF_MORE
        header += 8
    if kind == ERF_ETHERNET or kind == ERF_COLOR_ETHERNET or kind == ERF_DSM_ETHERNET or kind == ERF_HASH_ETHERNET:
        return skip(cursor, header + 2, LAYER_ETHERNET)
    if kind == ERF_IPV4:
        return skip(cursor, header, LAYER_IPV4)
    if kind == ERF_IPV6:
        return skip(cursor, header, LAYER_IPV6)
    if kind != ERF_POS and kind != ERF_COLOR_POS and kind != ERF_DSM_POS and kind != ERF_HASH_POS:
        return NOT_IP
    if cursor.captured < header + 2:
        return CUT_SHORT_HEADER
    step(cursor, header)
    return LAYER_PPP if big16(cursor.at) == 0xFF03 else read_ethertype(cursor, 4)


cdef int read_pflog(Cursor *cursor) noexcept nogil:
    # Its own length, then the family; padded to 4 bytes.
    cdef uint32_t family
    if cursor.captured < 2:
        return CUT_SHORT_HEADER
    family = cursor.at[1]
    return skip(cursor, (cursor.at[0] + 3) & ~<uint32_t> 3, by_family(family))


cdef int read_ppp_with_direction(Cursor *cursor) noexcept nogil:
    # A byte for the direction, before the address or in its place.
    if cursor.captured < 2:
        return CUT_SHORT_HEADER
    step(cursor, 2 if cursor.at[1] == 0x03 else 1)
    return LAYER_PPP


cdef int first_layer(Cursor *cursor, uint32_t link_type) noexcept nogil:
    """Go over what the link type puts before a layer known to others; return that layer, or an Outcome."""
    if link_type == LINK_ETHERNET:
        return LAYER_ETHERNET
    if link_type == LINK_LINUX_SLL:
        return read_cooked(cursor, 16, 2, 14)
    if link_type == LINK_LINUX_SLL2:
        return read_cooked(cursor, 20, 8, 0)
    if link_type == LINK_NULL or link_type == LINK_LOOP:
        return read_family(cursor, 4)
    if link_type == LINK_RAW or link_type == LINK_RAW_BSD or link_type == LINK_RAW_OPENBSD:
        return LAYER_IP
    if link_type == LINK_IPV4:
        return LAYER_IPV4
    if link_type == LINK_IPV6:
        return LAYER_IPV6
    if link_type == LINK_PPP or link_type == LINK_PPP_HDLC:
        return LAYER_PPP
    if link_type == LINK_PPP_PPPD or link_type == LINK_PPP_WITH_DIR:
        return read_ppp_with_direction(cursor)
    if link_type == LINK_PPP_ETHER:
        return LAYER_PPPOE
    if link_type == LINK_C_HDLC:
        return read_ethertype(cursor, 4)
    if link_type == LINK_C_HDLC_WITH_DIR:
        return read_ethertype(cursor, 5)
    if link_type == LINK_FRAME_RELAY:
        return read_frame_relay(cursor)
    if link_type == LINK_WLAN:
        return LAYER_WLAN
    if link_type == LINK_RADIOTAP:
        return LAYER_RADIOTAP
    if link_type == LINK_PRISM:
        return read_prism(cursor)
    if link_type == LINK_AVS:
        return read_avs(cursor)
    if link_type == LINK_PPI:
        return read_wrapped(cursor, 8, 2, 4)
    if link_type == LINK_ERF:
        return read_erf(cursor)
    if link_type == LINK_PKTAP:
        return read_wrapped(cursor, 12, 0, 8)
    if link_type == LINK_NFLOG:
        return read_nflog(cursor)
    if link_type == LINK_IPOIB:
        return skip(cursor, 2, read_ethertype(cursor, 42))
    if link_type == LINK_FDDI:
        return read_fddi(cursor)
    if link_type == LINK_TOKEN_RING:
        return read_token_ring(cursor)
    if link_type == LINK_ATM_RFC1483:
        return LAYER_LLC
    if link_type == LINK_IP_OVER_FC:
        return skip(cursor, 16, LAYER_LLC)
    if link_type == LINK_IEEE1394:
        return read_ethertype(cursor, 18)
    if link_type == LINK_ENC:
        return read_family(cursor, 12)
    if link_type == LINK_PFLOG:
        return read_pflog(cursor)
    if link_type == LINK_ARCNET:
        return read_arcnet(cursor, 2)
    if link_type == LINK_ARCNET_LINUX:
        return read_arcnet(cursor, 4)
    if link_type == LINK_JUNIPER_ETHER:
        return read_juniper(cursor)
    return UNSUPPORTED_LINK_TYPE
