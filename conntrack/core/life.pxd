# The life of one record: taking and giving back its parts, entering a state, expiring. See life.pyx.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .live cimport DELAY_US, NO_DELAY, Closing, LiveFlow, Pool, Tables, Trouble

cdef enum:
    N_STATES = 11
    N_EVENTS = 10
    IGNORE = 0xFE
    INVALID = 0xFF

cdef enum:                      # states.Role
    SENT = 0
    RECEIVED = 1

cdef enum:                      # states.SegmentEvent
    EVENT_SYN = 0
    EVENT_SYN_ACK = 1
    EVENT_ACK_OF_SYN = 2
    EVENT_DATA = 3
    EVENT_ACK_OF_FIN = 4
    EVENT_FIN = 5
    EVENT_RST = 6
    EVENT_SYN_ACK_AGAIN = 7
    EVENT_FIN_CROSSING = 8
    EVENT_TIMEOUT = 9

cdef enum:                      # states.StateTrait
    OVER = 1
    PASSIVE = 2
    OPENING = 4
    ACTIVE_OPEN = 8
    STEADY = 16
    HALF_CLOSED = 32
    LINGERS = 64

cdef enum:                      # states.Evidence
    SEEN = 0
    INFERRED = 1
    ASSUMED = 2
    EXPIRED = 3

cdef enum:                      # letters of a history (Zeek, conn.log); the server's are one more
    LETTER_SYN = 1              # S s
    LETTER_SYN_ACK = 3          # H h
    LETTER_ACK = 5              # A a
    LETTER_DATA = 7             # D d
    LETTER_FIN = 9              # F f
    LETTER_RST = 11             # R r
    LETTER_RETRANSMIT = 13      # T t
    LETTER_GAP = 15             # G g
    LETTER_ZERO_WINDOW = 17     # W w
    LETTER_INCONSISTENT = 19    # I i
    LETTER_MULTI = 21           # Q q
    HISTORY_LETTERS = 12        # kept in Closing.history

cdef enum:                      # Closing.history, behind the letters
    RESET_BY = 60
    RESET_WHEN = 62

cdef enum:
    MARK_EVIDENCE_SHIFT = 4     # of LiveFlow.marks, two bits a side

cdef extern from *:
    """
    #include <stdint.h>
    #define CONNTRACK_NO_TIME INT64_MIN                     /* states.NO_TIME_NS */
    #define CONNTRACK_HISTORY_MASK ((UINT64_C(1) << 60) - 1)
    """
    int64_t NO_TIME "CONNTRACK_NO_TIME"
    uint64_t HISTORY_MASK "CONNTRACK_HISTORY_MASK"


cdef inline uint8_t* states_of(LiveFlow* f) noexcept nogil:
    return &f.client_state


cdef inline uint8_t trait(const Tables* t, LiveFlow* f, int side) noexcept nogil:
    return t.traits[states_of(f)[side]]


cdef inline bint is_over(const Tables* t, LiveFlow* f) noexcept nogil:
    # Nothing is left at one end, and nothing is left or had come of it at the other.
    cdef uint8_t client = t.traits[f.client_state]
    cdef uint8_t server = t.traits[f.server_state]
    return (client | server) & OVER and client & (OVER | PASSIVE) and server & (OVER | PASSIVE)


cdef inline bint is_forgotten(const Tables* t, LiveFlow* f, int64_t now_ns) noexcept nogil:
    return is_over(t, f) and now_ns - f.last_ts_ns > t.two_msl_ns


cdef inline bint may_expire(const Tables* t, const LiveFlow* f, int64_t now_ns) noexcept nogil:
    # None of its times is before its first segment's (step.pyx).
    return now_ns - f.first_ts_ns > t.least_timeout_ns


cdef inline uint32_t delay_of(int64_t ns) noexcept nogil:
    # A time between two segments, exactly: up to 2.1 s in nanoseconds, up to 35 min in microseconds where it is whole.
    if 0 <= ns < DELAY_US:
        return <uint32_t>ns
    if ns > 0 and ns // 1000 < DELAY_US - 1 and ns % 1000 == 0:
        return <uint32_t>DELAY_US | <uint32_t>(ns // 1000)
    return <uint32_t>NO_DELAY


cdef inline int64_t delay_ns(uint32_t delay) noexcept nogil:
    # Its nanoseconds again; not of NO_DELAY.
    return <int64_t>(delay & ~<uint32_t>DELAY_US) * 1000 if delay & DELAY_US else <int64_t>delay


cdef inline uint32_t take(Pool* pool, const uint32_t* free_list) noexcept nogil:
    # The tracker has made room before the batch.
    if pool.free:
        pool.free -= 1
        return free_list[pool.free]
    pool.used += 1
    return pool.used - 1


cdef inline void give_back(Pool* pool, uint32_t* free_list, uint32_t record) noexcept nogil:
    free_list[pool.free] = record
    pool.free += 1


cdef Closing* closing_of(Tables* t, LiveFlow* f) noexcept nogil
cdef Trouble* trouble_of(Tables* t, LiveFlow* f) noexcept nogil
cdef void release_parts(Tables* t, LiveFlow* f) noexcept nogil
cdef int64_t synack_ts(Tables* t, LiveFlow* f) noexcept nogil
cdef int64_t established_ts(Tables* t, LiveFlow* f) noexcept nogil
cdef void set_synack_ts(Tables* t, LiveFlow* f, int64_t ts) noexcept nogil
cdef void set_established_ts(Tables* t, LiveFlow* f, int64_t ts) noexcept nogil
cdef int64_t since_ts(Tables* t, LiveFlow* f, int side) noexcept nogil
cdef bint move(Tables* t, LiveFlow* f, int role, int event, int side, int64_t ts, int evidence) noexcept nogil
cdef void expire(Tables* t, LiveFlow* f, int64_t now_ns) noexcept nogil
cdef int64_t* timer_of(Tables* t, LiveFlow* f, int side) noexcept nogil
cdef bint has_letter(Tables* t, LiveFlow* f, int letter) noexcept nogil
cdef void add_letter(Tables* t, LiveFlow* f, int letter) noexcept nogil
cdef void add_head_letter(Tables* t, LiveFlow* f, int side, bint payload) noexcept nogil
