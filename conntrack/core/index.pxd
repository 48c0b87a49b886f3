# The index: open addressing from the hash of a 4-tuple to a record number, 8 bytes a slot.
#
# A slot is the 32-bit hash in its high half and the record number in its low half; record 0 is none, so 0 is an empty
# slot. A slot's home is given by the top bits of the hash it holds, so that deleting (backward shift, no tombstones:
# Knuth, The Art of Computer Programming 3, 6.4, algorithm R) and growing need nothing but the slots themselves, and
# growing keeps their order. Knows nothing of TCP, nor what a record is: whoever probes compares the keys.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    static inline uint64_t conntrack_mix(uint64_t a, uint64_t b) {
        unsigned __int128 r = (unsigned __int128)a * b;
        return (uint64_t)r ^ (uint64_t)(r >> 64);
    }
    """
    uint64_t mix "conntrack_mix" (uint64_t a, uint64_t b) noexcept nogil
    void prefetch "__builtin_prefetch" (const void*, int) noexcept nogil


cdef inline uint32_t home(uint32_t hash, uint32_t bits) noexcept nogil:
    return <uint32_t>((<uint64_t>hash << bits) >> 32)


cdef inline uint32_t hash_words(uint64_t first, uint64_t second, const uint64_t* key) noexcept nogil:
    # Folded multiplication under a secret key (the mixing of wyhash): without it nobody can choose 4-tuples that meet.
    return <uint32_t>(mix(mix(first ^ key[0], second ^ key[1]) ^ key[2], key[3] ^ second) >> 32)


cdef inline void index_insert(uint64_t* slots, uint32_t bits, uint32_t hash, uint32_t record) noexcept nogil:
    cdef uint64_t mask = (<uint64_t>1 << bits) - 1
    cdef uint64_t at = home(hash, bits)
    while slots[at]:
        at = (at + 1) & mask
    slots[at] = <uint64_t>hash << 32 | record


cdef bint index_remove(uint64_t* slots, uint32_t bits, uint32_t hash, uint32_t record) noexcept nogil
