"""syn_flood: handshakes that are begun and abandoned until a service can take no more. Knows rows, not packets.

Half-open connections are counted, not SYNs: a busy service is no attack. A connection is half-open from the server's
first SYN+ACK to the client's ACK, a RST, or the server's timer; it is *abandoned* when none of the first two ever
comes. Alarms look at abandoned ones older than `handshake_wait_s` alone, so a handshake in flight never raises one, not
even where the capture ends. SYNs that nobody answered are judged apart (`_silence`), because a server that is down is
no flood either.

Counted on a grid of instants (0.1 s, coarser past 4 million cells, see `Tally`), exactly at each of them; only slow or
failed handshakes enter it. What completed in time is one count a second. Sources are exact up to `sources_exact`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from conntrack.core.counts import Attempt, Slow, handshakes
from conntrack.core.keys import endpoint_words, hash_words
from conntrack.detect.columns import FAR_NS, ns_of, words_endpoint
from conntrack.detect.counting import KeyIndex, LowestPerGroup, Tally
from conntrack.detect.finding import SEVERITIES, Finding, Severity
from conntrack.detect.options import DetectOptions

__all__ = ["SynFlood"]

_GRID_NS, _SECOND_NS = 10**8, 10**9
_FLOW_IDS = 100
_EPISODE_RATIO = 0.05  # an episode lasts while the level is above this share of its peak


@dataclass(frozen=True, slots=True)
class _Alarm:
    """What raised the alarm: how much at once, from when to when (ns), and how many SYNs."""

    peak: int
    first_ts_ns: int
    last_ts_ns: int
    count: int


class _Series:
    """Events of one service on the grid, up to the end of the capture."""

    def __init__(self, tally: Tally, group: int, end_ts_ns: int) -> None:
        self.step_ns = tally.step_ns
        ticks, columns, counts = tally.series_of(group)
        kept = ticks <= end_ts_ns // self.step_ns
        self._ticks, self._columns, self._counts = ticks[kept], columns[kept], counts[kept]

    def events(self, column: int, last_ts_ns: int = FAR_NS) -> tuple[np.ndarray, np.ndarray]:
        """Return (ticks, counts) of a column."""
        chosen = (self._columns == column) & (self._ticks <= last_ts_ns // self.step_ns)
        return self._ticks[chosen], self._counts[chosen]

    def total(self, column: int, first_ts_ns: int, last_ts_ns: int) -> int:
        """Return how many of a column fell between two times, both included."""
        ticks, counts = self.events(column, last_ts_ns)
        return int(counts[ticks >= first_ts_ns // self.step_ns].sum())

    def level(self, up: int, down: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (instants, how many are going on at each) of what column `up` begins and column `down` ends."""
        (up_ticks, up_counts), (down_ticks, down_counts) = self.events(up), self.events(down)
        return _running_sum(np.concatenate([up_ticks, down_ticks]), np.concatenate([up_counts, -down_counts]))


class SynFlood:
    """Finds SYN floods by service. `evidence["shape"]` says which:

    * "fast" and "slow": abandoned half-open connections reach `syn_backlog_warning_ratio` of `syn_backlog`, or
      `syn_half_open_min` while at most `syn_completion_ratio_max` of the attempts complete. Slow is under
      `syn_window_syns` in `syn_window_s`, a rate at which no rate alarm looks.
    * "syn_cookies": the same on the wire, but the server sent each SYN+ACK once: it keeps nothing and copes.
    * "all_syn": SYNs without any answer, not repeated as a real TCP would, from many sources or at a great rate.

    Severity: critical when abandoned connections fill the backlog (not with cookies), or unanswered SYNs reach
    `syn_rate_critical_per_s`; else warning.
    """

    kind = "syn_flood"

    def __init__(self, options: DetectOptions | None = None) -> None:
        self.options = options or DetectOptions()
        self._wait_ns = ns_of(self.options.handshake_wait_s)
        self._timeout_ns = ns_of(self.options.syn_received_timeout_s)
        self._services = KeyIndex(3)
        self._attempts = Tally(_SECOND_NS)
        self._grid = Tally(_GRID_NS)
        self._sources = LowestPerGroup(self.options.sources_exact)
        self._flow_ids = LowestPerGroup(_FLOW_IDS)

    def feed(self, flows: np.ndarray) -> None:
        """Take in connections (FLOW_DTYPE, shape (n,))."""
        groups = self._services.intern(endpoint_words(flows, client=False))
        attempts, slow, again, repeats, behind = handshakes(
            flows, groups, self._wait_ns, self._timeout_ns, self._attempts.feed_step_ns, self._grid.feed_step_ns
        )
        self._attempts.add_keys(attempts)
        self._grid.add_keys(slow)
        self._grid.add_keys(again, repeats)
        if behind.size:
            sources = endpoint_words(flows, client=True, picks=behind)[:, :2]
            self._sources.add(groups[behind], hash_words(np.ascontiguousarray(sources)))
            self._flow_ids.add(groups[behind], flows["flow_id"][behind])

    def merge(self, other: SynFlood) -> None:
        """Take in what `other` was fed."""
        groups = self._services.merge(other._services)
        self._attempts.merge(other._attempts, groups)
        self._grid.merge(other._grid, groups)
        self._sources.merge(other._sources, groups)
        self._flow_ids.merge(other._flow_ids, groups)

    def findings(self, end_ts_ns: int) -> list[Finding]:
        """Return the floods, worst first; `end_ts_ns` is when the capture ended."""
        options = self.options
        totals = self._grid.totals(len(Slow), len(self._services))
        half_open_least = min(options.syn_half_open_min, self._backlog_level)
        silent_least = min(options.syn_window_syns, options.syn_rate_critical_per_s)
        suspects = (totals[Slow.ABANDONED] >= max(half_open_least, 1)) | (totals[Slow.ONCE] >= max(silent_least, 1))
        found = [self._finding(int(group), end_ts_ns) for group in np.flatnonzero(suspects)]
        ranked = sorted(
            (finding for finding in found if finding is not None),
            key=lambda finding: (-SEVERITIES.index(finding.severity), -finding.peak, finding.subject),
        )
        return ranked[: options.subjects_max]

    @property
    def _backlog_level(self) -> int:
        return max(1, round(self.options.syn_backlog * self.options.syn_backlog_warning_ratio))

    def _finding(self, group: int, end_ts_ns: int) -> Finding | None:
        options = self.options
        series = _Series(self._grid, group, end_ts_ns)
        attempts = _Series(self._attempts, group, FAR_NS)
        sources = self._sources.distinct(group)
        half_open = self._half_open(series, end_ts_ns)
        if half_open is not None and half_open.peak < self._backlog_level:
            ratio = _completion(attempts, half_open)["completion_ratio"]
            if half_open.peak < options.syn_half_open_min or ratio > options.syn_completion_ratio_max:
                half_open = None
        silence, too_short = self._silence(series, attempts, sources, end_ts_ns)
        alarm = half_open or silence
        if alarm is None:
            return None
        first, last = alarm.first_ts_ns, alarm.last_ts_ns
        seen = _completion(attempts, alarm)
        left = series.total(Slow.ABANDONED, first, last)
        # A SYN+ACK sent before this would have been repeated (the grid has it `handshake_wait_s` after it was sent).
        settled = end_ts_ns - ns_of(options.syn_retry_wait_s) + self._wait_ns
        judged = series.total(Slow.ABANDONED, first, min(last, settled))
        one_synack = series.total(Slow.ONE_SYNACK, first, min(last, settled))
        if half_open is None:
            shape = "all_syn"
        elif judged and one_synack >= options.syn_cookie_ratio * judged:
            shape = "syn_cookies"
        else:
            shape = "fast" if seen["syn_rate_peak_per_s"] * options.syn_window_s >= options.syn_window_syns else "slow"
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
            "distinct_sources_exact": sources < options.sources_exact,
        }
        subject = words_endpoint(self._services.keys[group])
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
            flow_ids=tuple(int(flow_id) for flow_id in self._flow_ids.of(group)),
        )

    def _half_open(self, series: _Series, end_ts_ns: int) -> _Alarm | None:
        """Return when the most abandoned half-open connections were there, if any were."""
        instants, held = series.level(Slow.ABANDONED, Slow.ABANDONED_OVER)
        if not len(held) or held.max() <= 0:
            return None
        low, high = _around_peak(held)
        ticks, counts = series.events(Slow.ABANDONED)
        upto = np.cumsum(counts)
        at_low = int(upto[np.searchsorted(ticks, instants[low], side="right") - 1])
        oldest = int(ticks[np.searchsorted(upto, at_low - int(held[low]), side="right")])  # of those there at `low`
        newest = int(ticks[np.searchsorted(ticks, instants[high], side="right") - 1])
        first = oldest * series.step_ns - self._wait_ns
        last = min(newest * series.step_ns, end_ts_ns)
        count = series.total(Slow.ABANDONED, first, last) + series.total(Slow.ONCE, first, last)
        return _Alarm(int(held.max()), first, last, count)

    def _silence(self, series: _Series, attempts: _Series, sources: int, end_ts_ns: int) -> tuple[_Alarm | None, bool]:
        """Return the unanswered SYNs of a flood, if they are one, and whether the capture is too short to be sure.

        A service that is down is told by its clients: they repeat their SYN after a second, or come back. So only SYNs
        are taken that had the time to be repeated and were not, and only when most of the unanswered ones are such.
        """
        options = self.options
        window = max(1, ns_of(options.syn_window_s) // series.step_ns)
        once = series.events(Slow.ONCE, end_ts_ns - ns_of(options.syn_retry_wait_s))
        instants, sums = _window_sums(*once, window)
        if len(sums) and sums.max() >= options.syn_window_syns:
            peak_tick = int(instants[np.argmax(sums)])
            ticks, counts = series.events(Slow.UNANSWERED, peak_tick * series.step_ns)
            unanswered = int(counts[ticks > peak_tick - window].sum())
            peak = int(sums.max())
            fast = peak >= options.syn_source_rate_per_s * options.syn_window_s
            forged = sources >= options.syn_sources_min
            forged &= int(once[1].sum()) <= options.syn_tries_per_source_max * sources
            if peak >= options.syn_once_ratio * unanswered and (fast or forged):
                return self._silent_alarm(series, once, window, end_ts_ns), False
        once = series.events(Slow.ONCE)
        second = max(1, _SECOND_NS // series.step_ns)
        sums = _window_sums(*once, second)[1]
        all_once = int(once[1].sum()) == int(series.events(Slow.UNANSWERED)[1].sum())
        nobody_served = not any(len(attempts.events(number)[0]) for number in (Attempt.IN_TIME, Attempt.LATE))
        short = len(once[0]) and end_ts_ns - int(once[0][0]) * series.step_ns < ns_of(options.syn_retry_wait_s)
        many = sources >= options.syn_sources_min and int(sums.max(initial=0)) >= options.syn_rate_critical_per_s
        if short and all_once and nobody_served and many:
            return self._silent_alarm(series, once, second, end_ts_ns), True
        return None, False

    def _silent_alarm(
        self, series: _Series, once: tuple[np.ndarray, np.ndarray], window: int, end_ts_ns: int
    ) -> _Alarm:
        instants, sums = _window_sums(*once, window)
        low, high = _around_peak(sums)
        ticks, counts = once
        first = int(ticks[np.searchsorted(ticks, instants[low] - window, side="right")])
        newest = int(ticks[np.searchsorted(ticks, instants[high], side="right") - 1])
        chosen = (ticks >= first) & (ticks <= newest)
        _, would_hold = _window_sums(ticks[chosen], counts[chosen], max(1, self._timeout_ns // series.step_ns))
        return _Alarm(
            peak=int(would_hold.max()),
            first_ts_ns=(first - 1) * series.step_ns,
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


def _completion(attempts: _Series, alarm: _Alarm) -> dict[str, Any]:
    """Return what became of the attempts during an alarm, and the most of them in a second."""
    first, last = alarm.first_ts_ns, alarm.last_ts_ns + attempts.step_ns
    in_time, late, refused, failed = (attempts.total(number, first, last) for number in Attempt)
    total = in_time + late + refused + failed
    ticks, counts = (np.concatenate(part) for part in zip(*(attempts.events(n, last) for n in Attempt), strict=True))
    during = ticks >= first // attempts.step_ns
    _, rates = _window_sums(*_sorted(ticks[during], counts[during]), 1)
    honest = in_time + late + refused
    return {
        "attempts": total,
        "completion_ratio": round((in_time + late) / total, 4) if total else 0.0,
        "honest_delayed_or_refused_ratio": round((late + refused) / honest, 4) if honest else None,
        "syn_rate_peak_per_s": round(int(rates.max(initial=0)) * 1e9 / attempts.step_ns, 3),
    }


def _sorted(ticks: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(ticks, kind="stable")
    return ticks[order], counts[order]


def _running_sum(ticks: np.ndarray, changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (distinct ticks, sum of the changes up to and at each)."""
    if len(ticks) == 0:
        return ticks, changes
    ticks, changes = _sorted(ticks, changes)
    starts = np.flatnonzero(np.concatenate(([True], ticks[1:] != ticks[:-1])))
    return ticks[starts], np.cumsum(np.add.reduceat(changes, starts))


def _window_sums(ticks: np.ndarray, counts: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (instants, how many fell in the `window` ticks up to and at each)."""
    return _running_sum(np.concatenate([ticks, ticks + window]), np.concatenate([counts, -counts]))


def _around_peak(level: np.ndarray) -> tuple[int, int]:
    """Return the first and last index of the run above `_EPISODE_RATIO` of the peak that holds the peak."""
    peak = int(np.argmax(level))
    below = np.flatnonzero(level < max(1.0, _EPISODE_RATIO * int(level[peak])))
    at = int(np.searchsorted(below, peak))
    low = int(below[at - 1]) + 1 if at else 0
    high = int(below[at]) - 1 if at < len(below) else len(level) - 1
    return low, high


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
