"""retransmissions and reset_storm on a host: how much of what it sends is sent again, how many connections end by RST.

From the counters of RFC 4022 (tcpRetransSegs, tcpOutSegs, tcpEstabResets, ...) as /proc/net/snmp has them, between two
looks; the sockets tell towards whom.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.addresses import ip_text
from conntrack.detect.finding import Finding
from conntrack.host.rule import Rule, shown_ids

__all__ = ["Resets", "Retransmissions"]

Rows = np.ndarray[Any, Any]

_NAMED = 5


class Retransmissions(Rule):
    """Finds a host that sends much again: info from `retransmit_ratio_min`, warning from `retransmit_warning_ratio`.

    Repeated SYNs and SYN+ACKs do not count: nobody answers them, which is another fault (a flood, a service that is
    down), and says nothing about the way.
    """

    kind = "retransmissions"

    def findings(self) -> list[Finding]:
        """Return the finding, if there is one."""
        options = self.options
        again, sent = self.grown("Tcp.RetransSegs"), self.grown("Tcp.OutSegs")
        if again is None or sent is None:
            return []
        again = max(0, again - (self.grown("TcpExt.TCPSynRetrans") or 0))
        if again + sent < options.retransmit_segments_min:
            return []
        ratio = again / (again + sent)  # OutSegs leaves out what is only sent again (RFC 4022)
        if ratio < options.retransmit_ratio_min:
            return []
        rows, added = self._sockets_that_repeat()
        finding = Finding(
            kind=self.kind,
            subject=self.last.host,
            severity="warning" if ratio >= options.retransmit_warning_ratio else "info",
            first_ts_ns=self.first.at_ts_ns,
            last_ts_ns=self.last.at_ts_ns,
            count=len(rows),
            peak=len(rows),
            evidence={
                "retransmitted": again,
                "sent": sent,
                "retransmit_ratio": round(ratio, 4),
                "observed_s": round(self.counted_s, 3),
                "timeouts": self.grown("TcpExt.TCPTimeouts"),
                "fast_retransmits": self.grown("TcpExt.TCPFastRetrans"),
                "lost_retransmits": self.grown("TcpExt.TCPLostRetransmit"),
                "syn_retransmits": self.grown("TcpExt.TCPSynRetrans"),
                "spurious": self.grown("TcpExt.TCPDSACKRecv"),
                "top_peers": _peers(rows, added),
            },
            caveats=("Connections that ended between the looks count in the ratio, but not towards a peer.",),
            next_steps=(
                "ss -tino state established | grep -B1 retrans (which connections, and their rtt)",
                "nstat -az TcpRetransSegs TcpOutSegs TcpExtTCPTimeouts TcpExtTCPSynRetrans",
                "ip -s -s link; ethtool -S DEVICE | grep -i -e err -e drop (does this host lose them itself?)",
                "Capture it, and look at both directions: tcpdump -w retrans.pcap host PEER; ctrack retrans.pcap",
                "sysctl net.ipv4.tcp_sack net.ipv4.tcp_congestion_control",
            ),
            flow_ids=shown_ids(rows),
        )
        return [finding]

    def _sockets_that_repeat(self) -> tuple[Rows, Rows]:
        """Return the sockets of the last look that repeated something since the first, and how much."""
        before, after = self.first.rows, self.last.rows
        after = after[(after["flow_id"] != 0) & (after["retransmits"] > 0)]
        order = np.argsort(before["flow_id"], kind="stable")
        known = before["flow_id"][order]
        at = np.searchsorted(known, after["flow_id"])
        found = (at < len(known)) & (known[np.minimum(at, len(known) - 1)] == after["flow_id"] if len(known) else False)
        had = np.zeros(len(after), np.int64)
        had[found] = np.maximum(before["retransmits"][order[at[found]]], 0)
        added = after["retransmits"] - had
        return after[added > 0], added[added > 0]


class Resets(Rule):
    """Finds a host on which open connections are reset: as many as `reset_storm_count` in `reset_storm_window_s`.

    Warning where they are `reset_storm_ratio_min` of the connections that were opened meanwhile; else info.
    """

    kind = "reset_storm"

    def findings(self) -> list[Finding]:
        """Return the finding, if there is one."""
        options = self.options
        resets, seconds = self.grown("Tcp.EstabResets"), self.counted_s
        if not resets or seconds <= 0:
            return []
        windows = max(seconds / options.reset_storm_window_s, 1.0)
        if resets < options.reset_storm_count * windows:
            return []
        opened = (self.grown("Tcp.ActiveOpens") or 0) + (self.grown("Tcp.PassiveOpens") or 0)
        ratio = resets / max(opened, 1)
        own = sum(self.grown(f"TcpExt.{name}") or 0 for name in ("TCPAbortOnData", "TCPAbortOnClose"))
        finding = Finding(
            kind=self.kind,
            subject=self.last.host,
            severity="warning" if ratio >= options.reset_storm_ratio_min else "info",
            first_ts_ns=self.first.at_ts_ns,
            last_ts_ns=self.last.at_ts_ns,
            count=resets,
            peak=resets,
            evidence={
                "resets": resets,
                "rate_per_s": round(resets / seconds, 1),
                "window_s": round(seconds, 3),
                "opened": opened,
                "resets_to_opened": round(ratio, 4),
                "aborted_by_programs_here": own,
                "resets_sent": self.grown("Tcp.OutRsts"),
                "keep_alives_failed": self.grown("TcpExt.TCPAbortOnTimeout"),
            },
            caveats=("A program that closes with data unread, or with SO_LINGER 0, resets on purpose or by mistake.",),
            next_steps=(
                "nstat -az TcpEstabResets TcpOutRsts TcpExtTCPAbortOnData TcpExtTCPAbortOnClose",
                "Who sends them: tcpdump -n 'tcp[tcpflags] & tcp-rst != 0'; ctrack on a capture names the service",
                "sysctl net.ipv4.tcp_abort_on_overflow (1 resets what the accept queue has no room for)",
            ),
        )
        return [finding]


def _peers(rows: Rows, added: Rows) -> dict[str, int]:
    """Return the remote addresses towards which most was repeated, with how much."""
    if not len(rows):
        return {}
    ends = np.ascontiguousarray(np.column_stack([rows["remote_ip"], rows["ip_version"]])).view("V17").reshape(-1)
    distinct, which = np.unique(ends, return_inverse=True)
    sums = np.zeros(len(distinct), np.int64)
    np.add.at(sums, which, added)
    top = np.argsort(-sums, kind="stable")[:_NAMED]
    return {ip_text(distinct[at].tobytes()[:16], distinct[at].tobytes()[16]): int(sums[at]) for at in top}
