"""Frames into segments: link layer, IP and TCP headers of one frame, into one SegmentRecord.

Owns what the bytes of a frame mean. Knows no container (walk.pyx), no connection and no file. Every length read from
the frame is held against what was captured before it is used; nothing is allocated, raised or printed. The straight
line is Ethernet, IPv4, TCP; everything else branches off it. Lengths come in pairs: `captured` is what may be read,
`on_wire` what the frame was before the snap length cut it.

Read RFC 9293 section 3.1 (TCP), RFC 791 section 3.1 (IPv4), RFC 8200 sections 3 and 4 (IPv6), and
https://www.tcpdump.org/linktypes.html for the link layers. Not done here: reassembly of fragments (the first one is
decoded, its payload is what that fragment holds), tunnels, and the final destination of an IPv6 routing header.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from conntrack.core.abi cimport (
    SEGMENT_HAS_FAST_OPEN,
    SEGMENT_HAS_SACK,
    SEGMENT_HAS_SACK_PERMITTED,
    SEGMENT_HAS_TIMESTAMP,
    SEGMENT_OPTIONS_CUT,
    SegmentRecord,
)

from conntrack.core.abi import SEGMENT_DTYPE

cdef enum:  # https://www.tcpdump.org/linktypes.html; 12 and 14 are what DLT_RAW was on some systems
    LINK_NULL = 0
    LINK_ETHERNET = 1
    LINK_PPP = 9
    LINK_RAW_BSD = 12
    LINK_RAW_OPENBSD = 14
    LINK_PPP_HDLC = 50
    LINK_RAW = 101
    LINK_LOOP = 108
    LINK_LINUX_SLL = 113
    LINK_IPV4 = 228
    LINK_IPV6 = 229
    LINK_LINUX_SLL2 = 276

cdef enum:  # https://www.iana.org/assignments/ieee-802-numbers
    ETHERTYPE_IPV4 = 0x0800
    ETHERTYPE_ARP = 0x0806
    ETHERTYPE_REVERSE_ARP = 0x8035
    ETHERTYPE_VLAN = 0x8100
    ETHERTYPE_IPV6 = 0x86DD
    ETHERTYPE_MPLS = 0x8847
    ETHERTYPE_MPLS_MULTICAST = 0x8848
    ETHERTYPE_PPPOE_DISCOVERY = 0x8863
    ETHERTYPE_PPPOE_SESSION = 0x8864
    ETHERTYPE_QINQ = 0x88A8
    ETHERTYPE_QINQ_OLD = 0x9100
    ETHERTYPE_SMALLEST = 0x0600     # below it the field is a length (IEEE 802.3 clause 3.2.6)
    ARPHRD_NETLINK = 824            # Linux cooked: the protocol is not an EtherType

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
    IP_ETHERNET = 143
    IP_L2TP = 115
    IP_SCTP = 132
    IP_MPLS = 137

cdef enum:  # https://www.iana.org/assignments/tcp-parameters
    OPTION_END = 0
    OPTION_NOP = 1
    OPTION_MSS = 2
    OPTION_WINDOW_SCALE = 3
    OPTION_SACK_PERMITTED = 4
    OPTION_SACK = 5
    OPTION_TIMESTAMPS = 8
    OPTION_FAST_OPEN = 34
    OPTION_EXPERIMENT = 254
    FAST_OPEN_MAGIC = 0xF989        # RFC 7413 appendix: the experimental form
    LARGEST_WINDOW_SCALE = 14       # RFC 7323 section 2.3
    NO_WINDOW_SCALE = 255
    NOP_NOP_TIMESTAMPS = 0x0101080A  # RFC 7323 appendix A: how nearly every host lays them out
    FLAG_SYN = 2
    FLAG_ACK = 16


cdef inline uint32_t big16(const uint8_t *at) noexcept nogil:
    return (<uint32_t> at[0] << 8) | at[1]


cdef inline uint32_t big32(const uint8_t *at) noexcept nogil:
    return (<uint32_t> at[0] << 24) | (<uint32_t> at[1] << 16) | (<uint32_t> at[2] << 8) | at[3]


cdef void decode_options(const uint8_t *option, uint32_t left, bint syn, SegmentRecord *segment) noexcept nogil:
    # As Linux reads them (tcp_parse_options): a length below 2 or beyond the end stops, a wrong length is skipped.
    cdef uint32_t length
    cdef uint8_t kind
    while left > 0:
        kind = option[0]
        if kind == OPTION_END:
            return
        if kind == OPTION_NOP:
            option += 1
            left -= 1
            continue
        if left < 2:
            return
        length = option[1]
        if length < 2 or length > left:
            return
        if kind == OPTION_TIMESTAMPS and length == 10:
            segment.tsval = big32(option + 2)
            segment.tsecr = big32(option + 6)
            segment.options |= SEGMENT_HAS_TIMESTAMP
        elif kind == OPTION_SACK and length >= 10 and (length - 2) % 8 == 0:
            segment.options |= SEGMENT_HAS_SACK
        elif kind == OPTION_FAST_OPEN or (
            kind == OPTION_EXPERIMENT and length >= 4 and big16(option + 2) == FAST_OPEN_MAGIC
        ):
            segment.options |= SEGMENT_HAS_FAST_OPEN
        elif syn:
            if kind == OPTION_MSS and length == 4:
                segment.mss = <uint16_t> big16(option + 2)
            elif kind == OPTION_WINDOW_SCALE and length == 3:
                segment.window_scale = option[2] if option[2] < LARGEST_WINDOW_SCALE else LARGEST_WINDOW_SCALE
            elif kind == OPTION_SACK_PERMITTED and length == 2:
                segment.options |= SEGMENT_HAS_SACK_PERMITTED
        option += length
        left -= length


cdef inline int decode_tcp(
    const uint8_t *tcp, uint32_t captured, uint32_t length, SegmentRecord *segment
) noexcept nogil:
    # `length` is header and payload as IP has it; `captured` is never more.
    cdef uint32_t header, flags
    if length < 20:
        return BAD_TCP_HEADER
    if captured < 20:
        return CUT_SHORT_HEADER
    header = (tcp[12] >> 4) * 4
    if header < 20 or header > length:
        return BAD_TCP_HEADER
    flags = big16(tcp + 12) & 0x1FF
    segment.src_port = <uint16_t> big16(tcp)
    segment.dst_port = <uint16_t> big16(tcp + 2)
    segment.seq = big32(tcp + 4)
    segment.ack = big32(tcp + 8) if flags & FLAG_ACK else 0
    segment.flags = <uint16_t> flags
    segment.window = <uint16_t> big16(tcp + 14)
    segment.payload_bytes = length - header
    segment.tsval = 0
    segment.tsecr = 0
    segment.mss = 0
    segment.window_scale = NO_WINDOW_SCALE
    segment.options = 0
    if header == 20:
        return TCP
    if header == 32 and captured >= 32 and big32(tcp + 20) == NOP_NOP_TIMESTAMPS:
        segment.tsval = big32(tcp + 24)
        segment.tsecr = big32(tcp + 28)
        segment.options = SEGMENT_HAS_TIMESTAMP
        return TCP
    if header > captured:
        segment.options = SEGMENT_OPTIONS_CUT
        header = captured
    decode_options(tcp + 20, header - 20, (flags & FLAG_SYN) != 0, segment)
    return TCP


cdef int other_protocol(uint32_t protocol) noexcept nogil:
    if protocol == IP_UDP:
        return UDP
    if protocol == IP_ICMP or protocol == IP_ICMPV6:
        return ICMP
    if protocol == IP_SCTP:
        return SCTP
    if protocol == IP_ESP:
        return ESP
    if (
        protocol == IP_IPV4 or protocol == IP_IPV6 or protocol == IP_GRE or protocol == IP_L2TP
        or protocol == IP_MPLS or protocol == IP_ETHERNET
    ):
        return IP_TUNNEL
    return OTHER_IP_PROTOCOL


cdef int after_headers(
    const uint8_t *at, uint32_t captured, uint32_t length, uint32_t protocol, bint fragment, SegmentRecord *segment
) noexcept nogil:
    # The rare ways on: an authentication header (RFC 4302: length in words less 2) and the first of several fragments.
    cdef uint32_t header
    while protocol == IP_AH:
        if length < 12:
            return BAD_IP_HEADER
        if captured < 12:
            return CUT_SHORT_HEADER
        header = (<uint32_t> at[1] + 2) * 4
        if header < 12 or header > length:
            return BAD_IP_HEADER
        if header > captured:
            return CUT_SHORT_HEADER
        protocol = at[0]
        at += header
        captured -= header
        length -= header
    if protocol != IP_TCP:
        return other_protocol(protocol)
    if fragment and (length < 20 or (captured >= 20 and (at[12] >> 4) * 4 > length)):
        return IP_FRAGMENT  # RFC 1858: the header goes on in the next fragment
    return decode_tcp(at, captured, length, segment)


cdef inline int decode_ipv4(
    const uint8_t *ip, uint32_t captured, uint32_t on_wire, SegmentRecord *segment
) noexcept nogil:
    cdef uint32_t header, total, fragment
    if captured < 20:
        return CUT_SHORT_HEADER
    header = (ip[0] & 15) * 4
    total = big16(ip + 2)
    if total == 0:          # segmentation offload: captured before the card fills it in
        total = on_wire
    if ip[0] >> 4 != 4 or header < 20 or total < header:
        return BAD_IP_HEADER
    if captured < header:
        return CUT_SHORT_HEADER
    if captured > total:    # Ethernet's padding
        captured = total
    fragment = big16(ip + 6) & 0x3FFF
    segment.ip_version = 4
    segment.ttl = ip[8]
    segment.ip_id = <uint16_t> big16(ip + 4)
    memset(segment.src_ip, 0, 10)
    memset(segment.src_ip + 10, 0xFF, 2)
    memcpy(segment.src_ip + 12, ip + 12, 4)
    memset(segment.dst_ip, 0, 10)
    memset(segment.dst_ip + 10, 0xFF, 2)
    memcpy(segment.dst_ip + 12, ip + 16, 4)
    if ip[9] == IP_TCP and fragment == 0:
        return decode_tcp(ip + header, captured - header, total - header, segment)
    if fragment & 0x1FFF:
        return IP_FRAGMENT
    return after_headers(ip + header, captured - header, total - header, ip[9], fragment != 0, segment)


cdef int decode_ipv6(const uint8_t *ip, uint32_t captured, uint32_t on_wire, SegmentRecord *segment) noexcept nogil:
    cdef uint32_t length, header
    cdef uint32_t protocol
    cdef bint fragment = False
    cdef const uint8_t *at = ip + 40
    if captured < 40:
        return CUT_SHORT_HEADER
    if ip[0] >> 4 != 6:
        return BAD_IP_HEADER
    length = big16(ip + 4)
    captured -= 40
    if length == 0:         # a jumbogram (RFC 2675), or segmentation offload
        if on_wire < 40:
            return BAD_IP_HEADER
        length = on_wire - 40
    if captured > length:
        captured = length
    segment.ip_version = 6
    segment.ttl = ip[7]
    segment.ip_id = 0
    memcpy(segment.src_ip, ip + 8, 16)
    memcpy(segment.dst_ip, ip + 24, 16)
    protocol = ip[6]
    while (
        protocol == IP_HOP_BY_HOP or protocol == IP_ROUTING or protocol == IP_DESTINATION
        or protocol == IP_FRAGMENT_HEADER
    ):
        if length < 8:
            return BAD_IP_HEADER
        if captured < 8:
            return CUT_SHORT_HEADER
        if protocol == IP_FRAGMENT_HEADER:
            header = 8
            if big16(at + 2) & 0xFFF8:
                return IP_FRAGMENT
            fragment = fragment or at[3] & 1
        else:
            header = (<uint32_t> at[1] + 1) * 8
        if header > length:
            return BAD_IP_HEADER
        if header > captured:
            return CUT_SHORT_HEADER
        protocol = at[0]
        at += header
        length -= header
        captured -= header
    if protocol == IP_TCP and not fragment:
        return decode_tcp(at, captured, length, segment)
    return after_headers(at, captured, length, protocol, fragment, segment)


cdef int decode_ip(const uint8_t *ip, uint32_t captured, uint32_t on_wire, SegmentRecord *segment) noexcept nogil:
    # No field says which version: its own first four bits do.
    if captured < 1:
        return CUT_SHORT_HEADER
    if ip[0] >> 4 == 4:
        return decode_ipv4(ip, captured, on_wire, segment)
    if ip[0] >> 4 == 6:
        return decode_ipv6(ip, captured, on_wire, segment)
    return NOT_IP


cdef inline bint is_snap(const uint8_t *at) noexcept nogil:
    # RFC 1042: 802.2 service access points AA AA, control 3, and the organisation code of the EtherTypes, 0.
    return at[0] == 0xAA and at[1] == 0xAA and at[2] == 3 and at[3] == 0 and big16(at + 4) == 0


cdef int decode_ethertype(
    const uint8_t *at, uint32_t captured, uint32_t on_wire, uint32_t ethertype, SegmentRecord *segment
) noexcept nogil:
    # `at` is what follows the field. Any stack of VLAN tags, and 802.2 SNAP, lead to another EtherType.
    cdef uint32_t header
    while True:
        if ethertype == ETHERTYPE_IPV4:
            return decode_ipv4(at, captured, on_wire, segment)
        if ethertype == ETHERTYPE_IPV6:
            return decode_ipv6(at, captured, on_wire, segment)
        if ethertype == ETHERTYPE_VLAN or ethertype == ETHERTYPE_QINQ or ethertype == ETHERTYPE_QINQ_OLD:
            header = 4
        elif ethertype < ETHERTYPE_SMALLEST and captured >= 8 and is_snap(at):
            header = 8
        else:
            break
        if captured < header:
            return CUT_SHORT_HEADER
        ethertype = big16(at + header - 2)
        at += header
        captured -= header
        on_wire -= header
    if ethertype == ETHERTYPE_ARP or ethertype == ETHERTYPE_REVERSE_ARP:
        return ARP
    if ethertype == ETHERTYPE_MPLS or ethertype == ETHERTYPE_MPLS_MULTICAST:
        return MPLS
    if ethertype == ETHERTYPE_PPPOE_SESSION or ethertype == ETHERTYPE_PPPOE_DISCOVERY:
        return PPPOE
    return NOT_IP


cdef int decode_family(
    const uint8_t *frame, uint32_t captured, uint32_t on_wire, SegmentRecord *segment
) noexcept nogil:
    # NULL and LOOP: the protocol family, in the byte order of whoever wrote it. IPv6 has a number on each system.
    cdef uint32_t family
    if captured < 4:
        return CUT_SHORT_HEADER
    family = big32(frame)
    if family & 0xFFFF == 0:
        family = (family >> 24) | (family >> 8 & 0xFF00)
    if family == 2:
        return decode_ipv4(frame + 4, captured - 4, on_wire - 4, segment)
    if family == 10 or family == 24 or family == 28 or family == 30:
        return decode_ipv6(frame + 4, captured - 4, on_wire - 4, segment)
    return NOT_IP


cdef int decode_ppp(
    const uint8_t *frame, uint32_t captured, uint32_t on_wire, SegmentRecord *segment
) noexcept nogil:
    # RFC 1661 section 2, RFC 1662 section 3.1: address and control may be left out, the protocol may be one byte.
    cdef uint32_t header = 0, protocol
    if captured >= 2 and frame[0] == 0xFF and frame[1] == 0x03:
        header = 2
    if captured < header + 2:
        return CUT_SHORT_HEADER
    protocol = frame[header]
    header += 1
    if protocol & 1 == 0:
        protocol = protocol << 8 | frame[header]
        header += 1
    if protocol == 0x0021:
        return decode_ipv4(frame + header, captured - header, on_wire - header, segment)
    if protocol == 0x0057:
        return decode_ipv6(frame + header, captured - header, on_wire - header, segment)
    if protocol == 0x0281 or protocol == 0x0283:    # RFC 3032 section 4.3
        return MPLS
    return NOT_IP


cdef int decode_other_link(
    const uint8_t *frame, uint32_t captured, uint32_t on_wire, uint32_t link_type, SegmentRecord *segment
) noexcept nogil:
    cdef uint32_t protocol
    if link_type == LINK_LINUX_SLL:
        if captured < 16:
            return CUT_SHORT_HEADER
        protocol = big16(frame + 14)
        if big16(frame + 2) == ARPHRD_NETLINK:
            return NOT_IP
        return decode_ethertype(frame + 16, captured - 16, on_wire - 16, protocol, segment)
    if link_type == LINK_LINUX_SLL2:
        if captured < 20:
            return CUT_SHORT_HEADER
        if big16(frame + 8) == ARPHRD_NETLINK:
            return NOT_IP
        return decode_ethertype(frame + 20, captured - 20, on_wire - 20, big16(frame), segment)
    if link_type == LINK_NULL or link_type == LINK_LOOP:
        return decode_family(frame, captured, on_wire, segment)
    if link_type == LINK_RAW or link_type == LINK_RAW_BSD or link_type == LINK_RAW_OPENBSD:
        return decode_ip(frame, captured, on_wire, segment)
    if link_type == LINK_IPV4:
        return decode_ipv4(frame, captured, on_wire, segment)
    if link_type == LINK_IPV6:
        return decode_ipv6(frame, captured, on_wire, segment)
    if link_type == LINK_PPP or link_type == LINK_PPP_HDLC:
        return decode_ppp(frame, captured, on_wire, segment)
    return UNSUPPORTED_LINK_TYPE


cdef int decode_frame(
    const uint8_t *frame, uint32_t captured, uint32_t on_wire, uint32_t link_type, SegmentRecord *segment
) noexcept nogil:
    """Decode one frame; `on_wire` is at least `captured`. All of `segment` but time and number is set when TCP."""
    segment.wire_bytes = on_wire
    segment.tag = 0
    segment.path = 0
    segment.pad0[0] = segment.pad0[1] = 0
    if link_type == LINK_ETHERNET:
        if captured < 14:
            return CUT_SHORT_HEADER
        if big16(frame + 12) == ETHERTYPE_IPV4:
            return decode_ipv4(frame + 14, captured - 14, on_wire - 14, segment)
        return decode_ethertype(frame + 14, captured - 14, on_wire - 14, big16(frame + 12), segment)
    return decode_other_link(frame, captured, on_wire, link_type, segment)


def decode(const uint8_t[::1] frame not None, segment not None, int link_type=LINK_ETHERNET, on_wire=None):
    if segment.dtype != SEGMENT_DTYPE or segment.shape != (1,):
        raise TypeError(f"segment must be an array of one SEGMENT_DTYPE, not {segment.shape} of {segment.dtype}")
    cdef SegmentRecord[::1] record = segment
    cdef uint32_t captured = <uint32_t> frame.shape[0]
    cdef uint32_t wire = captured if on_wire is None else max(on_wire, captured)
    cdef const uint8_t *start = &frame[0] if captured else NULL
    return Outcome(decode_frame(start, captured, wire, <uint32_t> link_type, &record[0]))
