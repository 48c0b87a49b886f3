"""SHA-1 (RFC 3174) of many short messages of one length: what the Community ID asks for, a row of a table each.

For identifiers, never for security. hashlib takes 0.8 us a message, nearly all of it for making an object; the sum
itself is a quarter of that.
"""

import numpy as np

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

cdef enum:
    BLOCK_BYTES = 64
    LONGEST = 55            # what fits into one block beside the padding: one bit, and eight bytes of length
    DIGEST_BYTES = 20

cdef extern from *:
    uint32_t bswap32 "__builtin_bswap32" (uint32_t) noexcept nogil


cdef inline uint32_t _rotated(uint32_t value, int bits) noexcept nogil:
    return value << bits | value >> (32 - bits)


cdef inline void _turn(uint32_t* v, uint32_t change) noexcept nogil:
    change += _rotated(v[0], 5) + v[4]
    v[4] = v[3]
    v[3] = v[2]
    v[2] = _rotated(v[1], 30)
    v[1] = v[0]
    v[0] = change


cdef void _sum(const uint8_t* message, size_t size, uint8_t* digest) noexcept nogil:
    cdef uint32_t[80] w
    cdef uint8_t* block = <uint8_t*>w
    cdef uint32_t[5] h
    cdef uint32_t[5] v
    cdef int i
    memcpy(block, message, size)
    memset(block + size, 0, BLOCK_BYTES - size)
    block[size] = 0x80
    for i in range(15):
        w[i] = bswap32(w[i])
    w[15] = <uint32_t>size * 8
    for i in range(16, 80):
        w[i] = _rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1)
    h[0], h[1], h[2], h[3], h[4] = 0x67452301U, 0xEFCDAB89U, 0x98BADCFEU, 0x10325476U, 0xC3D2E1F0U
    v[0], v[1], v[2], v[3], v[4] = h[0], h[1], h[2], h[3], h[4]
    for i in range(20):
        _turn(v, (v[3] ^ (v[1] & (v[2] ^ v[3]))) + 0x5A827999U + w[i])
    for i in range(20, 40):
        _turn(v, (v[1] ^ v[2] ^ v[3]) + 0x6ED9EBA1U + w[i])
    for i in range(40, 60):
        _turn(v, ((v[1] & v[2]) | (v[3] & (v[1] | v[2]))) + 0x8F1BBCDCU + w[i])
    for i in range(60, 80):
        _turn(v, (v[1] ^ v[2] ^ v[3]) + 0xCA62C1D6U + w[i])
    for i in range(5):
        h[i] = bswap32(h[i] + v[i])
    memcpy(digest, h, DIGEST_BYTES)


def sha1_rows(messages):
    """Return the SHA-1 of each row of `messages` (uint8, shape (n, size), 1 <= size <= 55): uint8, shape (n, 20).

    Raises:
        ValueError: the messages are longer, empty, or not rows of bytes.
    """
    if messages.ndim != 2 or messages.dtype != np.uint8 or not 1 <= messages.shape[1] <= LONGEST:
        raise ValueError(f"messages are rows of 1 to {LONGEST} bytes")
    digests = np.empty((len(messages), DIGEST_BYTES), np.uint8)
    cdef const uint8_t[:, ::1] rows = np.ascontiguousarray(messages)
    cdef uint8_t[:, ::1] out = digests
    cdef Py_ssize_t i
    cdef size_t size = rows.shape[1]
    with nogil:
        for i in range(rows.shape[0]):
            _sum(&rows[i, 0], size, &out[i, 0])
    return digests
