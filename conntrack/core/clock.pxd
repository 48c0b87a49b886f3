# What time it is: that of the segments, but for a lone one that the next takes back.
#
# A time that is wrong by years (a damaged record, a clock not yet set) must not run out every timer there is. So a
# connection's own time is the highest of its own segments; and the time of the capture, at which tables are swept and
# results are given, goes on with every segment, goes back where the next segment takes a leap back, and goes back too
# where two segments in a row are that far behind: then the clock was set. Segments that are a little out of order (less
# than LEAP_NS) do not move it.
from libc.stdint cimport int64_t, uint64_t

from .live cimport LiveFlow, Tables

cdef extern from *:
    """
    #define CONNTRACK_NEVER (-(INT64_C(1) << 62))               /* before all times of segments (walk.pyx) */
    """
    int64_t NEVER "CONNTRACK_NEVER"

cdef enum:
    LEAP_NS = 1000000000        # more than captures are out of order, less than any timer


cdef inline bint is_leap(const Tables* t) noexcept nogil:
    # Whether the last segment took the time far ahead, which the next may take back.
    return t.last_ts_ns == t.now_ns and t.before_ns > NEVER and t.now_ns - t.before_ns > LEAP_NS


cdef inline int64_t settled_ns(const Tables* t) noexcept nogil:
    # The time that no segment will be much before.
    return t.before_ns if is_leap(t) else t.now_ns


cdef inline void tell_time(Tables* t, int64_t ts_ns) noexcept nogil:
    cdef int64_t now = t.now_ns
    if <uint64_t>ts_ns - <uint64_t>now <= LEAP_NS or ts_ns > now:
        t.now_ns = ts_ns
    elif ts_ns < now - LEAP_NS:
        if is_leap(t):
            t.now_ns = ts_ns if ts_ns > t.before_ns else t.before_ns
        elif t.last_ts_ns < now - LEAP_NS:
            t.now_ns = ts_ns if ts_ns > t.last_ts_ns else t.last_ts_ns
    t.before_ns = now
    t.last_ts_ns = ts_ns


cdef inline int64_t own_time(const LiveFlow* f, int64_t ts_ns) noexcept nogil:
    # The connection's time when something happens at `ts_ns`.
    return ts_ns if ts_ns > f.last_ts_ns else f.last_ts_ns


cdef class Clock:
    cdef Tables t               # of which only the times are in use
