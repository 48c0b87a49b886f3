"""Frames into segments: IP and TCP headers of one frame, into one SegmentRecord, whatever the frame wraps them in.

Owns the straight line, the loop over layers off it, and IP and TCP. The straight line is Ethernet, IP without options
or fragments, TCP: most captures are nothing else. Everything else is read layer by layer, each by the file that owns
it (links.pyx, framing.pyx, wireless.pyx, tunnels.pyx), down to the innermost TCP or to an Outcome that says what it
is instead. Every length read from the frame is held against what was captured before it is used; nothing is
allocated, raised or printed. Lengths come in pairs: `captured` is what may be read, `length` what was there before
the snap length cut it.

Read RFC 9293 section 3.1 (TCP), RFC 791 section 3.1 (IPv4), RFC 8200 sections 3 and 4 (IPv6), RFC 4302 (AH), RFC 8754
(segment routing).
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
from conntrack.core.cursor cimport (
    ANY_LENGTH,
    EXACT_LENGTH,
    FIRST_IP_LAYER,
    FIRST_LAYER,
    FIRST_TUNNEL,
    LAYER_ETHERIP,
    LAYER_ETHERNET,
    LAYER_GRE,
    LAYER_IPV4,
    LAYER_IPV6,
    LAYER_MPLS,
    LAYER_TCP,
    LAYER_UDP,
    MOST_LAYERS,
    Cursor,
    Memory,
    big16,
    big32,
    put,
    step,
)
from conntrack.core.fragments cimport CONTRADICTION, NOT_YET, gather
from conntrack.core.framing cimport read_link_layer
from conntrack.core.links cimport first_layer
from conntrack.core.memory cimport DecodeMemory
from conntrack.core.paths cimport TOKEN_IPV4, TOKEN_IPV6, number_of_path
from conntrack.core.tunnels cimport is_tunnel, read_tunnel

from conntrack.core.abi import SEGMENT_DTYPE

cdef enum:  # https://www.iana.org/assignments/protocol-numbers
    LINK_ETHERNET = 1
    ETHERTYPE_IPV4 = 0x0800
    ETHERTYPE_IPV6 = 0x86DD
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
    IPV4_LOOSE_ROUTE = 131
    IPV4_STRICT_ROUTE = 137
    STRAIGHT_BYTES = 54     # Ethernet, IPv4 and TCP without options
    STRAIGHT_BYTES_IPV6 = 74

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


cdef inline void write_ipv4(uint8_t *address, const uint8_t *ip) noexcept nogil:
    memset(address, 0, 10)
    memset(address + 10, 0xFF, 2)
    memcpy(address + 12, ip, 4)


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
    # No field says which version: its own first four bits do.
    if cursor.captured < 1:
        return CUT_SHORT_HEADER
    return read_ipv4(cursor) if cursor.at[0] >> 4 == 4 else read_ipv6(cursor) if cursor.at[0] >> 4 == 6 else NOT_IP


cdef int read_layers(Cursor *cursor, int layer) noexcept nogil:
    while layer >= FIRST_LAYER and layer != LAYER_TCP:
        cursor.layers += 1
        if cursor.layers > MOST_LAYERS:
            return TOO_DEEP
        if layer == LAYER_IPV4:
            layer = read_ipv4(cursor)
        elif layer == LAYER_IPV6:
            layer = read_ipv6(cursor)
        elif layer < FIRST_IP_LAYER:
            layer = read_link_layer(cursor, layer)
        elif layer >= FIRST_TUNNEL:
            layer = read_tunnel(cursor, layer)
        else:
            layer = read_ip(cursor)
    return layer


cdef int decode_layers(
    const uint8_t *frame, uint32_t captured, uint32_t on_wire, uint32_t link_type, SegmentRecord *segment,
    Memory *memory
) noexcept nogil:
    cdef Cursor cursor
    cdef int outcome
    cursor.at = frame
    cursor.captured = captured
    cursor.length = on_wire
    cursor.layers = 0
    cursor.tag = 0
    cursor.fit = ANY_LENGTH
    cursor.trail[0] = <uint8_t> (link_type >> 8 & 0xFF)
    cursor.trail[1] = <uint8_t> (link_type & 0xFF)
    cursor.trail_bytes = 2
    cursor.segment = segment
    cursor.memory = memory
    outcome = read_layers(&cursor, first_layer(&cursor, link_type))
    if outcome == LAYER_TCP:
        outcome = decode_tcp(cursor.at, cursor.captured, cursor.length, segment)
        segment.tag = cursor.tag
        if outcome == TCP and cursor.trail_bytes > 2 and memory != NULL:
            segment.path = <uint16_t> number_of_path(&cursor, memory)
    if cursor.fit and (
        outcome == BAD_IP_HEADER or outcome == BAD_TCP_HEADER or outcome == NOT_IP or outcome == MPLS
        or outcome == IP_TUNNEL or outcome == OTHER_IP_PROTOCOL or outcome == TOO_DEEP
    ):
        return UDP          # no tunnel after all
    return outcome


cdef int decode_frame(
    const uint8_t *frame, uint32_t captured, uint32_t on_wire, uint32_t link_type, SegmentRecord *segment,
    Memory *memory
) noexcept nogil:
    """Decode one frame; `on_wire` is at least `captured`. All of `segment` but time and number is set when TCP.

    The time and number must be set before: pieces of IP packets wait for each other. `memory` may be NULL: then pieces
    are counted, and every path is 0.
    """
    cdef const uint8_t *ip = frame + 14
    cdef uint32_t total, ethertype
    segment.wire_bytes = on_wire
    segment.tag = 0
    segment.path = 0
    segment.pad0[0] = segment.pad0[1] = 0
    if link_type == LINK_ETHERNET and captured >= STRAIGHT_BYTES:
        ethertype = big16(frame + 12)
        if ethertype == ETHERTYPE_IPV4 and ip[0] == 0x45 and big16(ip + 6) & 0x3FFF == 0:
            total = big16(ip + 2)
            if ip[9] == IP_TCP and total >= 40:
                captured -= 14
                if captured > total:    # padding
                    captured = total
                segment.ip_version = 4
                segment.ttl = ip[8]
                segment.ip_id = <uint16_t> big16(ip + 4)
                write_ipv4(segment.src_ip, ip + 12)
                write_ipv4(segment.dst_ip, ip + 16)
                return decode_tcp(ip + 20, captured - 20, total - 20, segment)
            if ip[9] == IP_UDP and total >= 28 and not is_tunnel(big16(ip + 20)) and not is_tunnel(big16(ip + 22)):
                return UDP
        elif ethertype == ETHERTYPE_IPV6 and captured >= STRAIGHT_BYTES_IPV6 and ip[0] >> 4 == 6 and ip[6] == IP_TCP:
            total = big16(ip + 4)
            if total >= 20:
                captured -= 54
                segment.ip_version = 6
                segment.ttl = ip[7]
                segment.ip_id = 0
                memcpy(segment.src_ip, ip + 8, 16)
                memcpy(segment.dst_ip, ip + 24, 16)
                return decode_tcp(ip + 40, captured if captured < total else total, total, segment)
    return decode_layers(frame, captured, on_wire, link_type, segment, memory)


def decode(
    const uint8_t[::1] frame not None, segment not None, int link_type=LINK_ETHERNET, on_wire=None,
    DecodeMemory memory=None,
):
    if segment.dtype != SEGMENT_DTYPE or segment.shape != (1,):
        raise TypeError(f"segment must be an array of one SEGMENT_DTYPE, not {segment.shape} of {segment.dtype}")
    cdef SegmentRecord[::1] record = segment
    cdef uint32_t captured = <uint32_t> frame.shape[0]
    cdef uint32_t wire = captured if on_wire is None else max(on_wire, captured)
    cdef const uint8_t *start = &frame[0] if captured else NULL
    cdef Memory *kept = NULL if memory is None else &memory.memory
    return Outcome(decode_frame(start, captured, wire, <uint32_t> link_type, &record[0], kept))
