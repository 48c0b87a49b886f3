"""Counts by key, kept in order: what the Tally of detect/counting.py is made of. Knows no key."""

from libc.stdint cimport int64_t, uint64_t


cdef Py_ssize_t _add_ones(
    const uint64_t* ones, Py_ssize_t n, const uint64_t* keys, const int64_t* counts, Py_ssize_t m,
    uint64_t* out_keys, int64_t* out_counts,
) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t k = 0
    cdef Py_ssize_t written = 0
    cdef uint64_t key
    cdef int64_t count
    while i < n or k < m:
        if i == n or (k < m and keys[k] <= ones[i]):
            key, count = keys[k], counts[k]
            k += 1
        else:
            key, count = ones[i], 0
        while i < n and ones[i] == key:
            count += 1
            i += 1
        out_keys[written], out_counts[written] = key, count
        written += 1
    return written


def add_ones(
    const uint64_t[::1] ones not None, const uint64_t[::1] keys not None, const int64_t[::1] counts not None,
    uint64_t[::1] out_keys not None, int64_t[::1] out_counts not None,
):
    """Write the sum of `ones`, each of which counts for one, and `counts`, by key and in order.

    Args:
        ones: ascending, shape (n,); any of them may be there more than once.
        keys, counts: ascending and each once, shape (m,).
        out_keys, out_counts: OUT, shape (n + m,).

    Returns:
        How many were written.
    """
    cdef Py_ssize_t n = ones.shape[0]
    cdef Py_ssize_t m = keys.shape[0]
    if counts.shape[0] != m or min(out_keys.shape[0], out_counts.shape[0]) < n + m:
        raise ValueError(f"expected {m} counts, and room for {n + m}")
    if not n + m:
        return 0
    cdef const uint64_t* first_one = &ones[0] if n else NULL
    cdef const uint64_t* first_key = &keys[0] if m else NULL
    cdef const int64_t* first_count = &counts[0] if m else NULL
    cdef Py_ssize_t written
    with nogil:
        written = _add_ones(first_one, n, first_key, first_count, m, &out_keys[0], &out_counts[0])
    return written
