"""syn_flood on a host: half-open connections against the backlog, and the SYN cookies that the kernel sends instead.

A request whose SYN+ACK was repeated is older than a second (RFC 6298 section 2) and mostly nobody's. With
tcp_syncookies the kernel answers from the full backlog on without keeping anything, and counts it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.detect.finding import Finding, worst_first
from conntrack.host.looks import Look
from conntrack.host.rule import Rule, shown_ids
from conntrack.host.services import subjects_of, top_peers
from conntrack.states import TcpState

__all__ = ["SynFlood"]

_COOKIES_ALWAYS = 2


class SynFlood(Rule):
    """Finds services whose half-open connections pile up.

    Abandoned ones (SYN+ACK repeated) count: `syn_half_open_min` of them where no more than `syn_completion_ratio_max`
    of the handshakes are completed, or `syn_backlog_min` that fill `syn_backlog_warning_ratio` of the backlog. Where
    the accept queue is full such requests are left over too: told as that, unless SYN cookies were sent. Severity:
    critical where the backlog is full, cookies were sent or SYNs dropped for want of room; else warning.
    """

    kind = "syn_flood"

    def see(self, look: Look) -> None:
        """Note the half-open connections of each service."""
        peaks, begins = (self._peaks, self._begins) if self.looks > 1 else ({}, {})
        self._peaks: dict[str, tuple[int, int]] = {}  # half-open, and when
        self._begins: dict[str, int] = {}
        rows = np.flatnonzero(look.rows["state"] == TcpState.SYN_RECEIVED)
        self._half_open = look.rows[rows]
        self._names, self._groups = subjects_of(self._half_open, look.service_of[rows], look.services)
        for group, number in zip(*np.unique(self._groups, return_counts=True), strict=True):
            name = self._names[int(group)]
            self._begins[name] = begins.get(name, look.at_ts_ns)
            self._peaks[name] = max(peaks.get(name, (0, 0)), (int(number), look.at_ts_ns), key=lambda peak: peak[0])

    def findings(self) -> list[Finding]:
        """Return the services under attack, worst first."""
        cookies = self.grown("TcpExt.SyncookiesSent") or 0
        if self.last.setting("net.ipv4.tcp_syncookies") == _COOKIES_ALWAYS:
            cookies = 0  # then they are sent in peace as well
        groups = np.unique(self._groups).tolist()
        busiest = max(groups, key=lambda group: int((self._groups == group).sum()), default=None)
        found = [self._finding(group, cookies if group == busiest else 0) for group in groups]
        known = [finding for finding in found if finding is not None]
        if cookies and not known:
            known.append(self._of_host(cookies))
        return worst_first(known)[: self.options.subjects_max]

    def _finding(self, group: int, cookies: int) -> Finding | None:
        last, options = self.last, self.options
        rows = self._half_open[self._groups == group]
        service = last.services[group] if group < len(last.services) else None
        backlog = self._backlog(-1 if service is None else service.backlog)
        abandoned = int((rows["timeouts"] > 0).sum())
        fills = abandoned >= max(options.syn_backlog_min, options.syn_backlog_warning_ratio * backlog)
        completion_ratio = self._completion_ratio(abandoned)
        if not cookies:
            busy = completion_ratio is not None and completion_ratio > options.syn_completion_ratio_max
            many = abandoned >= options.syn_half_open_min and not busy
            if (service is not None and service.is_full) or not (many or fills):
                return None
        name = self._names[group]
        peak, peak_ts_ns = self._peaks[name]
        distinct, peers = top_peers(rows)
        full = self.grown("TcpExt.TCPReqQFullDrop") or 0
        return Finding(
            kind=self.kind,
            subject=name,
            severity="critical" if cookies or full or len(rows) >= backlog else "warning",
            first_ts_ns=self._begins[name],
            last_ts_ns=last.at_ts_ns,
            count=len(rows),
            peak=peak,
            evidence={
                "shape": "syn_cookies" if cookies else "half_open",
                "half_open": len(rows),
                "half_open_peak": peak,
                "half_open_peak_ts_ns": peak_ts_ns,
                "abandoned": abandoned,
                "completion_ratio": completion_ratio,
                "backlog": backlog,
                "backlog_ratio": round(len(rows) / max(backlog, 1), 4),
                **self._counters(),
                "distinct_sources": distinct,
                "top_sources": peers,
            },
            caveats=(
                *(
                    ("SYN cookies are counted for the whole host; this service has the most half-open.",)
                    if cookies
                    else ()
                ),
                "Clients behind a path that loses the server's SYN+ACK look the same.",
            ),
            next_steps=self._next_steps(name),
            flow_ids=shown_ids(rows),
        )

    def _completion_ratio(self, abandoned: int) -> float | None:
        """Return the share of handshakes that are completed, None after one look.

        An abandoned one is kept for `syn_received_timeout_s`; in that time so many complete as the host's counter of
        accepted connections says. It counts all services: a busy one beside this makes the share larger.
        """
        opened = self.grown("Tcp.PassiveOpens")
        if opened is None or self.counted_s <= 0:
            return None
        completed = opened / self.counted_s * self.options.syn_received_timeout_s
        return round(completed / max(completed + abandoned, 1), 4)

    def _of_host(self, cookies: int) -> Finding:
        return Finding(
            kind=self.kind,
            subject=self.last.host,
            severity="critical",
            first_ts_ns=self.first.at_ts_ns,
            last_ts_ns=self.last.at_ts_ns,
            count=cookies,
            peak=cookies,
            evidence={"shape": "syn_cookies", **self._counters()},
            caveats=("Nothing is half-open now: which service it was cannot be told.",),
            next_steps=self._next_steps(""),
        )

    def _backlog(self, told: int) -> int:
        """Return what listen() was given, as far as somaxconn allows; else the host's limit."""
        if told >= 0:
            return max(told, 1)
        limits = [self.last.setting(name) for name in ("net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog")]
        return min((limit for limit in limits if limit), default=4096)

    def _counters(self) -> dict[str, Any]:
        setting = self.last.setting("net.ipv4.tcp_syncookies")
        return {
            "syn_cookies_sent": self.grown("TcpExt.SyncookiesSent"),
            "syn_cookies_returned": self.grown("TcpExt.SyncookiesRecv"),
            "syns_dropped": self.grown("TcpExt.TCPReqQFullDrop"),
            "listen_drops": self.grown("TcpExt.ListenDrops"),
            "observed_s": round(self.counted_s, 3) if self.looks > 1 else None,
            "syn_cookies_setting": None if setting is None else str(setting),
        }

    def _next_steps(self, subject: str) -> tuple[str, ...]:
        port = subject.rpartition(":")[2]
        which = f" '( sport = :{port} )'" if port else ""
        step = (
            "sysctl -w net.ipv4.tcp_syncookies=1; "
            if self.last.setting("net.ipv4.tcp_syncookies") == 0
            else "SYN cookies are on and keep the service reachable; "
        )
        return (
            f"ss -tan state syn-recv{which} | awk '{{print $4}}' | sort | uniq -c | sort -rn | head",
            "nstat -az TcpExtSyncookiesSent TcpExtSyncookiesRecv TcpExtTCPReqQFullDoCookies TcpExtTCPReqQFullDrop",
            "sysctl net.ipv4.tcp_syncookies net.core.somaxconn net.ipv4.tcp_max_syn_backlog "
            "net.ipv4.tcp_synack_retries",
            f"{step}have it filtered upstream; the sources are likely forged",
        )
