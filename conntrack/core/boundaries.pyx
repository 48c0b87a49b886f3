"""Where a record may begin, in bytes taken from the middle of a capture: a guess, and never more than that.

Classic pcap has no marks between records. A place is taken for the start of one if a chain of plausible headers leads
from there past the end of the bytes that are looked at: the chain must be longer than a packet can be, so that headers
within a packet (a capture of a capture) do not lead that far. A fixed number of headers is not enough; nor is this a
proof, which is for whoever reads up to there from a start that is known (capture/chunks.py). pcapng has a type and two
lengths a block, on offsets that 4 divides.

One pass from the end to the start, so that crafted bytes cost no more than others.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from conntrack.core.blocks cimport load32
from conntrack.core.walk cimport PcapLayout

from conntrack.core.walk import PCAP_LAYOUT_DTYPE

cdef enum:
    MOST_WIRE = 134217728           # bytes on the wire; longer claims are damage
    NEAR_S = 40000000               # seconds from the file's first record, 15 months: captures are shorter


cdef inline bint _is_record(const uint8_t *at, const PcapLayout *layout, int64_t near_s) noexcept nogil:
    cdef bint big = layout.big_endian
    cdef uint32_t captured = load32(at + 8, big)
    cdef uint32_t on_wire = load32(at + 12, big)
    cdef int64_t seconds = load32(at, big)
    if layout.lengths_order == 1 or (layout.lengths_order == 2 and captured > on_wire):
        captured, on_wire = on_wire, captured
    if captured == 0 or captured > layout.most_captured or captured > on_wire or on_wire > MOST_WIRE:
        return False
    if <int64_t> load32(at + 4, big) * layout.fraction_ns >= 1000000000:
        return False
    return -NEAR_S < seconds - near_s < NEAR_S


cdef inline uint64_t _record_bytes(const uint8_t *at, const PcapLayout *layout) noexcept nogil:
    cdef uint32_t captured = load32(at + 8, layout.big_endian)
    cdef uint32_t on_wire = load32(at + 12, layout.big_endian)
    if layout.lengths_order == 1 or (layout.lengths_order == 2 and captured > on_wire):
        captured = on_wire
    return <uint64_t> layout.header_bytes + captured


cdef int64_t _first_record(
    const uint8_t *data, uint64_t size, uint64_t searched, bint at_end, const PcapLayout *layout, int64_t near_s,
    uint8_t *leads
) noexcept nogil:
    cdef uint64_t header = layout.header_bytes
    cdef uint64_t last, following
    cdef int64_t found = -1
    cdef int64_t at
    if size < header:
        return -1
    last = size - header            # of the places where a whole header fits
    for at in range(<int64_t> last, -1, -1):
        leads[at] = 0
        if _is_record(data + at, layout, near_s):
            following = <uint64_t> at + _record_bytes(data + at, layout)
            leads[at] = leads[following] if following <= last else following == size or not at_end
            if leads[at] and <uint64_t> at < searched:
                found = at
    return found


cdef inline bint _is_block(const uint8_t *data, uint64_t at, uint64_t size, uint64_t longest, bint big) noexcept nogil:
    cdef uint32_t kind = load32(data + at, big)
    cdef uint32_t length = load32(data + at + 4, big)
    if length < 12 or length & 3 or length > longest:
        return False
    if at + length <= size and load32(data + at + length - 4, big) != length:
        return False
    if kind == 6 or kind == 2:      # packets; the others that the format knows, or leaves to all, are below
        return length >= 32
    return 0 < kind <= 10 or kind == 0x0A0D0D0A or kind == 0xBAD or kind == 0x40000BAD


cdef int64_t _first_block(
    const uint8_t *data, uint64_t size, uint64_t searched, bint at_end, bint big, uint8_t *leads
) noexcept nogil:
    cdef uint64_t last, following
    cdef int64_t found = -1
    cdef int64_t at
    if size < 12:
        return -1
    last = (size - 12) & ~<uint64_t> 3
    for at in range(<int64_t> last, -1, -4):
        leads[at] = 0
        if _is_block(data, at, size, searched, big):
            following = <uint64_t> at + load32(data + at + 4, big)
            leads[at] = leads[following] if following <= last else following == size or not at_end
            if leads[at] and <uint64_t> at < searched:
                found = at
    return found


def first_record(
    const uint8_t[::1] data not None, uint64_t searched, bint at_end, layout not None, int64_t near_s,
    uint8_t[::1] leads not None
):
    """Return where in `data` the first record of a classic pcap file seems to begin; -1 if nowhere.

    Args:
        data: bytes of the file; the longer, the better the guess: a few times the longest record.
        searched: how many of them may be the first of the record.
        at_end: the file ends with them.
        layout: PCAP_LAYOUT_DTYPE, shape (1,).
        near_s: the time of some record of the file, seconds since 1970.
        leads: to work with, as long as `data`.

    Raises:
        TypeError, ValueError: `layout` or `leads` do not fit.
    """
    if layout.dtype != PCAP_LAYOUT_DTYPE or layout.size != 1:
        raise TypeError(f"layout must be one PCAP_LAYOUT_DTYPE, not {layout.size} of {layout.dtype}")
    cdef const PcapLayout[::1] view = layout
    cdef int64_t found
    if leads.shape[0] < data.shape[0]:
        raise ValueError(f"{leads.shape[0]} bytes to work with for {data.shape[0]}")
    if data.shape[0] == 0:
        return -1
    with nogil:
        found = _first_record(&data[0], data.shape[0], searched, at_end, &view[0], near_s, &leads[0])
    return found


def first_block(
    const uint8_t[::1] data not None, uint64_t searched, bint at_end, bint big, uint8_t[::1] leads not None
):
    """Return where in `data` the first block of a pcapng file seems to begin; -1 if nowhere.

    Args:
        data: bytes of the file from an offset that 4 divides.
        searched: how many of them may be the first of the block, and the longest that a block is taken to be.
        at_end: the file ends with them.
        big: whether the section is big-endian.
        leads: to work with, as long as `data`.

    Raises:
        ValueError: `leads` is too short.
    """
    cdef int64_t found
    if leads.shape[0] < data.shape[0]:
        raise ValueError(f"{leads.shape[0]} bytes to work with for {data.shape[0]}")
    if data.shape[0] == 0:
        return -1
    with nogil:
        found = _first_block(&data[0], data.shape[0], searched, at_end, big, &leads[0])
    return found
