"""The first sentence of a report: what is wrong, where, how much of it and when; or that nothing is.

Owns what each kind of finding is called in a sentence. Evidence is asked for by name and may be missing; a kind that is
not known here still gets a true sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from conntrack.detect.finding import SEVERITIES, Finding
from conntrack.report.format import clock, count, duration
from conntrack.report.model import Report

__all__ = ["verdict"]


def verdict(report: Report, *, epoch: bool = False) -> str:
    """Return the sentence for the worst finding, how many more there are, and what weakens it all."""
    sentences = [_outcome(report, epoch)]
    if len(report.findings) > 1:
        severities = Counter(finding.severity for finding in report.findings[1:])
        listed = ", ".join(f"{severities[name]} {name}" for name in reversed(SEVERITIES) if severities[name])
        sentences.append(f"{count(len(report.findings) - 1, 'more finding')} ({listed}).")
    if report.capture.faults:
        sentences.append("The input is damaged: this is what came before the damage.")
    if report.capture.interrupted:
        sentences.append("Interrupted: this is what was read until then.")
    return " ".join(sentences)


def _outcome(report: Report, epoch: bool) -> str:
    capture = report.capture
    if report.findings:
        worst = report.findings[0]
        sentence = _SENTENCES.get(worst.kind, _any_kind)(worst, epoch)
        if worst.severity != "info":
            return sentence
        return f"No fault found in {count(report.connections.total, 'connection')}. Worth knowing: {sentence}"
    if not capture.packets:
        return "No packets in this capture."
    if not report.connections.total:
        return f"No TCP connections in this capture ({count(capture.packets, 'packet')})."
    return f"No fault found in {count(report.connections.total, 'connection')}."


def _syn_flood(finding: Finding, epoch: bool) -> str:
    evidence = finding.evidence
    flooded = f"{finding.subject} is under a SYN flood"
    if evidence.get("shape") == "all_syn":
        return f"{flooded}: {count(evidence.get('unanswered', finding.count), 'SYN')} without an answer."
    half_open = count(evidence.get("half_open_peak", finding.peak), "half-open connection")
    peak_ts_ns, backlog = evidence.get("half_open_peak_ts_ns"), evidence.get("backlog")
    when = "" if peak_ts_ns is None else f" ({clock(peak_ts_ns, epoch=epoch)})"
    room = "" if backlog is None else f", backlog {count(backlog)}"
    absorbed = ", absorbed by SYN cookies" if evidence.get("shape") == "syn_cookies" else ""
    return f"{flooded}: {half_open} at the peak{when}{room}{absorbed}."


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
    return f"{end}{finding.subject} leaks CLOSE_WAIT: {count(leaking, 'connection')} that it never closes{age}."


def _time_wait_buildup(finding: Finding, epoch: bool) -> str:
    evidence = finding.evidence
    if evidence.get("side") == "server":
        return f"{finding.subject} closes first: {count(finding.peak, 'connection')} in TIME_WAIT at the peak."
    ports = evidence.get("ephemeral_ports")
    budget = "" if ports is None else f" of {count(ports)} ports"
    service = f" towards {evidence['service']}" if "service" in evidence else ""
    return f"{finding.subject} runs out of ports{service}: {count(finding.peak)}{budget} in TIME_WAIT at the peak."


def _accept_queue_overflow(finding: Finding, epoch: bool) -> str:
    return (
        f"{finding.subject} does not accept fast enough: its accept queue was full for "
        f"{count(finding.count, 'connection')}."
    )


def _unanswered_syn(finding: Finding, epoch: bool) -> str:
    attempts = count(finding.evidence.get("attempts", finding.count), "attempt")
    return f"{finding.subject} does not answer: {count(finding.count)} of {attempts} to connect got nothing back."


def _connection_refused(finding: Finding, epoch: bool) -> str:
    attempts = count(finding.evidence.get("attempts", finding.count), "attempt")
    return f"{finding.subject} refuses connections: {count(finding.count)} of {attempts}."


def _port_scan(finding: Finding, epoch: bool) -> str:
    return f"{finding.subject} scans: {count(finding.count, 'target')} tried in vain."


def _fin_wait_2_stuck(finding: Finding, epoch: bool) -> str:
    return (
        f"The peers of {finding.subject} do not close: {count(finding.peak, 'connection')} in FIN_WAIT_2 at the peak."
    )


def _last_ack_stuck(finding: Finding, epoch: bool) -> str:
    return f"Peers of {finding.subject} are gone: {count(finding.peak, 'connection')} in LAST_ACK at the peak."


def _reset_storm(finding: Finding, epoch: bool) -> str:
    when = clock(finding.first_ts_ns, epoch=epoch)
    return f"Connections of {finding.subject} are cut: {count(finding.count)} open ones reset ({when})."


def _zero_window_stall(finding: Finding, epoch: bool) -> str:
    return f"{finding.subject} reads too slowly: {count(finding.count, 'connection')} stalled with a window of 0."


def _one_sided_capture(finding: Finding, epoch: bool) -> str:
    return f"The capture has one direction only of {count(finding.count, 'connection')}."


def _capture_loss(finding: Finding, epoch: bool) -> str:
    return f"The capture lost segments of {count(finding.count, 'connection')}."


def _duplicate_frames(finding: Finding, epoch: bool) -> str:
    copies = count(finding.evidence.get("copies", finding.count), "frame")
    return f"The capture has {copies} twice, of {count(finding.count, 'connection')}."


def _any_kind(finding: Finding, epoch: bool) -> str:
    kind = finding.kind.replace("_", " ")
    return f"{finding.subject}: {kind}, {count(finding.count, 'connection')}, {count(finding.peak)} at the peak."


_SENTENCES: dict[str, Callable[[Finding, bool], str]] = {
    "syn_flood": _syn_flood,
    "close_wait_leak": _close_wait_leak,
    "time_wait_buildup": _time_wait_buildup,
    "accept_queue_overflow": _accept_queue_overflow,
    "reset_storm": _reset_storm,
    "unanswered_syn": _unanswered_syn,
    "connection_refused": _connection_refused,
    "zero_window_stall": _zero_window_stall,
    "fin_wait_2_stuck": _fin_wait_2_stuck,
    "last_ack_stuck": _last_ack_stuck,
    "port_scan": _port_scan,
    "one_sided_capture": _one_sided_capture,
    "capture_loss": _capture_loss,
    "duplicate_frames": _duplicate_frames,
}
