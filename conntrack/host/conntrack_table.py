"""conntrack_table_full on a host: how full netfilter's table of connections is, where it is loaded.

With the table full the kernel drops every packet of a new connection, on the host and through it
("nf_conntrack: table full, dropping packet"), and TCP sees nothing but silence.
"""

from __future__ import annotations

from conntrack.detect.finding import Finding
from conntrack.host.rule import Rule

__all__ = ["ConntrackTable"]

_COUNT, _MAX = "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"


class ConntrackTable(Rule):
    """Finds a table that fills up: warning from `conntrack_warning_ratio`, critical from `conntrack_critical_ratio`.

    Critical as well where it dropped packets between the looks, however full it is now.
    """

    kind = "conntrack_table_full"

    def findings(self) -> list[Finding]:
        """Return the finding, if there is one."""
        last, options = self.last, self.options
        entries, limit = last.setting(_COUNT), last.setting(_MAX)
        if entries is None or not limit:  # not loaded; a limit of 0 is none
            return []
        dropped = (self.grown("nf_conntrack.drop") or 0) + (self.grown("nf_conntrack.early_drop") or 0)
        ratio = entries / limit
        if ratio < options.conntrack_warning_ratio and not dropped:
            return []
        finding = Finding(
            kind=self.kind,
            subject=last.host,
            severity="critical" if dropped or ratio >= options.conntrack_critical_ratio else "warning",
            first_ts_ns=self.first.at_ts_ns,
            last_ts_ns=last.at_ts_ns,
            count=entries,
            peak=entries,
            evidence={
                "entries": entries,
                "limit": limit,
                "limit_ratio": round(ratio, 4),
                "dropped": dropped,
                "insert_failed": self.grown("nf_conntrack.insert_failed"),
            },
            caveats=("The table holds UDP and forwarded connections too, which are no sockets of this host.",),
            next_steps=(
                f"sysctl {_COUNT} {_MAX}; conntrack -S (drop, early_drop, insert_failed)",
                "conntrack -L | awk '{print $1, $4}' | sort | uniq -c | sort -rn | head (which protocols and states)",
                f"sysctl -w {_MAX}=NUMBER, and net.netfilter.nf_conntrack_buckets with it (about 320 bytes an entry)",
                "sysctl net.netfilter.nf_conntrack_tcp_timeout_established (432000 s by default: 5 days of silence)",
                "Leave out what needs no tracking: nft ... notrack",
            ),
        )
        return [finding]
