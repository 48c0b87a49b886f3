"""Community ID v1 of many connections (github.com/corelight/community-id-spec): "1:" and the base64 of a SHA-1.

The message is seed, both addresses, protocol, a zero and both ports in network order, the smaller endpoint first: 40
octets at most, so that one block of SHA-1 (RFC 3174) holds it with its padding. Four are summed side by side, each in a
lane of a vector. For identifiers, never for security.
"""

import numpy as np

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from .abi cimport FlowRecord

cdef enum:
    LANES = 4
    BLOCK_BYTES = 64
    DIGEST_BYTES = 20
    TEXT_BYTES = 30             # "1:", 27 digits of base64 and one "="
    TCP = 6                     # IANA protocol number

cdef extern from *:
    """
    typedef uint32_t lanes __attribute__((vector_size(16)));     /* a word of each of the four */
    """
    ctypedef uint32_t lanes
    uint32_t bswap32 "__builtin_bswap32" (uint32_t) noexcept nogil

cdef uint8_t[64] BASE64
memcpy(BASE64, <const char*>b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 64)


cdef inline lanes _rotated(lanes value, int bits) noexcept nogil:
    return value << bits | value >> (32 - bits)


cdef void _sum(lanes* w, lanes* h) noexcept nogil:
    # Sum the blocks w[0] to w[15] (w has 80 words) into h, which holds the first state.
    cdef lanes a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], x
    cdef int t
    for t in range(16, 80):
        w[t] = _rotated(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1)
    for t in range(80):
        if t < 20:
            x = (d ^ (b & (c ^ d))) + 0x5A827999U
        elif t < 40:
            x = (b ^ c ^ d) + 0x6ED9EBA1U
        elif t < 60:
            x = ((b & c) | (d & (b | c))) + 0x8F1BBCDCU
        else:
            x = (b ^ c ^ d) + 0xCA62C1D6U
        x += _rotated(a, 5) + e + w[t]
        e = d
        d = c
        c = _rotated(b, 30)
        b = a
        a = x
    h[0] += a
    h[1] += b
    h[2] += c
    h[3] += d
    h[4] += e


cdef inline uint8_t* _put_port(uint8_t* to, uint16_t port) noexcept nogil:
    to[0], to[1] = <uint8_t>(port >> 8), <uint8_t>(port & 255)
    return to + 2


cdef void _load(const FlowRecord* flow, uint16_t seed, lanes* w, int lane) noexcept nogil:
    # Write the padded message of a connection to its lane of w[0] to w[15].
    cdef uint8_t[BLOCK_BYTES] block
    cdef uint32_t[16] words
    cdef int skipped = 12 if flow.ip_version == 4 else 0        # IPv4 is hashed as its own four octets
    cdef const uint8_t* low = flow.client_ip
    cdef const uint8_t* high = flow.server_ip
    cdef uint16_t low_port = flow.client_port, high_port = flow.server_port
    cdef int order = memcmp(low, high, 16)
    cdef uint8_t* to
    cdef int t
    if order > 0 or (order == 0 and low_port > high_port):
        low = flow.server_ip
        high = flow.client_ip
        low_port, high_port = high_port, low_port
    memset(block, 0, BLOCK_BYTES)
    to = _put_port(block, seed)
    memcpy(to, low + skipped, 16 - skipped)
    to += 16 - skipped
    memcpy(to, high + skipped, 16 - skipped)
    to += 16 - skipped
    to[0] = TCP
    to = _put_port(_put_port(to + 2, low_port), high_port)
    to[0] = 0x80
    memcpy(words, block, BLOCK_BYTES)
    words[15] = bswap32(<uint32_t>(to - block) * 8)
    for t in range(16):
        (<uint32_t*>&w[t])[lane] = bswap32(words[t])


cdef void _spell(const lanes* h, int lane, uint8_t* to) noexcept nogil:
    cdef uint8_t[24] digest
    cdef uint32_t word
    cdef int i
    memset(digest, 0, sizeof(digest))
    for i in range(5):
        word = bswap32((<const uint32_t*>&h[i])[lane])
        memcpy(&digest[4 * i], &word, 4)
    to[0], to[1] = 49, 58                       # "1:"
    for i in range(7):
        word = <uint32_t>digest[3 * i] << 16 | <uint32_t>digest[3 * i + 1] << 8 | digest[3 * i + 2]
        to[2 + 4 * i] = BASE64[word >> 18]
        to[3 + 4 * i] = BASE64[word >> 12 & 63]
        to[4 + 4 * i] = BASE64[word >> 6 & 63]
        to[5 + 4 * i] = BASE64[word & 63]
    to[29] = 61                                 # "=": 20 octets are not a multiple of three


def community_ids(const FlowRecord[:] flows, unsigned int seed):
    """Return the Community ID of each of `flows` (FLOW_DTYPE, shape (n,)): dtype S30, shape (n,)."""
    cdef Py_ssize_t n = flows.shape[0], group, at, lane, most
    out = np.empty((n, TEXT_BYTES), np.uint8)
    cdef uint8_t[:, ::1] texts = out
    cdef lanes[80] w
    cdef lanes[5] h
    cdef uint32_t[5] first = [0x67452301U, 0xEFCDAB89U, 0x98BADCFEU, 0x10325476U, 0xC3D2E1F0U]    # RFC 3174, 6.1
    cdef int i
    memset(w, 0, sizeof(w))
    with nogil:
        for group in range((n + LANES - 1) // LANES):
            at = group * LANES
            most = min(<Py_ssize_t>LANES, n - at)
            for lane in range(most):
                _load(&flows[at + lane], <uint16_t>seed, w, <int>lane)
            memset(h, 0, sizeof(h))
            for i in range(5):
                h[i] += first[i]
            _sum(w, h)
            for lane in range(most):
                _spell(h, <int>lane, &texts[at + lane, 0])
    return out.view(f"S{TEXT_BYTES}")[:, 0]
