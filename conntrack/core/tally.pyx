"""Sums by key in an open-addressing table: the inside of detect.counting.Tally. Knows nothing of what is counted.

Owns no array: a slot is a key and its sum, next to each other, and the caller hands in a larger table when this one is
half full."""

from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    #define CONNTRACK_EMPTY UINT64_MAX
    """
    const uint64_t EMPTY "CONNTRACK_EMPTY"
    void prefetch "__builtin_prefetch" (const void*, int) noexcept nogil

cdef enum:
    AHEAD = 12  # keys whose slots are on their way from memory: a large table is far from the core


cdef inline uint64_t _place(uint64_t key, uint64_t seed, uint64_t mask) noexcept nogil:
    # The low bits must follow from all bits of the key: keys of a million groups at one time differ in the high ones.
    cdef uint64_t at = (key ^ seed) * 0x9E3779B97F4A7C15ULL  # Knuth, The Art of Computer Programming 3, 6.4
    at = (at ^ at >> 32) * 0x9E3779B97F4A7C15ULL
    return (at ^ at >> 32) & mask


def accumulate(
    const uint64_t[::1] keys not None, const int64_t[::1] counts, uint64_t seed, uint64_t[:, ::1] slots not None,
    Py_ssize_t used, Py_ssize_t most,
):
    """Add `counts` (1 each where None) to the sums of `keys`.

    Args:
        keys: shape (n,), none of them 2**64 - 1.
        counts: shape (n,), or None.
        seed: where keys go depends on it.
        slots: shape (a power of two, 2): key, or 2**64 - 1 where there is none, and sum.
        used: how many slots have a key.
        most: how many may have one; less than there are slots.

    Returns:
        (done, used): stops where a key is new and there are `most`.
    """
    cdef Py_ssize_t size = slots.shape[0]
    if size < 2 or size & (size - 1) or slots.shape[1] != 2 or not 0 <= used <= most < size:
        raise ValueError(f"{used} keys of at most {most} do not go into {size} slots")
    if counts is not None and counts.shape[0] != keys.shape[0]:
        raise ValueError("as many counts as keys")
    cdef Py_ssize_t n = keys.shape[0]
    cdef Py_ssize_t done = n
    cdef uint64_t mask = <uint64_t>size - 1
    cdef bint ones = counts is None
    cdef uint64_t at, key
    cdef Py_ssize_t i
    with nogil:
        for i in range(n):
            if i + AHEAD < n:
                prefetch(&slots[_place(keys[i + AHEAD], seed, mask), 0], 1)
            key = keys[i]
            at = _place(key, seed, mask)
            while slots[at, 0] != key:
                if slots[at, 0] == EMPTY:
                    break
                at = (at + 1) & mask
            if slots[at, 0] == EMPTY:
                if used == most:
                    done = i
                    break
                slots[at, 0] = key
                slots[at, 1] = 0
                used += 1
            slots[at, 1] += 1 if ones else <uint64_t>counts[i]
    return done, used
