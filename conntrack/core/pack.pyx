"""Segments in few bytes, as columns, and back: for files that are read again on the same day.

Owns the form. A block is a count of rows and of address pairs, then the first value and the width of every column, then
the columns. Of a value as many of its low bytes are stored as differ within the column, and the rest is that of the
first: a column of equal values takes no room. Addresses are stored once for each pair that occurs. What comes back is
what was put in, byte for byte. Numbers are little-endian. Not a format for archives: it says nothing of its version.
"""

import numpy as np

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from conntrack.core.abi cimport SegmentRecord
from conntrack.core.index cimport mix

from conntrack.core.abi import SEGMENT_DTYPE

cdef enum:
    FIELDS = 20                     # of a segment, without its addresses
    COLUMNS = FIELDS + 1 + 4        # then the number of the pair, then the words of the pairs
    PAIR = FIELDS
    HEAD_BYTES = 8 + COLUMNS * 9
    SLACK = 8                       # values are copied eight bytes at a time
    ROW_BYTES = 8 * (FIELDS + 1 + 4)
    MOST_PROBES = 16
    WORDS = 12                      # of eight bytes, in a segment
    TILE = 64                       # rows that all columns are taken from before the next: they fit the nearest cache
    TAIL = 8                        # values at the end of a column, of which no byte may go beyond it
    MOST = 1048576

MOST_ROWS = MOST
SLACK_BYTES = SLACK

cdef extern from *:
    """
    static const unsigned char conntrack_columns[20][2] = {
        {0, 8}, {8, 8}, {48, 4}, {52, 4}, {56, 4}, {60, 4}, {64, 4}, {68, 4}, {72, 2}, {74, 2}, {76, 2}, {78, 2},
        {80, 2}, {82, 2}, {84, 1}, {85, 1}, {86, 1}, {87, 1}, {88, 4}, {92, 2}};
    """
    const uint8_t COLUMN "conntrack_columns" [20][2]    # offset and size of each field; a test holds them to the dtype
    uint64_t swapped "__builtin_bswap64" (uint64_t) noexcept nogil
    int leading_zeros "__builtin_clzll" (uint64_t) noexcept nogil


cdef inline uint64_t _load(const uint8_t *at, int size) noexcept nogil:
    # `size` is known wherever this is put in, so that it is one move.
    cdef uint64_t wide
    cdef uint32_t middle
    cdef uint16_t narrow
    if size == 8:
        memcpy(&wide, at, 8)
        return wide
    if size == 4:
        memcpy(&middle, at, 4)
        return middle
    if size == 2:
        memcpy(&narrow, at, 2)
        return narrow
    return at[0]


cdef inline int _width(uint64_t differing) noexcept nogil:
    return (71 - leading_zeros(differing)) >> 3 if differing else 0


cdef void _differing(const SegmentRecord *rows, uint32_t n, uint64_t *words) noexcept nogil:
    # Which bits differ from the first row's in any.
    cdef uint64_t first[WORDS]
    cdef uint64_t row[WORDS]
    cdef uint32_t i
    cdef int word
    memcpy(first, &rows[0], sizeof(SegmentRecord))
    memset(words, 0, sizeof(SegmentRecord))
    for i in range(n):
        memcpy(row, &rows[i], sizeof(SegmentRecord))
        for word in range(WORDS):
            words[word] |= row[word] ^ first[word]


cdef inline uint8_t *_put_values(
    const uint8_t *at, uint64_t stride, int size, uint32_t n, int width, uint8_t *out, bint ends
) noexcept nogil:
    cdef uint64_t value
    cdef uint32_t i
    cdef uint32_t quick = n if not ends else n - TAIL if n > TAIL else 0
    if width == 0:
        return out
    for i in range(quick):
        value = _load(at + i * stride, size)
        memcpy(out, &value, 8)
        out += width
    for i in range(quick, n):
        value = _load(at + i * stride, size)
        memcpy(out, &value, width)
        out += width
    return out


cdef uint8_t *_put_field(
    const uint8_t *at, int size, uint32_t n, int width, uint8_t *out, bint ends
) noexcept nogil:
    if size == 8:
        return _put_values(at, sizeof(SegmentRecord), 8, n, width, out, ends)
    if size == 4:
        return _put_values(at, sizeof(SegmentRecord), 4, n, width, out, ends)
    if size == 2:
        return _put_values(at, sizeof(SegmentRecord), 2, n, width, out, ends)
    return _put_values(at, sizeof(SegmentRecord), 1, n, width, out, ends)


cdef uint8_t *_put_column(const uint64_t *values, uint32_t n, uint8_t *head, uint8_t *out) noexcept nogil:
    cdef uint64_t differing = 0
    cdef uint32_t i
    for i in range(n):
        differing |= values[i] ^ values[0]
    memcpy(head, &values[0], 8)
    head[8] = <uint8_t> _width(differing)
    return _put_values(<const uint8_t *> values, 8, 8, n, head[8], out, False)


cdef uint8_t *_put_fields(const SegmentRecord *rows, uint32_t n, uint8_t *head, uint8_t *out) noexcept nogil:
    cdef uint64_t words[WORDS]
    cdef uint64_t value
    cdef uint8_t *outs[FIELDS]
    cdef uint32_t count, begin = 0
    cdef int column, size
    _differing(rows, n, words)
    for column in range(FIELDS):
        size = COLUMN[column][1]
        memset(head + 9 * column, 0, 8)
        memcpy(head + 9 * column, <const uint8_t *> &rows[0] + COLUMN[column][0], size)
        value = 0
        memcpy(&value, <const uint8_t *> words + COLUMN[column][0], size)
        head[9 * column + 8] = <uint8_t> _width(value)
        outs[column] = out
        out += <uint64_t> head[9 * column + 8] * n
    while begin < n:
        count = min(n - begin, <uint32_t> TILE)
        for column in range(FIELDS):
            outs[column] = _put_field(
                <const uint8_t *> &rows[begin] + COLUMN[column][0], COLUMN[column][1], count, head[9 * column + 8],
                outs[column], n - begin - count < TAIL
            )
        begin += count
    return out


cdef inline const uint8_t *_take_column(
    const uint8_t *head, const uint8_t *data, uint32_t n, uint8_t *to, uint64_t stride, int size
) noexcept nogil:
    cdef uint64_t first, value
    cdef uint32_t i
    cdef int width = head[8]
    cdef uint64_t mask = <uint64_t> -1 if width == 8 else (<uint64_t> 1 << (8 * width)) - 1
    memcpy(&first, head, 8)
    first &= ~mask
    for i in range(n):
        memcpy(&value, data, 8)
        value = first | (value & mask)
        memcpy(to + i * stride, &value, size)
        data += width
    return data


cdef const uint8_t *_take_field(
    const uint8_t *head, const uint8_t *data, uint32_t n, uint8_t *to, int size
) noexcept nogil:
    if size == 8:
        return _take_column(head, data, n, to, sizeof(SegmentRecord), 8)
    if size == 4:
        return _take_column(head, data, n, to, sizeof(SegmentRecord), 4)
    if size == 2:
        return _take_column(head, data, n, to, sizeof(SegmentRecord), 2)
    return _take_column(head, data, n, to, sizeof(SegmentRecord), 1)


cdef uint32_t _number_pairs(
    const SegmentRecord *rows, uint32_t n, uint32_t *slots, uint64_t slot_mask, uint32_t *first, uint64_t *pair
) noexcept nogil:
    # Give each address pair a number, in order of appearance; first[number] is a row that has it. Pairs made to collide
    # get several numbers.
    cdef uint64_t words[4]
    cdef uint64_t at
    cdef uint32_t i, number
    cdef uint32_t pairs = 0
    cdef int left
    memset(slots, 0, (slot_mask + 1) * sizeof(uint32_t))
    for i in range(n):
        memcpy(words, rows[i].src_ip, 32)
        at = mix(words[0] ^ words[3] ^ <uint64_t> 0x9E3779B97F4A7C15, words[1] ^ words[2] << 1 ^ <uint64_t> 0x2545F491)
        at = (at ^ mix(words[1] + 1, words[3] | 1)) & slot_mask
        left = MOST_PROBES
        while True:
            number = slots[at]
            left -= 1
            if number == 0 or left == 0:
                first[pairs] = i
                pairs += 1
                slots[at] = pairs
                pair[i] = pairs - 1
                break
            if memcmp(rows[i].src_ip, rows[first[number - 1]].src_ip, 32) == 0:
                pair[i] = number - 1
                break
            at = (at + 1) & slot_mask
    return pairs


cdef class Packer:
    """Packs up to so many segments at a time; holds the memory to work with."""

    cdef readonly uint32_t most_rows
    cdef uint32_t[::1] slots
    cdef uint32_t[::1] first
    cdef uint64_t[::1] values
    cdef uint8_t[::1] packed

    def __init__(self, uint32_t most_rows):
        if not 1 <= most_rows <= MOST:
            raise ValueError(f"blocks of {most_rows} segments; 1 to {MOST} can be")
        self.most_rows = most_rows
        self.slots = np.empty(1 << (2 * most_rows - 1).bit_length(), np.uint32)
        self.first = np.empty(most_rows, np.uint32)
        self.values = np.empty(4 * most_rows, np.uint64)
        self.packed = np.empty(HEAD_BYTES + ROW_BYTES * most_rows + SLACK, np.uint8)

    def pack(self, segments not None):
        """Return `segments` (SEGMENT_DTYPE, shape (1..most_rows,)) packed: a view that is valid until the next call.

        The last SLACK_BYTES say nothing.

        Raises:
            TypeError, ValueError: they are of another dtype, none or too many.
        """
        if segments.dtype != SEGMENT_DTYPE:
            raise TypeError(f"segments are {SEGMENT_DTYPE}, not {segments.dtype}")
        cdef const SegmentRecord[::1] rows = segments
        cdef uint32_t n = <uint32_t> rows.shape[0]
        cdef uint32_t pairs, i
        cdef uint8_t *head = &self.packed[0]
        cdef uint8_t *out = head + HEAD_BYTES
        cdef uint64_t *values = &self.values[0]
        cdef uint64_t word
        cdef int column, size
        if not 1 <= rows.shape[0] <= self.most_rows:
            raise ValueError(f"{rows.shape[0]} segments in a block of 1 to {self.most_rows}")
        with nogil:
            pairs = _number_pairs(&rows[0], n, &self.slots[0], self.slots.shape[0] - 1, &self.first[0], values)
            memcpy(head, &n, 4)
            memcpy(head + 4, &pairs, 4)
            head += 8
            out = _put_column(values, n, head + 9 * PAIR, out)
            out = _put_fields(&rows[0], n, head, out)
            for column in range(4):
                for i in range(pairs):
                    memcpy(&word, &rows[self.first[i]].src_ip[0] + 8 * column, 8)
                    values[i] = swapped(word)
                out = _put_column(values, pairs, head + 9 * (PAIR + 1 + column), out)
            memset(out, 0, SLACK)
            size = <int> (out - &self.packed[0]) + SLACK
        return np.asarray(self.packed)[:size]

    def unpack(self, const uint8_t[::1] data not None, segments not None):
        """Write the segments of a block to the start of `segments` (SEGMENT_DTYPE); return how many they are.

        Args:
            data: a block.
            segments: room for them.

        Raises:
            TypeError, ValueError: there is no room, or it is no block.
        """
        if segments.dtype != SEGMENT_DTYPE:
            raise TypeError(f"segments are {SEGMENT_DTYPE}, not {segments.dtype}")
        cdef SegmentRecord[::1] rows = segments
        cdef uint32_t n, pairs, i
        cdef uint64_t size
        cdef uint64_t *values = &self.values[0]
        cdef const uint8_t *head
        cdef const uint8_t *at
        cdef const uint8_t *columns[FIELDS]
        cdef uint32_t count, begin = 0
        cdef int column
        cdef bint fits = True
        if data.shape[0] < HEAD_BYTES + SLACK:
            raise ValueError(f"{data.shape[0]} bytes are no block")
        head = &data[0]
        memcpy(&n, head, 4)
        memcpy(&pairs, head + 4, 4)
        if n > self.most_rows or n > <uint64_t> rows.shape[0] or pairs > n or n == 0:
            raise ValueError(f"a block of {n} segments where there is room for {min(self.most_rows, rows.shape[0])}")
        head += 8
        size = HEAD_BYTES + SLACK
        for column in range(COLUMNS):
            if head[9 * column + 8] > 8:
                raise ValueError(f"a column of {head[9 * column + 8]} bytes a value")
            size += <uint64_t> head[9 * column + 8] * (n if column <= PAIR else pairs)
        if size > <uint64_t> data.shape[0]:
            raise ValueError(f"a block of {size - SLACK} bytes, of which {data.shape[0] - SLACK} are here")
        with nogil:
            at = _take_column(head + 9 * PAIR, &data[HEAD_BYTES], n, <uint8_t *> values, 8, 8)
            for i in range(n):
                if values[i] >= pairs:
                    fits = False
                    values[i] = 0
                self.slots[i] = <uint32_t> values[i]
            for column in range(FIELDS):
                columns[column] = at
                at += <uint64_t> head[9 * column + 8] * n
            for column in range(4):
                at = _take_column(head + 9 * (PAIR + 1 + column), at, pairs, <uint8_t *> &values[column], 32, 8)
            for i in range(4 * pairs):
                values[i] = swapped(values[i])
            while begin < n:
                count = min(n - begin, <uint32_t> TILE)
                memset(&rows[begin], 0, count * sizeof(SegmentRecord))
                for i in range(begin, begin + count):
                    memcpy(rows[i].src_ip, &values[4 * self.slots[i]], 32)
                for column in range(FIELDS):
                    columns[column] = _take_field(
                        head + 9 * column, columns[column], count,
                        <uint8_t *> &rows[begin] + COLUMN[column][0], COLUMN[column][1]
                    )
                begin += count
        if not fits:
            raise ValueError("a block with an address pair that it has not")
        return n
