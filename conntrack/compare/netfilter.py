"""The form of `conntrack -L`, with or without -o extended, and of /proc/net/nf_conntrack, which is the same.

One line an entry: protocol, number, seconds to live, state, the tuple of who opened it, that of the answers, flags.
Read nf_conntrack_standalone.c (ct_seq_show) and conntrack(8).
"""

from __future__ import annotations

from conntrack.compare.model import Endpoint, FirewallEntry, Snapshot
from conntrack.compare.ss import canonical_ip, parse_port

__all__ = ["STATES", "is_netfilter", "take_netfilter"]

STATES = (
    "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE",
    "SYN_SENT2",
)  # fmt: skip
"""tcp_conntrack_names of nf_conntrack_proto_tcp.c."""
_TUPLE = ("src", "dst", "sport", "dport")


def is_netfilter(line: str) -> bool:
    """Return whether a file with this first line has this form."""
    return " src=" in line and " dst=" in line


def take_netfilter(line: str, snapshot: Snapshot) -> None:
    """Add what a line says to the snapshot."""
    words = line.split()
    if "tcp" not in words[:3]:
        snapshot.skip("not TCP" if is_netfilter(line) else "no line of conntrack -L")
        return
    head = words[words.index("tcp") + 1 :][:3]
    if len(head) < 3 or not head[1].isdigit() or len(head[1]) > 10 or head[2] not in STATES:
        snapshot.skip("no state of netfilter")
        return
    values: dict[str, list[str]] = {key: [] for key in _TUPLE}
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in values:
            values[key].append(value)
    ends = [_endpoints(values, number) for number in (0, 1)]
    if ends[0] is None or ends[1] is None:
        snapshot.skip("an entry without its two tuples")
        return
    snapshot.entries.append(FirewallEntry(ends[0], ends[1], head[2], int(head[1]), "[UNREPLIED]" in words))


def _endpoints(values: dict[str, list[str]], number: int) -> tuple[Endpoint, Endpoint] | None:
    if any(len(values[key]) != 2 for key in _TUPLE):
        return None
    source, target = (canonical_ip(values[key][number]) for key in ("src", "dst"))
    source_port, target_port = (parse_port(values[key][number]) for key in ("sport", "dport"))
    if source is None or target is None or source_port is None or target_port is None:
        return None
    return Endpoint(source, source_port), Endpoint(target, target_port)
