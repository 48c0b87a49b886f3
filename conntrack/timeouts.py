"""How long a host stays in a state when nothing more is heard: seconds as data, each with its source.

These are the timers of hosts, not of firewalls: nf_conntrack drops CLOSE_WAIT after 60 s and Zeek an idle connection
after 5 min, which would hide exactly what is looked for. A state without an entry has no timer: an ESTABLISHED or
CLOSE_WAIT endpoint stays until something happens, which is why a leak is a leak. The wire cannot tell an orphaned
FIN_WAIT_2 (tcp_fin_timeout) from one that an application still holds after shutdown(), so it has none by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .states import TcpState

__all__ = ["NO_TIMEOUT_NS", "PROFILES", "Profile", "Timeout", "compile_timeouts"]

NO_TIMEOUT_NS = -1
"""In compile_timeouts(): the state has no timer."""


class Timeout(NamedTuple):
    """Seconds, and where the number comes from."""

    timeout_s: float
    source: str


class Profile(NamedTuple):
    """The timers of one kind of host.

    Attributes:
        two_msl_s: for how long segments of a closed connection may still be about (RFC 9293, 3.6.1); a connection is
            forgotten when both ends are CLOSED and nothing was seen for this long.
        states: the timer of each state that has one.
        synack_rto_s: after how long a SYN+ACK that nobody acknowledges is sent again, and then after twice as long
            each time. One that is overdue shows that the server keeps nothing of the connection: it sent a SYN cookie,
            or gave up early under pressure. None where that is not known; then SYN_RECEIVED simply has its timer.
    """

    two_msl_s: float
    states: Mapping[TcpState, Timeout]
    synack_rto_s: float | None = None


def _orphan(timeout_s: float, source: str) -> dict[TcpState, Timeout]:
    return {state: Timeout(timeout_s, source) for state in (TcpState.FIN_WAIT_1, TcpState.CLOSING, TcpState.LAST_ACK)}


PROFILES: dict[str, Profile] = {
    "linux": Profile(
        60.0,
        {
            TcpState.SYN_SENT: Timeout(127.0, "tcp_syn_retries 6: 1+2+4+8+16+32+64 s (ip-sysctl)"),
            TcpState.SYN_RECEIVED: Timeout(63.0, "tcp_synack_retries 5: 1+2+4+8+16+32 s (ip-sysctl)"),
            **_orphan(102.2, "tcp_orphan_retries 8 from the least RTO of 0.2 s: 0.2*(2^9-1) s (ip-sysctl, RFC 6298)"),
            TcpState.TIME_WAIT: Timeout(60.0, "TCP_TIMEWAIT_LEN (include/net/tcp.h)"),
        },
        synack_rto_s=1.0,  # TCP_TIMEOUT_INIT (include/net/tcp.h), reqsk_timer_handler
    ),
    "windows": Profile(
        120.0,
        {
            TcpState.SYN_SENT: Timeout(21.0, "TcpMaxConnectRetransmissions 2: 3+6+12 s (Microsoft TCP/IP parameters)"),
            TcpState.SYN_RECEIVED: Timeout(21.0, "TcpMaxConnectResponseRetransmissions 2: 3+6+12 s"),
            **_orphan(93.0, "TcpMaxDataRetransmissions 5 from an RTO of 3 s: 3+6+12+24+48 s"),
            TcpState.TIME_WAIT: Timeout(120.0, "TcpTimedWaitDelay, default since Windows Vista"),
        },
    ),
    "freebsd": Profile(
        60.0,
        {
            TcpState.SYN_SENT: Timeout(75.0, "net.inet.tcp.keepinit (tcp_timer.h, TCPTV_KEEP_INIT)"),
            TcpState.SYN_RECEIVED: Timeout(15.0, "net.inet.tcp.syncache.rexmtlimit 3: 1+2+4+8 s (syncache(4))"),
            **_orphan(120.0, "TCPTV_MSL 30 s, four of them without an answer (tcp_timer.h)"),
            TcpState.FIN_WAIT_2: Timeout(60.0, "net.inet.tcp.finwait2_timeout (tcp(4))"),
            TcpState.TIME_WAIT: Timeout(60.0, "2 * net.inet.tcp.msl, 30 s (tcp(4))"),
        },
    ),
    "macos": Profile(
        30.0,
        {
            TcpState.SYN_SENT: Timeout(75.0, "net.inet.tcp.keepinit 75000 ms"),
            TcpState.SYN_RECEIVED: Timeout(75.0, "net.inet.tcp.keepinit 75000 ms"),
            **_orphan(60.0, "four times net.inet.tcp.msl, 15000 ms"),
            TcpState.FIN_WAIT_2: Timeout(60.0, "net.inet.tcp.fin_timeout 60000 ms"),
            TcpState.TIME_WAIT: Timeout(30.0, "2 * net.inet.tcp.msl, 15000 ms"),
        },
    ),
    "rfc": Profile(
        240.0,
        {
            TcpState.SYN_SENT: Timeout(180.0, "R2 for a SYN, at least 3 minutes (RFC 9293, 3.8.3)"),
            TcpState.SYN_RECEIVED: Timeout(180.0, "R2 for a SYN, at least 3 minutes (RFC 9293, 3.8.3)"),
            **_orphan(100.0, "R2, at least 100 s (RFC 9293, 3.8.3)"),
            TcpState.TIME_WAIT: Timeout(240.0, "2 MSL with an MSL of 2 minutes (RFC 9293, 3.4.2)"),
        },
    ),
}


def compile_timeouts(
    profile: str = "linux", overrides: Mapping[TcpState, float | None] | None = None
) -> NDArray[np.int64]:
    """Return the timer of each state in nanoseconds, NO_TIMEOUT_NS where there is none: int64 of shape (11,).

    Args:
        profile: a key of PROFILES.
        overrides: seconds by state that replace the profile's; None takes the timer away.

    Raises:
        KeyError: there is no such profile.
    """
    timeouts = np.full(len(TcpState), NO_TIMEOUT_NS, dtype=np.int64)
    for state, timeout in PROFILES[profile].states.items():
        timeouts[state] = round(timeout.timeout_s * 1e9)
    for state, seconds in (overrides or {}).items():
        timeouts[state] = NO_TIMEOUT_NS if seconds is None else round(seconds * 1e9)
    return timeouts
