"""What the Linux kernel calls things: its numbers of the TCP states and timers, in the words of RFC 9293.

Data only, for those who read its tables (netlink.py, procfs.py), and where its settings lie.
"""

from __future__ import annotations

from pathlib import Path

from conntrack.states import TcpState

__all__ = ["KERNEL_STATES", "TIMERS", "TIME_WAIT_S", "sysctl"]

KERNEL_STATES = {
    1: TcpState.ESTABLISHED,
    2: TcpState.SYN_SENT,
    3: TcpState.SYN_RECEIVED,
    4: TcpState.FIN_WAIT_1,
    5: TcpState.FIN_WAIT_2,
    6: TcpState.TIME_WAIT,
    7: TcpState.CLOSED,
    8: TcpState.CLOSE_WAIT,
    9: TcpState.LAST_ACK,
    10: TcpState.LISTEN,
    11: TcpState.CLOSING,
    12: TcpState.SYN_RECEIVED,
}
"""include/net/tcp_states.h; 12 is a request that is no socket yet."""

TIMERS = ("none", "retransmission", "keep_alive", "time_wait", "zero_window_probe")
"""By number: idiag_timer of linux/inet_diag.h (sock_diag(7)), timer_active of /proc/net/tcp."""

TIME_WAIT_S = 60
"""TCP_TIMEWAIT_LEN, include/net/tcp.h: fixed in Linux."""

_SYSCTLS = Path("/proc/sys")


def sysctl(name: str) -> tuple[int, ...] | None:
    """Return the numbers of a setting, e.g. "net.core.somaxconn"; None where it is not there, or not for us to read."""
    try:
        return tuple(map(int, (_SYSCTLS / name.replace(".", "/")).read_text().split()))
    except (OSError, ValueError):
        return None
