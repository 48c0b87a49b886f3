"""The kernel's answers over NETLINK_SOCK_DIAG, octets to rows: one pass, no object for a socket.

Owns the layout of inet_diag (linux/inet_diag.h, linux/tcp.h, linux/sock_diag.h) and of a row, from whose C struct
HOST_SOCKET_DTYPE is derived. Every length in the answer is checked before it is used. Names no state: what a kernel's
number is called, and which clock tells since when, are arguments.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

MORE = _MORE
DONE = _DONE
FAILED = _FAILED
FULL = _FULL
MALFORMED = _MALFORMED
TELLS_IDLE = _TELLS_IDLE
TELLS_SINCE = _TELLS_SINCE

cdef enum:                      # how a buffer ended
    _MORE = 0                   # with a whole message: receive the next one
    _DONE = 1                   # the dump is complete
    _FAILED = 2                 # the kernel said an errno
    _FULL = 3                   # no room for another row: go on at `consumed` with more
    _MALFORMED = 4              # a length that cannot be

cdef enum:                      # what tcp_info's clocks tell in a state
    _TELLS_IDLE = 1             # the last of them, when anything passed
    _TELLS_SINCE = 2            # the last ACK, when the state was entered at the latest

cdef enum:
    NLMSG_NOOP = 1
    NLMSG_ERROR = 2
    NLMSG_DONE = 3
    SOCK_DIAG_BY_FAMILY = 20
    HEADER = 16                 # nlmsghdr: length, type, flags, sequence, port
    MESSAGE = 72                # inet_diag_msg
    INET_DIAG_INFO = 2          # struct tcp_info, longer with every few kernels
    INET_DIAG_SKMEMINFO = 7     # nine uint32, linux/sock_diag.h
    INET_DIAG_CGROUP_ID = 21    # uint64
    ATTRIBUTE_TYPE = 0x3FFF     # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
    IPV4 = 2                    # AF_INET
    EPROTO = 71                 # for an errno that is none
    MOST_ERRNO = 4095
    TIMER_TIME_WAIT = 3
    TIMERS = 5
    STATES = 16

cdef int64_t NO_TIME = <int64_t>(<uint64_t>1 << 63)     # states.NO_TIME_NS
cdef int64_t MS = 1000000

cdef struct HostSocket:         # one socket of this machine; the first 63 octets are those of core.abi's SocketRecord
    uint64_t flow_id            # the kernel's cookie of the socket, 0 where it told none
    int64_t at_ts_ns            # when the table was read
    int64_t since_ts_ns         # when this end entered its state, at the latest; NO_TIME where no clock tells
    uint8_t local_ip[16]        # network order, IPv4 as ::ffff:a.b.c.d
    uint8_t remote_ip[16]
    uint16_t local_port
    uint16_t remote_port
    uint8_t ip_version
    uint8_t state               # states.TcpState
    uint8_t evidence            # states.Evidence: SEEN
    uint8_t timer               # 0 none, 1 retransmission, 2 keep-alive, 3 TIME_WAIT, 4 zero window probe
    int64_t timer_ns            # until it runs out; NO_TIME without one
    int64_t idle_ns             # since anything was sent or received; NO_TIME where not told
    int64_t rtt_ns              # smoothed round trip time; NO_TIME where not told
    uint64_t cgroup_id          # inode of the cgroup; 0 where not told
    int64_t retransmits         # segments sent again in its life; -1 where not told
    int64_t sent_bytes          # payload sent, retransmissions included; -1 where not told
    int64_t received_bytes      # payload received; -1 where not told
    int64_t drops               # SYNs and connections that a listening socket dropped, else segments; -1 where not told
    int64_t recv_queue          # octets not yet read; of a listening socket, connections not yet accepted
    int64_t send_queue          # octets not yet acknowledged; of a listening socket, its backlog; -1 where not told
    uint32_t timeouts           # how often the timer ran out in vain, or keep-alives and probes without an answer
    uint32_t uid                # of the owner
    uint32_t inode              # 0 where no process holds it
    int32_t pid                 # of the process that holds it; -1 where not known
    uint8_t process[32]         # its command
    uint8_t unit[64]            # its systemd unit or its container

cdef HostSocket _row
_fields = np.asarray(<HostSocket[:1]> &_row).dtype.fields
_formats = {"process": "S32", "unit": "S64"}
HOST_SOCKET_DTYPE = np.dtype(
    {
        "names": list(_fields),
        "formats": [_formats.get(name, of) for name, (of, *_) in _fields.items()],
        "offsets": [offset for _, offset, *_ in _fields.values()],
        "itemsize": sizeof(HostSocket),
    }
)

cdef struct Rules:
    uint8_t[STATES] states      # kernel's number to states.TcpState; 255: no such
    uint8_t[STATES] clocks      # kernel's number to TELLS_ bits
    int64_t[STATES] linger_ns   # kernel's number to the whole of the TIME_WAIT timer; 0 where not known


cdef inline uint16_t _u16(const uint8_t* at) noexcept nogil:
    cdef uint16_t value
    memcpy(&value, at, 2)
    return value


cdef inline uint32_t _u32(const uint8_t* at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, 4)
    return value


cdef inline uint64_t _u64(const uint8_t* at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, 8)
    return value


cdef inline int64_t _count(const uint8_t* at) noexcept nogil:
    cdef uint64_t value = _u64(at)
    return <int64_t>value if value < <uint64_t>1 << 63 else -1


cdef inline uint16_t _port(const uint8_t* at) noexcept nogil:
    return <uint16_t>(at[0] << 8 | at[1])


cdef const uint8_t* MAPPED = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff"
cdef const uint8_t* NOTHING = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"


cdef void _set_addresses(HostSocket* row, const uint8_t* local, const uint8_t* remote, int family) noexcept nogil:
    # A socket for both families holds ::ffff:a.b.c.d, and on the wire that is IPv4.
    row.ip_version = 6
    if family == IPV4:
        memcpy(row.local_ip, MAPPED, 12)
        memcpy(row.local_ip + 12, local, 4)
        memcpy(row.remote_ip, MAPPED, 12)
        memcpy(row.remote_ip + 12, remote, 4)
        row.ip_version = 4
        return
    memcpy(row.local_ip, local, 16)
    memcpy(row.remote_ip, remote, 16)
    if memcmp(local, MAPPED, 12) == 0:
        if memcmp(remote, MAPPED, 12) == 0:
            row.ip_version = 4
        elif memcmp(remote, NOTHING, 16) == 0:      # it listens
            memcpy(row.remote_ip, MAPPED, 12)
            row.ip_version = 4


cdef void _read_info(HostSocket* row, const uint8_t* info, int n, int clocks) noexcept nogil:
    # The offsets are those of struct tcp_info, which only ever grows at its end.
    cdef uint32_t sent, received, acked, least
    if n < 104:
        return
    row.retransmits = _u32(info + 100)
    if not clocks:
        return
    if clocks & _TELLS_IDLE:
        sent, received, acked = _u32(info + 44), _u32(info + 52), _u32(info + 56)
        least = sent if sent < received else received
        least = acked if acked < least else least
        row.idle_ns = least * MS
        row.rtt_ns = _u32(info + 68) * <int64_t>1000 if _u32(info + 68) else NO_TIME
        if clocks & _TELLS_SINCE:
            row.since_ts_ns = row.at_ts_ns - acked * MS
    if n >= 136:
        row.received_bytes = _count(info + 128)
    if n >= 208:
        row.sent_bytes = _count(info + 200)


cdef bint _read_socket(
    HostSocket* row, const uint8_t* message, uint32_t n, int64_t at_ts_ns, const Rules* rules
) noexcept nogil:
    # struct inet_diag_msg, then attributes. Returns whether it is a socket whose state is known.
    cdef uint8_t state = message[1]
    cdef uint32_t at, size, kind
    cdef int64_t left_ns
    if state >= STATES or rules.states[state] == 255:
        return False
    memset(row, 0, sizeof(HostSocket))
    row.at_ts_ns = at_ts_ns
    row.since_ts_ns = row.timer_ns = row.idle_ns = row.rtt_ns = NO_TIME
    row.retransmits = row.sent_bytes = row.received_bytes = row.drops = -1
    row.pid = -1
    row.state = rules.states[state]
    row.local_port = _port(message + 4)
    row.remote_port = _port(message + 6)
    _set_addresses(row, message + 8, message + 24, message[0])
    row.flow_id = _u64(message + 44)
    if message[2] and message[2] < TIMERS:
        left_ns = _u32(message + 52) * MS
        row.timer = message[2]
        row.timer_ns = left_ns
        if message[2] == TIMER_TIME_WAIT and 0 < left_ns <= rules.linger_ns[state]:
            row.since_ts_ns = at_ts_ns - (rules.linger_ns[state] - left_ns)
    row.timeouts = message[3]
    row.recv_queue = _u32(message + 56)
    row.send_queue = _u32(message + 60)
    row.uid = _u32(message + 64)
    row.inode = _u32(message + 68)
    at = MESSAGE
    while at + 4 <= n:
        size, kind = _u16(message + at), _u16(message + at + 2) & ATTRIBUTE_TYPE
        if size < 4 or size > n - at:
            break
        if kind == INET_DIAG_INFO:
            _read_info(row, message + at + 4, <int>size - 4, rules.clocks[state])
        elif kind == INET_DIAG_SKMEMINFO and size >= 4 + 36:
            row.drops = _u32(message + at + 4 + 32)
        elif kind == INET_DIAG_CGROUP_ID and size >= 4 + 8:
            row.cgroup_id = _u64(message + at + 4)
        at += (size + 3) & ~<uint32_t>3
    return True


cdef class Answer:
    """Reads one answer of the kernel, buffer by buffer.

    Args:
        sequence: of the request; messages of another one are left out.
        at_ts_ns: when it was asked for, nanoseconds since 1970.
        states, clocks: uint8, shape (16,): by the kernel's number of a state (include/net/tcp_states.h), the number of
            states.TcpState (255: none), and TELLS_IDLE and TELLS_SINCE.
        linger_ns: int64, shape (16,): the whole length of the TIME_WAIT timer in that state, 0 where not known.

    Attributes:
        consumed: octets of the last buffer that were read.
        refusal: the errno that the kernel said, after FAILED.
        skipped: messages that are no socket: too short, or of an unknown state.
    """
    cdef Rules rules
    cdef uint32_t sequence
    cdef int64_t at_ts_ns
    cdef readonly Py_ssize_t consumed
    cdef readonly int refusal
    cdef readonly int skipped

    def __init__(self, sequence, at_ts_ns, const uint8_t[::1] states, const uint8_t[::1] clocks,
                 const int64_t[::1] linger_ns):
        if states.shape[0] != STATES or clocks.shape[0] != STATES or linger_ns.shape[0] != STATES:
            raise ValueError(f"{STATES} kernel states expected")
        self.sequence = sequence
        self.at_ts_ns = at_ts_ns
        memcpy(self.rules.states, &states[0], STATES)
        memcpy(self.rules.clocks, &clocks[0], STATES)
        memcpy(self.rules.linger_ns, &linger_ns[0], STATES * sizeof(int64_t))

    def read(self, const uint8_t[::1] octets not None, rows, Py_ssize_t filled):
        """Write the sockets of a buffer to `rows`.

        Args:
            octets: what one recv() gave.
            rows: HOST_SOCKET_DTYPE, shape (n,).
            filled: how many of `rows` are taken.

        Returns:
            (how many are taken now, MORE, DONE, FAILED, FULL or MALFORMED).

        Raises:
            TypeError: `rows` are of another dtype.
        """
        if rows.dtype != HOST_SOCKET_DTYPE:
            raise TypeError(f"expected {HOST_SOCKET_DTYPE}, got {rows.dtype}")
        cdef uint8_t[::1] room = rows.view(np.uint8)
        cdef Py_ssize_t most = room.shape[0] // <Py_ssize_t>sizeof(HostSocket)
        cdef int end
        if filled < 0 or filled > most:
            raise ValueError(f"{filled} of {most} rows taken")
        self.consumed = 0
        if octets.shape[0] == 0:
            return filled, _MALFORMED
        with nogil:
            end = self._read(&octets[0], octets.shape[0], <HostSocket*>&room[0] if most else NULL, most, &filled)
        return filled, end

    cdef int _read(
        self, const uint8_t* octets, Py_ssize_t n, HostSocket* rows, Py_ssize_t most, Py_ssize_t* filled
    ) noexcept nogil:
        cdef Py_ssize_t at = 0
        cdef uint32_t length, kind
        while n - at >= HEADER:
            length, kind = _u32(octets + at), _u16(octets + at + 4)
            if length < HEADER or length > n - at:
                return _MALFORMED
            if _u32(octets + at + 8) == self.sequence and kind != NLMSG_NOOP:
                if kind == NLMSG_ERROR or kind == NLMSG_DONE:
                    # Both carry 0 or an errno below it; DONE may leave it out.
                    self.refusal = <int>(0 - _u32(octets + at + HEADER)) if length >= HEADER + 4 else 0
                    if self.refusal == 0 and kind == NLMSG_DONE:
                        return _DONE
                    if self.refusal < 1 or self.refusal > MOST_ERRNO:
                        self.refusal = EPROTO
                    return _FAILED
                if kind != SOCK_DIAG_BY_FAMILY or length < HEADER + MESSAGE:
                    self.skipped += 1
                elif filled[0] == most:
                    return _FULL
                elif _read_socket(
                    &rows[filled[0]], octets + at + HEADER, length - HEADER, self.at_ts_ns, &self.rules
                ):
                    filled[0] += 1
                else:
                    self.skipped += 1
            at += (<Py_ssize_t>length + 3) & ~3
            self.consumed = at if at < n else n
        return _MORE if at >= n else _MALFORMED
