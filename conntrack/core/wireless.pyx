"""802.11: data frames in clear, behind radiotap, Prism or AVS headers.

Owns these headers. Of an aggregate (A-MSDU) the first frame is read, since one captured frame is one segment here;
those behind it are counted (Journal.subframes). Frames that are encrypted are counted as such, a data frame's later
fragments as fragments.

Read IEEE 802.11 clause 9.2 and 9.3.2, https://www.radiotap.org, and linux/wlan-ng's header of 2000 for the other two.
"""

from libc.stdint cimport uint8_t, uint32_t

from conntrack.core.cursor cimport LAYER_LLC, LAYER_WLAN, Cursor, big16, big32, little16, little32, put, shorten, step
from conntrack.core.decode cimport CUT_SHORT_HEADER, ENCRYPTED_LINK, IP_FRAGMENT, NOT_IP
from conntrack.core.paths cimport TOKEN_WLAN

cdef enum:
    PRISM_BYTES = 144
    AVS_MAGIC = 0x80211         # of 32 bits, less a version
    RADIOTAP_TIME = 1           # bits of the first word: which fields are there
    RADIOTAP_FLAGS = 2
    HAS_CHECK_SEQUENCE = 0x10   # of the flags
    HAS_PADDING = 0x20          # behind the 802.11 header, to 4 bytes
    CHECK_SEQUENCE_BYTES = 4
    FRAME_DATA = 2
    SUBTYPE_EMPTY = 4           # bits of a data frame's subtype
    SUBTYPE_QOS = 8
    BOTH_SYSTEMS = 3            # bits of the second byte: to and from a distribution system, four addresses
    PROTECTED = 0x40
    ORDER = 0x80                # with QoS: four bytes of HT control follow
    AGGREGATE = 0x80            # of the first byte of QoS control


cdef int read_radiotap(Cursor *cursor) noexcept nogil:
    cdef uint32_t header, present, word, field = 8, flags = 0
    if cursor.captured < 8:
        return CUT_SHORT_HEADER
    header = little16(cursor.at + 2)
    present = little32(cursor.at + 4)
    if header < 8:
        return NOT_IP
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    word = present
    while word >> 31 and field + 4 <= header:
        word = little32(cursor.at + field)
        field += 4
    if present & RADIOTAP_TIME:
        field = ((field + 7) & ~<uint32_t> 7) + 8
    if present & RADIOTAP_FLAGS and field < header:
        flags = cursor.at[field]
    step(cursor, header)
    if flags & HAS_CHECK_SEQUENCE and cursor.length >= CHECK_SEQUENCE_BYTES:
        shorten(cursor, cursor.length - CHECK_SEQUENCE_BYTES)
    return read_wlan(cursor, flags & HAS_PADDING != 0)


cdef int read_avs(Cursor *cursor) noexcept nogil:
    cdef uint32_t header
    if cursor.captured < 8:
        return CUT_SHORT_HEADER
    header = big32(cursor.at + 4)
    if big32(cursor.at) >> 12 != AVS_MAGIC or header < 8:
        return NOT_IP
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    step(cursor, header)
    return LAYER_WLAN


cdef int read_prism(Cursor *cursor) noexcept nogil:
    # The AVS header comes under this link type too.
    if cursor.captured < 4:
        return CUT_SHORT_HEADER
    if big32(cursor.at) >> 12 == AVS_MAGIC:
        return read_avs(cursor)
    if cursor.captured < PRISM_BYTES:
        return CUT_SHORT_HEADER
    step(cursor, PRISM_BYTES)
    return LAYER_WLAN


cdef uint32_t count_behind(const Cursor *cursor) noexcept nogil:
    # The cursor is behind the header of an aggregate's first frame. Each is padded to 4 bytes, but for the last.
    cdef uint32_t found = 0, at = 0
    while True:
        at += (14 + big16(cursor.at + at - 2) + 3) & ~<uint32_t> 3
        if at > cursor.captured:
            return found
        found += 1


cdef int read_wlan(Cursor *cursor, bint padded) noexcept nogil:
    """Read a frame's header; `padded`: to 4 bytes."""
    cdef const uint8_t *at = cursor.at
    cdef uint32_t header = 24, subtype
    cdef bint aggregate = False
    if cursor.captured < 2:
        return CUT_SHORT_HEADER
    subtype = at[0] >> 4
    if at[0] & 3 or at[0] >> 2 & 3 != FRAME_DATA or subtype & SUBTYPE_EMPTY:
        return NOT_IP
    if at[1] & PROTECTED:
        return ENCRYPTED_LINK
    if at[1] & BOTH_SYSTEMS == BOTH_SYSTEMS:
        header += 6
    if cursor.captured < header + 2:
        return CUT_SHORT_HEADER
    if at[22] & 15:
        return IP_FRAGMENT
    if subtype & SUBTYPE_QOS:
        aggregate = at[header] & AGGREGATE
        header += 2
        if at[1] & ORDER:
            header += 4
    if padded:
        header = (header + 3) & ~<uint32_t> 3
    if aggregate:               # of subframes: destination, source, length
        header += 14
    if cursor.captured < header:
        return CUT_SHORT_HEADER
    step(cursor, header)
    if aggregate:
        if cursor.memory != NULL:
            cursor.memory.journal.subframes += count_behind(cursor)
        shorten(cursor, big16(cursor.at - 2))
    put(cursor, TOKEN_WLAN, cursor.at, 0)
    return LAYER_LLC
