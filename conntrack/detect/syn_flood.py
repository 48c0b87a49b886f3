"""syn_flood: handshakes that are begun and abandoned until a service can take no more. Knows rows, not packets.

Half-open connections are counted, not SYNs: a busy service is no attack. A connection is half-open from the server's
first SYN+ACK to the client's ACK, a RST, or the server giving it up; it is *abandoned* when none of the first two ever
comes. Alarms look at abandoned ones older than `handshake_wait_s` alone, so a handshake in flight never raises one, not
even where the capture ends. A server that answers with SYN cookies keeps nothing, so there the SYN+ACKs that were
answered by nobody and not repeated are counted (`_answered_once`). SYNs that nobody answered are judged apart
(`_silence`), because a server that is down is no flood either.

Counted on a grid of instants (0.1 s, coarser past 2 million cells, see `Tally`), exactly at each of them; only slow or
failed handshakes enter it. Sources are exact up to `sources_exact`, then sketched (distinct.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from conntrack.core.counts import Slow, Who, handshakes
from conntrack.core.survey import Attempt, Trait
from conntrack.detect.batch import Background, Batch
from conntrack.detect.columns import ns_of
from conntrack.detect.counting import LowestPerGroup, Tally
from conntrack.detect.distinct import Distinct
from conntrack.detect.episodes import Series, around_peak, sorted_by, window_sums
from conntrack.detect.finding import Finding, Severity, worst_first
from conntrack.detect.options import DetectOptions
from conntrack.detect.portraits import alike

__all__ = ["SynFlood"]

_GRID_NS, _SECOND_NS = 10**8, 10**9
_FLOW_IDS = 100
_PORTRAITS = 256


@dataclass(frozen=True, slots=True)
class _Alarm:
    """What raised the alarm: how much at once, from when to when (ns), and how many SYNs."""

    peak: int
    first_ts_ns: int
    last_ts_ns: int
    count: int


class SynFlood:
    """Finds SYN floods by service. `evidence["shape"]` says which:

    * "fast" and "slow": abandoned half-open connections reach `syn_backlog_warning_ratio` of `syn_backlog`, or
      `syn_half_open_min` while at most `syn_completion_ratio_max` of the attempts complete. Slow is under
      `syn_window_syns` in `syn_window_s`, a rate at which no rate alarm looks.
    * "syn_cookies": the server sent each SYN+ACK once: it keeps nothing and copes.
    * "all_syn": SYNs without any answer, not repeated as a real TCP would, from many sources or at a great rate.

    Severity: critical when abandoned connections fill the backlog (not with cookies), or unanswered SYNs reach
    `syn_rate_critical_per_s`; else warning.
    """

    kind = "syn_flood"

    def __init__(self, options: DetectOptions | None = None) -> None:
        self.options = options or DetectOptions()
        self._wait_ns = ns_of(self.options.handshake_wait_s)
        self._timeout_ns = ns_of(self.options.syn_received_timeout_s)
        self._grid = Tally(_GRID_NS)
        self._sources = Distinct(self.options.sources_exact)
        self._flow_ids = LowestPerGroup(_FLOW_IDS)
        self._portraits = LowestPerGroup(_PORTRAITS, width=2)

    def feed(self, batch: Batch) -> None:
        """Take in a batch."""
        picks = batch.having(Trait.SLOW)
        if not picks.size:
            return
        opened = (batch.traits[picks] & np.uint32(Trait.NEVER_OPEN) == 0).astype(np.uint8)
        step_ns = self._grid.feed_step_ns
        slow, again, repeats, behind, who = handshakes(
            batch.rows, picks, batch.services[picks], opened, self._wait_ns, self._timeout_ns, step_ns
        )
        self._grid.add_keys(slow, None, step_ns)
        self._grid.add_keys(again, repeats, step_ns)
        if behind.size:
            services = batch.services[picks[behind]]
            self._sources.add(services, who[:, Who.SOURCE])
            self._flow_ids.add(services, who[:, Who.FLOW_ID])
            self._portraits.add(services, who[:, Who.FLOW_HASH], who[:, Who.LOOK : Who.ISN + 1])

    def merge(self, other: SynFlood, services: np.ndarray) -> None:
        """Take in what `other` was fed; `services` turns its numbers of services into ours."""
        self._grid.merge(other._grid, services)
        self._sources.merge(other._sources, services)
        self._flow_ids.merge(other._flow_ids, services)
        self._portraits.merge(other._portraits, services)

    def findings(self, background: Background) -> list[Finding]:
        """Return the floods, worst first."""
        options = self.options
        totals = self._grid.totals(len(Slow), len(background.services))
        half_open_least = min(options.syn_half_open_min, self._backlog_level)
        once_least = min(options.syn_window_syns, options.syn_rate_critical_per_s)
        suspects = totals[Slow.ABANDONED] >= max(half_open_least, 1)
        suspects |= np.maximum(totals[Slow.ONCE], totals[Slow.ONE_SYNACK]) >= max(once_least, 1)
        found = [self._finding(int(service), background) for service in np.flatnonzero(suspects)]
        return worst_first(found)[: options.subjects_max]

    @property
    def _backlog_level(self) -> int:
        return max(1, round(self.options.syn_backlog * self.options.syn_backlog_warning_ratio))

    def _finding(self, service: int, background: Background) -> Finding | None:
        options, end_ts_ns = self.options, background.end_ts_ns
        series = Series(self._grid, service, end_ts_ns)
        attempts = Series(background.attempts, service)
        sources, sources_by = self._sources.count(service)
        half_open = self._half_open(series, attempts, end_ts_ns)
        answered_once = self._answered_once(series, attempts, sources, end_ts_ns)
        silence, too_short = self._silence(series, attempts, sources, end_ts_ns)
        alarm = half_open or answered_once or silence
        if alarm is None:
            return None
        # A SYN+ACK sent before this would have been repeated (the grid has it `handshake_wait_s` after it was sent).
        settled = self._settled(end_ts_ns)
        first, last = alarm.first_ts_ns, alarm.last_ts_ns
        one_synack = series.total(Slow.ONE_SYNACK, first, min(last, settled))
        judged = one_synack + series.total(Slow.REPEATED, first, min(last, settled))
        if half_open is None and answered_once is None:
            shape = "all_syn"
        elif answered_once and (half_open is None or one_synack >= options.syn_cookie_ratio * judged):
            shape, alarm = "syn_cookies", answered_once
            first, last = alarm.first_ts_ns, alarm.last_ts_ns
        else:
            rate = _completion(attempts, alarm)["syn_rate_peak_per_s"]
            shape = "fast" if rate * options.syn_window_s >= options.syn_window_syns else "slow"
        seen = _completion(attempts, alarm)
        left = series.total(Slow.ONE_SYNACK, first, last) + series.total(Slow.REPEATED, first, last)
        instants, held = series.level(Slow.OPENED, Slow.OVER)
        half_open_peak = int(held.max(initial=0))
        repeated = series.total(Slow.SYN_AGAIN, first, last)
        evidence = {
            "shape": shape,
            **seen,
            "half_open_peak": half_open_peak,
            "half_open_peak_ts_ns": int(instants[np.argmax(held)]) * series.step_ns if half_open_peak else None,
            "backlog": options.syn_backlog,
            "backlog_ratio": round(half_open_peak / options.syn_backlog, 4),
            "abandoned": left,
            "answered_once_ratio": round(one_synack / judged, 4) if judged else None,
            "synack_retransmissions": series.total(Slow.SYNACK_AGAIN, first, last),
            "unanswered": series.total(Slow.UNANSWERED, first, last),
            "unanswered_once": series.total(Slow.ONCE, first, last),
            "distinct_sources": sources,
            "distinct_sources_by": sources_by,
            "alike_ratio": alike(self._portraits.words_of(service)) or None,
        }
        subject = background.name(service)
        return Finding(
            kind=self.kind,
            subject=subject,
            severity=self._severity(shape, alarm, seen["syn_rate_peak_per_s"]),
            first_ts_ns=first,
            last_ts_ns=last,
            count=alarm.count,
            peak=alarm.peak,
            evidence=evidence,
            caveats=tuple(self._caveats(shape, sources, repeated, left, judged, too_short)),
            next_steps=tuple(_next_steps(subject, shape)),
            flow_ids=tuple(int(flow_id) for flow_id in self._flow_ids.of(service)),
        )

    def _settled(self, end_ts_ns: int) -> int:
        return end_ts_ns - ns_of(self.options.syn_retry_wait_s) + self._wait_ns

    def _half_open(self, series: Series, attempts: Series, end_ts_ns: int) -> _Alarm | None:
        """Return when the most abandoned half-open connections were there, if they were too many."""
        instants, held = series.level(Slow.ABANDONED, Slow.ABANDONED_OVER)
        if not len(held) or held.max() <= 0:
            return None
        low, high = around_peak(held)
        ticks, counts = series.events(Slow.ABANDONED)
        upto = np.cumsum(counts)
        at_low = int(upto[np.searchsorted(ticks, instants[low], side="right") - 1])
        oldest = int(ticks[np.searchsorted(upto, at_low - int(held[low]), side="right")])  # of those there at `low`
        newest = int(ticks[np.searchsorted(ticks, instants[high], side="right") - 1])
        first = oldest * series.step_ns - self._wait_ns
        last = min(newest * series.step_ns, end_ts_ns)
        count = series.total(Slow.ABANDONED, first, last) + series.total(Slow.ONCE, first, last)
        alarm = _Alarm(int(held.max()), first, last, count)
        if alarm.peak >= self._backlog_level:
            return alarm
        options = self.options
        failing = _completion(attempts, alarm)["completion_ratio"] <= options.syn_completion_ratio_max
        return alarm if failing and alarm.peak >= options.syn_half_open_min else None

    def _answered_once(self, series: Series, attempts: Series, sources: int, end_ts_ns: int) -> _Alarm | None:
        """Return the SYN+ACKs of a flood that the server sent once and nobody answered, if they are one.

        A server that keeps the connection repeats its SYN+ACK after a second. So only those are taken that had the time
        to be repeated and were not; and most attempts must fail, at the rate and from the sources of a flood.
        """
        once = series.events(Slow.ONE_SYNACK, self._settled(end_ts_ns))
        alarm = self._burst(series, once, sources, self._wait_ns, end_ts_ns)
        if alarm is None or _completion(attempts, alarm)["completion_ratio"] > self.options.syn_completion_ratio_max:
            return None
        return alarm

    def _burst(
        self, series: Series, events: tuple[np.ndarray, np.ndarray], sources: int, delay_ns: int, end_ts_ns: int
    ) -> _Alarm | None:
        """Return the episode of `events`, if they come at the rate of a flood and from as many sources."""
        options = self.options
        window = max(1, ns_of(options.syn_window_s) // series.step_ns)
        _, sums = window_sums(*events, window)
        peak = int(sums.max(initial=0))
        fast = peak >= options.syn_source_rate_per_s * options.syn_window_s
        forged = sources >= options.syn_sources_min
        forged &= int(events[1].sum()) <= options.syn_tries_per_source_max * sources
        if peak < options.syn_window_syns or not (fast or forged):
            return None
        return self._episode(series, events, window, delay_ns, end_ts_ns)

    def _silence(self, series: Series, attempts: Series, sources: int, end_ts_ns: int) -> tuple[_Alarm | None, bool]:
        """Return the unanswered SYNs of a flood, if they are one, and whether the capture is too short to be sure.

        A service that is down is told by its clients: they repeat their SYN after a second, or come back. So only SYNs
        are taken that had the time to be repeated and were not, and only when most of the unanswered ones are such.
        """
        options = self.options
        window = max(1, ns_of(options.syn_window_s) // series.step_ns)
        once = series.events(Slow.ONCE, end_ts_ns - ns_of(options.syn_retry_wait_s))
        alarm = self._burst(series, once, sources, 0, end_ts_ns)
        if alarm is not None:
            instants, sums = window_sums(*once, window)
            peak_tick = int(instants[np.argmax(sums)])
            ticks, counts = series.events(Slow.UNANSWERED, peak_tick * series.step_ns)
            if sums.max() >= options.syn_once_ratio * counts[ticks > peak_tick - window].sum():
                return alarm, False
        once = series.events(Slow.ONCE)
        second = max(1, _SECOND_NS // series.step_ns)
        sums = window_sums(*once, second)[1]
        all_once = int(once[1].sum()) == series.total(Slow.UNANSWERED)
        nobody_served = not any(len(attempts.events(number)[0]) for number in (Attempt.IN_TIME, Attempt.LATE))
        short = len(once[0]) and end_ts_ns - int(once[0][0]) * series.step_ns < ns_of(options.syn_retry_wait_s)
        many = sources >= options.syn_sources_min and int(sums.max(initial=0)) >= options.syn_rate_critical_per_s
        if short and all_once and nobody_served and many:
            return self._episode(series, once, second, 0, end_ts_ns), True
        return None, False

    def _episode(
        self, series: Series, events: tuple[np.ndarray, np.ndarray], window: int, delay_ns: int, end_ts_ns: int
    ) -> _Alarm:
        """Return the episode around the busiest window; events are `delay_ns` later on the grid than their SYNs."""
        instants, sums = window_sums(*events, window)
        low, high = around_peak(sums)
        ticks, counts = events
        first = int(ticks[np.searchsorted(ticks, instants[low] - window, side="right")])
        newest = int(ticks[np.searchsorted(ticks, instants[high], side="right") - 1])
        chosen = (ticks >= first) & (ticks <= newest)
        _, would_hold = window_sums(ticks[chosen], counts[chosen], max(1, self._timeout_ns // series.step_ns))
        return _Alarm(
            peak=int(would_hold.max()),
            first_ts_ns=(first - 1) * series.step_ns - delay_ns,
            last_ts_ns=min(newest * series.step_ns, end_ts_ns),
            count=int(counts[chosen].sum()),
        )

    def _severity(self, shape: str, alarm: _Alarm, rate_per_s: float) -> Severity:
        options = self.options
        if shape == "all_syn":
            return "critical" if rate_per_s >= options.syn_rate_critical_per_s else "warning"
        return "critical" if shape != "syn_cookies" and alarm.peak >= options.syn_backlog else "warning"

    def _caveats(self, shape: str, sources: int, repeated: int, left: int, judged: int, too_short: bool) -> list[str]:
        options = self.options
        caveats = []
        if shape == "all_syn":
            caveats.append(
                "No SYN+ACK is in the capture: the server drops the SYNs, or the capture shows one direction only;"
                " the peak is what the backlog would hold if it answered."
            )
        elif shape == "syn_cookies":
            caveats.append(
                "The peak is what the backlog would hold without cookies; SYN+ACKs that are not repeated may also be"
                " the work of a proxy or firewall in front of the server."
            )
        else:
            caveats.append(f"The backlog of {options.syn_backlog} is an assumption: listen() may have asked for less.")
        if too_short:
            caveats.append(
                "The capture is too short to show whether clients repeat their SYN; the service may be down."
            )
        if shape != "all_syn" and not judged:
            caveats.append(
                "The capture is too short to show whether SYN+ACKs are repeated (it would tell SYN cookies)."
            )
        if sources < options.syn_sources_min:
            caveats.append(f"Only {sources} sources: one broken or testing client can look like this.")
        if repeated * 2 > left > 0:
            caveats.append(
                f"{repeated} of {left} clients repeated their SYN: they may be honest, and the way back to them broken."
            )
        return caveats


def _completion(attempts: Series, alarm: _Alarm) -> dict[str, Any]:
    """Return what became of the attempts during an alarm, and the most of them in a second."""
    first, last = alarm.first_ts_ns, alarm.last_ts_ns + attempts.step_ns
    in_time, late, refused, failed = (attempts.total(number, first, last) for number in Attempt)
    total = in_time + late + refused + failed
    ticks, counts = (np.concatenate(part) for part in zip(*(attempts.events(n, last) for n in Attempt), strict=True))
    during = ticks >= first // attempts.step_ns
    _, rates = window_sums(*sorted_by(ticks[during], counts[during]), 1)
    honest = in_time + late + refused
    return {
        "attempts": total,
        "completion_ratio": round((in_time + late) / total, 4) if total else 0.0,
        "honest_delayed_or_refused_ratio": round((late + refused) / honest, 4) if honest else None,
        "syn_rate_peak_per_s": round(int(rates.max(initial=0)) * 1e9 / attempts.step_ns, 3),
    }


def _next_steps(subject: str, shape: str) -> list[str]:
    port = subject.rpartition(":")[2]
    steps = [
        f"ss -tan state syn-recv '( sport = :{port} )' | wc -l; ss -tln '( sport = :{port} )' (Send-Q is the backlog)",
        "nstat -az TcpExtSyncookiesSent TcpExtSyncookiesRecv TcpExtTCPReqQFullDoCookies TcpExtTCPReqQFullDrop"
        " TcpExtListenDrops",
        "sysctl net.ipv4.tcp_syncookies net.ipv4.tcp_max_syn_backlog net.core.somaxconn net.ipv4.tcp_synack_retries",
    ]
    if shape == "slow":
        steps.append("No rate limit sees this: sysctl -w net.ipv4.tcp_synack_retries=2 shortens 63 s to 7 s")
    elif shape == "syn_cookies":
        steps.append("The server copes; look at the bandwidth, and have the flood filtered upstream")
    else:
        steps.append("sysctl -w net.ipv4.tcp_syncookies=1; have it filtered upstream; the sources are likely forged")
    return steps
