"""The kernel's socket table from /proc/net/tcp and /proc/net/tcp6, where netlink is refused (proc(5)).

Knows less than netlink: no clock but that of timers, no counters, no limit of a listening socket's queue. Text that is
read while it changes: a socket may be missing or come twice. What is no line of the table is left out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conntrack.host.kernel import KERNEL_STATES, TIME_WAIT_S, TIMERS
from conntrack.host.messages import HOST_SOCKET_DTYPE
from conntrack.states import NO_TIME_NS, TcpState

__all__ = ["NET", "parse", "read"]

Rows = np.ndarray[Any, Any]

NET = Path("/proc/self/net")
"""The tables of this process's network namespace."""

_USER_HZ = 100
"""Ticks a second in which /proc tells timers: USER_HZ, the same everywhere but on Alpha (asm-generic/param.h)."""
_NS_PER_TICK = 10**9 // _USER_HZ
_MAPPED = bytes(10) + b"\xff\xff"
_ENDPOINT, _ENDPOINT6 = 13, 37  # octets of "0100007F:1F90", and of the same with four words


def read() -> Rows:
    """Return every TCP socket of this network namespace: HOST_SOCKET_DTYPE, shape (n,).

    Raises:
        OSError: there is no /proc/net/tcp, or it may not be read.
    """
    at_ts_ns = time.time_ns()
    text = (NET / "tcp").read_bytes()
    try:
        text6 = (NET / "tcp6").read_bytes()
    except FileNotFoundError:  # a kernel without IPv6
        text6 = b""
    return parse(text, text6, at_ts_ns)


def parse(text: bytes, text6: bytes, at_ts_ns: int) -> Rows:
    """Return the sockets of both tables as they stood at `at_ts_ns`: HOST_SOCKET_DTYPE, shape (n,)."""
    lines = [line for table in (text, text6) for line in _lines(table, at_ts_ns)]
    rows = np.zeros(len(lines), HOST_SOCKET_DTYPE)
    for name in ("since_ts_ns", "timer_ns", "idle_ns", "rtt_ns"):
        rows[name] = NO_TIME_NS
    for name in ("retransmits", "sent_bytes", "received_bytes", "drops", "pid"):
        rows[name] = -1
    rows["at_ts_ns"] = at_ts_ns
    if lines:
        for name, values in zip(_Line._fields, zip(*lines, strict=True), strict=True):
            if name.endswith("_ip"):
                rows[name] = np.frombuffer(b"".join(values), np.uint8).reshape(-1, 16)
            else:
                rows[name] = values
    return rows


class _Line(NamedTuple):
    """What a line tells, in the fields of HOST_SOCKET_DTYPE."""

    local_ip: bytes
    local_port: int
    remote_ip: bytes
    remote_port: int
    ip_version: int
    state: int
    send_queue: int
    recv_queue: int
    timer: int
    timer_ns: int
    since_ts_ns: int
    timeouts: int
    uid: int
    inode: int


def _lines(table: bytes, at_ts_ns: int) -> Iterator[_Line]:
    for line in table.splitlines()[1:]:
        try:
            socket_ = _line(line.split(), at_ts_ns)
        except (ValueError, IndexError, OverflowError):
            continue
        if socket_ is not None:
            yield socket_


def _line(words: list[bytes], at_ts_ns: int) -> _Line | None:
    """Read `sl local remote st tx:rx tr:when retrnsmt uid timeout inode ...`; None for a state that is none."""
    local_ip, local_port = _endpoint(words[1])
    remote_ip, remote_port = _endpoint(words[2])
    version = 4 if len(words[1]) == _ENDPOINT else 6
    if version == 6 and local_ip.startswith(_MAPPED) and (remote_ip.startswith(_MAPPED) or not any(remote_ip)):
        remote_ip, version = _MAPPED + remote_ip[12:], 4  # a socket for both families: on the wire it is IPv4
    state = KERNEL_STATES.get(int(words[3], 16))
    if state is None:
        return None
    sent, received = _pair(words[4])
    timer, ticks = _pair(words[5])
    timer_ns = _u32(ticks) * _NS_PER_TICK if 0 < timer < len(TIMERS) else NO_TIME_NS
    lingers = state is TcpState.TIME_WAIT and 0 <= timer_ns <= TIME_WAIT_S * 10**9
    return _Line(
        local_ip,
        local_port,
        remote_ip,
        remote_port,
        version,
        state,
        -1 if state is TcpState.LISTEN else _u32(sent),  # the backlog is not told
        _u32(received),
        timer if timer_ns != NO_TIME_NS else 0,
        timer_ns,
        at_ts_ns - (TIME_WAIT_S * 10**9 - timer_ns) if lingers else NO_TIME_NS,
        _u32(int(words[6], 16)),
        _u32(int(words[7])),
        _u32(int(words[9])),
    )


def _pair(word: bytes) -> tuple[int, int]:
    one, other = word.split(b":")
    return int(one, 16), int(other, 16)


def _u32(number: int) -> int:
    if not 0 <= number < 2**32:
        raise ValueError(number)
    return number


def _endpoint(word: bytes) -> tuple[bytes, int]:
    """Return the 16 octets and the port of "0100007F:1F90": 32-bit words as this machine stores them, the port not."""
    if len(word) == _ENDPOINT:
        return _MAPPED + int(word[:8], 16).to_bytes(4, sys.byteorder), _u32(int(word[9:], 16))
    if len(word) != _ENDPOINT6:
        raise ValueError(word)
    words = (int(word[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, 32, 8))
    return b"".join(words), _u32(int(word[33:], 16))
