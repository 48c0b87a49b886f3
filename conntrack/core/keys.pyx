"""Keys of connections as words of 64 bits: read from rows, hashed, and numbered through an open-addressing table.

Owns no array: whoever counts hands its own in, and larger ones when `intern` stops for want of room. Knows where an
endpoint lies in a row and nothing else of it.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from .abi cimport FlowRecord
from .grid cimport Grid, grid_of, multiply_high

from .abi import flow_bytes


def endpoint_words(flows, bint client, picks=None):
    """Return address, and version and port, of one side of connections: uint64, shape (n, 3).

    The address is two words, the 16 bytes as they lie in memory; the third is ip_version << 16 | port.

    Args:
        flows: FLOW_DTYPE, shape (m,).
        client: the client's side, else the server's.
        picks: which rows, int64 of shape (n,); all of them when omitted.
    """
    cdef const uint8_t[::1] raw = flow_bytes(flows)
    cdef const FlowRecord* rows = <const FlowRecord*>&raw[0]
    cdef Py_ssize_t total = raw.shape[0] // <Py_ssize_t>sizeof(FlowRecord)
    cdef const int64_t[::1] chosen = picks
    cdef Py_ssize_t n = total if picks is None else chosen.shape[0]
    if n and picks is not None and not 0 <= np.min(picks) <= np.max(picks) < total:
        raise IndexError(f"picks are not all in the {total} rows")
    words = np.empty((n, 3), np.uint64)
    cdef uint64_t[:, ::1] out = words
    cdef bint every = picks is None
    cdef Py_ssize_t i
    with nogil:
        for i in range(n):
            words_of(&rows[i if every else chosen[i]], client, &out[i, 0])
    return words


def every(const uint64_t[::1] values not None, uint64_t divisor):
    """Return which of `values` have a hash (of one word, by seed 0) that `divisor` divides: int64, shape (m,).

    Args:
        values: shape (n,).
        divisor: 1 or more.
    """
    if not divisor:
        raise ValueError("expected a divisor")
    cdef Py_ssize_t n = values.shape[0]
    found = np.empty(n + 1, np.int64)
    cdef int64_t[::1] out = found
    cdef Grid grid = grid_of(divisor)
    cdef uint64_t hash, rest
    cdef Py_ssize_t i
    cdef Py_ssize_t count = 0
    with nogil:
        for i in range(n):
            hash = hash_of(&values[i], 1, 0)
            rest = hash - multiply_high(hash, grid.inverse) * divisor  # the quotient is at most one too small
            if rest == 0 or rest == divisor:
                out[count] = i
                count += 1
    return found[:count]


def hash_words(const uint64_t[:, ::1] words, uint64_t seed=0):
    """Return the hash of each key: uint64 of shape (n,); `words` has shape (n, width).

    The same in every process for the same seed. Of n different keys, two share a hash with a probability of about
    n**2 / 2**65 (4 million: 5e-7), unless somebody who knows the seed chose them.
    """
    hashes = np.empty(words.shape[0], np.uint64)
    cdef uint64_t[::1] out = hashes
    cdef Py_ssize_t i
    with nogil:
        for i in range(words.shape[0]):
            out[i] = hash_of(&words[i, 0], words.shape[1], seed)
    return hashes


cdef Py_ssize_t _intern(
    const uint64_t* words, Py_ssize_t n, Py_ssize_t width, uint64_t seed, Py_ssize_t limit,
    uint64_t* keys, Py_ssize_t room, int32_t* table, uint64_t mask, Py_ssize_t* count, int64_t* numbers,
) noexcept nogil:
    cdef const uint64_t* key
    cdef const uint64_t* other
    cdef uint64_t at
    cdef Py_ssize_t i, k
    for i in range(n):
        key = &words[i * width]
        at = hash_of(key, width, seed) & mask
        while table[at] >= 0:
            other = &keys[table[at] * width]
            k = 0
            while k < width and key[k] == other[k]:
                k += 1
            if k == width:
                break
            at = (at + 1) & mask
        if table[at] < 0 and count[0] < limit:
            if count[0] == room or 2 * <uint64_t>count[0] > mask:
                return i
            memcpy(&keys[count[0] * width], key, 8 * width)
            table[at] = <int32_t>count[0]
            count[0] += 1
        numbers[i] = table[at]
    return n


def intern(
    const uint64_t[:, ::1] words, uint64_t seed, Py_ssize_t limit,
    uint64_t[:, ::1] keys, int32_t[::1] table, Py_ssize_t count, int64_t[::1] numbers,
):
    """Write the number of each key to `numbers`, giving the next numbers to keys not seen before.

    Args:
        words: the keys, shape (n, width).
        seed: of the hash by which `table` was filled.
        limit: most keys; those beyond get the number -1.
        keys: the keys by number, shape (room, width).
        table: the numbers by hash, -1 where there is none; a power of two long, never more than half full.
        count: how many keys there are.
        numbers: shape (n,).

    Returns:
        (done, count): as many rows as there was room for in `keys` and `table`, and how many keys there are now.
    """
    cdef Py_ssize_t size = table.shape[0]
    if size < 2 or size & (size - 1) or not 0 <= 2 * count <= size or count > keys.shape[0] or limit > 1 << 30:
        raise ValueError(f"{count} keys of at most {limit} do not go into {keys.shape[0]} places and {size} slots")
    if words.shape[1] != keys.shape[1] or numbers.shape[0] != words.shape[0]:
        raise ValueError("as many words in each key as in those before, and as many numbers as keys")
    cdef Py_ssize_t done = 0
    if words.shape[0]:
        with nogil:
            done = _intern(
                &words[0, 0], words.shape[0], words.shape[1], seed, limit,
                &keys[0, 0], keys.shape[0], &table[0], <uint64_t>size - 1, &count, &numbers[0],
            )
    return done, count
