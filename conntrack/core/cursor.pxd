# Where the reading of one frame is, what may be read of it, and what it has met on the way. Read decode.pyx.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from conntrack.core.abi cimport SegmentRecord

cdef enum:
    MOST_LAYERS = 32            # headers of one frame, each tag and each label counted; IPv6 extension headers are not
    TRAIL_BYTES = 120           # of a path's description: link type, then tokens (paths.pxd)
    HEAD_BYTES = 256            # of a fragmented packet are kept: Ethernet in a tunnel, IPv6 and TCP with options fit
    SEEN_WORDS = 128            # 64 bits each, a bit for 8 bytes: the 64 KiB that IP can number
    ANY_LENGTH = 0              # Cursor.fit
    FITTING_LENGTH = 1
    EXACT_LENGTH = 2

cdef enum Layer:                # what comes next; an Outcome (decode.pxd) is smaller and ends the reading
    FIRST_LAYER = 64
    LAYER_ETHERNET = 64
    LAYER_LLC
    LAYER_VLAN
    LAYER_PBB
    LAYER_VNTAG
    LAYER_FABRICPATH
    LAYER_MPLS
    LAYER_PPPOE
    LAYER_PPP
    LAYER_RADIOTAP
    LAYER_WLAN
    FIRST_IP_LAYER              # those before are links.pyx's and wireless.pyx's
    LAYER_IP = FIRST_IP_LAYER   # its first four bits say which
    LAYER_IPV4
    LAYER_IPV6
    FIRST_TUNNEL                # tunnels.pyx
    LAYER_GRE = FIRST_TUNNEL
    LAYER_UDP
    LAYER_ETHERIP
    LAYER_TCP


cdef struct Fragmented:         # one IP packet that is being put together
    int64_t first_ts_ns
    uint64_t arrival            # which one it was: the smallest is the oldest; 0 when free
    uint64_t seen[SEEN_WORDS]
    uint8_t src_ip[16]
    uint8_t dst_ip[16]
    uint32_t identification
    uint32_t tag                # of the network it was on
    uint32_t protocol           # with 256 for IPv6
    uint32_t total              # bytes, 0 until the last fragment was seen
    uint32_t reach              # bytes up to which there is anything
    uint32_t blocks             # of 8 bytes, seen
    uint32_t next_protocol      # after the headers that every fragment repeats
    uint32_t head_blocks        # bit n: bytes 8n to 8n+7 of the head are there
    uint8_t head[HEAD_BYTES]


cdef struct PathRecord:
    uint32_t hash
    uint32_t trail_bytes
    uint8_t trail[TRAIL_BYTES]


cdef struct Journal:            # the state of both tables, and what was left out
    uint64_t arrivals           # packets that began in the table of fragments
    uint64_t evicted            # left it incomplete, to make room
    uint64_t expired            # left it incomplete, too old
    uint64_t unnumbered         # segments whose path found no room
    uint64_t subframes          # of 802.11 aggregates, behind the first: not read
    uint32_t paths              # records of the table of paths in use, with record 0: plain frames
    uint32_t last_path
    uint32_t vlans_tag          # of the last frame that had nothing but VLANs on its way; 0, with path 0, for none
    uint32_t vlans_path


cdef struct Memory:             # what outlives a frame; handed in by whoever owns it (memory.pyx)
    Fragmented *fragmented      # NULL: fragments are counted and not put together
    uint64_t n_fragmented
    PathRecord *paths           # NULL: every path is 0
    uint64_t n_paths
    uint32_t *slots             # number of a path, 0 when free; a power of two of them
    uint64_t n_slots
    Journal *journal


cdef struct Cursor:
    const uint8_t *at           # the first byte that was not read yet
    uint32_t captured           # bytes that may be read from there, never more than
    uint32_t length             # bytes that were on the wire from there, as the headers so far have it
    uint32_t layers
    uint32_t tag
    uint32_t fit                # how an IP packet's length must be that of what carries it: a UDP tunnel is a guess
    uint32_t trail_bytes
    uint8_t trail[TRAIL_BYTES]
    SegmentRecord *segment
    Memory *memory


cdef inline uint32_t big16(const uint8_t *at) noexcept nogil:
    return (<uint32_t> at[0] << 8) | at[1]


cdef inline uint32_t big32(const uint8_t *at) noexcept nogil:
    return (<uint32_t> at[0] << 24) | (<uint32_t> at[1] << 16) | (<uint32_t> at[2] << 8) | at[3]


cdef inline uint32_t little16(const uint8_t *at) noexcept nogil:
    return (<uint32_t> at[1] << 8) | at[0]


cdef inline uint32_t little32(const uint8_t *at) noexcept nogil:
    return (<uint32_t> at[3] << 24) | (<uint32_t> at[2] << 16) | (<uint32_t> at[1] << 8) | at[0]


cdef inline void step(Cursor *cursor, uint32_t header) noexcept nogil:
    # Whoever calls has seen that so much was captured.
    cursor.at += header
    cursor.captured -= header
    cursor.length -= header


cdef inline void shorten(Cursor *cursor, uint32_t length) noexcept nogil:
    # What follows is padding or a check sequence.
    if cursor.length > length:
        cursor.length = length
        if cursor.captured > length:
            cursor.captured = length


cdef inline void begin_trail(Cursor *cursor, uint32_t link_type) noexcept nogil:
    cursor.trail[0] = <uint8_t> (link_type >> 8 & 0xFF)
    cursor.trail[1] = <uint8_t> (link_type & 0xFF)
    cursor.trail_bytes = 2


cdef inline void put(Cursor *cursor, uint8_t token, const uint8_t *data, uint32_t size) noexcept nogil:
    # Note a layer; where the description has no room left it ends with token 0, and stays so.
    cdef uint32_t used = cursor.trail_bytes
    if used + 1 + size < TRAIL_BYTES:
        cursor.trail[used] = token
        memcpy(&cursor.trail[used + 1], data, size)
        cursor.trail_bytes = used + 1 + size
    elif used < TRAIL_BYTES:
        cursor.trail[used] = 0
        cursor.trail_bytes = TRAIL_BYTES


cdef inline void put_number(Cursor *cursor, uint8_t token, uint32_t number) noexcept nogil:
    cdef uint8_t data[4]
    data[0] = <uint8_t> (number >> 24)
    data[1] = <uint8_t> (number >> 16 & 0xFF)
    data[2] = <uint8_t> (number >> 8 & 0xFF)
    data[3] = <uint8_t> (number & 0xFF)
    put(cursor, token, data, 4)


cdef inline void nest(Cursor *cursor, uint32_t identifier) noexcept nogil:
    # A network within the one so far: exact for two VLANs or one tunnel, mixed beyond.
    cursor.tag = (cursor.tag << 12 | cursor.tag >> 20) ^ identifier
