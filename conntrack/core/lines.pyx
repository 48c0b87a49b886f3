"""Rows of a struct as text, a line each: numbers, times, addresses and words, straight from the bytes of the row.

Owns how a value of each kind is spelled; which fields, in which order and with what between them is the caller's
(export/socket_lines.py). For rows that come by the million: about 0.3 us for one of sockets. Times are RFC 3339 in
UTC with nanoseconds (RFC 3339 section 5.6), or exact unix seconds; addresses as inet_ntop(3) has them (RFC 5952).
"""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, strlen

from .life cimport NO_TIME

INTEGER = _INTEGER
TIME = _TIME
EPOCH = _EPOCH
WORD = _WORD
ADDRESS = _ADDRESS

cdef enum:
    _INTEGER = 0                # unsigned, of 1, 2, 4 or 8 octets
    _TIME = 1                   # int64 nanoseconds since 1970, as RFC 3339
    _EPOCH = 2                  # the same, as unix seconds
    _WORD = 3                   # uint8, an index into words
    _ADDRESS = 4                # 16 octets, and elsewhere in the row an octet that says 4 or 6

cdef enum:
    MOST_FIELDS = 32
    MOST_LITERAL = 64           # octets before a field, or behind the last
    MOST_WORD = 32              # octets of a word, its length included
    MOST_VALUE = 64             # octets that any value takes, its quotes included; inet_ntop takes 46
    NS = 1000000000
    DAY_S = 86400

cdef extern from "<arpa/inet.h>" nogil:
    enum:
        AF_INET6
    const char* inet_ntop(int family, const void* address, char* to, uint32_t size)

cdef struct Field:
    int kind
    int offset
    int size                    # of an INTEGER
    int version_offset          # of an ADDRESS
    int words                   # of a WORD: how many there are
    int literal_bytes
    const uint8_t* table        # of a WORD: MOST_WORD octets each, the first is its length
    uint8_t[MOST_LITERAL] literal       # what stands before the value

cdef struct Clock:              # the last time in a field, and its text: rows that follow each other often share it
    int64_t ts_ns
    int64_t second
    uint8_t[32] text

cdef struct Plan:
    int fields
    int end_bytes
    bint json                   # words in quotes, null where no time is known
    uint8_t[MOST_LITERAL] end
    Field[MOST_FIELDS] field


cdef uint8_t[200] PAIRS         # 00 to 99
cdef uint8_t[1024] OCTETS       # 0 to 255, each with a dot behind it
for _n in range(100):
    PAIRS[2 * _n], PAIRS[2 * _n + 1] = 48 + _n // 10, 48 + _n % 10
for _n in range(256):
    for _i, _digit in enumerate(b"%d." % _n):
        OCTETS[4 * _n + _i] = _digit


cdef inline uint8_t* _put_two(uint8_t* to, uint32_t value) noexcept nogil:
    memcpy(to, &PAIRS[2 * value], 2)
    return to + 2


cdef inline uint8_t* _put_small(uint8_t* to, uint32_t value) noexcept nogil:
    # Below 10,000, without leading zeros.
    if value >= 100:
        if value >= 1000:
            to = _put_two(to, value // 100)
        else:
            to[0] = <uint8_t>(48 + value // 100)
            to += 1
        return _put_two(to, value % 100)
    if value >= 10:
        return _put_two(to, value)
    to[0] = <uint8_t>(48 + value)
    return to + 1


cdef uint8_t* _put_number(uint8_t* to, uint64_t value) noexcept nogil:
    cdef uint32_t low
    if value < 10000:
        return _put_small(to, <uint32_t>value)
    to = _put_number(to, value // 10000)
    low = <uint32_t>(value % 10000)
    return _put_two(_put_two(to, low // 100), low % 100)


cdef inline uint8_t* _put_nanoseconds(uint8_t* to, uint32_t value) noexcept nogil:
    to[0] = 46                                          # a dot
    to[1] = <uint8_t>(48 + value // 100000000)
    to = _put_two(to + 2, value // 1000000 % 100)
    to = _put_two(to, value // 10000 % 100)
    to = _put_two(to, value // 100 % 100)
    return _put_two(to, value % 100)


cdef void _tell(Clock* clock, int64_t second) noexcept nogil:
    # Days since 1970 to a date of the proleptic Gregorian calendar: eras of 400 years that begin on the 1st of March.
    cdef int64_t days = second // DAY_S - (second % DAY_S < 0)
    cdef int64_t of_day = second - days * DAY_S
    cdef int64_t era, of_era, year, of_year, month
    days += 719468                                      # from 0000-03-01 to 1970-01-01
    era = days // 146097
    of_era = days - era * 146097
    year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    cdef uint8_t* to = clock.text
    clock.second = second
    year += era * 400 + (month >= 10)
    to = _put_two(to, <uint32_t>(year // 100))
    to = _put_two(to, <uint32_t>(year % 100))
    to[0] = 45
    to = _put_two(to + 1, <uint32_t>(month + 3 if month < 10 else month - 9))
    to[0] = 45
    to = _put_two(to + 1, <uint32_t>(of_year - (153 * month + 2) // 5 + 1))
    to[0] = 84
    to = _put_two(to + 1, <uint32_t>(of_day // 3600))
    to[0] = 58
    to = _put_two(to + 1, <uint32_t>(of_day // 60 % 60))
    to[0] = 58
    _put_two(to + 1, <uint32_t>(of_day % 60))


cdef inline uint8_t* _put_time(uint8_t* to, int64_t ts_ns, Clock* clock) noexcept nogil:
    cdef int64_t second
    if ts_ns != clock.ts_ns:
        second = ts_ns // NS - (ts_ns % NS < 0)
        if second != clock.second:
            _tell(clock, second)
        clock.ts_ns = ts_ns
        _put_nanoseconds(&clock.text[19], <uint32_t>(ts_ns - second * NS))[0] = 90      # Z
    memcpy(to, clock.text, 30)
    return to + 30


cdef inline uint8_t* _put_epoch(uint8_t* to, int64_t ts_ns) noexcept nogil:
    cdef uint64_t size = <uint64_t>ts_ns
    if ts_ns < 0:
        to[0] = 45
        to += 1
        size = 0 - size
    return _put_nanoseconds(_put_number(to, size // NS), <uint32_t>(size % NS))


cdef inline uint8_t* _put_address(uint8_t* to, const uint8_t* address, int version) noexcept nogil:
    cdef int i
    if version == 4:
        for i in range(12, 16):
            memcpy(to, &OCTETS[4 * address[i]], 4)
            to += 2 + (address[i] > 9) + (address[i] > 99)
        return to - 1
    inet_ntop(AF_INET6, address, <char*>to, 46)
    return to + strlen(<const char*>to)


cdef inline uint64_t _load(const uint8_t* at, int size) noexcept nogil:
    cdef uint64_t value = 0
    memcpy(&value, at, size)                            # little-endian, as the dtypes are
    return value


cdef inline uint8_t* _put_value(
    uint8_t* to, const uint8_t* row, const Field* f, bint json, Clock* clock
) noexcept nogil:
    cdef const uint8_t* at = row + f.offset
    cdef const uint8_t* word
    cdef int64_t ts_ns = 0
    if f.kind == _INTEGER:
        return _put_number(to, _load(at, f.size))
    if f.kind == _TIME or f.kind == _EPOCH:
        ts_ns = <int64_t>_load(at, 8)
        if ts_ns == NO_TIME:
            memcpy(to, b"null", 4)
            return to + 4 if json else to
        if f.kind == _EPOCH:
            return _put_epoch(to, ts_ns)
    if json:
        to[0] = 34
        to += 1
    if f.kind == _TIME:
        to = _put_time(to, ts_ns, clock)
    elif f.kind == _ADDRESS:
        to = _put_address(to, at, row[f.version_offset])
    elif at[0] < f.words:
        word = f.table + at[0] * MOST_WORD
        memcpy(to, word + 1, MOST_WORD - 1)
        to += word[0]
    if json:
        to[0] = 34
        to += 1
    return to


cdef uint8_t* _put_rows(
    const Plan* plan, const uint8_t* row, Py_ssize_t n, Py_ssize_t size, uint8_t* to
) noexcept nogil:
    cdef Clock[MOST_FIELDS] clocks
    cdef const Field* f
    cdef int k
    for k in range(plan.fields):
        _tell(&clocks[k], 0)
        clocks[k].ts_ns = NO_TIME
    for _ in range(n):
        for k in range(plan.fields):
            f = &plan.field[k]
            memcpy(to, f.literal, f.literal_bytes)
            to = _put_value(to + f.literal_bytes, row, f, plan.json, &clocks[k])
        memcpy(to, plan.end, plan.end_bytes)
        to += plan.end_bytes
        row += size
    return to


cdef class Lines:
    """Turns rows of one dtype into lines.

    Args:
        dtype: of the rows, a packed struct.
        fields: for each value in order (what stands before it, INTEGER or another kind, the field's name, words of a
            WORD). An ADDRESS goes by the field `ip_version` of its row.
        end: what ends a line.
        json: words, addresses and RFC 3339 times in quotes, and null where a time is not known (else nothing).

    Raises:
        ValueError: too many fields, too long a word, or a field that is not of its kind.
    """
    cdef Plan plan
    cdef object _dtype
    cdef list _tables

    def __init__(self, dtype, fields, bytes end, *, bint json=False):
        cdef Field* f
        cdef const uint8_t[::1] table
        if len(fields) > MOST_FIELDS or len(end) > MOST_LITERAL:
            raise ValueError(f"{len(fields)} fields, {len(end)} octets at the end: more than there is room for")
        self._dtype = dtype
        self._tables = []
        self.plan.json = json
        self.plan.end_bytes = <int>len(end)
        memcpy(self.plan.end, <const char*>end, len(end))
        for before, kind, name, words in fields:
            f = &self.plan.field[self.plan.fields]
            of, offset = dtype.fields[name][:2]
            sizes = {_INTEGER: (1, 2, 4, 8), _TIME: (8,), _EPOCH: (8,), _WORD: (1,), _ADDRESS: (16,)}[kind]
            if of.itemsize not in sizes or len(before) > MOST_LITERAL or any(len(word) >= MOST_WORD for word in words):
                raise ValueError(f"{name} ({of}) does not fit: {before!r}, kind {kind}, words {words}")
            f.kind, f.offset, f.size, f.words = kind, offset, of.itemsize, <int>len(words)
            f.version_offset = dtype.fields["ip_version"][1] if kind == _ADDRESS else 0
            f.literal_bytes = <int>len(before)
            memcpy(f.literal, <const char*><bytes>before, len(before))
            if words:
                packed = b"".join(bytes((len(word),)) + word.encode().ljust(MOST_WORD - 1, b"\0") for word in words)
                table = np.frombuffer(packed, dtype=np.uint8)
                self._tables.append(table)
                f.table = &table[0]
            self.plan.fields += 1

    @property
    def most_bytes(self):
        """The most that a line can take, with what may be written behind it."""
        cdef int i
        total = self.plan.end_bytes + MOST_VALUE
        for i in range(self.plan.fields):
            total += self.plan.field[i].literal_bytes + MOST_VALUE
        return total

    def write(self, rows, uint8_t[::1] out not None):
        """Write the lines of `rows`, shape (n,), to `out`, and return how many octets they are.

        Raises:
            TypeError: `rows` are of another dtype.
            ValueError: they are not contiguous, or `out` has not room for n times `most_bytes`.
        """
        if rows.dtype != self._dtype:
            raise TypeError(f"expected {self._dtype}, got {rows.dtype}")
        cdef Py_ssize_t n = len(rows)
        if out.shape[0] < n * self.most_bytes or not rows.flags.c_contiguous:
            raise ValueError(f"{n} rows of up to {self.most_bytes} octets do not go into {out.shape[0]}")
        if n == 0:
            return 0
        cdef const uint8_t[::1] octets = rows.view(np.uint8)
        cdef Py_ssize_t size = rows.dtype.itemsize
        cdef uint8_t* end
        with nogil:
            end = _put_rows(&self.plan, &octets[0], n, size, &out[0])
        return end - &out[0]
