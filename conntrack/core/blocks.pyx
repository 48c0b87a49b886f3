"""What pcapng blocks say beside packets: how an interface counts time, what it dropped, what a packet's options are.

Owns the options that change how packets are read or that say what was lost; words (names, filters) are the reader's.
Every function is given one whole block and reads nothing outside of it. Of options of one kind the last one counts.

Read draft-ietf-opsawg-pcapng sections 3.5 (options), 4.2 (interfaces), 4.3 (packets) and 4.6 (statistics).
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

import numpy as np

cdef enum:
    OPTION_END = 0
    OPTION_COMMENT = 1
    INTERFACE_RESOLUTION = 9
    INTERFACE_FCS_LENGTH = 13
    INTERFACE_OFFSET = 14
    STATISTICS_RECEIVED = 4
    STATISTICS_DROPPED = 5      # by the interface
    STATISTICS_SYSTEM_DROPPED = 7
    PACKET_FLAGS = 2
    PACKET_DROPPED = 4
    MICROSECONDS = 6            # if_tsresol where it is not given
    GREATEST_POWER = 19         # of ten in 64 bits

cdef int64_t LAST_TIME = (<int64_t> 1 << 62) - 1

cdef Interface _interface
cdef Interface[:] _view = <Interface[:1]> &_interface  # typed: without one Cython leaves out what it shares
INTERFACE_DTYPE = np.asarray(_view).dtype
RECEIVED_TOLD = TELLS_RECEIVED
DROPPED_TOLD = TELLS_DROPPED


cdef uint64_t power_of_ten(uint32_t exponent) noexcept nogil:
    cdef uint64_t value = 1
    if exponent > GREATEST_POWER:
        return <uint64_t> -1
    while exponent:
        value *= 10
        exponent -= 1
    return value


cdef void scale_time(uint32_t resolution, Interface *out) noexcept nogil:
    # 10^-n seconds as n, or 2^-n as n with the highest bit set.
    cdef uint32_t exponent = resolution & 0x7F
    cdef uint64_t most_seconds = <uint64_t> LAST_TIME / 1000000000
    out.resolution = resolution
    out.shift = 0
    if resolution & 0x80:
        out.time_family = FAMILY_SHIFT
        out.factor = 1
        out.shift = exponent
        out.most_ticks = <uint64_t> -1
        if exponent < 64 and most_seconds <= (<uint64_t> -1) >> exponent:
            out.most_ticks = most_seconds << exponent
    elif exponent <= 9:
        out.time_family = FAMILY_MULTIPLY
        out.factor = power_of_ten(9 - exponent)
        out.most_ticks = <uint64_t> LAST_TIME / out.factor
    else:
        out.time_family = FAMILY_DIVIDE
        out.factor = power_of_ten(exponent - 9)
        out.most_ticks = <uint64_t> -1
        if out.factor <= (<uint64_t> -1) / <uint64_t> LAST_TIME:
            out.most_ticks = <uint64_t> LAST_TIME * out.factor


cdef inline uint32_t next_option(
    const uint8_t *at, const uint8_t *end, bint big, uint32_t *size
) noexcept nogil:
    # The code of the option at `at`, 0 when there is none that is whole; its value begins 4 bytes on.
    if end - at < 4:
        return OPTION_END
    size[0] = load16(at + 2, big)
    if end - at - 4 < <int64_t> size[0]:
        return OPTION_END
    return load16(at, big)


cdef inline const uint8_t *after_option(const uint8_t *at, const uint8_t *end, uint32_t size) noexcept nogil:
    cdef int64_t step = 4 + ((size + 3) & ~3)
    return at + step if end - at >= step else end


cdef void read_interface(const uint8_t *block, uint32_t length, bint big, Interface *out) noexcept nogil:
    """Read an interface description block of at least 20 bytes."""
    cdef const uint8_t *at = block + 16
    cdef const uint8_t *end = block + length - 4
    cdef uint32_t code, size = 0, resolution = MICROSECONDS
    cdef int64_t offset_s = 0
    cdef int64_t most_s = LAST_TIME / 1000000000
    memset(out, 0, sizeof(Interface))
    out.link_type = load16(block + 8, big)
    out.snap_bytes = load32(block + 12, big)
    while True:
        code = next_option(at, end, big, &size)
        if code == OPTION_END:
            break
        if code == INTERFACE_RESOLUTION and size >= 1:
            resolution = at[4]
        elif code == INTERFACE_FCS_LENGTH and size >= 1:
            # Bits, by Wireshark's reading of an unclear draft; fewer than 8 can only be bytes (pcapng issue 60).
            out.fcs_bytes = at[4] / 8 if at[4] >= 8 else at[4]
        elif code == INTERFACE_OFFSET and size >= 8:
            offset_s = <int64_t> load64(at + 4, big)
        at = after_option(at, end, size)
    scale_time(resolution, out)
    if offset_s > most_s:
        out.offset_ns = LAST_TIME
    elif offset_s < -most_s:
        out.offset_ns = -LAST_TIME
    else:
        out.offset_ns = offset_s * 1000000000


cdef void read_statistics(const uint8_t *block, uint32_t length, bint big, Interface *out) noexcept nogil:
    """Read an interface statistics block of at least 24 bytes: its counters run from the start of the capture."""
    cdef const uint8_t *at = block + 20
    cdef const uint8_t *end = block + length - 4
    cdef uint32_t code, size = 0
    cdef uint64_t dropped[2]
    cdef uint32_t told = 0
    dropped[0] = dropped[1] = 0
    while True:
        code = next_option(at, end, big, &size)
        if code == OPTION_END:
            break
        if size == 8:
            if code == STATISTICS_RECEIVED:
                out.received = load64(at + 4, big)
                told |= TELLS_RECEIVED
            elif code == STATISTICS_DROPPED:
                dropped[0] = load64(at + 4, big)
                told |= TELLS_DROPPED
            elif code == STATISTICS_SYSTEM_DROPPED:
                dropped[1] = load64(at + 4, big)
                told |= TELLS_DROPPED
        at = after_option(at, end, size)
    if told & TELLS_DROPPED:
        out.dropped = dropped[0] + dropped[1]
    out.tells |= told


cdef void read_packet_options(const uint8_t *at, uint32_t room, bint big, PacketOptions *out) noexcept nogil:
    """Read the options that follow a packet, `room` bytes of them."""
    cdef const uint8_t *end = at + room
    cdef uint32_t code, size = 0
    out.dropped = 0
    out.comments = 0
    out.fcs_bytes = 0
    while True:
        code = next_option(at, end, big, &size)
        if code == OPTION_END:
            break
        if code == OPTION_COMMENT:
            out.comments += 1
        elif code == PACKET_FLAGS and size == 4:
            out.fcs_bytes = load32(at + 4, big) >> 5 & 15
        elif code == PACKET_DROPPED and size == 8:
            out.dropped = load64(at + 4, big)
        at = after_option(at, end, size)


def time_scale(resolution):
    """Return INTERFACE_DTYPE's time_family, factor, shift and most_ticks for a byte of option if_tsresol."""
    cdef Interface scaled
    scale_time(resolution, &scaled)
    return scaled.time_family, scaled.factor, scaled.shift, scaled.most_ticks
