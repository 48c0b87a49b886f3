# What every walker stands on: where a walk is, the tallies, the filter. Read walk.pyx.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from conntrack.core.abi cimport SegmentRecord
from conntrack.core.cursor cimport Memory
from conntrack.core.decode cimport FILTERED
from conntrack.core.memory cimport DecodeMemory

cpdef enum Stop:        # why a walk ended
    MORE_INPUT          # `needed` bytes are needed at the position
    OUTPUT_FULL
    WORDS               # pcapng: a whole section or interface block of `needed` bytes, for the reader to look at first
    NO_ROOM             # pcapng: for another interface
    BAD_LENGTH          # a record or block of `needed` bytes: impossible
    BAD_TRAILER         # pcapng: the length after the block is not the one before
    BAD_PACKET          # `needed` bytes of packet do not fit into their block or record
    BAD_ORDER           # pcapng: a section without the byte-order magic
    BAD_VERSION         # pcapng: a section of version `needed`
    NO_PROGRAM          # the filter does not exist for link type `needed`

cdef enum:
    MOST_BLOCK = 16777216       # bytes; a longer pcapng block or snoop record is damage (Wireshark's limit too)
    PROGRAMS = 512              # link types that a filter can be made for
    NO_SUCH_PROGRAM = 1         # instead of an address

cdef int64_t NO_TIME


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


cdef struct Walk:               # where a walk is
    uint64_t position
    uint64_t end
    uint64_t rows
    uint64_t capacity
    uint64_t needed


ctypedef uint32_t (*RunProgram)(const void *, const uint8_t *, uint32_t, uint32_t) noexcept nogil


cdef struct Filter:             # libpcap's bpf_filter, and the address of its instructions for each link type
    RunProgram run
    const uint64_t *programs    # 0: every frame passes; NO_SUCH_PROGRAM


cdef inline void count_time(Tally *tally, int64_t ts_ns) noexcept nogil:
    if ts_ns < tally.previous_ts_ns:
        tally.inversions += 1
    tally.previous_ts_ns = ts_ns
    if ts_ns < tally.first_ts_ns:
        tally.first_ts_ns = ts_ns
    if ts_ns > tally.last_ts_ns:
        tally.last_ts_ns = ts_ns


cdef inline bint passes(
    const Filter *filter, uint64_t program, const uint8_t *frame, uint32_t captured, uint32_t on_wire, Tally *tally,
    uint64_t *counts
) noexcept nogil:
    # Whether the filter lets a frame through; counts it if not.
    if filter.run(<const void *> <size_t> program, frame, on_wire if on_wire > captured else captured, captured):
        return True
    tally.frames += 1
    counts[<int> FILTERED] += 1
    return False


cdef inline uint64_t program_of(const Filter *filter, uint32_t link_type) noexcept nogil:
    return filter.programs[link_type] if filter.run != NULL and link_type < PROGRAMS else 0


cdef uint64_t count_frame_apart(
    const uint8_t *frame, uint32_t captured, uint32_t on_wire, uint32_t fcs_bytes, uint32_t link_type, int64_t ts_ns,
    SegmentRecord *segment, Tally *tally, uint64_t *counts, Memory *memory
) noexcept nogil


cdef class _Walker:
    cdef SegmentRecord[::1] segments
    cdef Tally[::1] tally
    cdef uint64_t[::1] counts
    cdef DecodeMemory memory_owner
    cdef Memory *memory
    cdef const uint64_t[::1] programs
    cdef Filter filter
    cdef object filter_owner
    cdef Walk begin(self, uint64_t position, uint64_t end, uint64_t size, uint64_t row) except *
