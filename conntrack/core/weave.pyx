"""The lines of many sockets at one instant, out of those at the instant before: most have changed nothing but the time.

A line is a head, the instant, and a tail. Owns which sockets are as they were, and the copying; how a value is spelled
is lines.pyx's business. A third of what spelling them takes.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcmp, memcpy

from .abi cimport SocketRecord

from .abi import SOCKET_DTYPE


cdef inline bint _is_same(const SocketRecord* one, const SocketRecord* other) noexcept nogil:
    # But for at_ts_ns, the second field.
    return one.flow_id == other.flow_id and memcmp(
        &one.since_ts_ns, &other.since_ts_ns, sizeof(SocketRecord) - 2 * sizeof(int64_t)) == 0


cdef Py_ssize_t _compare(
    const SocketRecord* before, Py_ssize_t m, const SocketRecord* rows, Py_ssize_t n, int32_t* same
) noexcept nogil:
    cdef Py_ssize_t i
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t fresh = 0
    for i in range(n):
        while at < m and before[at].flow_id < rows[i].flow_id:
            at += 1
        if at < m and _is_same(&before[at], &rows[i]):
            same[i] = <int32_t>at
        elif at + 1 < m and _is_same(&before[at + 1], &rows[i]):    # the connection's other end
            same[i] = <int32_t>(at + 1)
        else:
            same[i] = -1
            fresh += 1
    return fresh


def compare(before, rows, int32_t[::1] same not None):
    """Find the sockets that are as they were.

    Args:
        before: SOCKET_DTYPE, shape (m,), by flow_id.
        rows: SOCKET_DTYPE, shape (n,), by flow_id.
        same: OUT, shape (n,): which of `before` says the same but for its instant; -1 where none does.

    Returns:
        How many are not as they were.

    Raises:
        TypeError, ValueError: rows of another kind, or too little room.
    """
    if before.dtype != SOCKET_DTYPE or rows.dtype != SOCKET_DTYPE:
        raise TypeError(f"sockets are {SOCKET_DTYPE}, not {before.dtype} and {rows.dtype}")
    cdef const SocketRecord[::1] old = before
    cdef const SocketRecord[::1] new = rows
    cdef Py_ssize_t n = new.shape[0]
    cdef Py_ssize_t fresh
    if same.shape[0] < n or old.shape[0] >= 1 << 31:
        raise ValueError(f"no room for {n} sockets, or {old.shape[0]} before are too many")
    if n == 0:
        return 0
    with nogil:
        fresh = _compare(&old[0] if old.shape[0] else NULL, old.shape[0], &new[0], n, &same[0])
    return fresh


cdef class Page:
    """Lines one behind the other, and where each begins and has its instant. Made by weave(); empty otherwise."""
    cdef uint8_t[::1] text
    cdef int64_t[::1] begins    # shape (n + 1,)
    cdef int64_t[::1] cuts      # shape (n,)
    cdef Py_ssize_t instant_bytes

    def __init__(self):
        self.text, self.begins, self.cuts = np.empty(0, np.uint8), np.zeros(1, np.int64), np.empty(0, np.int64)

    def __len__(self):
        return self.cuts.shape[0]

    def octets(self):
        """Return the text: uint8, valid for as long as nobody weaves into this page."""
        return np.asarray(self.text)[:self.begins[self.cuts.shape[0]]]


cdef inline uint8_t* _put(uint8_t* to, const uint8_t* start, Py_ssize_t size) noexcept nogil:
    memcpy(to, start, size)
    return to + size


cdef void _measure(
    const int32_t* same, Py_ssize_t n, const int64_t* old_begins, const int64_t* old_cuts, Py_ssize_t old_instant,
    const int32_t* head_ends, const int32_t* tail_ends, Py_ssize_t instant, int64_t* begins, int64_t* cuts,
) noexcept nogil:
    cdef Py_ssize_t i, k
    cdef Py_ssize_t fresh = 0
    cdef int64_t at = 0
    for i in range(n):
        begins[i] = at
        k = same[i]
        if k >= 0:
            at += old_cuts[k] - old_begins[k]
            cuts[i] = at
            at += instant + old_begins[k + 1] - old_cuts[k] - old_instant
        else:
            at += head_ends[fresh] - (head_ends[fresh - 1] if fresh else 0)
            cuts[i] = at
            at += instant + tail_ends[fresh] - (tail_ends[fresh - 1] if fresh else 0)
            fresh += 1
    begins[n] = at


cdef void _copy(
    const int32_t* same, Py_ssize_t n, const uint8_t* old, const int64_t* old_begins, const int64_t* old_cuts,
    Py_ssize_t old_instant, const uint8_t* head, const uint8_t* tail, const uint8_t* instant, Py_ssize_t instant_bytes,
    const int64_t* begins, const int64_t* cuts, uint8_t* to,
) noexcept nogil:
    # Heads and tails of what is new are taken one after the other.
    cdef Py_ssize_t i, k, size
    for i in range(n):
        k = same[i]
        size = cuts[i] - begins[i]
        if k >= 0:
            to = _put(to, old + old_begins[k], size)
        else:
            to = _put(to, head, size)
            head += size
        to = _put(to, instant, instant_bytes)
        size = begins[i + 1] - cuts[i] - instant_bytes
        if k >= 0:
            to = _put(to, old + old_cuts[k] + old_instant, size)
        else:
            to = _put(to, tail, size)
            tail += size


cdef bint _rises(const int32_t[::1] ends, Py_ssize_t n, Py_ssize_t most) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        if not (ends[i - 1] if i else 0) <= ends[i] <= most:
            return False
    return True


def weave(
    const int32_t[::1] same not None, Page before not None, heads not None, tails not None, bytes instant not None,
    Page page not None,
):
    """Write the lines of an instant to `page`.

    Args:
        same: shape (n,): which line of `before` each is but for its instant, or -1 for the next of what is new.
        before: lines of another instant; another page.
        heads: what is new, up to the instant: the text, uint8, and where each ends, int32.
        tails: the same, behind the instant.
        instant: its text.
        page: OUT; what it held is gone.

    Raises:
        ValueError: a line of `before` does not exist, or there are not as many heads or tails as there are new lines.
    """
    cdef const uint8_t[::1] head = heads[0]
    cdef const int32_t[::1] head_ends = heads[1]
    cdef const uint8_t[::1] tail = tails[0]
    cdef const int32_t[::1] tail_ends = tails[1]
    cdef const uint8_t* text = instant
    cdef Py_ssize_t n = same.shape[0]
    cdef Py_ssize_t m = before.cuts.shape[0]
    cdef Py_ssize_t fresh = 0
    cdef Py_ssize_t i
    for i in range(n):
        if same[i] >= m:
            raise ValueError(f"line {same[i]} of {m}")
        fresh += same[i] < 0
    if head_ends.shape[0] != fresh or tail_ends.shape[0] != fresh or page is before:
        raise ValueError(f"{head_ends.shape[0]} heads and {tail_ends.shape[0]} tails for {fresh} new lines")
    if not _rises(head_ends, fresh, head.shape[0]) or not _rises(tail_ends, fresh, tail.shape[0]):
        raise ValueError("heads or tails do not end where they are said to")
    if page.cuts.shape[0] != n:
        page.begins, page.cuts = np.zeros(n + 1, np.int64), np.empty(n, np.int64)
    page.instant_bytes = len(instant)
    if n == 0:
        return
    with nogil:
        _measure(
            &same[0], n, &before.begins[0], &before.cuts[0] if m else NULL, before.instant_bytes,
            &head_ends[0] if fresh else NULL, &tail_ends[0] if fresh else NULL, page.instant_bytes,
            &page.begins[0], &page.cuts[0],
        )
    if page.text.shape[0] < page.begins[n]:
        page.text = np.empty(page.begins[n] + page.begins[n] // 8, np.uint8)
    with nogil:
        _copy(
            &same[0], n, &before.text[0] if m else NULL, &before.begins[0], &before.cuts[0] if m else NULL,
            before.instant_bytes, &head[0] if head.shape[0] else NULL, &tail[0] if tail.shape[0] else NULL, text,
            page.instant_bytes, &page.begins[0], &page.cuts[0], &page.text[0],
        )
