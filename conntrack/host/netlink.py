"""The kernel's socket table over NETLINK_SOCK_DIAG, as `ss` asks for it (sock_diag(7)). Needs no privilege.

Owns the request and the receiving; what the answer means is messages.pyx. The table is that of the caller's network
namespace, and is read while it changes: each socket is as it was at some moment of the reading.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any

import numpy as np

from conntrack.host import messages
from conntrack.host.kernel import KERNEL_STATES, TIME_WAIT_S, sysctl
from conntrack.host.messages import HOST_SOCKET_DTYPE
from conntrack.states import TcpState

__all__ = ["dump"]

Rows = np.ndarray[Any, Any]

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBBBI48x")  # family, protocol, extensions, padding, states, any socket (inet_diag_req_v2)
_EXTENSIONS = 1 << 2 - 1 | 1 << 7 - 1  # INET_DIAG_INFO, INET_DIAG_SKMEMINFO; the cgroup comes unasked
_BUFFER = 1 << 18
"""The kernel answers with at most 32 KiB at once, more only if it must."""
_QUEUE = 1 << 22
_SILENCE_S = 10.0
_FIRST_ROWS = 4_096

_STATES = np.full(16, 255, np.uint8)
_STATES[list(KERNEL_STATES)] = list(KERNEL_STATES.values())
_ALL = sum(1 << number for number in KERNEL_STATES)

_TALKING = {TcpState.ESTABLISHED, TcpState.FIN_WAIT_1, TcpState.CLOSING, TcpState.LAST_ACK}
_ENTERED_BY_A_SEGMENT = {TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2}
"""By the peer's FIN, or its ACK of ours: mostly the last ACK that came, and never a later one."""


def _clocks() -> np.ndarray[Any, Any]:
    clocks = np.zeros(16, np.uint8)
    for number, state in KERNEL_STATES.items():
        if state in _TALKING or state in _ENTERED_BY_A_SEGMENT:
            clocks[number] = messages.TELLS_IDLE
        if state in _ENTERED_BY_A_SEGMENT:
            clocks[number] |= messages.TELLS_SINCE
    return clocks


def _linger_ns() -> np.ndarray[Any, Any]:
    """Return how long the TIME_WAIT timer runs: also that of an orphan in FIN_WAIT_2, if no longer than TIME_WAIT."""
    fin_timeout = sysctl("net.ipv4.tcp_fin_timeout")
    length_s = {TcpState.TIME_WAIT: TIME_WAIT_S}
    if fin_timeout and 0 < fin_timeout[0] <= TIME_WAIT_S:
        length_s[TcpState.FIN_WAIT_2] = fin_timeout[0]
    linger_ns = np.zeros(16, np.int64)
    for number, state in KERNEL_STATES.items():
        linger_ns[number] = length_s.get(state, 0) * 10**9
    return linger_ns


def dump() -> Rows:
    """Return every TCP socket of this network namespace, IPv4 and IPv6, in all states, LISTEN included.

    Returns:
        HOST_SOCKET_DTYPE, shape (n,); no process and no unit is filled in.

    Raises:
        OSError: the kernel has no sock_diag or does not allow it, or its answer cannot be understood.
    """
    rows, filled = np.empty(_FIRST_ROWS, HOST_SOCKET_DTYPE), 0
    at_ts_ns = time.time_ns()
    clocks, linger_ns = _clocks(), _linger_ns()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUE)
        netlink.settimeout(_SILENCE_S)
        for sequence, family in enumerate((socket.AF_INET, socket.AF_INET6), 1):
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, _EXTENSIONS, 0, _ALL)
            header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, sequence, 0)
            netlink.send(header + request)
            answer = messages.Answer(sequence, at_ts_ns, _STATES, clocks, linger_ns)
            try:
                rows, filled = _receive(netlink, answer, rows, filled)
            except FileNotFoundError:
                if family == socket.AF_INET:
                    raise
                # A kernel without IPv6 has no such table.
    return rows[:filled]


def _receive(netlink: socket.socket, answer: messages.Answer, rows: Rows, filled: int) -> tuple[Rows, int]:
    """Append one answer to the first `filled` of `rows`, which are moved where they do not suffice."""
    buffer = memoryview(bytearray(_BUFFER))
    while True:
        size, _, flags, _ = netlink.recvmsg_into([buffer])
        if flags & socket.MSG_TRUNC:
            raise OSError("a message of the kernel's socket table is too long")
        begin, end = 0, messages.FULL
        while end == messages.FULL:
            filled, end = answer.read(buffer[begin:size], rows, filled)
            begin += answer.consumed
            if end == messages.FULL:
                larger = np.empty(2 * len(rows), HOST_SOCKET_DTYPE)
                larger[:filled] = rows[:filled]
                rows = larger
        if end == messages.DONE:
            return rows, filled
        if end == messages.FAILED:
            raise OSError(answer.refusal, os.strerror(answer.refusal))
        if end == messages.MALFORMED:
            raise OSError("the kernel's socket table cannot be understood")
