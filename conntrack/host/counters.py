"""The kernel's counters and settings: /proc/net/snmp and netstat, nf_conntrack, and the sysctls that findings need.

Reads only. What is not there, or not for us to read, is missing from the answer.
"""

from __future__ import annotations

from pathlib import Path

from conntrack.host.kernel import sysctl

__all__ = ["SETTINGS", "counters", "parse_counters", "parse_statistics", "settings"]

_NET = Path("/proc/self/net")

SETTINGS = (
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
)
"""What is read at every look."""


def settings() -> dict[str, tuple[int, ...]]:
    """Return the values of SETTINGS that can be read."""
    found = ((name, sysctl(name)) for name in SETTINGS)
    return {name: values for name, values in found if values}


def counters() -> dict[str, int]:
    """Return the counters of this network namespace: {"TcpExt.ListenDrops": 3, "nf_conntrack.drop": 0, ...}."""
    found: dict[str, int] = {}
    for name in ("snmp", "netstat"):
        found.update(parse_counters(_read(_NET / name)))
    statistics = parse_statistics(_read(_NET / "stat" / "nf_conntrack"))
    found.update({f"nf_conntrack.{key}": value for key, value in statistics.items()})
    return found


def parse_counters(text: str) -> dict[str, int]:
    """Read lines in pairs, names and values: "Tcp: RtoAlgorithm RtoMin ..." above "Tcp: 1 200 ..."."""
    found: dict[str, int] = {}
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        keys, numbers = names.split(), values.split()
        if keys[:1] != numbers[:1]:
            continue
        for key, number in zip(keys[1:], numbers[1:], strict=False):
            if number.removeprefix("-").isdecimal():
                found[f"{keys[0].rstrip(':')}.{key}"] = int(number)
    return found


def parse_statistics(text: str) -> dict[str, int]:
    """Add up the lines, one of each processor, of hexadecimal numbers below a line of names."""
    names, *lines = text.splitlines() or [""]
    keys = names.split()
    found = dict.fromkeys(keys, 0)
    for line in lines:
        try:
            numbers = [int(word, 16) for word in line.split()]
        except ValueError:
            continue
        for key, number in zip(keys, numbers, strict=False):
            found[key] += number
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
