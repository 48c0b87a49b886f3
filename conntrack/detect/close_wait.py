"""close_wait_leak: ends that took the peer's FIN and never send their own. Knows rows, not packets.

CLOSE_WAIT has no timer (RFC 9293 section 3.6: it lasts until the application closes), so what stays there is a socket
that a program forgot. A connection is kept here, in 88 bytes, only when one of its ends was silent in CLOSE_WAIT for
longer than `close_wait_age_s` or may still be; everything said is exact. Past a million of them only every second is
kept, chosen by the hash of its number, then every fourth, and so on: what is said is an estimate then, and says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.core.keys import hash_words
from conntrack.core.spans import SILENT_DTYPE, silent_ends
from conntrack.core.survey import Trait
from conntrack.detect.batch import Background, Batch
from conntrack.detect.columns import ns_of, words_endpoint, words_ip
from conntrack.detect.counting import Tally
from conntrack.detect.finding import Finding, Severity, worst_first
from conntrack.detect.limits import WHOLE, Limits
from conntrack.detect.options import DetectOptions
from conntrack.detect.quality import lost_bytes
from conntrack.states import TcpState

__all__ = ["CloseWaitLeak"]

_MINUTE_NS = 60 * 10**9
_SECOND_NS = 10**9
_RESTART_NS = 5 * _SECOND_NS  # a program that ends closes all that it holds within so long
_PEERS_NAMED = 5
_LEAST_KEPT = 8  # ends of a subject, where only a share is kept, from which on they tell anything


class CloseWaitLeak:
    """Finds leaks of CLOSE_WAIT, by service for the server's end and by host for the client's.

    An end leaks when it is in CLOSE_WAIT as the capture ends, it acknowledged the peer's FIN, and neither payload nor
    FIN nor RST came from it for `close_wait_age_s`. It does not where the peer acknowledged more of it than the capture
    has: what is missing may be its FIN. Ends that stayed as long and did close in the end make a finding only when
    `close_wait_warning_count` of them were there at once: a warning where half or more of them were closed together (a
    restart closes what a program forgot), else info (a program that closes late). Of a program that closes late, so
    that as many were closed as are open, those open leak only if they are older than any of those was. A client that
    comes back on the same port, meets one with its SYN and cannot connect is always a warning.

    Where the capture began in the middle of a connection, its other end may have sent its FIN before: so an end that
    sent no data in the capture counts only if the peer's FIN came later than a FIN_WAIT_2 lasts (`close_wait_age_s`).

    Where the capture lost both the FIN and the ACK of it, nothing shows either. So no more ends than that may happen to
    are info, with the reason, and not told below `close_wait_warning_count`: `close_wait_loss_factor` times the share
    of the payload that was lost, of the service's connections (for a host: of all); and as a capture that loses frames
    in a row loses as many ends of connections as beginnings, `close_wait_headless_factor` times the connections without
    a beginning (not counted in the first `close_wait_age_s`, for many are open then).

    Severity: critical from `close_wait_critical_count` leaking ends; warning from `close_wait_warning_count`, or from
    `close_wait_ratio_min_count` that are `close_wait_warning_ratio` of the service's connections; else info. More than
    `lone_subjects_max` clients with one end each are left out: the service that they wait for is told.
    """

    kind = "close_wait_leak"

    def __init__(self, options: DetectOptions | None = None, limits: Limits = WHOLE) -> None:
        self.options = options or DetectOptions()
        self._age_ns = ns_of(self.options.close_wait_age_s)
        self._limit = limits.ends
        self._level = 0  # kept are connections the hash of whose number has that many zeros at its end
        self._kept: list[np.ndarray] = []
        self._ends = 0
        self._gap_bytes = 0
        self._headless = Tally(_SECOND_NS, limits.cells)  # connections without a beginning, by service

    def feed(self, batch: Batch) -> None:
        """Take in a batch."""
        lossy = batch.having(Trait.GAPS)
        if lossy.size:
            self._gap_bytes += int(lost_bytes(batch, lossy).sum())
        headless = batch.having(Trait.HEADLESS)
        if headless.size:
            self._headless.add(batch.services[headless], batch.rows["first_ts_ns"][headless], 0)
        picks = batch.having(Trait.HALF_CLOSED)
        if picks.size:
            self._keep(silent_ends(batch.rows, picks, TcpState.CLOSE_WAIT, self._age_ns))

    def merge(self, other: CloseWaitLeak, services: np.ndarray) -> None:
        """Take in what `other` was fed."""
        self._level = max(self._level, other._level)
        self._gap_bytes += other._gap_bytes
        self._headless.merge(other._headless, services)
        kept, self._kept, self._ends = [*self._kept, *other._kept], [], 0
        for ends in kept:
            self._keep(ends)

    def _keep(self, ends: np.ndarray) -> None:
        self._kept.append(self._chosen(ends))
        self._ends += len(self._kept[-1])
        while self._ends > self._limit:
            self._level += 1
            self._kept = [self._chosen(np.concatenate(self._kept))]
            self._ends = len(self._kept[0])

    def _chosen(self, ends: np.ndarray) -> np.ndarray:
        """Return those of `ends` that are kept at this level."""
        if not self._level:
            return ends
        hashes = hash_words(np.ascontiguousarray(ends["flow_id"])[:, None])
        chosen: np.ndarray = ends[hashes & np.uint64((1 << self._level) - 1) == 0]
        return chosen

    def findings(self, background: Background) -> list[Finding]:
        """Return the leaks, worst first."""
        kept = np.concatenate([np.empty(0, SILENT_DTYPE), *self._kept])
        ends = np.minimum(kept["end"], background.end_ts_ns)
        kept = kept[(ends >= kept["quiet"] + self._age_ns) | (kept["stale"] != 0)]
        unseen = (kept["midstream"] != 0) & (kept["never_sent"] != 0) & (kept["stale"] == 0)
        kept = kept[~unseen | (kept["start"] >= background.first_ts_ns + self._age_ns)]
        names = hash_words(np.column_stack([kept["subject"], kept["is_client"]]))
        order = np.lexsort((kept["flow_id"], names))
        starts = np.flatnonzero(np.concatenate(([True], np.diff(names[order]) != 0))[: len(order)])
        found = []
        if len(order):
            # One that still leaks or met a SYN is told; those that were closed in the end only where there are many.
            telling = ((kept["end"] >= background.end_ts_ns) | (kept["stale"] != 0))[order]
            telling = np.add.reduceat(telling.astype(np.int64), starts) > 0
            counts = np.diff(starts, append=len(order))
            telling |= counts >= self.options.close_wait_warning_count >> self._level
            telling &= counts >= (_LEAST_KEPT if self._level else 1)
            parts = zip(starts[telling], counts[telling], strict=True)
            found = [self._finding(kept[order[start : start + count]], background) for start, count in parts]
        told = worst_first(found)
        lone = [one for one in told if one.evidence["side"] == "client" and one.count == 1 and one.severity == "info"]
        if len(lone) > self.options.lone_subjects_max:
            told = [one for one in told if one not in lone]
        return told[: self.options.subjects_max]

    def _finding(self, kept: np.ndarray, background: Background) -> Finding | None:
        options, end_ts_ns = self.options, background.end_ts_ns
        scale = 1 << self._level
        open_ = kept["end"] >= end_ts_ns
        among, closed = kept[open_], kept[~open_]
        together = len(closed) > 0 and 2 * _peak(closed["end"], closed["end"] + _RESTART_NS) >= len(closed)
        if len(closed) >= max(len(among), 1) and not together:  # it closes late: do those that are open differ?
            among = among[(end_ts_ns - among["start"]) > (closed["end"] - closed["start"]).max()]
        leaking = len(among) * scale
        peak = _peak(kept["start"], np.minimum(kept["end"], end_ts_ns)) * scale
        stale = int(kept["stale"].sum()) * scale
        if not leaking and peak < options.close_wait_warning_count and not stale:
            return None
        shown = among if leaking else kept
        count = len(shown) * scale
        is_client = bool(kept["is_client"][0])
        words = kept["subject"][0]
        version = int(words[2]) >> 16
        subject = words_ip(words[0], words[1], version) if is_client else words_endpoint(words)
        ages_s = (np.minimum(shown["end"], end_ts_ns) - shown["start"]) / 1e9
        first = int(shown["start"].min())
        never_sent = float(shown["never_sent"].mean())
        starved = not is_client and never_sent >= options.close_wait_starved_ratio
        distinct_peers, top_peers = _peers(shown["peer"], version)
        evidence: dict[str, Any] = {
            "side": "client" if is_client else "server",
            "cause": "accept_starvation" if starved else "application_leak",
            "leaking": leaking,
            "closed_late": len(closed) * scale,
            "oldest_s": round(float(ages_s.max()), 3),
            "median_age_s": round(float(np.median(ages_s)), 3),
            "growth_per_min": round(leaking * _MINUTE_NS / max(end_ts_ns - first, _MINUTE_NS), 3),
            "never_sent_ratio": round(never_sent, 4),
            "spoke_after_fin": int(shown["spoke"].sum()) * scale,
            "syn_onto_stale": stale,
            "distinct_peers": distinct_peers,
            "top_peers": {peer: number * scale for peer, number in top_peers.items()},
        }
        ratio, total = 0.0, background.connections if is_client else _connections_of(background, words)
        gap_ratio = self._gap_bytes / (self._gap_bytes + background.payload_bytes) if self._gap_bytes else 0.0
        lost = 0
        if gap_ratio:
            headless = self._headless_late(background, None if is_client else words)
            headless = max(0, headless - int(shown["midstream"].sum()) * scale)
            lost = int(
                options.close_wait_loss_factor * gap_ratio * total + options.close_wait_headless_factor * headless
            )
        explained = max(leaking, peak, stale) <= lost
        if explained and max(leaking, peak) < options.close_wait_warning_count:
            return None
        evidence["perhaps_lost"] = lost
        if not is_client and total:
            ratio = min(1.0, count / total)
            evidence["service_connections"] = total
            evidence["ratio_of_service"] = round(ratio, 4)
        return Finding(
            kind=self.kind,
            subject=subject,
            severity="info" if explained else self._severity(leaking, peak if together else 0, stale, ratio),
            first_ts_ns=first,
            last_ts_ns=int(np.minimum(shown["end"], end_ts_ns).max()),
            count=count,
            peak=peak,
            evidence=evidence,
            caveats=tuple(self._caveats(shown, leaking, starved, together, gap_ratio if explained else 0.0)),
            next_steps=tuple(_next_steps(subject, is_client, starved)),
            flow_ids=tuple(int(flow_id) for flow_id in shown["flow_id"][:100]),
        )

    def _severity(self, leaking: int, peak: int, stale: int, ratio: float) -> Severity:
        options = self.options
        if leaking >= options.close_wait_critical_count:
            return "critical"
        many = max(leaking, peak) >= options.close_wait_warning_count
        share = leaking >= options.close_wait_ratio_min_count and ratio >= options.close_wait_warning_ratio
        return "warning" if many or share or stale else "info"

    def _headless_late(self, background: Background, words: np.ndarray | None) -> int:
        """Return how many connections of a service, or of all, have no beginning though the capture was on by then."""
        groups, ticks, _, counts = self._headless.table()
        late = ticks * self._headless.step_ns > background.first_ts_ns + self._age_ns + self._headless.step_ns
        if words is not None:
            late &= np.isin(groups, np.flatnonzero((background.services == words).all(axis=1)))
        return int(counts[late].sum())

    def _caveats(self, shown: np.ndarray, leaking: int, starved: bool, together: bool, gap_ratio: float) -> list[str]:
        caveats = []
        if gap_ratio:
            caveats.append(
                f"The capture lost {gap_ratio:.1%} of the payload, or more: of as many connections as these the FIN may"
                " be among what it lost."
            )
        if self._level:
            caveats.append(
                f"There were too many to keep: one in {1 << self._level}, by hash, was, and numbers are"
                f" {1 << self._level} times what these show; peers are theirs alone."
            )
        if not leaking and len(shown) > int(shown["stale"].sum()):
            caveats.append(
                "All of them were closed in the end, most at the same time: a restart closes what a program forgot."
                if together
                else "All of them were closed in the end, one by one: a program that closes late, not one that forgets."
            )
        midstream = int(shown["midstream"].sum())
        if midstream:
            caveats.append(f"{midstream} of {len(shown)} connections were open before the capture began.")
        if shown["spoke"].any():
            caveats.append(
                f"{int(shown['spoke'].sum())} of {len(shown)} ends sent data after the peer's FIN and then fell silent:"
                " a half-close in use may pause that long."
            )
        if starved:
            caveats.append(
                "A service that by its protocol sends nothing unless asked looks the same as one that never accepts."
            )
        if leaking and not starved and leaking < self.options.close_wait_warning_count:
            caveats.append("Few connections: one long-running task can hold them.")
        return caveats


def _connections_of(background: Background, words: np.ndarray) -> int:
    at = np.flatnonzero((background.services == words).all(axis=1))
    return int(background.of_service[at[0]]) if at.size else 0


def _peak(starts: np.ndarray, ends: np.ndarray) -> int:
    """Return the most intervals [start, end) that hold one instant."""
    return int((np.arange(1, len(starts) + 1) - np.searchsorted(np.sort(ends), np.sort(starts), side="right")).max())


def _peers(words: np.ndarray, version: int) -> tuple[int, dict[str, int]]:
    """Return how many distinct peers there are, and the commonest with their counts."""
    distinct, counts = np.unique(words, axis=0, return_counts=True)
    top = np.argsort(-counts, kind="stable")[:_PEERS_NAMED]
    return len(distinct), {words_ip(distinct[at, 0], distinct[at, 1], version): int(counts[at]) for at in top}


def _next_steps(subject: str, is_client: bool, starved: bool) -> list[str]:
    if is_client:
        return [
            f"On {subject}: ss -tanp state close-wait (which process holds them)",
            "In that process: close connections that the server has closed, above all idle ones in a pool",
            "cat /proc/PID/limits and ls /proc/PID/fd | wc -l (how close it is to running out of descriptors)",
        ]
    port = subject.rpartition(":")[2]
    steps = [
        f"ss -tanp state close-wait '( sport = :{port} )' (which process; no process: never accepted)",
        f"ss -tlnp '( sport = :{port} )' (Recv-Q is the accept queue, Send-Q its limit)",
    ]
    if starved:
        return [
            *steps,
            "nstat -az TcpExtListenOverflows TcpExtListenDrops, then why the program does not call accept()",
        ]
    return [
        *steps,
        "ls /proc/PID/fd | wc -l against /proc/PID/limits (how long until it runs out of descriptors)",
        "In the program: close the socket when read() returns 0; look for error paths that return without close",
    ]
