"""The first sentence of a report: what is wrong, where, how much of it and when; or that nothing is.

Owns what each kind of finding is called in a sentence. Evidence is asked for by name and may be missing; a kind that is
not known here still gets a true sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from conntrack.detect.finding import SEVERITIES, Finding
from conntrack.report.format import bytes_text, clock, count, duration, percent
from conntrack.report.model import Report

__all__ = ["sentence", "verdict"]


def verdict(report: Report, *, epoch: bool = False) -> str:
    """Return the sentence for the worst finding, how many more there are, and what weakens it all."""
    sentences = [_outcome(report, epoch)]
    if more := report.findings[1:]:
        severities = Counter(finding.severity for finding in more)
        listed = [f"{severities[name]} {name}" for name in reversed(SEVERITIES) if severities[name]]
        how_bad = ", ".join(listed) if len(listed) > 1 else more[0].severity
        sentences.append(f"{count(len(more), 'more finding')} ({how_bad}).")
    if report.capture.faults:
        sentences.append("The input is damaged: this is what came before the damage.")
    if report.capture.interrupted:
        sentences.append("Interrupted: this is what was read until then.")
    return " ".join(sentences)


def _outcome(report: Report, epoch: bool) -> str:
    capture = report.capture
    if report.findings:
        worst = report.findings[0]
        told = sentence(worst, epoch=epoch)
        if worst.severity != "info":
            return f"{told[:1].upper()}{told[1:]}"
        return f"Nothing alarming in {count(report.connections.total, 'connection')}. Worth knowing: {told}"
    if not capture.packets:
        return "No packets in this capture."
    if not report.connections.total:
        return f"No TCP connections in this capture ({count(capture.packets, 'packet')})."
    return f"No fault found in {count(report.connections.total, 'connection')}."


def sentence(finding: Finding, *, epoch: bool = False) -> str:
    """Return what is wrong in one sentence, which begins with the subject."""
    return _SENTENCES.get(finding.kind, _any_kind)(finding, epoch)


def _syn_flood(finding: Finding, epoch: bool) -> str:
    evidence = finding.evidence
    shape = evidence.get("shape")
    flooded = f"{finding.subject} is under a {'slow ' if shape == 'slow' else ''}SYN flood"
    if shape == "all_syn":
        return f"{flooded}: {count(evidence.get('unanswered', finding.count), 'SYN')} without an answer."
    half_open = count(evidence.get("half_open_peak", finding.peak), "half-open connection")
    peak_ts_ns = evidence.get("half_open_peak_ts_ns")
    when = "" if peak_ts_ns is None else f" ({clock(peak_ts_ns, epoch=epoch)})"
    attempts, completed = evidence.get("attempts"), evidence.get("completion_ratio")
    if shape == "syn_cookies":  # the server holds nothing, so that a number of half-open connections would mislead
        left = count(evidence.get("abandoned", finding.count), "SYN+ACK")
        return f"{flooded}: {left} that nobody acknowledged, absorbed by SYN cookies."
    if attempts is None or completed is None:
        effect = ""
    else:
        effect = f", {percent(1 - completed)} of {count(attempts, 'attempt')} never completed"
    return f"{flooded}: {half_open} at the peak{when}{effect}."


def _close_wait_leak(finding: Finding, epoch: bool) -> str:
    evidence = finding.evidence
    leaking = evidence.get("leaking", finding.count)
    if not leaking:
        return (
            f"{finding.subject} closes late: {count(finding.count, 'connection')} stayed in CLOSE_WAIT for long, "
            f"{count(finding.peak)} of them at once."
        )
    oldest_s = evidence.get("oldest_s")
    age = "" if oldest_s is None else f", the oldest for {duration(int(oldest_s * 1e9))}"
    if evidence.get("cause") == "accept_starvation":
        left = count(leaking, "connection")
        return f"{finding.subject} seems not to accept: {left} in CLOSE_WAIT that it never sent a byte on{age}."
    end = "client " if evidence.get("side") == "client" else ""
    if finding.severity == "info" and (evidence.get("perhaps_lost") or 0) >= leaking:
        left = count(leaking, "connection")
        return (
            f"{end}{finding.subject} may leak CLOSE_WAIT, or the capture lost their FINs: {left} that stay open{age}."
        )
    process = next(iter(evidence.get("processes", ())), "")
    who = f"{end}{finding.subject} ({process})" if process else f"{end}{finding.subject}"
    return f"{who} leaks CLOSE_WAIT: {count(leaking, 'connection')} that it never closes{age}."


def _time_wait_buildup(finding: Finding, epoch: bool) -> str:
    evidence = finding.evidence
    if evidence.get("side") == "server":
        held = count(finding.peak, "connection")
        return f"{finding.subject} closes first: {held} in TIME_WAIT at the peak, which cost it memory only."
    ports = evidence.get("ephemeral_ports")
    budget = "" if ports is None else f" of {count(ports)} ports"
    service = f" towards {evidence['service']}" if "service" in evidence else ""
    runs = "runs out" if finding.severity == "critical" else "runs short"
    return f"{finding.subject} {runs} of ports{service}: {count(finding.peak)}{budget} in TIME_WAIT at the peak."


def _accept_queue_overflow(finding: Finding, epoch: bool) -> str:
    waiting, backlog = finding.evidence.get("accept_queue"), finding.evidence.get("backlog")
    if waiting is not None and backlog is not None:
        dropped = finding.evidence.get("dropped")
        lost = f", {count(dropped)} dropped meanwhile" if dropped else ""
        return f"{finding.subject} accepts too slowly: {count(waiting)} of {count(backlog)} wait to be accepted{lost}."
    never = finding.evidence.get("never_served")
    served = f", {count(never)} of them never served" if never else ""
    turned_away = count(finding.count, "handshake")
    return f"{finding.subject} accepts too slowly: {turned_away} turned away by its full accept queue{served}."


def _unanswered_syn(finding: Finding, epoch: bool) -> str:
    evidence = finding.evidence
    clients = evidence.get("distinct_clients")
    who = f" from {count(clients, 'client')}" if clients else ""
    stopped = "stopped answering" if evidence.get("answered_before") else "does not answer"
    return f"{finding.subject} {stopped}: {_of_attempts(finding)}{who} in vain."


def _connection_refused(finding: Finding, epoch: bool) -> str:
    return f"{finding.subject} refuses connections: {_of_attempts(finding)}."


def _of_attempts(finding: Finding) -> str:
    attempts = finding.evidence.get("attempts")
    if attempts is None or attempts <= finding.count:
        return count(finding.count, "attempt")
    return f"{count(finding.count)} of {count(attempts, 'attempt')}"


def _port_scan(finding: Finding, epoch: bool) -> str:
    ports, hosts = finding.evidence.get("ports"), finding.evidence.get("hosts")
    if ports is None or hosts is None:
        return f"{finding.subject} scans: {count(finding.count, 'probe')}."
    return f"{finding.subject} scans {count(ports, 'port')} of {count(hosts, 'host')}: {count(finding.count, 'probe')}."


def _reset_storm(finding: Finding, epoch: bool) -> str:
    window_s = finding.evidence.get("window_s")
    within = "" if window_s is None else f", {count(finding.peak)} of them within {duration(int(window_s * 1e9))}"
    return f"{finding.subject}: {count(finding.count, 'open connection')} reset{within}."


def _zero_window_stall(finding: Finding, epoch: bool) -> str:
    return f"{finding.subject} does not read: {count(finding.count, 'connection')} stalled by its closed window."


def _fin_wait_2_stuck(finding: Finding, epoch: bool) -> str:
    return f"{finding.subject} waits in FIN_WAIT_2: {count(finding.count, 'connection')} that the peers do not close."


def _last_ack_stuck(finding: Finding, epoch: bool) -> str:
    return f"the peers of {finding.subject} are gone: {count(finding.count, 'connection')} left in LAST_ACK."


def _one_sided_capture(finding: Finding, epoch: bool) -> str:
    return f"the capture shows {count(finding.count, 'connection')} in one direction only."


def _capture_loss(finding: Finding, epoch: bool) -> str:
    gaps, ratio = finding.evidence.get("gap_bytes"), finding.evidence.get("gap_ratio")
    lacks = "data" if gaps is None else bytes_text(gaps)
    share = "" if ratio is None else f" ({percent(ratio)})"
    return f"the capture lacks {lacks}{share} of what {count(finding.count, 'connection')} sent."


def _duplicate_frames(finding: Finding, epoch: bool) -> str:
    ratio = finding.evidence.get("copies_ratio")
    share = "" if ratio is None else f": {percent(ratio)} of all"
    return f"the capture has frames twice{share}, in {count(finding.count, 'connection')}."


def _time_wait_table_full(finding: Finding, epoch: bool) -> str:
    limit = finding.evidence.get("limit")
    of = "" if limit is None else f" of {count(limit)}"
    return f"{finding.subject} has {count(finding.count)}{of} sockets in TIME_WAIT that the kernel keeps."


def _retransmissions(finding: Finding, epoch: bool) -> str:
    ratio = finding.evidence.get("retransmit_ratio")
    share = "much" if ratio is None else percent(ratio)
    return f"{finding.subject} sends {share} of its segments again."


def _conntrack_table_full(finding: Finding, epoch: bool) -> str:
    limit = finding.evidence.get("limit")
    of = "" if limit is None else f" of {count(limit)} entries"
    return f"{finding.subject} runs out of room in nf_conntrack: {count(finding.count)}{of}."


def _any_kind(finding: Finding, epoch: bool) -> str:
    kind = finding.kind.replace("_", " ")
    return f"{finding.subject}: {kind}, {count(finding.count, 'connection')}, {count(finding.peak)} at the peak."


_SENTENCES: dict[str, Callable[[Finding, bool], str]] = {
    "syn_flood": _syn_flood,
    "close_wait_leak": _close_wait_leak,
    "time_wait_buildup": _time_wait_buildup,
    "accept_queue_overflow": _accept_queue_overflow,
    "unanswered_syn": _unanswered_syn,
    "connection_refused": _connection_refused,
    "port_scan": _port_scan,
    "reset_storm": _reset_storm,
    "zero_window_stall": _zero_window_stall,
    "fin_wait_2_stuck": _fin_wait_2_stuck,
    "last_ack_stuck": _last_ack_stuck,
    "one_sided_capture": _one_sided_capture,
    "capture_loss": _capture_loss,
    "duplicate_frames": _duplicate_frames,
    "time_wait_table_full": _time_wait_table_full,
    "retransmissions": _retransmissions,
    "conntrack_table_full": _conntrack_table_full,
}
