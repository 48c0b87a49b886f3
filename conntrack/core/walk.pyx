"""Walkers of capture containers: from a buffer of file bytes straight into SegmentRecords, a batch at a time.

Owns the layout of records (classic pcap) and of packet blocks (pcapng), and the tallies of what was seen. Knows no
file: the buffer, where to start in it and how the capture is laid out are arguments. A walk ends when a record is not
complete in the buffer, the output is full, a block is the reader's business (sections and interfaces), or a length is
impossible; it says which, and where. It never reads past the end it is given.

Read draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng; capture/pcap.py and capture/pcapng.py hold the other half.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from conntrack.core.abi cimport SegmentRecord
from conntrack.core.cursor cimport Memory
from conntrack.core.decode cimport OUTCOMES, TCP, UNKNOWN_INTERFACE, decode_frame
from conntrack.core.memory cimport DecodeMemory

import numpy as np

from conntrack.core.abi import SEGMENT_DTYPE

cpdef enum Stop:        # why a walk ended
    MORE_INPUT          # `needed` bytes are needed at the position
    OUTPUT_FULL
    CONTROL_BLOCK       # pcapng: a section or interface block, for the reader
    BAD_LENGTH          # a record or block of `needed` bytes: impossible
    BAD_TRAILER         # pcapng: the length after the block is not the one before
    BAD_PACKET          # pcapng: `needed` bytes of packet do not fit into their block

cdef enum:
    BLOCK_SECTION = 0x0A0D0D0A
    BLOCK_INTERFACE = 1
    BLOCK_PACKET_OLD = 2
    BLOCK_PACKET_SIMPLE = 3
    BLOCK_PACKET = 6
    FAMILY_MULTIPLY = 0
    FAMILY_DIVIDE = 1
    FAMILY_SHIFT = 2
    FRACTION_BITS = 34          # of a second are kept of a binary resolution: 10^9 << 34 still fits into 64 bits
    MOST_BLOCK = 16777216       # bytes; a longer pcapng block is taken for damage (Wireshark's limit too)

# Beyond any time a capture can hold (2116), and far enough from the ends of int64 that timers can be added.
cdef int64_t LAST_TIME = (<int64_t> 1 << 62) - 1
cdef int64_t NO_TIME = <int64_t> (<uint64_t> 1 << 63)


cdef struct Tally:              # what was seen; one for all the files of a capture
    uint64_t frames
    uint64_t inversions         # frames with a time before that of the frame before
    int64_t first_ts_ns         # earliest and latest of all; LAST_TIME and -LAST_TIME until there is one
    int64_t last_ts_ns
    int64_t previous_ts_ns      # of the frame before in this file; NO_TIME until there is one


cdef struct PcapLayout:         # how the records of one classic pcap file are laid out
    uint32_t big_endian
    uint32_t header_bytes       # of a record: 16, or 24 in Kuznetzov's variant
    uint32_t fraction_ns        # the unit of the second time field: 1000 or 1
    uint32_t lengths_order      # 0 captured first; 1 wire first (before 2.3); 2 either, the smaller is captured (2.3)
    uint32_t link_type
    uint32_t fcs_bytes          # at the end of each frame
    uint32_t most_captured      # a longer record is impossible
    uint32_t pad


cdef struct Interface:          # one pcapng interface
    uint64_t factor             # ns = ticks * factor, or ticks / factor
    uint64_t most_ticks         # more would pass LAST_TIME
    int64_t offset_ns
    uint32_t link_type
    uint32_t snap_bytes         # 0 without limit
    uint32_t fcs_bytes
    uint32_t time_family        # FAMILY_*
    uint32_t shift              # seconds = ticks >> shift
    uint32_t pad


cdef Tally _tally
cdef PcapLayout _layout
cdef Interface _interface
TALLY_DTYPE = np.asarray(<Tally[:1]> &_tally).dtype
PCAP_LAYOUT_DTYPE = np.asarray(<PcapLayout[:1]> &_layout).dtype
INTERFACE_DTYPE = np.asarray(<Interface[:1]> &_interface).dtype
N_OUTCOMES = OUTCOMES
LAST_TIME_NS = LAST_TIME
NO_TIME_NS = NO_TIME
TIME_MULTIPLY = FAMILY_MULTIPLY
TIME_DIVIDE = FAMILY_DIVIDE
TIME_SHIFT = FAMILY_SHIFT
MOST_BLOCK_BYTES = MOST_BLOCK


cdef struct Walk:               # where a walk is
    uint64_t position
    uint64_t end
    uint64_t rows
    uint64_t capacity
    uint64_t needed


cdef inline uint32_t load32(const uint8_t *at, bint big) noexcept nogil:
    if big:
        return (<uint32_t> at[0] << 24) | (<uint32_t> at[1] << 16) | (<uint32_t> at[2] << 8) | at[3]
    return (<uint32_t> at[3] << 24) | (<uint32_t> at[2] << 16) | (<uint32_t> at[1] << 8) | at[0]


cdef inline void count_time(Tally *tally, int64_t ts_ns) noexcept nogil:
    if ts_ns < tally.previous_ts_ns:
        tally.inversions += 1
    tally.previous_ts_ns = ts_ns
    if ts_ns < tally.first_ts_ns:
        tally.first_ts_ns = ts_ns
    if ts_ns > tally.last_ts_ns:
        tally.last_ts_ns = ts_ns


cdef inline uint64_t count_frame(
    const uint8_t *frame, uint32_t captured, uint32_t on_wire, uint32_t fcs_bytes, uint32_t link_type, int64_t ts_ns,
    SegmentRecord *segment, Tally *tally, uint64_t *counts, Memory *memory
) noexcept nogil:
    # Decode into `segment`; return the rows it made: 1 or 0.
    cdef int outcome
    if on_wire < captured:
        on_wire = captured
    segment.ts_ns = ts_ns
    tally.frames += 1
    segment.frame = tally.frames
    if fcs_bytes:
        if on_wire >= fcs_bytes:
            if captured > on_wire - fcs_bytes:
                captured = on_wire - fcs_bytes
            outcome = decode_frame(frame, captured, on_wire - fcs_bytes, link_type, segment, memory)
        else:
            outcome = decode_frame(frame, captured, on_wire, link_type, segment, memory)
        segment.wire_bytes = on_wire
    else:
        outcome = decode_frame(frame, captured, on_wire, link_type, segment, memory)
    counts[outcome] += 1
    return outcome == TCP


cdef inline int _walk_pcap(
    const uint8_t *data, Walk *walk, const PcapLayout *layout, bint big, SegmentRecord *out, Tally *tally,
    uint64_t *counts, Memory *memory
) noexcept nogil:
    cdef const uint8_t *at
    cdef uint32_t captured, on_wire
    cdef uint64_t left
    cdef int64_t ts_ns
    cdef uint32_t header = layout.header_bytes
    while walk.rows < walk.capacity:
        left = walk.end - walk.position
        if left < header:
            walk.needed = header
            return MORE_INPUT
        at = data + walk.position
        captured = load32(at + 8, big)
        on_wire = load32(at + 12, big)
        if layout.lengths_order == 1 or (layout.lengths_order == 2 and captured > on_wire):
            captured, on_wire = on_wire, captured
        if captured > layout.most_captured:
            walk.needed = captured
            return BAD_LENGTH
        if left - header < captured:
            walk.needed = <uint64_t> header + captured
            return MORE_INPUT
        ts_ns = <int64_t> load32(at, big) * 1000000000 + <int64_t> load32(at + 4, big) * layout.fraction_ns
        count_time(tally, ts_ns)
        walk.rows += count_frame(
            at + header, captured, on_wire, layout.fcs_bytes, layout.link_type, ts_ns, out + walk.rows, tally, counts,
            memory
        )
        walk.position += <uint64_t> header + captured
    return OUTPUT_FULL


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


cdef inline int _walk_pcapng(
    const uint8_t *data, Walk *walk, bint big, const Interface *interfaces, uint64_t n_interfaces, SegmentRecord *out,
    Tally *tally, uint64_t *counts, Memory *memory
) noexcept nogil:
    cdef const uint8_t *at
    cdef const uint8_t *frame
    cdef uint32_t kind, length, room, captured, on_wire, number
    cdef uint64_t left
    cdef int64_t ts_ns
    while walk.rows < walk.capacity:
        left = walk.end - walk.position
        if left < 12:
            walk.needed = 12
            return MORE_INPUT
        at = data + walk.position
        kind = load32(at, big)
        if kind == BLOCK_SECTION:       # its byte order may be another: the length is not known yet
            return CONTROL_BLOCK
        length = load32(at + 4, big)
        walk.needed = length
        if length < 12 or length & 3 or length > MOST_BLOCK:
            return BAD_LENGTH
        if left < length:
            return MORE_INPUT
        if load32(at + length - 4, big) != length:
            return BAD_TRAILER
        if kind == BLOCK_PACKET or kind == BLOCK_PACKET_OLD:
            if length < 32:
                return BAD_LENGTH
            number = load32(at + 8, big)
            if kind == BLOCK_PACKET_OLD:    # 16 bits of interface, 16 of drops
                number = number >> 16 if big else number & 0xFFFF
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
            if n_interfaces and 0 < interfaces[0].snap_bytes < captured:
                captured = interfaces[0].snap_bytes
        elif kind == BLOCK_INTERFACE:
            return CONTROL_BLOCK
        else:
            walk.position += length
            continue
        if captured > room:
            walk.needed = captured
            return BAD_PACKET
        walk.position += length
        if number >= n_interfaces:
            tally.frames += 1
            counts[<int> UNKNOWN_INTERFACE] += 1
            continue
        if kind == BLOCK_PACKET_SIMPLE:     # carries no time: that of the frame before it, else 0
            ts_ns = tally.previous_ts_ns if tally.previous_ts_ns != NO_TIME else 0
        else:
            ts_ns = ticks_to_ns(<uint64_t> load32(at + 12, big) << 32 | load32(at + 16, big), &interfaces[number])
            count_time(tally, ts_ns)
        walk.rows += count_frame(
            frame, captured, on_wire, interfaces[number].fcs_bytes, interfaces[number].link_type, ts_ns,
            out + walk.rows, tally, counts, memory
        )
    return OUTPUT_FULL


cdef class _Walker:
    # Holds its views of the arrays: taking five of them anew for each walk cost 8 us, as much as 400 packets.
    cdef SegmentRecord[::1] segments
    cdef Tally[::1] tally
    cdef uint64_t[::1] counts
    cdef DecodeMemory memory_owner
    cdef Memory *memory

    def __init__(self, segments not None, tally not None, counts not None, DecodeMemory memory not None):
        for array, dtype in ((segments, SEGMENT_DTYPE), (tally, TALLY_DTYPE)):
            if array.dtype != dtype or array.size == 0:
                raise TypeError(f"an array of {array.dtype} with {array.size} elements, where {dtype} is needed")
        self.segments = segments
        self.tally = tally
        self.counts = counts
        self.memory_owner = memory
        self.memory = &memory.memory
        if self.counts.shape[0] != OUTCOMES:
            raise ValueError(f"{self.counts.shape[0]} counters for {<int> OUTCOMES} outcomes")

    cdef Walk begin(self, uint64_t position, uint64_t end, uint64_t size, uint64_t row) except *:
        if not position <= end <= size:
            raise ValueError(f"bytes {position} to {end} of a buffer of {size}")
        if row > <uint64_t> self.segments.shape[0]:
            raise ValueError(f"row {row} of {self.segments.shape[0]}")
        return Walk(position, end, row, self.segments.shape[0], 0)


cdef class PcapWalker(_Walker):
    cdef PcapLayout layout

    def __init__(
        self, layout not None, segments not None, tally not None, counts not None, DecodeMemory memory not None
    ):
        super().__init__(segments, tally, counts, memory)
        if layout.dtype != PCAP_LAYOUT_DTYPE or layout.size != 1:
            raise TypeError(f"layout must be one PCAP_LAYOUT_DTYPE, not {layout.size} of {layout.dtype}")
        cdef const PcapLayout[::1] view = layout
        self.layout = view[0]

    def walk(self, const uint8_t[::1] data not None, uint64_t position, uint64_t end, uint64_t row):
        cdef Walk walk = self.begin(position, end, data.shape[0], row)
        cdef const uint8_t *start = &data[0] if data.shape[0] else NULL
        cdef int stop
        with nogil:
            if self.layout.big_endian:
                stop = _walk_pcap(
                    start, &walk, &self.layout, True, &self.segments[0], &self.tally[0], &self.counts[0],
                    self.memory
                )
            else:
                stop = _walk_pcap(
                    start, &walk, &self.layout, False, &self.segments[0], &self.tally[0], &self.counts[0],
                    self.memory
                )
        return stop, walk.position, walk.rows, walk.needed


cdef class PcapngWalker(_Walker):
    cdef const Interface[::1] interfaces
    cdef object interfaces_owner
    cdef readonly uint64_t n_interfaces
    cdef public bint big_endian

    def describe(self, interfaces not None, uint64_t n_interfaces):
        # Whoever owns the array may write into it, and then say that more of it is used.
        if interfaces is not self.interfaces_owner:
            if interfaces.dtype != INTERFACE_DTYPE:
                raise TypeError(f"interfaces must be of INTERFACE_DTYPE, not {interfaces.dtype}")
            self.interfaces = interfaces
            self.interfaces_owner = interfaces
        if n_interfaces > <uint64_t> self.interfaces.shape[0]:
            raise ValueError(f"{n_interfaces} interfaces of {self.interfaces.shape[0]}")
        self.n_interfaces = n_interfaces

    def walk(self, const uint8_t[::1] data not None, uint64_t position, uint64_t end, uint64_t row):
        cdef Walk walk = self.begin(position, end, data.shape[0], row)
        cdef const uint8_t *start = &data[0] if data.shape[0] else NULL
        cdef uint64_t n = self.n_interfaces
        cdef const Interface *interfaces = &self.interfaces[0] if n else NULL
        cdef int stop
        with nogil:
            if self.big_endian:
                stop = _walk_pcapng(
                    start, &walk, True, interfaces, n, &self.segments[0], &self.tally[0], &self.counts[0],
                    self.memory
                )
            else:
                stop = _walk_pcapng(
                    start, &walk, False, interfaces, n, &self.segments[0], &self.tally[0], &self.counts[0],
                    self.memory
                )
        return stop, walk.position, walk.rows, walk.needed
