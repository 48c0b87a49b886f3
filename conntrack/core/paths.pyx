"""A number for each outer path: the layers and outer addresses by which a segment came.

Owns the table of paths, which is handed in: records of a description each, found through an index of slots. It only
grows, as far as the array goes; later paths all share OTHER_PATHS and are counted. Path 0 is that of plain frames: no
tag, label or tunnel between the link and the innermost IP header. capture/paths.py has the words.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from conntrack.core.cursor cimport Cursor, Journal, Memory, PathRecord


cdef inline uint32_t hash_of(const Cursor *cursor) noexcept nogil:
    # FNV-1a, 32 bits. Paths made to collide cost MOST_PROBES each and no more.
    cdef uint32_t value = 2166136261
    cdef uint32_t i
    for i in range(cursor.trail_bytes):
        value = (value ^ cursor.trail[i]) * <uint32_t> 16777619
    return value ^ value >> 15


cdef inline bint same(const PathRecord *record, const Cursor *cursor) noexcept nogil:
    return (
        record.trail_bytes == cursor.trail_bytes
        and memcmp(&record.trail[0], &cursor.trail[0], cursor.trail_bytes) == 0
    )


cdef uint32_t number_of_path(const Cursor *cursor, Memory *memory) noexcept nogil:
    cdef Journal *journal = memory.journal
    cdef PathRecord *record
    cdef uint64_t slot
    cdef uint32_t number, hashed, _probe
    if cursor.trail_bytes <= 2 or memory.paths == NULL:
        return 0
    if same(&memory.paths[journal.last_path], cursor):
        return journal.last_path
    hashed = hash_of(cursor)
    slot = hashed & (memory.n_slots - 1)
    for _probe in range(MOST_PROBES):
        number = memory.slots[slot]
        if number == 0:
            if journal.paths >= memory.n_paths:
                break
            number = journal.paths
            journal.paths += 1
            memory.slots[slot] = number
            record = &memory.paths[number]
            record.hash = hashed
            record.trail_bytes = cursor.trail_bytes
            memcpy(&record.trail[0], &cursor.trail[0], cursor.trail_bytes)
            journal.last_path = number
            return number
        if memory.paths[number].hash == hashed and same(&memory.paths[number], cursor):
            journal.last_path = number
            return number
        slot = (slot + 1) & (memory.n_slots - 1)
    journal.unnumbered += 1
    return OTHER_PATHS
