"""What each number of a report means, and what it does not mean, by its name in the data. Words only; decides nothing.

Evidence that is not here is shown without an explanation; tests/unit/test_report_html.py asks for every name that the
detectors of today use.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["EVIDENCE", "GENERAL", "SERVICES", "SIGNS", "STATES", "TABLE", "Term"]


class Term(NamedTuple):
    """A name, what it means, and what it must not be taken for (which may be empty)."""

    name: str
    means: str
    but: str = ""


GENERAL = (
    Term(
        "connection",
        "one life of a pair of endpoints, from its first segment in the capture to its end; a new SYN on the same "
        "ports after that is another one.",
        "Not a request: one connection may carry thousands.",
    ),
    Term(
        "client, server",
        "the end that opened the connection and the end that listened, as the handshake shows.",
        "Where the capture has no handshake it is a guess by the ports, and the connection is marked midstream.",
    ),
    Term(
        "finding",
        "something wrong, or worth knowing, about one service or host: since when, how many, and on what evidence.",
        "Its severity says how much is affected, not whose fault it is; 'But' says what would weaken it.",
    ),
    Term("count and peak", "all connections concerned, and the most of them at one instant."),
    Term(
        "flow_id",
        "the number of the connection's first frame in the capture, the same in every run; 'ctrack explain CAPTURE "
        "--flow ID' tells the connection segment by segment.",
    ),
    Term(
        "time",
        "when the capturing host saw the segment, in UTC.",
        "Not when an end sent it, nor when the other end took it: the way between lies in between.",
    ),
    Term(
        "skipped",
        "frames that are no TCP, or whose TCP header the capture does not hold, by reason.",
        "What the capturing host dropped before it was written is in no capture and not in this number.",
    ),
)

STATES = (
    Term(
        "state",
        "the RFC 9293 state of that end of the connection, worked out from the segments: what ss or netstat on that "
        "host would have shown.",
        "A listening socket itself is not counted, and LISTEN here means that a SYN was never answered.",
    ),
    Term("SYN_SENT", "the client has sent its SYN and no answer to it is in the capture."),
    Term(
        "SYN_RECEIVED",
        "half open: the server has answered, the client's ACK has not come.",
        "One alone is a lost packet or a slow client; only many at once are a flood.",
    ),
    Term("ESTABLISHED", "open both ways.", "It says nothing of whether anybody still uses it."),
    Term("FIN_WAIT_1, FIN_WAIT_2", "this end has closed; its FIN is on the way, or taken and the peer is still open."),
    Term(
        "CLOSE_WAIT",
        "the peer has closed and this end's program has not: it is the program's turn, and no timer ends it.",
        "Short ones are normal, and a half-close on purpose looks the same while data still flows.",
    ),
    Term("LAST_ACK, CLOSING", "both ends have closed; the last acknowledgement is awaited."),
    Term(
        "TIME_WAIT",
        "the end that closed first keeps its ports for 60 s on Linux, so that late segments harm nobody.",
        "It is no leak and uses no descriptor; only the ports of a client can run out.",
    ),
    Term(
        "evidence of a state",
        "seen: the segments that lead to it are in the capture; inferred: a later one proves it; assumed: the capture "
        "began midway; expired: a timer of the host ended it, by its usual length.",
    ),
)

SERVICES = (
    Term("connections", "all connections to this address and port.", "Not clients: one client may have many."),
    Term("established", "those whose handshake was completed."),
    Term("refused", "SYNs answered by a RST: nobody listens there, or a firewall says so."),
    Term("reset", "connections that a RST ended after they were open.", "Some programs close this way on purpose."),
    Term(
        "unanswered",
        "SYNs that nothing came back for.",
        "A capture that lacks one direction makes every connection look so.",
    ),
    Term(
        "handshake",
        "the median time from the SYN to the ACK of the SYN+ACK, as seen where the capture was made.",
        "Captured at the server it holds the whole way to the client and hardly any of the server's own. It is the "
        "kernel's answer, not the program's.",
    ),
    Term("in the table", "how many of the service's connections the table of connections has; the others are counted."),
)

TABLE = (
    Term(
        "tag",
        "the network that its first segment was on: VLAN ids, or the identifier of the innermost tunnel.",
        "Two networks with the same addresses are told apart by it only with --tag-in-key.",
    ),
    Term(
        "start, duration", "time of the first segment, and from the first to the last.", "Silence after it is not in."
    ),
    Term(
        "bytes → and ←",
        "payload that the client sent, and that the server sent, retransmissions included.",
        "Headers are not in it.",
    ),
    Term("segments", "what both ends sent, with and without payload."),
    Term(
        "retransmitted",
        "segments that carry nothing new.",
        "Lost before the capture point, or after it, or only slow to be acknowledged: the capture cannot tell.",
    ),
    Term("handshake", "SYN to the ACK of the SYN+ACK; empty where one of them is missing or came more than once."),
    Term(
        "ended",
        "fin: both ends closed; reset; refused; timeout: the hosts' timers ended it; replaced: a new connection took "
        "its ports; evicted: given up for want of memory; open at end.",
        "Open at the end of the capture says nothing of what came after.",
    ),
)

SIGNS = {
    "unanswered": "nothing came back for its SYN",
    "refused": "its SYN was answered by a RST",
    "half open": "the server answered and no ACK of that came",
    "reset": "a RST ended it",
    "timed out": "the hosts' timers ended it, not its ends",
    "close wait": "one end has not closed although the other has",
    "retransmits": "segments came that carried nothing new",
    "zero window": "an end announced that it can take no more",
    "accept queue": "the server repeated its SYN+ACK after the ACK of it: the program does not accept fast enough",
    "capture loss": "data was acknowledged that is not in the capture",
}
"""Each sign of chosen.SIGNS. Marks of what to look at first, no findings: on a busy path most of them are normal."""

EVIDENCE = {
    "abandoned": Term(
        "never completed", "handshakes that the server answered and the client never completed, nor refused."
    ),
    "affected_ratio": Term("share affected", "share of the connections meanwhile that this happened to."),
    "alike_ratio": Term(
        "most common SYN fields",
        "the commonest value of each field of those SYNs (TTL, window, ...) and its share of a sample; for isn the "
        "share of the commonest initial sequence number.",
        "SYNs all alike come from one program; honest hosts of one kind are alike too, but never in the initial "
        "sequence number.",
    ),
    "answered_before": Term(
        "answered earlier",
        "attempts that the service had answered earlier in the capture: with some it was there, with none perhaps "
        "never.",
    ),
    "answered_once_ratio": Term(
        "SYN+ACK sent only once",
        "share of the abandoned ones whose SYN+ACK came only once; near 100 % the server answers with SYN cookies.",
    ),
    "attempts": Term(
        "connection attempts", "connections that were asked for, with a SYN or answered by a SYN+ACK, in that time."
    ),
    "backlog": Term(
        "assumed backlog",
        "half-open connections that the service can hold: an option, by default what Linux allows at most.",
        "The capture cannot show it; the service may have asked for less.",
    ),
    "backlog_ratio": Term("backlog filled", "the half-open peak against that backlog."),
    "cause": Term(
        "likely cause", "application leak: it talked and never closed; accept starvation: it never sent a byte."
    ),
    "closed_late": Term("closed late", "stayed as long in CLOSE_WAIT and were closed in the end."),
    "completion_ratio": Term(
        "attempts that completed",
        "share of the attempts that became connections, in that time.",
        "Low is a flood or a service that is down: the other numbers tell which.",
    ),
    "connections": Term("connections in all", "all connections of the capture, to compare with."),
    "copies": Term(
        "copied frames",
        "frames that the capture has a second time, within a few milliseconds; they are counted nowhere else.",
    ),
    "copies_ratio": Term("share of all frames", "share of all TCP frames that are such copies."),
    "counted_every_s": Term("counted every", "how fine the count over time is; peaks are right to within it."),
    "direction": Term("pattern", "many ports of one host, or one port on many hosts."),
    "distinct_clients": Term(
        "different clients", "addresses that it happened to.", "One address may be many clients behind a proxy or NAT."
    ),
    "distinct_clients_by": Term("different clients, how", "exact, or how it was estimated."),
    "distinct_peers": Term("different peers", "addresses at the other end."),
    "distinct_sources": Term(
        "different sources",
        "addresses of all attempts on it that failed, in the whole capture.",
        "There may be more of them than attempts in the time of the flood. Forged ones are not hosts.",
    ),
    "distinct_sources_by": Term("different sources, how", "exact, or how it was estimated."),
    "ephemeral_ports": Term(
        "ports to choose from",
        "ports that a client has for one service: an option, Linux's default; fewer where it shows that it has fewer.",
    ),
    "failed_meanwhile": Term(
        "failed meanwhile", "other attempts that came to nothing between the first and the last of these."
    ),
    "fins": Term("FINs without an ACK", "FINs that those ends sent, repetitions included, and nobody acknowledged."),
    "gap_bytes": Term(
        "missing payload", "payload that was acknowledged, so that it arrived, but is not in the capture."
    ),
    "gap_ratio": Term(
        "share of all payload", "share of all payload that this is.", "It is the capture that lost it, not the network."
    ),
    "given_up": Term("given up by a RST", "targets that answered, and the client ended it with a RST: it only looked."),
    "growth_per_min": Term("growth", "new leaking ends a minute, from the first to the end of the capture."),
    "half_open_peak": Term("half-open at the peak", "most half-open connections at one instant."),
    "half_open_peak_ts_ns": Term("half-open peak at", "when that was, to within the step of the count."),
    "honest_delayed_or_refused_ratio": Term(
        "honest clients harmed",
        "of the clients that went on and got or were refused their connection, how many had to wait or were refused.",
        "It is the harm done; who gave up after one SYN cannot be told from the flood.",
    ),
    "hosts": Term("hosts tried", "addresses that were tried."),
    "kernel_memory_bytes": Term("kernel memory", "what the server's kernel holds for the peak: 168 bytes each."),
    "late_meanwhile": Term("late meanwhile", "other attempts that had to repeat something until they were through."),
    "leaking": Term(
        "still in CLOSE_WAIT", "ends in CLOSE_WAIT as the capture ends, silent there for a minute or more."
    ),
    "median_age_s": Term("median age", "half of them have been there for longer."),
    "most_tried_host": Term("most tried host", "the address with the most ports tried."),
    "most_tried_ports": Term("most tried ports", "ports, the most tried first."),
    "never_sent_ratio": Term("never sent a byte", "share of them that never sent a byte: never accepted, it seems."),
    "never_served": Term(
        "never served", "those on which the server never took or sent anything: the client believed to be connected."
    ),
    "occupancy_ratio": Term("ports in TIME_WAIT", "ports in TIME_WAIT at the peak against the ephemeral ports."),
    "oldest_s": Term("oldest", "the longest time in CLOSE_WAIT at the end of the capture."),
    "one_sided_ratio": Term("share of connections", "share of the connections that the capture has one direction of."),
    "only_from_client": Term("only the client's side", "those of which it has what the client sent."),
    "only_from_server": Term("only the server's side", "those of which it has what the server sent."),
    "orphans_max": Term(
        "assumed orphan limit",
        "sockets without a program that a host keeps: an option, net.ipv4.tcp_max_orphans.",
        "The capture cannot show what it is on that host.",
    ),
    "orphans_ratio": Term("orphan limit used", "the peak against that number."),
    "peak_ts_ns": Term("peak at", "when the most were there at once."),
    "perhaps_lost": Term("perhaps lost", "so many ends of connections the capture may lack, to judge by what it lost."),
    "ports": Term("ports", "the ports it is about, or how many."),
    "rate_before_peak_per_s": Term("rate before the peak", "closes a second in the minute before the peak."),
    "ratio_of_service": Term("share of the service", "share of the service's connections that leak."),
    "refused": Term("refused by a RST", "targets that answered with a RST: nobody listens there."),
    "refused_ratio": Term("share refused", "share of the attempts from the first refusal to the last."),
    "repeated": Term(
        "clients that retried", "those whose client sent its SYN more than once, as every honest one does."
    ),
    "reset_by_client": Term("reset by the client", "those that the client's RST ended."),
    "reset_by_server": Term("reset by the server", "those that the server's RST ended."),
    "reset_ratio": Term("share of the service", "share of the service's connections."),
    "reused": Term("ports reused early", "connections that took ports still in TIME_WAIT."),
    "reused_after_retry": Term("reused after a retry", "those that had to send their SYN more than once for it."),
    "reused_by_rfc6191": Term("reused as RFC 6191 lets", "those that RFC 6191 allows: a newer timestamp or number."),
    "service": Term("toward the service", "the service that the ports are used for."),
    "service_connections": Term("connections in all", "all connections of the service in the capture."),
    "services": Term("services affected", "ports of the host that this is true of."),
    "shape": Term(
        "kind of flood",
        "fast: many SYNs a second; slow: few, and they stay; syn cookies: each answered once and forgotten; all syn: "
        "the server does not answer, or its answers are not in the capture.",
    ),
    "side": Term("which end", "which end of the connections it is about."),
    "spoke_after_fin": Term("sent after peer's FIN", "ends that still sent data after the peer's FIN."),
    "stalled_ratio": Term("share of the service", "share of the service's connections that stalled."),
    "sustainable_per_s": Term("rate the ports allow", "new connections a second that the ports allow for ever."),
    "syn_onto_stale": Term(
        "SYNs onto stale ones", "new SYNs that met a connection left in CLOSE_WAIT on the same ports."
    ),
    "syn_rate_peak_per_s": Term("attempts at the peak", "most attempts in one second."),
    "synack_repeats_after_ack": Term(
        "SYN+ACKs after the ACK",
        "SYN+ACKs that the server sent again although the client's ACK had been seen: it dropped that ACK, for its "
        "accept queue was full.",
        "An ACK lost behind the capture point looks the same, one at a time.",
    ),
    "synack_retransmissions": Term("SYN+ACKs repeated", "SYN+ACKs that the server sent again for want of an ACK."),
    "syns": Term("SYNs in all", "SYNs sent in all, repetitions included."),
    "targets": Term("targets tried", "different pairs of host and port that were tried in vain."),
    "targets_by": Term("targets tried, how", "exact, or from which part of them it was estimated."),
    "top_peers": Term("most of them from", "the other ends with the most of them."),
    "top_services": Term("most of them at", "the services with the most of it."),
    "unanswered": Term("SYNs unanswered", "SYNs that the server never answered."),
    "unanswered_once": Term("tried only once", "those never repeated: no TCP gives up after one SYN."),
    "unanswered_ratio": Term(
        "share unanswered", "share of the attempts, from the first without an answer to the last."
    ),
    "waited_at_least_s": Term(
        "waited at least", "each of them waited this long or longer for the peer's FIN: an option."
    ),
    "window_s": Term("counted within", "length of time in which the most of them came: an option."),
    "zero_window_segments": Term(
        "zero-window segments",
        "segments that said so, probes and their answers included.",
        "A short one is flow control at work; many are a program that does not read.",
    ),
    "waiting_before": Term(
        "waiting unserved before", "connections never served when the first attempt was turned away."
    ),
}
"""Evidence of findings, by its name in the JSON report (before `_ts_ns` becomes `_ts`). The name of a term is what
every report for people calls it: short enough for a column of 80, and clear without having read anything else."""
