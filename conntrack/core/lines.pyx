"""Columns as text, a line for each row: numbers, times, addresses, words and flags, straight from their arrays.

Owns how a value of each kind is spelled; which columns, in which order and with what between them is the caller's
(export/lines.py). For rows that come by the million: 3 to 20 ns a value. Times are RFC 3339 in UTC with nanoseconds
(RFC 3339 section 5.6), or exact seconds; addresses as inet_ntop(3) has them (RFC 5952).
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, strlen

from .life cimport NO_TIME

INTEGER = _INTEGER
COUNT = _COUNT
TIME = _TIME
SECONDS = _SECONDS
MICROSECONDS = _MICROSECONDS
WORD = _WORD
ADDRESS = _ADDRESS
TEXT = _TEXT
FLAGS = _FLAGS

cdef enum:
    _INTEGER = 0                # unsigned, of 1, 2, 4 or 8 octets
    _COUNT = 1                  # int64, negative where it is not known
    _TIME = 2                   # int64 nanoseconds since 1970, as RFC 3339
    _SECONDS = 3                # int64 nanoseconds, as seconds with nine decimals
    _MICROSECONDS = 4           # the same with six, the rest cut off
    _WORD = 5                   # uint8, an index into words
    _ADDRESS = 6                # 16 octets; beside it an octet that says 4 or 6
    _TEXT = 7                   # ASCII, filled up with NULs
    _FLAGS = 8                  # uint32, a word for every bit

cdef enum:
    MOST_FIELDS = 80
    MOST_LITERAL = 64           # octets before a field, or behind the last
    MOST_WORD = 32              # octets of a word, its length included
    MOST_WORDS = 32             # as many as FLAGS have bits
    MOST_VALUE = 80             # octets of a value (but TEXT and FLAGS), its quotes included; inet_ntop takes 46
    MOST_TEXT = 1024            # a TEXT: an outer path of 120 octets (cursor.pxd) has less than 700 in words
    NS = 1000000000
    DAY_S = 86400

cdef extern from "<arpa/inet.h>" nogil:
    enum:
        AF_INET6
    const char* inet_ntop(int family, const void* address, char* to, uint32_t size)

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char* text, size_t most)

cdef struct Clock:              # the last time in a column, and its text: rows that follow each other often share it
    int64_t ts_ns
    int64_t second
    int64_t midnight            # the second at which its day began
    uint8_t[32] text

cdef struct Field:
    int kind
    int size                    # octets of a value
    int words                   # of a WORD or FLAGS: how many there are
    int literal_bytes
    Py_ssize_t step             # octets from one row's value to the next one's
    const uint8_t* at           # the value of the next row
    const uint8_t* table        # of a WORD or FLAGS: MOST_WORD octets each, the first is its length
    Clock clock
    uint8_t[MOST_LITERAL] literal       # what stands before the value

cdef struct Plan:
    int fields
    int end_bytes
    int nothing_bytes
    bint json                   # words in quotes, FLAGS as a list
    uint8_t[8] nothing          # what stands where nothing is known
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


cdef void _tell_day(Clock* clock, int64_t second) noexcept nogil:
    # Days since 1970 to a date of the proleptic Gregorian calendar: eras of 400 years that begin on the 1st of March.
    cdef int64_t days = second // DAY_S - (second % DAY_S < 0)
    cdef int64_t era, of_era, year, of_year, month
    clock.midnight = days * DAY_S
    days += 719468                                      # from 0000-03-01 to 1970-01-01
    era = days // 146097
    of_era = days - era * 146097
    year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    cdef uint8_t* to = clock.text
    year += era * 400 + (month >= 10)
    to = _put_two(to, <uint32_t>(year // 100))
    to = _put_two(to, <uint32_t>(year % 100))
    to[0] = 45
    to = _put_two(to + 1, <uint32_t>(month + 3 if month < 10 else month - 9))
    to[0] = 45
    _put_two(to + 1, <uint32_t>(of_year - (153 * month + 2) // 5 + 1))[0] = 84


cdef inline void _tell(Clock* clock, int64_t second) noexcept nogil:
    cdef uint32_t of_day
    cdef uint8_t* to
    if second < clock.midnight or second >= clock.midnight + DAY_S:
        _tell_day(clock, second)
    of_day = <uint32_t>(second - clock.midnight)
    clock.second = second
    to = _put_two(&clock.text[11], of_day // 3600)
    to[0] = 58
    to = _put_two(to + 1, of_day // 60 % 60)
    to[0] = 58
    _put_two(to + 1, of_day % 60)


cdef inline uint8_t* _put_time(uint8_t* to, int64_t ts_ns, Clock* clock) noexcept nogil:
    cdef int64_t second
    if ts_ns != clock.ts_ns:
        second = ts_ns // NS - (ts_ns % NS < 0)
        if second != clock.second:
            _tell(clock, second)
        clock.ts_ns = ts_ns
        _put_nanoseconds(&clock.text[19], <uint32_t>(ts_ns - second * NS))[0] = 90      # Z
    memcpy(to, clock.text, 32)
    return to + 30


cdef inline uint8_t* _put_seconds(uint8_t* to, int64_t ts_ns) noexcept nogil:
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
    # Little-endian, as the dtypes are; at no particular address.
    cdef uint64_t eight
    cdef uint32_t four
    cdef uint16_t two
    if size == 8:
        memcpy(&eight, at, 8)
        return eight
    if size == 4:
        memcpy(&four, at, 4)
        return four
    if size == 2:
        memcpy(&two, at, 2)
        return two
    return at[0]


cdef inline uint8_t* _put_word(uint8_t* to, const Field* f, uint32_t number) noexcept nogil:
    cdef const uint8_t* word = f.table + number * MOST_WORD
    memcpy(to, word + 1, MOST_WORD - 1)
    return to + word[0]


cdef inline uint8_t* _put_text(uint8_t* to, const uint8_t* at, int size) noexcept nogil:
    cdef size_t used = strnlen(<const char*>at, size)
    memcpy(to, at, used)
    return to + used


cdef uint8_t* _put_flags(uint8_t* to, const Field* f, uint32_t bits, bint json) noexcept nogil:
    cdef int bit
    cdef bint first = True
    if json:
        to[0] = 91                                      # [
        to += 1
    for bit in range(f.words):
        if bits >> bit & 1:
            if not first:
                to[0] = 44 if json else 124             # , or |
                to += 1
            first = False
            if json:
                to[0] = 34
                to = _put_word(to + 1, f, bit)
                to[0] = 34
                to += 1
            else:
                to = _put_word(to, f, bit)
    if json:
        to[0] = 93
        to += 1
    return to


cdef inline uint8_t* _put_nothing(uint8_t* to, const Plan* plan) noexcept nogil:
    memcpy(to, plan.nothing, 8)
    return to + plan.nothing_bytes


cdef inline uint8_t* _put_value(uint8_t* to, Field* f, const uint8_t* version, const Plan* plan) noexcept nogil:
    cdef const uint8_t* at = f.at
    cdef uint8_t* start = to
    cdef int64_t signed = 0
    if f.kind == _INTEGER:
        return _put_number(to, _load(at, f.size))
    if f.kind <= _MICROSECONDS:
        signed = <int64_t>_load(at, 8)
        if signed == NO_TIME or (f.kind == _COUNT and signed < 0):
            return _put_nothing(to, plan)
        if f.kind == _COUNT:
            return _put_number(to, <uint64_t>signed)
        if f.kind == _SECONDS:
            return _put_seconds(to, signed)
        if f.kind == _MICROSECONDS:
            return _put_seconds(to, signed) - 3
    elif f.kind == _FLAGS:
        return _put_flags(to, f, <uint32_t>_load(at, 4), plan.json)
    if plan.json:
        to[0] = 34
        to += 1
    if f.kind == _TIME:
        to = _put_time(to, signed, &f.clock)
    elif f.kind == _ADDRESS:
        to = _put_address(to, at, version[0])
    elif f.kind == _TEXT:
        to = _put_text(to, at, f.size)
    elif at[0] < f.words:
        to = _put_word(to, f, at[0])
    if plan.json:
        to[0] = 34
        return to + 1
    return to if to != start else _put_nothing(to, plan)


cdef uint8_t* _put_rows(
    Plan* plan, const uint8_t* version, Py_ssize_t version_step, Py_ssize_t n, uint8_t* to, int32_t* ends
) noexcept nogil:
    cdef uint8_t* start = to
    cdef Field* f
    cdef Py_ssize_t row
    cdef int k
    for row in range(n):
        for k in range(plan.fields):
            f = &plan.field[k]
            memcpy(to, f.literal, 16)                   # most are shorter; what is too much is written over
            if f.literal_bytes > 16:
                memcpy(to, f.literal, MOST_LITERAL)
            to = _put_value(to + f.literal_bytes, f, version, plan)
            f.at += f.step
        memcpy(to, plan.end, plan.end_bytes)
        to += plan.end_bytes
        version += version_step
        if ends != NULL:
            ends[row] = <int32_t>(to - start)
    return to


cdef class Lines:
    """Turns columns into lines.

    Args:
        fields: for each value in order (what stands before it, INTEGER or another kind, words of a WORD or FLAGS).
        end: what ends a line.
        json: words, texts, addresses and RFC 3339 times in quotes, FLAGS as a list (else joined by |).
        nothing: what stands for a time or number that is not known, and without `json` for an empty text.

    Raises:
        ValueError: too many fields, or too long a word or literal.
    """
    cdef Plan plan
    cdef list _tables
    cdef Py_ssize_t _most_bytes

    def __init__(self, fields, bytes end, *, bint json=False, bytes nothing=b""):
        cdef Field* f
        cdef const uint8_t[::1] table
        if len(fields) > MOST_FIELDS or len(end) > MOST_LITERAL or len(nothing) > 8:
            raise ValueError(f"{len(fields)} fields, {len(end)} octets at the end: more than there is room for")
        self._tables = []
        self._most_bytes = len(end) + MOST_LITERAL + MOST_VALUE     # what is copied in one go may reach beyond
        self.plan.json = json
        self.plan.end_bytes = <int>len(end)
        memcpy(self.plan.end, <const char*>end, len(end))
        self.plan.nothing_bytes = <int>len(nothing)
        memcpy(self.plan.nothing, <const char*>nothing, len(nothing))
        for before, kind, words in fields:
            f = &self.plan.field[self.plan.fields]
            too_long = any(len(word) >= MOST_WORD for word in words)
            if len(before) > MOST_LITERAL or len(words) > MOST_WORDS or too_long:
                raise ValueError(f"{before!r} or one of {words} does not fit")
            f.kind, f.words, f.literal_bytes = kind, <int>len(words), <int>len(before)
            memcpy(f.literal, <const char*><bytes>before, len(before))
            f.clock.ts_ns = NO_TIME
            f.clock.second = NO_TIME
            f.clock.midnight = NO_TIME
            if words:
                packed = b"".join(bytes((len(word),)) + word.encode().ljust(MOST_WORD - 1, b"\0") for word in words)
                table = np.frombuffer(packed, dtype=np.uint8)
                self._tables.append(table)
                f.table = &table[0]
            most = MOST_TEXT if kind == _TEXT else MOST_VALUE
            if kind == _FLAGS:
                most = 2 + sum(len(word) + 3 for word in words)
            self._most_bytes += len(before) + most
            self.plan.fields += 1

    @property
    def most_bytes(self):
        """The most that a line can take, with what may be written behind it."""
        return self._most_bytes

    def write(self, columns, versions, uint8_t[::1] out not None, int32_t[::1] ends=None):
        """Write the lines of `columns` to `out`, and return how many octets they are.

        Args:
            columns: an array for each field: uint8 to uint64 for INTEGER, int64 for COUNT and times, uint8 for a WORD,
                uint8 of shape (n, 16) for an ADDRESS, dtype S or uint8 of shape (n, k) for a TEXT, uint32 for FLAGS.
                Rows may lie at any distance from each other.
            versions: uint8, shape (n,): 4 or 6, what each row's addresses are.
            out: room for n times `most_bytes`.
            ends: int32, shape (n,), takes where each line ends; None if nobody asks.

        Raises:
            ValueError: more or fewer columns than fields, one is not of its kind, or there is too little room.
        """
        cdef Field* f
        cdef Py_ssize_t n = len(versions), place, version_step = versions.strides[0]
        cdef int k
        cdef uint8_t* end
        if len(columns) != self.plan.fields:
            raise ValueError(f"{len(columns)} columns for {self.plan.fields} fields")
        if out.shape[0] < n * self._most_bytes or (ends is not None and ends.shape[0] < n):
            raise ValueError(f"{n} rows of up to {self._most_bytes} octets do not go into {out.shape[0]}")
        for k in range(self.plan.fields):
            f = &self.plan.field[k]
            column = columns[k]
            if len(column) != n or not _fits(f.kind, column):
                raise ValueError(f"column {k} ({column.dtype} {column.shape}) does not fit {n} rows of its kind")
            f.size = column.itemsize * (column.shape[1] if column.ndim == 2 else 1)
            f.step = column.strides[0]
            place = column.ctypes.data
            f.at = <const uint8_t*>place
        if versions.dtype != np.uint8:
            raise ValueError(f"versions are uint8, not {versions.dtype}")
        if n == 0:
            return 0
        place = versions.ctypes.data
        with nogil:
            end = _put_rows(
                &self.plan, <const uint8_t*>place, version_step, n, &out[0], &ends[0] if ends is not None else NULL
            )
        return end - &out[0]


def _fits(kind, column):
    if kind == _ADDRESS or (kind == _TEXT and column.ndim == 2):
        width = 16 if kind == _ADDRESS else MOST_TEXT - 2
        fits = column.ndim == 2 and column.dtype == np.uint8 and column.strides[1] == 1
        return fits and column.shape[1] <= width and (kind == _TEXT or column.shape[1] == width)
    if column.ndim != 1:
        return False
    if kind == _TEXT:
        return column.dtype.kind == "S" and column.itemsize <= MOST_TEXT - 2
    if kind == _INTEGER:
        return column.dtype.kind == "u"
    return column.dtype == {_WORD: np.uint8, _FLAGS: np.uint32}.get(kind, np.int64)
