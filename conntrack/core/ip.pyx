"""IP: the headers of both versions, what they say comes next, and whose addresses the segment gets.

Owns IPv4 and IPv6 with options, routes, extension headers and authentication; pieces go to fragments.pyx. As every
reader of a layer: it goes over one header and returns the next Layer, or an Outcome.

Read RFC 791 section 3.1 (IPv4), RFC 8200 sections 3 and 4 (IPv6), RFC 4302 (AH), RFC 8754 (segment routing).
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from conntrack.core.abi cimport SegmentRecord
from conntrack.core.cursor cimport (
    EXACT_LENGTH,
    FIRST_LAYER,
    LAYER_ETHERIP,
    LAYER_ETHERNET,
    LAYER_GRE,
    LAYER_IPV4,
    LAYER_IPV6,
    LAYER_MPLS,
    LAYER_TCP,
    LAYER_UDP,
    Cursor,
    big16,
    big32,
    put,
    step,
)
from conntrack.core.decode cimport (
    BAD_FRAGMENT,
    BAD_IP_HEADER,
    CUT_SHORT_HEADER,
    ESP,
    ICMP,
    IP_FRAGMENT,
    IP_TUNNEL,
    NOT_IP,
    OTHER_IP_PROTOCOL,
    SCTP,
    TCP,
)
from conntrack.core.fragments cimport CONTRADICTION, NOT_YET, gather
from conntrack.core.paths cimport TOKEN_IPV4, TOKEN_IPV6

cdef enum:  # https://www.iana.org/assignments/protocol-numbers
    IP_HOP_BY_HOP = 0
    IP_ICMP = 1
    IP_IPV4 = 4
    IP_TCP = 6
    IP_UDP = 17
    IP_IPV6 = 41
    IP_ROUTING = 43
    IP_FRAGMENT_HEADER = 44
    IP_GRE = 47
    IP_ESP = 50
    IP_AH = 51
    IP_ICMPV6 = 58
    IP_DESTINATION = 60
    IP_IPIP = 94
    IP_ETHERIP = 97
    IP_L2TP = 115
    IP_SCTP = 132
    IP_MOBILITY = 135
    IP_MPLS = 137
    IP_HIP = 139
    IP_SHIM6 = 140
    IP_ETHERNET = 143
    OPTION_END = 0
    OPTION_NOP = 1
    IPV4_LOOSE_ROUTE = 131
    IPV4_STRICT_ROUTE = 137


cdef int by_protocol(uint32_t protocol) noexcept nogil:
    if protocol == IP_TCP:
        return LAYER_TCP
    if protocol == IP_UDP:
        return LAYER_UDP
    if protocol == IP_ICMP or protocol == IP_ICMPV6:
        return ICMP
    if protocol == IP_IPV4 or protocol == IP_IPIP:
        return LAYER_IPV4
    if protocol == IP_IPV6:
        return LAYER_IPV6
    if protocol == IP_GRE:
        return LAYER_GRE
    if protocol == IP_ETHERIP:
        return LAYER_ETHERIP
    if protocol == IP_MPLS:
        return LAYER_MPLS
    if protocol == IP_ETHERNET:
        return LAYER_ETHERNET
    if protocol == IP_SCTP:
        return SCTP
    if protocol == IP_ESP:
        return ESP
    if protocol == IP_L2TP:     # version 3: nothing in it says how long its cookie is
        return IP_TUNNEL
    return OTHER_IP_PROTOCOL


cdef inline int after_ip(Cursor *cursor, uint32_t protocol) noexcept nogil:
    # What is inside goes on with the addresses of its own, and these become part of the path.
    cdef int layer = by_protocol(protocol)
    cdef uint8_t addresses[32]
    if layer >= FIRST_LAYER and layer != LAYER_TCP:
        if cursor.segment.ip_version == 4:
            memcpy(addresses, &cursor.segment.src_ip[12], 4)
            memcpy(addresses + 4, &cursor.segment.dst_ip[12], 4)
            put(cursor, TOKEN_IPV4, addresses, 8)
        else:
            memcpy(addresses, &cursor.segment.src_ip[0], 16)
            memcpy(addresses + 16, &cursor.segment.dst_ip[0], 16)
            put(cursor, TOKEN_IPV6, addresses, 32)
    return layer


cdef int read_authentication(Cursor *cursor, uint32_t *protocol) noexcept nogil:
    # RFC 4302: length in words less 2. TCP when it was read, else what to count.
    cdef uint32_t header
    if cursor.length < 12:
        return BAD_IP_HEADER
    if cursor.captured < 12:
        return CUT_SHORT_HEADER
    header = (<uint32_t> cursor.at[1] + 2) * 4
    if header < 12 or header > cursor.length:
        return BAD_IP_HEADER
    if header > cursor.captured:
        return CUT_SHORT_HEADER
    protocol[0] = cursor.at[0]
    step(cursor, header)
    return TCP


cdef void take_last_hop(const uint8_t *option, uint32_t left, SegmentRecord *segment) noexcept nogil:
    # RFC 791 section 3.1: on a source route not yet at its end, the destination is the route's last address.
    cdef uint32_t length
    while left >= 3 and option[0] != OPTION_END:
        if option[0] == OPTION_NOP:
            option += 1
            left -= 1
            continue
        length = option[1]
        if length < 2 or length > left:
            return
        if option[0] == IPV4_LOOSE_ROUTE or option[0] == IPV4_STRICT_ROUTE:
            if length >= 7 and 4 <= option[2] <= length - 3:
                write_ipv4(segment.dst_ip, option + 3 + (length - 3) // 4 * 4 - 4)
            return
        option += length
        left -= length


cdef int read_ipv4(Cursor *cursor) noexcept nogil:
    """Read an IPv4 header, and authentication behind it."""
    cdef const uint8_t *ip = cursor.at
    cdef SegmentRecord *segment = cursor.segment
    cdef uint32_t header, total, fragment, protocol
    cdef int done
    if cursor.captured < 20:
        return CUT_SHORT_HEADER
    header = (ip[0] & 15) * 4
    total = big16(ip + 2)
    if total == 0 and cursor.fit != EXACT_LENGTH:   # segmentation offload: captured before the card fills it in
        total = cursor.length
    if ip[0] >> 4 != 4 or header < 20 or total < header:
        return BAD_IP_HEADER
    if cursor.fit and (total > cursor.length or (cursor.fit == EXACT_LENGTH and total != cursor.length)):
        return BAD_IP_HEADER
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    if cursor.captured > total:
        cursor.captured = total
    cursor.length = total
    segment.ip_version = 4
    segment.ttl = ip[8]
    segment.ip_id = <uint16_t> big16(ip + 4)
    write_ipv4(segment.src_ip, ip + 12)
    write_ipv4(segment.dst_ip, ip + 16)
    if header > 20:
        take_last_hop(ip + 20, header - 20, segment)
    step(cursor, header)
    protocol = ip[9]
    fragment = big16(ip + 6) & 0x3FFF
    if fragment:
        if by_protocol(protocol) < FIRST_LAYER and protocol != IP_AH:
            return IP_FRAGMENT if fragment & 0x1FFF else by_protocol(protocol)
        done = gather(cursor, &protocol, False, segment.ip_id, (fragment & 0x1FFF) * 8, fragment >> 13 & 1)
        if done == CONTRADICTION:
            return BAD_FRAGMENT
        if done == NOT_YET:
            return IP_FRAGMENT
    while protocol == IP_AH:
        done = read_authentication(cursor, &protocol)
        if done != TCP:
            return done
    return after_ip(cursor, protocol)


cdef inline bint is_extension(uint32_t protocol) noexcept nogil:
    return (
        protocol == IP_HOP_BY_HOP or protocol == IP_ROUTING or protocol == IP_FRAGMENT_HEADER
        or protocol == IP_DESTINATION or protocol == IP_AH or protocol == IP_MOBILITY or protocol == IP_HIP
        or protocol == IP_SHIM6
    )


cdef inline void take_last_segment(const uint8_t *at, uint32_t header, SegmentRecord *segment) noexcept nogil:
    # On its way along a route, a packet's destination is what the route ends with: types 0 (RFC 5095), 2 (RFC 6275)
    # and 4 (RFC 8754, whose list is in reverse).
    if at[3] == 0 or header < 24:
        return
    if at[2] == 0:
        memcpy(segment.dst_ip, at + 8 + (header - 8) // 16 * 16 - 16, 16)
    elif at[2] == 2 or at[2] == 4:
        memcpy(segment.dst_ip, at + 8, 16)


cdef int read_ipv6(Cursor *cursor) noexcept nogil:
    """Read an IPv6 header and its extensions."""
    cdef const uint8_t *at = cursor.at
    cdef SegmentRecord *segment = cursor.segment
    cdef uint32_t length, header, protocol, fragment
    cdef int done
    if cursor.captured < 40:
        return CUT_SHORT_HEADER
    if at[0] >> 4 != 6:
        return BAD_IP_HEADER
    length = big16(at + 4)
    if length == 0 and cursor.fit != EXACT_LENGTH:      # a jumbogram (RFC 2675), or segmentation offload
        length = cursor.length - 40
    if cursor.fit and (length > cursor.length - 40 or (cursor.fit == EXACT_LENGTH and length != cursor.length - 40)):
        return BAD_IP_HEADER
    segment.ip_version = 6
    segment.ttl = at[7]
    segment.ip_id = 0
    memcpy(segment.src_ip, at + 8, 16)
    memcpy(segment.dst_ip, at + 24, 16)
    protocol = at[6]
    step(cursor, 40)
    if cursor.captured > length:
        cursor.captured = length
    cursor.length = length
    while is_extension(protocol):
        at = cursor.at
        if protocol == IP_AH:
            done = read_authentication(cursor, &protocol)
            if done != TCP:
                return done
            continue
        if cursor.length < 8:
            return BAD_IP_HEADER
        if cursor.captured < 8:
            return CUT_SHORT_HEADER
        header = 8 if protocol == IP_FRAGMENT_HEADER else (<uint32_t> at[1] + 1) * 8
        if header > cursor.length:
            return BAD_IP_HEADER
        if header > cursor.captured:
            return CUT_SHORT_HEADER
        if protocol == IP_ROUTING:
            take_last_segment(at, header, segment)
        fragment = big16(at + 2) & 0xFFF9 if protocol == IP_FRAGMENT_HEADER else 0
        protocol = at[0]
        step(cursor, header)
        if fragment:
            done = gather(cursor, &protocol, True, big32(at + 4), fragment & 0xFFF8, fragment & 1)
            if done == CONTRADICTION:
                return BAD_FRAGMENT
            if done == NOT_YET:
                return IP_FRAGMENT
    return after_ip(cursor, protocol)


cdef int read_ip(Cursor *cursor) noexcept nogil:
    """Read an IP header of the version that its own first four bits say: no field does."""
    if cursor.captured < 1:
        return CUT_SHORT_HEADER
    return read_ipv4(cursor) if cursor.at[0] >> 4 == 4 else read_ipv6(cursor) if cursor.at[0] >> 4 == 6 else NOT_IP
