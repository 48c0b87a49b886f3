"""What each number of `ctrack host` means, and what it must not be taken for, by its name in the data. Words only.

A capture's evidence has names in common with this, and means something else by some: there a limit is assumed, here the
kernel tells it. So each has a glossary of its own (glossary.py is the capture's).
"""

from __future__ import annotations

from conntrack.report.glossary import Term

__all__ = ["HOST_EVIDENCE"]

_SINCE = "since the first look"

HOST_EVIDENCE = {
    "abandoned": Term("SYN+ACK repeated", "half-open ones whose SYN+ACK was sent again: mostly nobody answers it."),
    "aborted_by_programs_here": Term(
        "reset by programs here", f"closed by programs of this host with data unread, or on purpose, {_SINCE}."
    ),
    "accept_queue": Term("waiting for accept()", "connections that are open and that the program has not accepted."),
    "accept_queue_peak": Term("most waiting", "the most of them at a look."),
    "backlog": Term("limit of the queue", "what the program gave listen(), as far as net.core.somaxconn allows."),
    "backlog_ratio": Term("backlog filled", "the half-open connections against that limit."),
    "cause": Term(
        "likely cause", "application leak: a program holds them; accept starvation: no program has accepted them."
    ),
    "completion_ratio": Term(
        "handshakes completed",
        "share of the handshakes that are completed, by the host's counter of accepted connections.",
        "It counts all services of the host: a busy one beside this makes the share larger.",
    ),
    "descriptors": Term("descriptors open", "files that the first of the processes has open."),
    "descriptors_max": Term("descriptors allowed", "how many it may have open (RLIMIT_NOFILE)."),
    "distinct_peers": Term("different peers", "addresses at the other end."),
    "distinct_sources": Term(
        "different sources", "addresses that the SYNs came from.", "Forged ones cost an attacker nothing."
    ),
    "dropped": Term("dropped", f"what found no room, {_SINCE}."),
    "dropped_since_listen": Term("dropped since listen()", "what the listening sockets dropped in all their time."),
    "entries": Term("entries", "connections in netfilter's table, UDP and forwarded ones too."),
    "ephemeral_ports": Term("ports to choose from", "net.ipv4.ip_local_port_range."),
    "fast_retransmits": Term("fast retransmits", "segments sent again because of duplicate ACKs."),
    "fins_repeated_most": Term("FINs repeated", "how often the most patient of them repeated its FIN."),
    "full_at_looks": Term("full at", "at how many of the looks the queue was full."),
    "growth": Term("grown by", "how many more there are than at the first look, or in the snapshot of --since."),
    "growth_per_min": Term("growth", "the same, a minute."),
    "half_open": Term("half-open now", "connections in SYN_RECEIVED."),
    "half_open_peak": Term("half-open at the peak", "the most of them at a look."),
    "half_open_peak_ts_ns": Term("half-open peak at", "when that was."),
    "insert_failed": Term("inserts failed", f"entries that another packet had made already, {_SINCE}."),
    "keep_alives_failed": Term("given up by a timer", f"connections that keep-alive or a timeout ended, {_SINCE}."),
    "leaking": Term("still in CLOSE_WAIT", "sockets in it for as long as the threshold says, or longer."),
    "limit": Term("limit", "how many there may be, by the sysctl."),
    "limit_ratio": Term("limit used", "how much of the limit is taken."),
    "listen_drops": Term("ListenDrops", f"SYNs and ACKs that listening sockets of the host dropped, {_SINCE}."),
    "listen_overflows": Term("ListenOverflows", f"those for which the accept queue had no room, {_SINCE}."),
    "longest_silence_s": Term("longest silence", "how long ago the last ACK of the most silent of them came."),
    "lost_retransmits": Term("retransmits lost", "segments sent again that were lost again."),
    "median_age_s": Term("median age", "half of them have been there for longer."),
    "not_accepted_ratio": Term("never accepted", "share of them that no program has accepted."),
    "observed_s": Term("observed", "for how long counters and growth were watched."),
    "occupancy_ratio": Term("ports in TIME_WAIT", "TIME_WAIT towards that service against the ports there are."),
    "oldest_s": Term("oldest", "the longest time that one of them has been in that state."),
    "opened": Term("opened meanwhile", f"connections opened, by this host and to it, {_SINCE}."),
    "orphaned": Term("orphans among them", "those that no process holds any more."),
    "orphans": Term("orphans of the host", "sockets without a process that still close."),
    "orphans_max": Term("orphan limit", "net.ipv4.tcp_max_orphans."),
    "orphans_ratio": Term("orphan limit used", "the orphans against that number."),
    "other_sockets_there": Term("other sockets there", "sockets towards that service in other states: ports as well."),
    "overflows": Term("overflows", f"TIME_WAIT that the kernel had no room for, {_SINCE}."),
    "processes": Term("processes", "command/pid of those that hold most of the sockets, and how many."),
    "rate_per_s": Term("rate", "how many a second."),
    "ratio_of_service": Term("share of the service", "share of the service's connections."),
    "resets": Term("connections reset", f"open connections that a RST ended, {_SINCE}."),
    "resets_sent": Term("RSTs sent", f"by this host, to SYNs for closed ports too, {_SINCE}."),
    "resets_to_opened": Term("resets to opened", "connections reset for each one opened meanwhile."),
    "retransmit_ratio": Term("share sent again", "segments sent again against all that were sent; SYNs left out."),
    "retransmitted": Term("segments sent again", f"without SYNs and SYN+ACKs, {_SINCE}."),
    "sent": Term("segments sent", f"without those sent again, {_SINCE}."),
    "service": Term("toward the service", "the service that the ports are used for."),
    "service_connections": Term("connections in all", "all connections of the service now."),
    "shape": Term(
        "kind of flood", "half open: they fill the backlog; syn cookies: the kernel answers without keeping."
    ),
    "side": Term("which end", "whether this host is the server of the connections or opened them."),
    "spurious": Term("sent again in vain", "segments that the peer says it had already (D-SACK)."),
    "syn_cookies_returned": Term("SYN cookies returned", f"handshakes completed by a cookie, {_SINCE}."),
    "syn_cookies_sent": Term("SYN cookies sent", f"SYN+ACKs that the kernel keeps nothing of, {_SINCE}."),
    "syn_cookies_setting": Term(
        "tcp_syncookies", "net.ipv4.tcp_syncookies: 0 never, 1 when the backlog is full, 2 always."
    ),
    "syn_retransmits": Term("SYNs sent again", "SYNs and SYN+ACKs, which the share above leaves out."),
    "syns_dropped": Term("SYNs dropped", f"for want of room in the backlog, {_SINCE}."),
    "tcp_tw_reuse": Term(
        "tcp_tw_reuse", "net.ipv4.tcp_tw_reuse: 1 lets connect() take such ports again, 2 on loopback."
    ),
    "time_wait": Term("in TIME_WAIT", "sockets in it now."),
    "timeouts": Term("timeouts", f"times that a retransmission timer ran out, {_SINCE}."),
    "top_peers": Term("most of them from", "the commonest addresses at the other end, and how many."),
    "top_sources": Term("most of them from", "the commonest addresses that the SYNs came from, and how many."),
    "unit": Term("unit", "the systemd unit or the container that most of them are of."),
    "waiting": Term("waiting", "ends that wait."),
    "window_s": Term("observed", "for how long it was watched."),
}
"""Every name of evidence that a rule of conntrack/host gives; tests/unit/test_host_jsonschema.py asks for each."""
