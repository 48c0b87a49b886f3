"""The time that a stream of segments has reached (clock.pxd has the rule), for who does not step them in this place.

A tracker that is given only some of the connections of a capture cannot know what time it is: whoever sees all of the
segments tells it.
"""

from .abi cimport SegmentRecord

from .abi import SEGMENT_DTYPE


cdef class Clock:
    """What time it is. Advance it with every segment, in order.

    Attributes:
        state: all that it has to remember; a clock with the same state goes on in the same way.
    """

    def __cinit__(self):
        self.t.now_ns = self.t.before_ns = self.t.last_ts_ns = NEVER

    @property
    def now_ns(self):
        """As Tracker.now_ns: nanoseconds since 1970."""
        return self.t.now_ns

    @property
    def settled_ns(self):
        """The time that no segment will be much before."""
        return settled_ns(&self.t)

    @property
    def state(self):
        return self.t.now_ns, self.t.before_ns, self.t.last_ts_ns

    @state.setter
    def state(self, state):
        self.t.now_ns, self.t.before_ns, self.t.last_ts_ns = state

    def advance(self, segments not None):
        """Let the time go on by `segments` (SEGMENT_DTYPE, shape (n,)).

        Raises:
            TypeError: they are of another dtype.
        """
        if segments.dtype != SEGMENT_DTYPE:
            raise TypeError(f"segments are {SEGMENT_DTYPE}, not {segments.dtype}")
        cdef const SegmentRecord[::1] rows = segments
        cdef Py_ssize_t i
        with nogil:
            for i in range(rows.shape[0]):
                tell_time(&self.t, rows[i].ts_ns)
