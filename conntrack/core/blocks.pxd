# One pcapng interface as the walker needs it, and what blocks.pyx reads from blocks. Read blocks.pyx.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    FAMILY_MULTIPLY = 0
    FAMILY_DIVIDE = 1
    FAMILY_SHIFT = 2
    TELLS_RECEIVED = 1
    TELLS_DROPPED = 2

# Beyond any time a capture can hold (2116), and far enough from the ends of int64 that timers can be added.
cdef int64_t LAST_TIME


cdef struct Interface:
    uint64_t factor             # ns = ticks * factor, or ticks / factor
    uint64_t most_ticks         # more would pass LAST_TIME
    int64_t offset_ns
    uint64_t received           # of the last statistics block; see `tells`
    uint64_t dropped
    uint64_t dropped_between    # drops that packet blocks tell, added up
    uint64_t program            # address of the filter's instructions, 0 without
    uint32_t link_type
    uint32_t snap_bytes         # 0 without limit
    uint32_t fcs_bytes
    uint32_t time_family        # FAMILY_*
    uint32_t shift              # seconds = ticks >> shift
    uint32_t resolution         # the byte of if_tsresol
    uint32_t tells              # TELLS_*
    uint32_t pad


cdef struct PacketOptions:
    uint64_t dropped            # since the packet before on this interface
    uint32_t comments
    uint32_t fcs_bytes          # 0 when not said


cdef inline uint32_t load16(const uint8_t *at, bint big) noexcept nogil:
    if big:
        return (<uint32_t> at[0] << 8) | at[1]
    return (<uint32_t> at[1] << 8) | at[0]


cdef inline uint32_t load32(const uint8_t *at, bint big) noexcept nogil:
    if big:
        return (<uint32_t> at[0] << 24) | (<uint32_t> at[1] << 16) | (<uint32_t> at[2] << 8) | at[3]
    return (<uint32_t> at[3] << 24) | (<uint32_t> at[2] << 16) | (<uint32_t> at[1] << 8) | at[0]


cdef inline uint64_t load64(const uint8_t *at, bint big) noexcept nogil:
    if big:
        return <uint64_t> load32(at, True) << 32 | load32(at + 4, True)
    return <uint64_t> load32(at + 4, False) << 32 | load32(at, False)


cdef void read_interface(const uint8_t *block, uint32_t length, bint big, Interface *out) noexcept nogil
cdef void read_statistics(const uint8_t *block, uint32_t length, bint big, Interface *out) noexcept nogil
cdef void read_packet_options(const uint8_t *at, uint32_t room, bint big, PacketOptions *out) noexcept nogil
