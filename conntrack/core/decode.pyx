"""Frames into segments: IP and TCP headers of one frame, into one SegmentRecord, whatever the frame wraps them in.

Owns the straight line, the loop over layers off it, and TCP. The straight line is Ethernet with up to two VLANs, IP
without options or fragments, TCP: most captures are nothing else. Everything else is read layer by layer, each by the
file that owns it (links.pyx, framing.pyx, wireless.pyx, ip.pyx, tunnels.pyx), down to the innermost TCP or to an
Outcome that says what it is instead. Every length read from the frame is held against what was captured before it is
used; nothing is allocated, raised or printed. Lengths come in pairs: `captured` is what may be read, `length` what was
there before the snap length cut it.

Read RFC 9293 section 3.1, RFC 7323, RFC 2018 and RFC 7413 (TCP and its options).
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

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
    FIRST_IP_LAYER,
    FIRST_LAYER,
    FIRST_TUNNEL,
    LAYER_IPV4,
    LAYER_IPV6,
    LAYER_TCP,
    MOST_LAYERS,
    Cursor,
    Journal,
    Memory,
    begin_trail,
    big16,
    big32,
    put_number,
)
from conntrack.core.framing cimport read_link_layer
from conntrack.core.ip cimport read_ip, read_ipv4, read_ipv6, write_ipv4
from conntrack.core.links cimport first_layer
from conntrack.core.memory cimport DecodeMemory
from conntrack.core.paths cimport OTHER_PATHS, TOKEN_VLAN, number_of_path
from conntrack.core.tunnels cimport is_tunnel, read_tunnel

from conntrack.core.abi import SEGMENT_DTYPE

cdef enum:  # https://www.iana.org/assignments/protocol-numbers
    LINK_ETHERNET = 1
    ETHERTYPE_IPV4 = 0x0800
    ETHERTYPE_VLAN = 0x8100
    ETHERTYPE_IPV6 = 0x86DD
    ETHERTYPE_QINQ = 0x88A8
    IP_TCP = 6
    IP_UDP = 17
    STRAIGHT_BYTES = 40         # IPv4 and TCP without options
    STRAIGHT_BYTES_IPV6 = 60
    STRAIGHT_TAGS = 2
    NOT_STRAIGHT = -1

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
    begin_trail(&cursor, link_type)
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


cdef inline int decode_straight(
    const uint8_t *ip, uint32_t ethertype, uint32_t captured, SegmentRecord *segment
) noexcept nogil:
    # IP without options or pieces, and TCP, or UDP that is no tunnel; NOT_STRAIGHT for all others.
    cdef uint32_t total
    if captured < STRAIGHT_BYTES:
        return NOT_STRAIGHT
    if ethertype == ETHERTYPE_IPV4:
        total = big16(ip + 2)
        if ip[0] != 0x45 or big16(ip + 6) & 0x3FFF != 0:
            return NOT_STRAIGHT
        if ip[9] == IP_TCP and total >= 40:
            if captured > total:    # padding
                captured = total
            segment.ip_version = 4
            segment.ttl = ip[8]
            segment.ip_id = <uint16_t> big16(ip + 4)
            write_ipv4(segment.src_ip, ip + 12)
            write_ipv4(segment.dst_ip, ip + 16)
            return decode_tcp(ip + 20, captured - 20, total - 20, segment)
        if ip[9] == IP_UDP and total >= 28 and not is_tunnel(big16(ip + 20)) | is_tunnel(big16(ip + 22)):
            return UDP
    elif ethertype == ETHERTYPE_IPV6 and captured >= STRAIGHT_BYTES_IPV6 and ip[0] >> 4 == 6:
        total = big16(ip + 4)
        if ip[6] == IP_TCP and total >= 20:
            captured -= 40
            segment.ip_version = 6
            segment.ttl = ip[7]
            segment.ip_id = 0
            memcpy(segment.src_ip, ip + 8, 16)
            memcpy(segment.dst_ip, ip + 24, 16)
            return decode_tcp(ip + 40, captured if captured < total else total, total, segment)
        if ip[6] == IP_UDP and total >= 8 and not is_tunnel(big16(ip + 40)) | is_tunnel(big16(ip + 42)):
            return UDP
    return NOT_STRAIGHT


cdef inline uint32_t path_of_vlans(uint32_t tag, Memory *memory) noexcept nogil:
    # Their tag says which they are; most often they are those of the frame before.
    cdef Cursor cursor
    cdef Journal *journal = memory.journal
    cdef uint32_t number
    if tag == journal.vlans_tag:
        return journal.vlans_path
    if tag == 0:
        return 0
    begin_trail(&cursor, LINK_ETHERNET)
    if tag >> 12:
        put_number(&cursor, TOKEN_VLAN, tag >> 12)
    put_number(&cursor, TOKEN_VLAN, tag & 0xFFF)
    number = number_of_path(&cursor, memory)
    if number != OTHER_PATHS:       # each of those is counted
        journal.vlans_tag, journal.vlans_path = tag, number
    return number


cdef int decode_tagged(
    const uint8_t *frame, uint32_t captured, uint32_t on_wire, SegmentRecord *segment, Memory *memory
) noexcept nogil:
    # Ethernet with VLANs: the straight line behind up to two of them.
    cdef uint32_t at = 12, number, tag = 0, ethertype = big16(frame + 12)
    cdef int outcome
    cdef int _tag
    for _tag in range(STRAIGHT_TAGS):
        if (ethertype != ETHERTYPE_VLAN and ethertype != ETHERTYPE_QINQ) or captured < at + 6:
            break
        number = big16(frame + at + 2) & 0xFFF
        if number:
            tag = tag << 12 | number        # as nest() does, which two of them cannot overflow
        at += 4
        ethertype = big16(frame + at)
    outcome = decode_straight(frame + at + 2, ethertype, captured - at - 2, segment)
    if outcome == NOT_STRAIGHT:
        return decode_layers(frame, captured, on_wire, LINK_ETHERNET, segment, memory)
    segment.tag = tag
    if outcome == TCP and memory != NULL:
        segment.path = <uint16_t> path_of_vlans(tag, memory)
    return outcome


cdef int decode_frame(
    const uint8_t *frame, uint32_t captured, uint32_t on_wire, uint32_t link_type, SegmentRecord *segment,
    Memory *memory
) noexcept nogil:
    """Decode one frame; `on_wire` is at least `captured`. All of `segment` but time and number is set when TCP.

    The time and number must be set before: pieces of IP packets wait for each other. `memory` may be NULL: then pieces
    are counted, and every path is 0.
    """
    cdef uint32_t ethertype
    cdef int outcome
    segment.wire_bytes = on_wire
    segment.tag = 0
    segment.path = 0
    segment.pad0[0] = segment.pad0[1] = 0
    if link_type == LINK_ETHERNET and captured >= 14:
        ethertype = big16(frame + 12)
        outcome = decode_straight(frame + 14, ethertype, captured - 14, segment)
        if outcome != NOT_STRAIGHT:
            return outcome
        if ethertype == ETHERTYPE_VLAN or ethertype == ETHERTYPE_QINQ:
            return decode_tagged(frame, captured, on_wire, segment, memory)
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
