"""IP packets in pieces, put together as far as headers need it: lengths of all pieces, bytes of the head only.

Owns the table of packets that wait for pieces, which is handed in. The packet counts where its last missing piece is,
as at the receiving host (and in Wireshark): with the length of the whole, in any order of pieces. Pieces seen twice are
ignored; pieces that overlap in part, reach beyond the end, or disagree where it is, drop the packet (RFC 5722, which
Linux follows for IPv4 too since 2018). The table has no more places than it is given: in a set of WAYS the oldest
leaves. A packet older than the time hosts allow (30 s for IPv4, net.ipv4.ipfrag_time; 60 s for IPv6, RFC 8200 section
4.5) leaves when its place is looked at. Both are counted.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

from conntrack.core.cursor cimport HEAD_BYTES, Cursor, Fragmented, Journal, Memory, shorten

cdef int64_t IPV4_TIMEOUT_NS = 30000000000
cdef int64_t IPV6_TIMEOUT_NS = 60000000000

cdef enum:
    IPV6_KEY = 256
    MOST_BYTES = 65535


cdef inline bint expired(const Fragmented *packet, int64_t now) noexcept nogil:
    cdef int64_t limit = IPV6_TIMEOUT_NS if packet.protocol >= IPV6_KEY else IPV4_TIMEOUT_NS
    return now - packet.first_ts_ns > limit


cdef inline bint is_that(
    const Fragmented *packet, const Cursor *cursor, uint32_t protocol, uint32_t identification
) noexcept nogil:
    return (
        packet.arrival != 0
        and packet.identification == identification
        and packet.protocol == protocol
        and packet.tag == cursor.tag
        and memcmp(&packet.src_ip[0], &cursor.segment.src_ip[0], 16) == 0
        and memcmp(&packet.dst_ip[0], &cursor.segment.dst_ip[0], 16) == 0
    )


cdef Fragmented *place_for(const Cursor *cursor, uint32_t protocol, uint32_t identification) noexcept nogil:
    # The packet's own place, or one made free for it.
    cdef Memory *memory = cursor.memory
    cdef Journal *journal = memory.journal
    cdef uint64_t hashed = identification ^ protocol
    cdef uint64_t part
    cdef Fragmented *packet
    cdef Fragmented *place = NULL
    cdef int i
    for i in range(4):
        memcpy(&part, &cursor.segment.src_ip[8 * i] if i < 2 else &cursor.segment.dst_ip[8 * i - 16], 8)
        hashed = (hashed ^ part) * <uint64_t> 0x9E3779B97F4A7C15
        hashed ^= hashed >> 29
    packet = memory.fragmented + (hashed % (memory.n_fragmented // WAYS)) * WAYS
    for i in range(WAYS):
        if packet[i].arrival != 0 and expired(&packet[i], cursor.segment.ts_ns):
            packet[i].arrival = 0
            journal.expired += 1
        if is_that(&packet[i], cursor, protocol, identification):
            return &packet[i]
        if place == NULL or packet[i].arrival < place.arrival:
            place = &packet[i]
    if place.arrival:
        journal.evicted += 1
    journal.arrivals += 1
    place.arrival = journal.arrivals
    place.first_ts_ns = cursor.segment.ts_ns
    memset(place.seen, 0, sizeof(place.seen))
    memcpy(place.src_ip, cursor.segment.src_ip, 16)
    memcpy(place.dst_ip, cursor.segment.dst_ip, 16)
    place.identification = identification
    place.tag = cursor.tag
    place.protocol = protocol
    place.total = 0
    place.reach = 0
    place.blocks = 0
    place.next_protocol = 0
    place.head_blocks = 0
    return place


cdef inline uint32_t mark(Fragmented *packet, uint32_t first, uint32_t end) noexcept nogil:
    # Mark blocks as seen; return how many were not.
    cdef uint32_t added = 0, block
    cdef uint64_t bit
    for block in range(first, end):
        bit = <uint64_t> 1 << (block & 63)
        if not packet.seen[block >> 6] & bit:
            packet.seen[block >> 6] |= bit
            added += 1
    return added


cdef inline void keep_head(Fragmented *packet, const Cursor *cursor, uint32_t offset, uint32_t first) noexcept nogil:
    # The bytes may lie in a head themselves: a packet in pieces within another.
    cdef uint32_t size = cursor.captured, block
    if offset >= HEAD_BYTES:
        return
    if size > HEAD_BYTES - offset:
        size = HEAD_BYTES - offset
    memmove(&packet.head[offset], cursor.at, size)
    for block in range((size + 7) // 8 if size == cursor.length else size // 8):
        packet.head_blocks |= <uint32_t> 1 << (first + block)


cdef int gather(
    Cursor *cursor, uint32_t *protocol, bint ipv6, uint32_t identification, uint32_t offset, bint more
) noexcept nogil:
    # The cursor is behind the headers that every fragment repeats; `protocol` is what this one says comes next.
    cdef uint32_t length = cursor.length
    cdef uint32_t end = offset + length
    cdef uint32_t added, n, head
    cdef Fragmented *packet
    if cursor.memory == NULL or cursor.memory.n_fragmented < WAYS:
        return NOT_YET
    if length == 0 or end > MOST_BYTES or (more and length & 7):
        return CONTRADICTION
    packet = place_for(cursor, IPV6_KEY if ipv6 else protocol[0], identification)
    n = (length + 7) // 8
    added = mark(packet, offset // 8, offset // 8 + n)
    if (
        (added != 0 and added != n)
        or (packet.total != 0 and end > packet.total)
        or (not more and (packet.reach > end or (packet.total != 0 and packet.total != end)))
    ):
        packet.arrival = 0
        return CONTRADICTION
    if added:
        packet.blocks += added
        keep_head(packet, cursor, offset, offset // 8)
    if end > packet.reach:
        packet.reach = end
    if not more:
        packet.total = end
    if offset == 0:
        packet.next_protocol = protocol[0]
    if packet.total == 0 or packet.blocks != (packet.total + 7) // 8:
        return NOT_YET
    packet.arrival = 0
    head = 0
    while head < HEAD_BYTES // 8 and packet.head_blocks >> head & 1:
        head += 1
    protocol[0] = packet.next_protocol
    cursor.at = packet.head
    cursor.captured = head * 8
    cursor.length = packet.total if packet.total > cursor.captured else cursor.captured
    shorten(cursor, packet.total)
    return WHOLE
