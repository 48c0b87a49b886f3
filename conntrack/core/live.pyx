"""LiveTable: the arrays of the live connections, handed to the kernels as one thing.

Checks every array once at the door (dtype, contiguity, size) and keeps it from being freed; owns no memory itself. The
layouts are in live.pxd.
"""

import numpy as np

from .clock cimport NEVER, settled_ns

from .abi import FLOW_DTYPE

cdef LiveFlow _flow
cdef FirstSeen _first
cdef Closing _closing
cdef Trouble _trouble
cdef V6Pair _pair

LIVE_DTYPE = np.asarray(<LiveFlow[:1]> &_flow).dtype
FIRST_DTYPE = np.asarray(<FirstSeen[:1]> &_first).dtype
CLOSING_DTYPE = np.asarray(<Closing[:1]> &_closing).dtype
TROUBLE_DTYPE = np.asarray(<Trouble[:1]> &_trouble).dtype
PAIR_DTYPE = np.asarray(<V6Pair[:1]> &_pair).dtype


def _checked(array, dtype, size_t least):
    if array.dtype != dtype:
        raise TypeError(f"expected an array of {dtype}, got {array.dtype}")
    if array.ndim != 1 or len(array) < least:
        raise ValueError(f"expected at least {least} records in one dimension, got shape {array.shape}")
    return array


cdef inline bint has(const Pool* pool, uint32_t n) noexcept nogil:
    return pool.capacity - pool.used + pool.free > n


cdef class LiveTable:
    """Pointers to the tracker's arrays. `set_*` replaces one after it has grown."""

    def __cinit__(
        self, table, start, traits, timeouts, invalid, int64_t two_msl_ns, int64_t synack_rto_ns, key, bint key_tag
    ):
        cdef const uint8_t[::1] rules = _checked(table.reshape(-1), np.dtype(np.uint8), 220)
        cdef const uint8_t[::1] begin = _checked(start.reshape(-1), np.dtype(np.uint8), 6)
        cdef const uint8_t[::1] kinds = _checked(traits, np.dtype(np.uint8), 11)
        cdef const int64_t[::1] timers = _checked(timeouts, np.dtype(np.int64), 11)
        cdef uint64_t[::1] count = _checked(invalid.reshape(-1), np.dtype(np.uint64), 220)
        cdef const uint64_t[::1] secret = _checked(key, np.dtype(np.uint64), 4)
        cdef int i
        self._kept = [rules, begin, kinds, timers, count, None, None, None, None, None, None]
        self.c.table = &rules[0]
        self.c.start = &begin[0]
        self.c.traits = &kinds[0]
        self.c.timeouts = &timers[0]
        self.c.invalid = &count[0]
        self.c.two_msl_ns = two_msl_ns
        self.c.now_ns = self.c.before_ns = self.c.last_ts_ns = NEVER
        self.c.tag_mask = 0xFFFFFFFF if key_tag else 0
        self.c.synack_rto_ns = synack_rto_ns
        known = [timeout for timeout in (*timeouts.tolist(), synack_rto_ns) if timeout >= 0]
        self.c.least_timeout_ns = min(known, default=1 << 62)
        for i in range(4):
            self.c.key[i] = secret[i]
        self.c.flow_pool.used = self.c.closing_pool.used = self.c.trouble_pool.used = self.c.pair_pool.used = 1

    def set_flows(self, flows, free, firsts):
        """Use `flows` (LIVE_DTYPE), its free list (uint32) and `firsts` (FIRST_DTYPE), as long as each other."""
        cdef LiveFlow[::1] records = _checked(flows, LIVE_DTYPE, self.c.flow_pool.used)
        cdef uint32_t[::1] stack = _checked(free, np.dtype(np.uint32), len(flows))
        cdef FirstSeen[::1] seen = _checked(firsts, FIRST_DTYPE, len(flows))
        self._kept[5] = (records, stack, seen)
        self.c.flows = &records[0]
        self.c.firsts = &seen[0]
        self.c.free_flows = &stack[0]
        self.c.flow_pool.capacity = <uint32_t>records.shape[0]

    def set_closings(self, closings, free):
        """Use `closings` (CLOSING_DTYPE) and its free list."""
        cdef Closing[::1] records = _checked(closings, CLOSING_DTYPE, self.c.closing_pool.used)
        cdef uint32_t[::1] stack = _checked(free, np.dtype(np.uint32), len(closings))
        self._kept[6] = (records, stack)
        self.c.closings = &records[0]
        self.c.free_closings = &stack[0]
        self.c.closing_pool.capacity = <uint32_t>records.shape[0]

    def set_troubles(self, troubles, free):
        """Use `troubles` (TROUBLE_DTYPE) and its free list."""
        cdef Trouble[::1] records = _checked(troubles, TROUBLE_DTYPE, self.c.trouble_pool.used)
        cdef uint32_t[::1] stack = _checked(free, np.dtype(np.uint32), len(troubles))
        self._kept[7] = (records, stack)
        self.c.troubles = &records[0]
        self.c.free_troubles = &stack[0]
        self.c.trouble_pool.capacity = <uint32_t>records.shape[0]

    def set_pairs(self, pairs, free):
        """Use `pairs` (PAIR_DTYPE) and its free list."""
        cdef V6Pair[::1] records = _checked(pairs, PAIR_DTYPE, self.c.pair_pool.used)
        cdef uint32_t[::1] stack = _checked(free, np.dtype(np.uint32), len(pairs))
        self._kept[8] = (records, stack)
        self.c.pairs = &records[0]
        self.c.free_pairs = &stack[0]
        self.c.pair_pool.capacity = <uint32_t>records.shape[0]

    def set_slots(self, slots, uint32_t used):
        """Use `slots` (uint64, a power of two of them) as the index, of which `used` are filled."""
        cdef uint64_t[::1] records = _checked(slots, np.dtype(np.uint64), 2)
        if len(slots) & (len(slots) - 1) or len(slots) > 1 << 32:
            raise ValueError(f"an index has a power of two of slots, not {len(slots)}")
        self._kept[9] = records
        self.c.slots = &records[0]
        self.c.slot_bits = len(slots).bit_length() - 1
        self.c.slots_used = used

    def set_retired(self, retired):
        """Write what retires to `retired` (FLOW_DTYPE), from its start."""
        cdef FlowRecord[::1] records = _checked(retired, FLOW_DTYPE, 1)
        self._kept[10] = records
        self.c.retired = &records[0]
        self.c.retired_capacity = <uint32_t>records.shape[0]
        self.c.retired_count = 0

    @property
    def now_ns(self):
        """The time it is by the segments (clock.pxd), nanoseconds since 1970."""
        return self.c.now_ns

    @property
    def settled_ns(self):
        """The time that no segment will be much before (clock.pxd)."""
        return settled_ns(&self.c)

    @property
    def slots_used(self):
        """How many slots of the index are filled: as many as there are connections."""
        return self.c.slots_used

    @property
    def retired_count(self):
        """How many records of the retired array are filled."""
        return self.c.retired_count

    def take_retired(self):
        """Forget what is in the retired array and return how many records it was."""
        count = self.c.retired_count
        self.c.retired_count = 0
        return count

    def has_room(self, uint32_t n):
        """Whether `n` segments can be stepped: with records of each pool, index slots (3/4 full), retired rows."""
        cdef Tables* t = &self.c
        return (
            has(&t.flow_pool, n) and has(&t.closing_pool, n) and has(&t.trouble_pool, n) and has(&t.pair_pool, n)
            and (<uint64_t>t.slots_used + n) * 4 <= <uint64_t>3 << t.slot_bits
            and t.retired_capacity - t.retired_count >= n
        )

    def used(self):
        """Return (records ever used, records free, capacity) of flows, closings, troubles, pairs, record 0 included."""
        return [
            (self.c.flow_pool.used, self.c.flow_pool.free, self.c.flow_pool.capacity),
            (self.c.closing_pool.used, self.c.closing_pool.free, self.c.closing_pool.capacity),
            (self.c.trouble_pool.used, self.c.trouble_pool.free, self.c.trouble_pool.capacity),
            (self.c.pair_pool.used, self.c.pair_pool.free, self.c.pair_pool.capacity),
        ]
