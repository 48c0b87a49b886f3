"""Segments put into order of time, as far as a window reaches.

Owns the one rule of order: a segment leaves when as many segments as the window holds have come after it and are still
there; the earliest of those there leaves first, of equal times the one that came first (a priority queue of one size).
So the order depends on the segments and the window alone, not on where batches are cut. A time far in the future stays
there and holds up nobody; one far in the past leaves at once, late. Knows no file.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from conntrack.core.abi cimport SegmentRecord

import numpy as np

from conntrack.core.abi import SEGMENT_DTYPE


cdef struct Entry:              # of those there
    int64_t ts_ns
    uint64_t row                # of equal times the lower row came first


cdef Entry _entry
ENTRY_DTYPE = np.asarray(<Entry[:1]> &_entry).dtype


cdef inline bint before(const Entry *a, const Entry *b) noexcept nogil:
    return a.ts_ns < b.ts_ns or (a.ts_ns == b.ts_ns and a.row < b.row)


cdef void _arrange(
    SegmentRecord *rows, SegmentRecord *spare, Entry *there, uint32_t *order, uint64_t held, uint64_t filled,
    uint64_t window
) noexcept nogil:
    # There, in order: there[first:last]. A new one is put in from the end, where nearly all belong.
    cdef uint64_t n, at, first = 0, last = held, left = 0
    cdef Entry entry
    for n in range(held):
        there[n].ts_ns = rows[n].ts_ns
        there[n].row = n
    for n in range(held, filled):
        entry.ts_ns = rows[n].ts_ns
        entry.row = n
        if last - first == window:
            if before(&entry, &there[first]):
                order[left] = <uint32_t> n
                left += 1
                continue
            order[left] = <uint32_t> there[first].row
            left += 1
            first += 1
        at = last
        while at > first and before(&entry, &there[at - 1]):
            there[at] = there[at - 1]
            at -= 1
        there[at] = entry
        last += 1
    for n in range(first, last):
        order[left] = <uint32_t> there[n].row
        left += 1
    first = 0
    while first < filled and order[first] == first:
        first += 1
    for n in range(first, filled):
        spare[n] = rows[order[n]]
    memcpy(rows + first, spare + first, (filled - first) * sizeof(SegmentRecord))


cdef bint _in_order(const SegmentRecord *rows, uint64_t start, uint64_t stop) noexcept nogil:
    cdef uint64_t n
    cdef bint late = False
    for n in range(start + 1, stop):
        late |= rows[n].ts_ns < rows[n - 1].ts_ns
    return not late


cdef class Window:
    cdef readonly uint64_t size
    cdef SegmentRecord[::1] rows
    cdef SegmentRecord[::1] spare
    cdef Entry[::1] there
    cdef uint32_t[::1] order
    cdef uint64_t spare_rows    # of spare, there and order, which are made when they are first needed

    def __init__(self, rows not None, uint64_t size):
        if rows.dtype != SEGMENT_DTYPE:
            raise TypeError(f"an array of {rows.dtype}, where {SEGMENT_DTYPE} is needed")
        if not 1 <= size <= <uint64_t> rows.size or <uint64_t> rows.size > 1 << 31:
            raise ValueError(f"a window of {size} segments in an array of {rows.size}")
        self.size = size
        self.rows = rows

    def arrange(self, uint64_t held, uint64_t filled):
        cdef uint64_t n = self.rows.shape[0]
        cdef bint right
        if not held <= self.size or not held <= filled <= n:
            raise ValueError(f"{held} segments held of {filled}, in an array of {n} with a window of {self.size}")
        with nogil:
            right = _in_order(&self.rows[0], held - 1 if held else 0, filled)
        if right:
            return False
        if self.spare_rows == 0:
            self.spare_rows = n
            self.spare = np.empty(n, SEGMENT_DTYPE)
            self.there = np.empty(n, ENTRY_DTYPE)
            self.order = np.empty(n, np.uint32)
        with nogil:
            _arrange(&self.rows[0], &self.spare[0], &self.there[0], &self.order[0], held, filled, self.size)
        return True

    def keep(self, uint64_t start, uint64_t stop):
        if not start <= stop <= <uint64_t> self.rows.shape[0] or stop - start > start:
            raise ValueError(f"rows {start} to {stop} of {self.rows.shape[0]} cannot be kept")
        if stop > start:
            with nogil:
                memcpy(&self.rows[0], &self.rows[start], (stop - start) * sizeof(SegmentRecord))
