"""The walker of pcapng: from blocks straight into SegmentRecords, a batch at a time.

Owns the layout of blocks, and which interfaces belong to which section; what their options say is blocks.pyx's. As the
other walkers (walk.pyx), and it also ends for a section header or interface description that has words for the reader.
Beyond the first so many interfaces it does not ask the reader, so that a file of nothing else is read at full speed.

Read draft-ietf-opsawg-pcapng; capture/pcapng.py has the other half.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from conntrack.core.abi cimport SegmentRecord
from conntrack.core.blocks cimport (
    FAMILY_DIVIDE,
    FAMILY_MULTIPLY,
    LAST_TIME,
    Interface,
    PacketOptions,
    load16,
    load32,
    read_interface,
    read_packet_options,
    read_statistics,
)
from conntrack.core.cursor cimport Memory
from conntrack.core.decode cimport UNKNOWN_INTERFACE
from conntrack.core.walk cimport (
    BAD_LENGTH,
    BAD_ORDER,
    BAD_PACKET,
    BAD_TRAILER,
    BAD_VERSION,
    MORE_INPUT,
    MOST_BLOCK,
    NO_PROGRAM,
    NO_ROOM,
    NO_SUCH_PROGRAM,
    NO_TIME,
    OUTPUT_FULL,
    WORDS,
    Filter,
    Tally,
    Walk,
    _Walker,
    count_frame_apart,
    count_time,
    passes,
    program_of,
)

import numpy as np

from conntrack.core.blocks import INTERFACE_DTYPE

cdef enum:
    BLOCK_SECTION = 0x0A0D0D0A
    BLOCK_INTERFACE = 1
    BLOCK_PACKET_OLD = 2
    BLOCK_PACKET_SIMPLE = 3
    BLOCK_STATISTICS = 5
    BLOCK_PACKET = 6
    ORDER_MAGIC = 0x1A2B3C4D
    ORDER_MAGIC_SWAPPED = 0x4D3C2B1A
    SMALLEST_SECTION = 28
    MOST_INTERFACES = 65536     # of a section: the obsolete packet block counts them in 16 bits
    FRACTION_BITS = 34          # of a second are kept of a binary resolution: 10^9 << 34 still fits into 64 bits

MOST_SECTION_INTERFACES = MOST_INTERFACES


cdef struct Section:            # pcapng: which of the interfaces are this section's, and what was said on the way
    uint64_t first              # of the interfaces
    uint64_t interfaces         # how many this section has so far
    uint64_t room               # for interfaces, in all
    uint64_t kept               # interfaces of sections that are over are kept, but for those past this number
    uint64_t comments           # on packets
    uint64_t asked              # how often the reader was: for twice as many blocks at most
    uint64_t told               # where the block is that the reader has looked at, as a distance from the end


cdef inline int64_t ticks_to_ns(uint64_t ticks, const Interface *interface) noexcept nogil:
    cdef int64_t ns
    cdef uint64_t fraction
    cdef uint32_t shift = interface.shift
    if ticks > interface.most_ticks:
        ns = LAST_TIME
    elif interface.time_family == FAMILY_MULTIPLY:
        ns = <int64_t> (ticks * interface.factor)
    elif interface.time_family == FAMILY_DIVIDE:
        ns = <int64_t> (ticks / interface.factor)
    else:
        ns = 0
        fraction = ticks
        if shift < 64:
            ns = <int64_t> (ticks >> shift) * 1000000000
            fraction = ticks & ((<uint64_t> 1 << shift) - 1)
        if shift > FRACTION_BITS:
            fraction = fraction >> (shift - FRACTION_BITS) if shift < FRACTION_BITS + 64 else 0
            shift = FRACTION_BITS
        ns += <int64_t> (fraction * 1000000000 >> shift)
    ns += interface.offset_ns
    return ns if ns < LAST_TIME else LAST_TIME


cdef int _walk_section(
    const uint8_t *at, uint64_t left, Walk *walk, Section *section, bint *big
) noexcept nogil:
    # A section header: -1 when it was taken in, else why the walk ends. Its own bytes say what its byte order is.
    cdef uint32_t length, version
    walk.needed = SMALLEST_SECTION
    if left < SMALLEST_SECTION:
        return MORE_INPUT
    if load32(at + 8, False) == ORDER_MAGIC:
        big[0] = False
    elif load32(at + 8, False) == ORDER_MAGIC_SWAPPED:
        big[0] = True
    else:
        return BAD_ORDER
    length = load32(at + 4, big[0])
    walk.needed = length
    if length < SMALLEST_SECTION or length & 3 or length > MOST_BLOCK:
        return BAD_LENGTH
    version = load16(at + 12, big[0])
    if version != 1:
        walk.needed = version
        return BAD_VERSION
    if left < length:
        return MORE_INPUT
    if load32(at + length - 4, big[0]) != length:
        return BAD_TRAILER
    if section.asked < 2 * section.kept and section.told != left:
        section.asked += 1
        return WORDS
    section.first += section.interfaces
    if section.first > section.kept:
        section.first = section.kept
    section.interfaces = 0
    walk.position += length
    return -1


cdef int _walk_interface(
    const uint8_t *at, uint64_t left, uint32_t length, bint big, Walk *walk, Section *section, Interface *interfaces,
    const Filter *filter
) noexcept nogil:
    # As _walk_section.
    cdef uint64_t number = section.first + section.interfaces
    if length < 20:
        return BAD_LENGTH
    if number < section.kept and section.asked < 2 * section.kept and section.told != left:
        section.asked += 1
        return WORDS
    if number == section.room or section.interfaces == MOST_INTERFACES:
        return NO_ROOM
    read_interface(at, length, big, &interfaces[number])
    interfaces[number].program = program_of(filter, interfaces[number].link_type)
    if interfaces[number].program == NO_SUCH_PROGRAM:
        walk.needed = interfaces[number].link_type
        return NO_PROGRAM
    section.interfaces += 1
    walk.position += length
    return -1


cdef inline int _walk_pcapng(
    const uint8_t *data, Walk *walk, bint *order, Section *section, Interface *interfaces, const Filter *filter,
    SegmentRecord *out, Tally *tally, uint64_t *counts, Memory *memory
) noexcept nogil:
    cdef const uint8_t *at
    cdef const uint8_t *frame
    cdef Interface *interface
    cdef PacketOptions options
    cdef uint32_t kind, length, room, captured, on_wire, number, fcs_bytes, dropped
    cdef uint64_t left
    cdef int64_t ts_ns
    cdef int stop
    cdef bint big = order[0]
    while walk.rows < walk.capacity:
        left = walk.end - walk.position
        if left < 12:
            walk.needed = 12
            return MORE_INPUT
        at = data + walk.position
        kind = load32(at, big)
        if kind == BLOCK_SECTION:       # its byte order may be another: the length is not known yet
            stop = _walk_section(at, left, walk, section, order)
            if stop >= 0:
                return stop
            big = order[0]
            continue
        length = load32(at + 4, big)
        walk.needed = length
        if length < 12 or length & 3 or length > MOST_BLOCK:
            return BAD_LENGTH
        if left < length:
            return MORE_INPUT
        if load32(at + length - 4, big) != length:
            return BAD_TRAILER
        dropped = 0
        if kind == BLOCK_PACKET or kind == BLOCK_PACKET_OLD:
            if length < 32:
                return BAD_LENGTH
            number = load32(at + 8, big)
            if kind == BLOCK_PACKET_OLD:    # 16 bits of interface, 16 of drops
                dropped = number & 0xFFFF if big else number >> 16
                number = number >> 16 if big else number & 0xFFFF
                if dropped == 0xFFFF:       # not known
                    dropped = 0
            captured = load32(at + 20, big)
            on_wire = load32(at + 24, big)
            frame = at + 28
            room = length - 32
        elif kind == BLOCK_PACKET_SIMPLE:
            if length < 16:
                return BAD_LENGTH
            number = 0
            on_wire = load32(at + 8, big)
            frame = at + 12
            room = length - 16
            captured = on_wire if on_wire < room else room
            if section.interfaces and 0 < interfaces[section.first].snap_bytes < captured:
                captured = interfaces[section.first].snap_bytes
        elif kind == BLOCK_INTERFACE:
            stop = _walk_interface(at, left, length, big, walk, section, interfaces, filter)
            if stop >= 0:
                return stop
            continue
        else:
            if kind == BLOCK_STATISTICS and length >= 24:
                number = load32(at + 8, big)
                if number < section.interfaces:
                    read_statistics(at, length, big, &interfaces[section.first + number])
            walk.position += length
            continue
        if captured > room:
            walk.needed = captured
            return BAD_PACKET
        walk.position += length
        if number >= section.interfaces:
            tally.frames += 1
            counts[<int> UNKNOWN_INTERFACE] += 1
            continue
        interface = interfaces + section.first + number
        fcs_bytes = interface.fcs_bytes
        if kind == BLOCK_PACKET_SIMPLE:     # carries no time: that of the frame before it, else 0
            ts_ns = tally.previous_ts_ns if tally.previous_ts_ns != NO_TIME else 0
        else:
            ts_ns = ticks_to_ns(<uint64_t> load32(at + 12, big) << 32 | load32(at + 16, big), interface)
            count_time(tally, ts_ns)
            interface.dropped_between += dropped
            if room - captured >= 8:        # more than padding and the end of no options
                read_packet_options(frame + ((captured + 3) & ~3), room - ((captured + 3) & ~3), big, &options)
                section.comments += options.comments
                interface.dropped_between += options.dropped
                if options.fcs_bytes:
                    fcs_bytes = options.fcs_bytes
        if interface.program and not passes(filter, interface.program, frame, captured, on_wire, tally, counts):
            continue
        walk.rows += count_frame_apart(
            frame, captured, on_wire, fcs_bytes, interface.link_type, ts_ns, out + walk.rows, tally, counts, memory
        )
    return OUTPUT_FULL


cdef class PcapngWalker(_Walker):
    cdef Interface[::1] interfaces
    cdef Section section
    cdef bint big

    def use_interfaces(self, interfaces not None, uint64_t kept):
        # The walker writes into the array. Whoever owns it gives a larger one, with the same beginning, for NO_ROOM.
        if interfaces.dtype != INTERFACE_DTYPE:
            raise TypeError(f"interfaces must be of INTERFACE_DTYPE, not {interfaces.dtype}")
        if interfaces.size <= self.section.first + self.section.interfaces:
            raise ValueError(f"room for {interfaces.size} interfaces")
        self.interfaces = interfaces
        self.section.room = interfaces.size
        self.section.kept = kept

    @property
    def big_endian(self):
        return self.big

    @property
    def comments(self):
        return self.section.comments

    @property
    def n_interfaces(self):
        # Of this section.
        return self.section.interfaces

    @property
    def n_kept(self):
        return min(self.section.first + self.section.interfaces, self.section.kept)

    @property
    def section_interfaces(self):
        # Those of this section, as far as it was read: a copy.
        return np.array(self.interfaces[self.section.first:self.section.first + self.section.interfaces])

    def go_on(self, bint big_endian, interfaces not None, uint64_t n, uint64_t kept):
        # In the middle of a section, of which the first `n` of `interfaces` were read elsewhere.
        cdef uint64_t number
        self.section.first = self.section.interfaces = 0
        self.use_interfaces(interfaces, kept)
        if n >= self.section.room:
            raise ValueError(f"{n} interfaces in an array of {self.section.room}")
        for number in range(n):
            self.interfaces[number].program = program_of(&self.filter, self.interfaces[number].link_type)
        self.section.interfaces = n
        self.big = big_endian

    def walk(self, const uint8_t[::1] data not None, uint64_t position, uint64_t end, uint64_t row, bint told=False):
        cdef Walk walk = self.begin(position, end, data.shape[0], row)
        cdef const uint8_t *start = &data[0] if data.shape[0] else NULL
        cdef int stop
        if self.section.room == 0:
            raise ValueError("no room for interfaces")
        self.section.told = end - position if told else 0
        with nogil:
            stop = _walk_pcapng(
                start, &walk, &self.big, &self.section, &self.interfaces[0], &self.filter, &self.segments[0],
                &self.tally[0], &self.counts[0], self.memory
            )
        return stop, walk.position, walk.rows, walk.needed
