"""Tunnels: GRE and what is known to be in it, EtherIP, and the tunnels in UDP.

Owns their headers and ports. A tunnel in UDP is a guess that must prove itself: one of its ports, every bit of its
header that is fixed, then down to TCP an IP header of the right version whose lengths fit into the datagram (exactly,
where no Ethernet frame with its padding lies between: GTP-U, Teredo, L2TP), and a TCP header that fits into that. If
any of these fails the frame is UDP and nothing more. Random bytes pass VXLAN's or Geneve's header once in 2^38 and
IP's and TCP's once in 2^20 of these.

Read RFC 2784, 2890 and 1701 (GRE), RFC 2637 (PPTP), RFC 7637 (NVGRE), draft-foschiano-erspan, RFC 3378 (EtherIP),
RFC 7348 (VXLAN), RFC 8926 (Geneve), 3GPP TS 29.281 (GTP-U), RFC 4380 (Teredo), RFC 2661 (L2TP), RFC 7510 (MPLS in UDP).
"""

from libc.stdint cimport uint8_t, uint32_t

from conntrack.core.cursor cimport (
    EXACT_LENGTH,
    FITTING_LENGTH,
    LAYER_ETHERNET,
    LAYER_GRE,
    LAYER_IP,
    LAYER_IPV4,
    LAYER_IPV6,
    LAYER_MPLS,
    LAYER_PPP,
    LAYER_UDP,
    LAYER_WLAN,
    Cursor,
    big16,
    big32,
    put,
    put_number,
    shorten,
    step,
)
from conntrack.core.decode cimport CUT_SHORT_HEADER, IP_TUNNEL, UDP
from conntrack.core.framing cimport by_ethertype
from conntrack.core.paths cimport (
    TOKEN_ERSPAN,
    TOKEN_ETHERIP,
    TOKEN_GENEVE,
    TOKEN_GRE,
    TOKEN_GRE_KEY,
    TOKEN_GTP,
    TOKEN_L2TP,
    TOKEN_NVGRE,
    TOKEN_PPTP,
    TOKEN_TEREDO,
    TOKEN_UDP,
    TOKEN_VXLAN,
)

cdef enum:
    GRE_CHECKSUM = 0x8000
    GRE_ROUTING = 0x4000
    GRE_KEY = 0x2000
    GRE_SEQUENCE = 0x1000
    GRE_ACK = 0x0080                # version 1
    GRE_VERSION = 0x0007
    GRE_PPP = 0x880B
    GRE_ERSPAN = 0x88BE
    GRE_ERSPAN_3 = 0x22EB
    GRE_WCCP = 0x883E
    GRE_ETHERNET = 0x6558
    GRE_ARUBA = 0x8200              # Aruba's access points: 0x8200 to 0x820F are 802.11 frames
    FIRST_VSID = 0x1000             # RFC 7637 section 3.2: those below, and the last, are reserved

cdef enum:
    GTP_DATA = 255                  # G-PDU
    TEREDO_AUTHENTICATION = 1


cdef inline void enter(Cursor *cursor, uint32_t network) noexcept nogil:
    # A tunnel with an identifier both directions share: what is inside is on that network, wherever the outside was.
    cursor.tag = network


cdef int read_gre_1(Cursor *cursor, uint32_t flags) noexcept nogil:
    # RFC 2637: a key of payload length and call id, and PPP; the call id is each direction's own.
    cdef uint32_t header = 8
    if flags & (GRE_CHECKSUM | GRE_ROUTING) or not flags & GRE_KEY or big16(cursor.at + 2) != GRE_PPP:
        return IP_TUNNEL
    if flags & GRE_SEQUENCE:
        header += 4
    if flags & GRE_ACK:
        header += 4
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    step(cursor, header)
    if cursor.length == 0:          # an acknowledgement
        return IP_TUNNEL
    put(cursor, TOKEN_PPTP, cursor.at, 0)
    return LAYER_PPP


cdef int read_erspan(Cursor *cursor, uint32_t protocol, bint numbered) noexcept nogil:
    # Type I has no header and no sequence number, II 8 bytes, III 12 and 8 more where its last bit says so.
    cdef uint32_t header = 0, session = 0
    if protocol == GRE_ERSPAN_3 or numbered:
        header = 12 if protocol == GRE_ERSPAN_3 else 8
        if cursor.captured < header:
            return CUT_SHORT_HEADER
        if cursor.at[0] >> 4 != (2 if protocol == GRE_ERSPAN_3 else 1):
            return IP_TUNNEL
        enter(cursor, big16(cursor.at) & 0xFFF)     # the VLAN that was mirrored
        session = big16(cursor.at + 2) & 0x3FF
        if protocol == GRE_ERSPAN_3 and cursor.at[11] & 1:
            header += 8
            if cursor.captured < header:
                return CUT_SHORT_HEADER
        step(cursor, header)
    put_number(cursor, TOKEN_ERSPAN, session)
    return LAYER_ETHERNET


cdef int read_gre(Cursor *cursor) noexcept nogil:
    cdef uint32_t flags, protocol, key, header = 4
    if cursor.captured < 8:         # nothing that carries TCP is shorter
        return CUT_SHORT_HEADER if cursor.length >= 8 else IP_TUNNEL
    flags = big16(cursor.at)
    protocol = big16(cursor.at + 2)
    if flags & GRE_VERSION == 1:
        return read_gre_1(cursor, flags)
    if flags & GRE_VERSION:
        return IP_TUNNEL
    if flags & (GRE_CHECKSUM | GRE_ROUTING):
        header += 4
    if flags & GRE_KEY:
        header += 4
    if flags & GRE_SEQUENCE:
        header += 4
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    if flags & GRE_KEY:
        key = big32(cursor.at + (8 if flags & (GRE_CHECKSUM | GRE_ROUTING) else 4))
        if flags == GRE_KEY and protocol == GRE_ETHERNET and FIRST_VSID <= key >> 8 < 0xFFFFFF:
            enter(cursor, key >> 8)                 # NVGRE; the lower byte tells flows apart
            put_number(cursor, TOKEN_NVGRE, key >> 8)
        else:
            enter(cursor, key)
            put_number(cursor, TOKEN_GRE_KEY, key)
    elif protocol != GRE_ERSPAN and protocol != GRE_ERSPAN_3:
        put(cursor, TOKEN_GRE, cursor.at, 0)
    step(cursor, header)
    if flags & GRE_ROUTING:         # RFC 1701: entries of 4 bytes and a length; the last has length 0
        while True:
            if cursor.captured < 4:
                return CUT_SHORT_HEADER
            header = cursor.at[3]
            if cursor.captured < 4 + header:
                return CUT_SHORT_HEADER
            step(cursor, 4 + header)
            if header == 0:
                break
    if protocol == GRE_ERSPAN or protocol == GRE_ERSPAN_3:
        return read_erspan(cursor, protocol, flags & GRE_SEQUENCE != 0)
    if protocol == GRE_WCCP:        # version 2 puts 4 bytes before the packet
        if cursor.captured < 5:
            return CUT_SHORT_HEADER
        if cursor.at[0] >> 4 != 4:
            step(cursor, 4)
        return LAYER_IPV4
    if protocol & 0xFFF0 == GRE_ARUBA:
        return LAYER_WLAN
    return by_ethertype(protocol) if protocol >= 0x0600 else IP_TUNNEL


cdef int read_vxlan(Cursor *cursor, bint extended) noexcept nogil:
    # Flags 08 and zeros; 88 with a group policy in between; on its own port 0C with the protocol of what follows.
    cdef const uint8_t *at = cursor.at
    cdef int layer = LAYER_ETHERNET
    if cursor.length < 8:
        return UDP
    if cursor.captured < 8:
        return CUT_SHORT_HEADER
    if at[7] != 0:
        return UDP
    if extended:
        if at[0] != 0x0C or at[1] != 0 or at[2] != 0 or not 1 <= at[3] <= 3:
            return UDP
        layer = LAYER_IPV4 if at[3] == 1 else LAYER_IPV6 if at[3] == 2 else LAYER_ETHERNET
    elif at[0] == 0x08:
        if at[1] != 0 or at[2] != 0 or at[3] != 0:
            return UDP
    elif at[0] != 0x88 or at[1] & 0xB7:
        return UDP
    enter(cursor, big32(at + 4) >> 8)
    put_number(cursor, TOKEN_VXLAN, big32(at + 4) >> 8)
    step(cursor, 8)
    return layer


cdef int read_geneve(Cursor *cursor) noexcept nogil:
    cdef const uint8_t *at = cursor.at
    cdef uint32_t header
    cdef int layer
    if cursor.length < 8:
        return UDP
    if cursor.captured < 8:
        return CUT_SHORT_HEADER
    header = 8 + (at[0] & 0x3F) * 4
    layer = by_ethertype(big16(at + 2))
    if at[0] >> 6 or at[1] & 0xBF or at[7] or header > cursor.length:   # version 0, no control message
        return UDP
    if layer != LAYER_ETHERNET and layer != LAYER_IPV4 and layer != LAYER_IPV6:
        return UDP
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    enter(cursor, big32(at + 4) >> 8)
    put_number(cursor, TOKEN_GENEVE, big32(at + 4) >> 8)
    step(cursor, header)
    return layer


cdef int read_gtp(Cursor *cursor) noexcept nogil:
    # Version 1 and user data. The TEID is each direction's own: it is part of the path, not of the network.
    cdef const uint8_t *at = cursor.at
    cdef uint32_t header = 8, size
    cdef uint8_t following
    if cursor.length < 8:
        return UDP
    if cursor.captured < 8:
        return CUT_SHORT_HEADER
    if at[0] & 0xF8 != 0x30 or at[1] != GTP_DATA or big16(at + 2) + 8 != cursor.length:
        return UDP
    if at[0] & 7:                   # sequence number, N-PDU number, and the type of the first extension
        header = 12
        if cursor.captured < 12:
            return CUT_SHORT_HEADER
        following = at[11] if at[0] & 4 else 0
        while following:            # RFC-like chain: a length in words, the contents, the type of the next
            if cursor.captured < header + 4:
                return CUT_SHORT_HEADER
            size = at[header] * 4
            if size == 0 or header + size > cursor.length:
                return UDP
            if cursor.captured < header + size:
                return CUT_SHORT_HEADER
            header += size
            following = at[header - 1]
    put_number(cursor, TOKEN_GTP, big32(at + 4))
    step(cursor, header)
    cursor.fit = EXACT_LENGTH
    return LAYER_IP


cdef int read_teredo(Cursor *cursor) noexcept nogil:
    # Authentication and origin may come first; one of the addresses inside must be a Teredo address, 2001::/32.
    cdef uint32_t header
    if cursor.captured >= 4 and big16(cursor.at) == TEREDO_AUTHENTICATION:
        header = 13 + cursor.at[2] + cursor.at[3]
        if cursor.length < header:
            return UDP
        if cursor.captured < header:
            return CUT_SHORT_HEADER
        step(cursor, header)
    if cursor.captured >= 8 and big16(cursor.at) == 0:
        step(cursor, 8)
    if cursor.length < 40:
        return UDP
    if cursor.captured < 40:
        return CUT_SHORT_HEADER
    if cursor.at[0] >> 4 != 6 or (big32(cursor.at + 8) != 0x20010000 and big32(cursor.at + 24) != 0x20010000):
        return UDP
    put(cursor, TOKEN_TEREDO, cursor.at, 0)
    cursor.fit = EXACT_LENGTH
    return LAYER_IPV6


cdef int read_l2tp(Cursor *cursor) noexcept nogil:
    # Version 2 and data. Tunnel and session are each direction's own.
    cdef uint32_t flags, header = 6
    if cursor.length < 8:
        return UDP
    if cursor.captured < 8:
        return CUT_SHORT_HEADER
    flags = big16(cursor.at)
    if flags & 0xB4FF != 2:         # a control message, a bit that is reserved, another version
        return UDP
    if flags & 0x4000:
        if not 8 <= big16(cursor.at + 2) <= cursor.length:
            return UDP
        shorten(cursor, big16(cursor.at + 2))
        header += 2
    put_number(cursor, TOKEN_L2TP, big32(cursor.at + header - 4))
    if flags & 0x0800:
        header += 4
    if flags & 0x0200:
        if cursor.captured < header + 2:
            return CUT_SHORT_HEADER if cursor.length >= header + 2 else UDP
        header += 2 + big16(cursor.at + header)
    if cursor.length < header:
        return UDP
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    step(cursor, header)
    cursor.fit = EXACT_LENGTH
    return LAYER_PPP


cdef int by_port(Cursor *cursor, uint32_t port) noexcept nogil:
    # UDP's header has been read. UDP when the port is no tunnel's.
    if port == PORT_VXLAN or port == PORT_VXLAN_LINUX:
        return read_vxlan(cursor, False)
    if port == PORT_VXLAN_GPE:
        return read_vxlan(cursor, True)
    if port == PORT_GENEVE:
        return read_geneve(cursor)
    if port == PORT_GTP:
        return read_gtp(cursor)
    if port == PORT_TEREDO:
        return read_teredo(cursor)
    if port == PORT_L2TP:
        return read_l2tp(cursor)
    if port == PORT_MPLS:
        put(cursor, TOKEN_UDP, cursor.at, 0)
        return LAYER_MPLS
    return UDP


cdef int read_udp(Cursor *cursor) noexcept nogil:
    cdef uint32_t size, port
    if cursor.captured < 8:
        return UDP
    port = big16(cursor.at + 2)
    if not is_tunnel(port):
        port = big16(cursor.at)
        if not is_tunnel(port):
            return UDP
    size = big16(cursor.at + 4)
    if size:                        # 0: a jumbogram, or segmentation offload
        if size < 8 or size > cursor.length:
            return UDP
        shorten(cursor, size)
    if cursor.fit < FITTING_LENGTH:
        cursor.fit = FITTING_LENGTH
    step(cursor, 8)
    return by_port(cursor, port)


cdef int read_etherip(Cursor *cursor) noexcept nogil:
    if cursor.captured < 2:
        return CUT_SHORT_HEADER
    if cursor.at[0] >> 4 != 3:      # the version; the other 12 bits are reserved
        return IP_TUNNEL
    put(cursor, TOKEN_ETHERIP, cursor.at, 0)
    step(cursor, 2)
    return LAYER_ETHERNET


cdef int read_tunnel(Cursor *cursor, int layer) noexcept nogil:
    """Read one tunnel's header; return the next Layer, or an Outcome."""
    if layer == LAYER_UDP:
        return read_udp(cursor)
    if layer == LAYER_GRE:
        return read_gre(cursor)
    return read_etherip(cursor)
