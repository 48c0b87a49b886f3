# Instants on a grid: a time becomes the number of the first multiple of the step that is not before it. And the key
# under which a count of things at a tick is kept (Tally in detect/counting.py). Times are compared without their sign:
# one that is not known (int64 minimum) is later than every other.
from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #define CONNTRACK_FAR ((uint64_t)1 << 63)
    static inline uint64_t conntrack_high(uint64_t a, uint64_t b) {
        return (uint64_t)(((unsigned __int128)a * b) >> 64);
    }
    """
    const uint64_t FAR "CONNTRACK_FAR"  # has not happened
    uint64_t multiply_high "conntrack_high" (uint64_t a, uint64_t b) noexcept nogil

cdef enum:  # Tally's: 24 bits of group, then these
    TICK_BITS = 36
    COLUMN_BITS = 4


cdef struct Grid:
    uint64_t step
    uint64_t inverse  # 2**64 / step, rounded down


cdef inline Grid grid_of(uint64_t step) noexcept nogil:
    return Grid(step, <uint64_t>-1 // step)


cdef inline uint64_t tick_of(const Grid* grid, uint64_t time) noexcept nogil:
    # ceil(time / step) without a division: the product is at most one below the quotient.
    cdef uint64_t x = time + (grid.step - 1)
    cdef uint64_t tick = multiply_high(x, grid.inverse)
    return tick + (x - tick * grid.step >= grid.step)


cdef inline uint64_t tally_key(const Grid* grid, uint64_t group, uint64_t time, uint64_t column) noexcept nogil:
    cdef uint64_t tick = min(tick_of(grid, time), (<uint64_t>1 << TICK_BITS) - 1)
    return group << (TICK_BITS + COLUMN_BITS) | tick << COLUMN_BITS | column
