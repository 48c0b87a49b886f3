"""Which part of the work a segment belongs to: the same for both directions of a connection, on every machine.

Owns that number, and the sorting of segments into one array for each part. Knows nothing of what the parts are:
threads, files, or tasks of a cluster. The key is handed in, so that whoever sends packets cannot choose 4-tuples that
all meet in one part; results do not depend on it.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from conntrack.core.abi cimport SegmentRecord
from conntrack.core.clock cimport Clock, tell_time
from conntrack.core.index cimport mix
from conntrack.core.live cimport Tables

import numpy as np

from conntrack.core.abi import SEGMENT_DTYPE

cdef enum:
    SHARDS = 65536

MOST_SHARDS = SHARDS


cdef inline uint64_t _endpoint(const unsigned char *ip, uint32_t port, const uint64_t *key) noexcept nogil:
    cdef uint64_t first, second
    memcpy(&first, ip, 8)
    memcpy(&second, ip + 8, 8)
    return mix(mix(first ^ key[0], second ^ key[1]) ^ key[2], port ^ key[3])


cdef inline uint32_t _shard(const SegmentRecord *s, uint32_t shards, const uint64_t *key) noexcept nogil:
    # The sum is the same from either end; mixed once more, since its bits are those of a sum.
    cdef uint64_t both = _endpoint(s.src_ip, s.src_port, key) + _endpoint(s.dst_ip, s.dst_port, key)
    return <uint32_t> ((mix(both ^ key[1], key[0]) >> 32) * shards >> 32)


cdef Py_ssize_t _scatter(
    const SegmentRecord *rows, Py_ssize_t n, SegmentRecord *parts, const uint32_t *places, uint32_t *filled,
    uint32_t shards, uint32_t room, const uint64_t *key, Tables *time, uint32_t *full
) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint32_t shard, place
    for i in range(n):
        shard = place = _shard(&rows[i], shards, key)
        if places != NULL:
            place = places[shard]
        memcpy(&parts[<uint64_t> place * room + filled[shard]], &rows[i], sizeof(SegmentRecord))
        filled[shard] += 1
        if time != NULL:
            tell_time(time, rows[i].ts_ns)
        if filled[shard] == room:
            full[0] = shard
            return i + 1
    full[0] = shards
    return n


def _check(rows, key):
    if rows.dtype != SEGMENT_DTYPE:
        raise TypeError(f"segments are {SEGMENT_DTYPE}, not {rows.dtype}")
    if key.shape[0] != 4:
        raise ValueError(f"a key is 4 words, not {key.shape[0]}")


def shard_of(segments not None, uint32_t shards, const uint64_t[::1] key not None, uint16_t[::1] out not None):
    """Write the number of each segment's part, 0 to `shards` - 1, to `out`.

    Args:
        segments: SEGMENT_DTYPE, shape (n,).
        shards: how many parts there are, 1 to MOST_SHARDS.
        key: uint64, shape (4,).
        out: uint16, shape (n,).

    Raises:
        TypeError, ValueError: something does not fit.
    """
    _check(segments, key)
    cdef const SegmentRecord[::1] rows = segments
    cdef Py_ssize_t i
    if not 1 <= shards <= SHARDS or rows.shape[0] != out.shape[0]:
        raise ValueError(f"{shards} parts, {rows.shape[0]} segments, {out.shape[0]} places")
    with nogil:
        for i in range(rows.shape[0]):
            out[i] = <uint16_t> _shard(&rows[i], shards, &key[0])


def scatter(
    segments not None, parts not None, uint32_t[::1] filled not None, const uint64_t[::1] key not None,
    const uint32_t[::1] places=None, Clock clock=None,
):
    """Put segments behind those that are there of their parts, until all are taken or a part is full.

    Args:
        segments: SEGMENT_DTYPE, shape (n,).
        parts: SEGMENT_DTYPE, shape (at least shards, room): where they go.
        filled: uint32, shape (shards,): how many each part has, less than room; brought up to date.
        key: uint64, shape (4,).
        places: uint32, shape (shards,): in which row of `parts` each part is, by default that of its number.
        clock: goes on with the segments that are taken.

    Returns:
        How many segments were taken, and which part is full now; that is `shards` when all were taken and none is full.

    Raises:
        TypeError, ValueError: something does not fit.
    """
    _check(segments, key)
    _check(parts, key)
    cdef const uint8_t[::1] rows = segments.view(np.uint8)
    cdef uint8_t[:, ::1] room = parts.view(np.uint8)
    cdef Py_ssize_t n = rows.shape[0] // <Py_ssize_t> sizeof(SegmentRecord)
    cdef Py_ssize_t each = room.shape[1] // <Py_ssize_t> sizeof(SegmentRecord)
    cdef Py_ssize_t taken
    cdef uint32_t shard
    cdef uint32_t full = 0
    cdef Py_ssize_t shards = filled.shape[0]
    if not 1 <= shards <= SHARDS or not shards <= room.shape[0] or each < 1:
        raise ValueError(f"{shards} counts for {room.shape[0]} parts of {each}")
    if places is not None and places.shape[0] != shards:
        raise ValueError(f"{places.shape[0]} places for {shards} parts")
    for shard in range(<uint32_t> shards):
        if filled[shard] >= <uint64_t> each:
            raise ValueError(f"part {shard} is full already")
        if places is not None and places[shard] >= <uint64_t> room.shape[0]:
            raise ValueError(f"part {shard} is in row {places[shard]} of {room.shape[0]}")
    if n == 0:
        return 0, shards
    with nogil:
        taken = _scatter(
            <const SegmentRecord*> &rows[0], n, <SegmentRecord*> &room[0, 0], NULL if places is None else &places[0],
            &filled[0], <uint32_t> shards, <uint32_t> each, &key[0],
            NULL if clock is None else &clock.t, &full
        )
    return taken, full
