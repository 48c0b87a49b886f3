"""The index's slower half: removing, growing, checking, and the hash and probe lengths as Python sees them.

The layout and the inline half are in index.pxd.
"""

import numpy as np


cdef bint index_remove(uint64_t* slots, uint32_t bits, uint32_t hash, uint32_t record) noexcept nogil:
    # Take the slot out and move up those behind it that are away from home. False where there is no such slot.
    cdef uint64_t mask = (<uint64_t>1 << bits) - 1
    cdef uint64_t wanted = <uint64_t>hash << 32 | record
    cdef uint64_t hole = home(hash, bits)
    cdef uint64_t at, ideal
    while slots[hole] != wanted:
        if slots[hole] == 0:
            return False
        hole = (hole + 1) & mask
    at = hole
    while True:
        at = (at + 1) & mask
        if slots[at] == 0:
            break
        ideal = home(<uint32_t>(slots[at] >> 32), bits)
        if ((at - ideal) & mask) >= ((at - hole) & mask):
            slots[hole] = slots[at]
            hole = at
    slots[hole] = 0
    return True


cdef void _refill(const uint64_t* old, uint64_t n_old, uint64_t* slots, uint32_t bits) noexcept nogil:
    # Start behind an empty slot, so that a run which wraps around keeps its order.
    cdef uint64_t begin = 0
    cdef uint64_t i, slot
    while begin < n_old and old[begin]:
        begin += 1
    for i in range(n_old):
        slot = old[(begin + i) & (n_old - 1)]
        if slot:
            index_insert(slots, bits, <uint32_t>(slot >> 32), <uint32_t>slot)


def _slots(array, str what):
    if array.dtype != np.uint64:
        raise TypeError(f"{what}: expected uint64, got {array.dtype}")
    if len(array) < 2 or len(array) & (len(array) - 1):
        raise ValueError(f"{what}: expected a power of two of slots, got {len(array)}")
    return array


def refill(old, slots):
    """Copy all of `old` into the empty `slots` (both uint64, a power of two long; the second is not the smaller)."""
    cdef const uint64_t[::1] source = _slots(old, "old")
    cdef uint64_t[::1] target = _slots(slots, "slots")
    cdef uint32_t bits = len(slots).bit_length() - 1
    if len(slots) < len(old):
        raise ValueError(f"{len(slots)} slots are fewer than {len(old)}")
    with nogil:
        _refill(&source[0], source.shape[0], &target[0], bits)


def insert(slots, const uint32_t[::1] hashes, const uint32_t[::1] records):
    """Insert each (hash, record); `slots` must have room. For benches and tests."""
    cdef uint64_t[::1] target = _slots(slots, "slots")
    cdef uint32_t bits = len(slots).bit_length() - 1
    cdef Py_ssize_t i
    if hashes.shape[0] != records.shape[0] or hashes.shape[0] >= target.shape[0] - np.count_nonzero(slots):
        raise ValueError("as many hashes as records, and fewer than there are empty slots")
    with nogil:
        for i in range(hashes.shape[0]):
            index_insert(&target[0], bits, hashes[i], records[i])


def remove(slots, const uint32_t[::1] hashes, const uint32_t[::1] records):
    """Remove each (hash, record) and return how many were there. For benches and tests."""
    cdef uint64_t[::1] target = _slots(slots, "slots")
    cdef uint32_t bits = len(slots).bit_length() - 1
    cdef Py_ssize_t i, found = 0
    if hashes.shape[0] != records.shape[0]:
        raise ValueError("as many hashes as records")
    with nogil:
        for i in range(hashes.shape[0]):
            found += index_remove(&target[0], bits, hashes[i], records[i])
    return found


def lookup(slots, const uint32_t[::1] hashes):
    """Return the first record with each hash, 0 where there is none: uint32 of the length of `hashes`."""
    cdef const uint64_t[::1] source = _slots(slots, "slots")
    cdef uint32_t bits = len(slots).bit_length() - 1
    cdef uint64_t mask = len(slots) - 1
    cdef uint64_t at
    cdef Py_ssize_t i
    found = np.zeros(hashes.shape[0], dtype=np.uint32)
    cdef uint32_t[::1] out = found
    with nogil:
        for i in range(hashes.shape[0]):
            at = home(hashes[i], bits)
            while source[at]:
                if <uint32_t>(source[at] >> 32) == hashes[i]:
                    out[i] = <uint32_t>source[at]
                    break
                at = (at + 1) & mask
    return found


def probe_lengths(slots):
    """Return how far each filled slot is from its home: uint32 of shape (filled,)."""
    taken = np.flatnonzero(_slots(slots, "slots")).astype(np.uint64)
    bits = np.uint64(len(slots).bit_length() - 1)
    homes = ((slots[taken] >> np.uint64(32)) << bits) >> np.uint64(32)
    return ((taken - homes) & np.uint64(len(slots) - 1)).astype(np.uint32)


def hash_pairs(const uint64_t[::1] first, const uint64_t[::1] second, const uint64_t[::1] key):
    """Return the keyed hash of each pair of words: uint32 of the length of `first`. For benches and tests."""
    cdef Py_ssize_t i
    if first.shape[0] != second.shape[0] or key.shape[0] != 4:
        raise ValueError("as many first words as second, and a key of four words")
    hashes = np.zeros(first.shape[0], dtype=np.uint32)
    cdef uint32_t[::1] out = hashes
    with nogil:
        for i in range(first.shape[0]):
            out[i] = hash_words(first[i], second[i], &key[0])
    return hashes
