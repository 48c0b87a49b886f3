"""Walkers of capture containers: from a buffer of file bytes straight into SegmentRecords, a batch at a time.

Owns the layout of records of classic pcap and snoop (blocks of pcapng: walk_pcapng.pyx), and the tallies of what was
seen. Knows no file: the buffer, where to start in it and how the capture is laid out are arguments. A walk ends when a
record is not complete in the buffer, the output is full, or a length is impossible; it says which, and where. It never
reads past the end it is given. A frame that a filter does not let through is counted and not decoded.

Read draft-ietf-opsawg-pcap and RFC 1761 (snoop); capture/ has a file for each with the other half.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from conntrack.core.abi cimport SegmentRecord
from conntrack.core.blocks cimport LAST_TIME, load32
from conntrack.core.cursor cimport Memory
from conntrack.core.decode cimport OUTCOMES, TCP, decode_frame
from conntrack.core.memory cimport DecodeMemory

import numpy as np

from conntrack.core.abi import SEGMENT_DTYPE

cdef int64_t NO_TIME = <int64_t> (<uint64_t> 1 << 63)

cdef enum:
    SNOOP_RECORD = 24           # bytes before the frame


cdef Tally _tally
cdef PcapLayout _layout
TALLY_DTYPE = np.asarray(<Tally[:1]> &_tally).dtype
PCAP_LAYOUT_DTYPE = np.asarray(<PcapLayout[:1]> &_layout).dtype
N_OUTCOMES = OUTCOMES
LAST_TIME_NS = LAST_TIME
NO_TIME_NS = NO_TIME
N_PROGRAMS = PROGRAMS
NOT_COMPILED = NO_SUCH_PROGRAM


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


cdef uint64_t count_frame_apart(
    const uint8_t *frame, uint32_t captured, uint32_t on_wire, uint32_t fcs_bytes, uint32_t link_type, int64_t ts_ns,
    SegmentRecord *segment, Tally *tally, uint64_t *counts, Memory *memory
) noexcept nogil:
    """The same for other modules."""
    return count_frame(frame, captured, on_wire, fcs_bytes, link_type, ts_ns, segment, tally, counts, memory)


cdef inline int _walk_pcap(
    const uint8_t *data, Walk *walk, const PcapLayout *layout, bint big, const Filter *filter, SegmentRecord *out,
    Tally *tally, uint64_t *counts, Memory *memory
) noexcept nogil:
    cdef const uint8_t *at
    cdef uint32_t captured, on_wire
    cdef uint64_t left
    cdef int64_t ts_ns
    cdef uint32_t header = layout.header_bytes
    cdef uint64_t program = program_of(filter, layout.link_type)
    if program == NO_SUCH_PROGRAM:
        walk.needed = layout.link_type
        return NO_PROGRAM
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
        walk.position += <uint64_t> header + captured
        if program and not passes(filter, program, at + header, captured, on_wire, tally, counts):
            continue
        walk.rows += count_frame(
            at + header, captured, on_wire, layout.fcs_bytes, layout.link_type, ts_ns, out + walk.rows, tally, counts,
            memory
        )
    return OUTPUT_FULL


cdef int _walk_snoop(
    const uint8_t *data, Walk *walk, uint32_t link_type, uint64_t *dropped, const Filter *filter, SegmentRecord *out,
    Tally *tally, uint64_t *counts, Memory *memory
) noexcept nogil:
    # RFC 1761: on the wire, captured, length of the record, drops so far, seconds, microseconds; frame and padding.
    cdef const uint8_t *at
    cdef uint32_t captured, on_wire, length
    cdef uint64_t left
    cdef int64_t ts_ns
    cdef uint64_t program = program_of(filter, link_type)
    if program == NO_SUCH_PROGRAM:
        walk.needed = link_type
        return NO_PROGRAM
    while walk.rows < walk.capacity:
        left = walk.end - walk.position
        if left < SNOOP_RECORD:
            walk.needed = SNOOP_RECORD
            return MORE_INPUT
        at = data + walk.position
        on_wire = load32(at, True)
        captured = load32(at + 4, True)
        length = load32(at + 8, True)
        walk.needed = length
        if length < SNOOP_RECORD or length > MOST_BLOCK:
            return BAD_LENGTH
        if captured > length - SNOOP_RECORD:
            walk.needed = captured
            return BAD_PACKET
        if left < length:
            return MORE_INPUT
        dropped[0] = load32(at + 12, True)
        ts_ns = <int64_t> load32(at + 16, True) * 1000000000 + <int64_t> load32(at + 20, True) * 1000
        count_time(tally, ts_ns)
        walk.position += length
        at += SNOOP_RECORD
        if program and not passes(filter, program, at, captured, on_wire, tally, counts):
            continue
        walk.rows += count_frame(at, captured, on_wire, 0, link_type, ts_ns, out + walk.rows, tally, counts, memory)
    return OUTPUT_FULL


cdef class _Walker:
    # Holds its views of the arrays: taking five of them anew for each walk cost 8 us, as much as 400 packets.

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

    def use_filter(self, filter not None):
        # Its owner keeps the instructions and the library alive.
        self.programs = filter.programs
        if self.programs.shape[0] != PROGRAMS:
            raise ValueError(f"{self.programs.shape[0]} programs for {<int> PROGRAMS} link types")
        self.filter.programs = &self.programs[0]
        self.filter.run = <RunProgram> <size_t> filter.function
        self.filter_owner = filter

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
                    start, &walk, &self.layout, True, &self.filter, &self.segments[0], &self.tally[0],
                    &self.counts[0], self.memory
                )
            else:
                stop = _walk_pcap(
                    start, &walk, &self.layout, False, &self.filter, &self.segments[0], &self.tally[0],
                    &self.counts[0], self.memory
                )
        return stop, walk.position, walk.rows, walk.needed


cdef class SnoopWalker(_Walker):
    cdef uint32_t link_type
    cdef readonly uint64_t dropped

    def __init__(
        self, uint32_t link_type, segments not None, tally not None, counts not None, DecodeMemory memory not None
    ):
        super().__init__(segments, tally, counts, memory)
        self.link_type = link_type

    def walk(self, const uint8_t[::1] data not None, uint64_t position, uint64_t end, uint64_t row):
        cdef Walk walk = self.begin(position, end, data.shape[0], row)
        cdef const uint8_t *start = &data[0] if data.shape[0] else NULL
        cdef int stop
        with nogil:
            stop = _walk_snoop(
                start, &walk, self.link_type, &self.dropped, &self.filter, &self.segments[0], &self.tally[0],
                &self.counts[0], self.memory
            )
        return stop, walk.position, walk.rows, walk.needed
