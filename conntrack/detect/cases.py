"""Rare rows by subject: how many, when, the most of them at once, which connections. What most detectors count with.

A case is a connection with something notable from one time to another. Subjects are services by their number, or
anything with words of its own (`Subjects`: hosts, endpoints). Judges nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from conntrack.core.keys import endpoint_words
from conntrack.detect.batch import Background
from conntrack.detect.columns import words_endpoint, words_ip
from conntrack.detect.counting import KeyIndex, LowestPerGroup, Tally
from conntrack.detect.episodes import Series, running_sum
from conntrack.detect.finding import Finding
from conntrack.states import NO_TIME_NS

__all__ = ["BEGUN", "OVER", "Case", "Cases", "Subjects", "ended", "of_hosts"]

BEGUN, OVER = 0, 1
"""Columns of every Cases; a detector's own ones begin at 2."""
_GRID_NS = 10**8
_FLOW_IDS = 100
_PORTS_NAMED = 10
_FAR_NS = 1 << 62


def ended(*times_ns: np.ndarray) -> np.ndarray:
    """Return the earliest of times (int64, shape (n,) each), those not known (NO_TIME_NS) left out; far if all are."""
    known = [np.where(times == NO_TIME_NS, _FAR_NS, times) for times in times_ns]
    first: np.ndarray = np.minimum.reduce(known)
    return first


@dataclass(frozen=True, slots=True)
class Case:
    """What was counted of one subject.

    Attributes:
        group: its number.
        series: its events.
        count: connections.
        peak: the most at one instant.
        first_ts_ns, last_ts_ns: when the first began, and when the last was over or the capture ended.
        last_begun_ts_ns: when the last began.
        flow_ids: connections, lowest first.
    """

    group: int
    series: Series
    count: int
    peak: int
    first_ts_ns: int
    last_ts_ns: int
    last_begun_ts_ns: int
    flow_ids: tuple[int, ...]


class Cases:
    """Counts cases on a grid of instants of 0.1 s (coarser past 2 million cells, see `Tally`), exactly at each."""

    def __init__(self) -> None:
        self.tally = Tally(_GRID_NS)
        self._flow_ids = LowestPerGroup(_FLOW_IDS)

    def add(self, groups: np.ndarray, flow_ids: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
        """Take in cases: int64 groups (none negative), uint64 ids, int64 nanoseconds; shape (n,) each."""
        self.tally.add(groups, starts, BEGUN)
        self.tally.add(groups, np.maximum(starts, ends), OVER)
        self._flow_ids.add(groups, flow_ids)

    def note(self, groups: np.ndarray, times: np.ndarray, column: int, counts: np.ndarray | None = None) -> None:
        """Count something else of the same subjects, from column 2 on."""
        self.tally.add(groups, times, column, counts)

    def merge(self, other: Cases, groups: np.ndarray) -> None:
        """Take in what `other` was fed; `groups` turns its groups into ours."""
        self.tally.merge(other.tally, groups)
        self._flow_ids.merge(other._flow_ids, groups)

    def with_share(self, least: int, ratio: float, background: Background) -> Iterator[Case]:
        """Yield the services that have `least` cases or more, if those can be `ratio` of their attempts meanwhile.

        A quick look at all of them, for there may be a million: it leaves out only what a closer one would, too.
        """
        groups, ticks, columns, counts = self.tally.table()
        step_ns = self.tally.step_ns
        begun = (columns == BEGUN) & (ticks <= (background.end_ts_ns + step_ns - 1) // step_ns)
        groups, ticks, counts = groups[begun], ticks[begun], counts[begun]
        if not len(groups):
            return
        starts = np.flatnonzero(np.concatenate(([True], groups[1:] != groups[:-1])))
        sums, last = np.add.reduceat(counts, starts), np.append(starts[1:], len(groups)) - 1
        first_ts_ns, last_ts_ns = (ticks[starts] - 1) * step_ns, np.minimum(ticks[last] * step_ns, background.end_ts_ns)
        attempts = background.begun_between(groups[starts], first_ts_ns, last_ts_ns)
        chosen = (sums >= max(least, 1)) & (sums >= ratio * attempts)
        yield from self._of(groups[starts[chosen]], least, background.end_ts_ns)

    def with_least(self, least: int, groups: int, end_ts_ns: int) -> Iterator[Case]:
        """Yield those of `groups` subjects that have `least` cases or more up to the end of the capture."""
        counts = self.tally.totals(16, groups)[BEGUN] if groups else np.empty(0, np.int64)
        yield from self._of(np.flatnonzero(counts >= max(least, 1)), least, end_ts_ns)

    def _of(self, groups: np.ndarray, least: int, end_ts_ns: int) -> Iterator[Case]:
        for group in groups:
            # What happens in the last step is counted at the instant after it.
            series = Series(self.tally, int(group), end_ts_ns + self.tally.step_ns - 1)
            ticks, begun = series.events(BEGUN)
            if int(begun.sum()) < least or not len(ticks):
                continue
            instants, held = series.level(BEGUN, OVER)
            over = instants[-1] * series.step_ns if held[-1] <= 0 else end_ts_ns
            yield Case(
                group=int(group),
                series=series,
                count=int(begun.sum()),
                peak=max(1, int(held.max())),
                first_ts_ns=int(ticks[0] - 1) * series.step_ns,
                last_ts_ns=int(min(over, end_ts_ns)),
                last_begun_ts_ns=int(min(ticks[-1] * series.step_ns, end_ts_ns)),
                flow_ids=tuple(int(flow_id) for flow_id in self._flow_ids.of(int(group))),
            )


class Subjects:
    """Numbers ends: the server's as services, the client's as hosts (port 0)."""

    def __init__(self) -> None:
        self._index = KeyIndex(4)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._index)

    def of(self, flows: np.ndarray, rows: np.ndarray, *, client: bool) -> np.ndarray:
        """Return the number of one end of each of `rows`: int64, shape (n,)."""
        words = np.zeros((len(rows), 4), np.uint64)
        words[:, :3] = endpoint_words(flows, client=client, picks=rows)
        if client:
            words[:, 2] &= ~np.uint64(0xFFFF)
        words[:, 3] = client
        return self._index.intern(words)

    def numbers(self, words: np.ndarray) -> np.ndarray:
        """Return the number of each end that core.spans has put in words (uint64, shape (n, 4)): int64, shape (n,)."""
        return self._index.intern(np.ascontiguousarray(words))

    def merge(self, other: Subjects) -> np.ndarray:
        """Take in those of `other`; return our number for each of its."""
        return self._index.merge(other._index)

    def is_client(self, number: int) -> bool:
        """Return whether it is a client's host."""
        return bool(self._index.keys[number, 3])

    def name(self, number: int) -> str:
        """Return it as text: "ip:port" of a service, or the address of a host."""
        words = self._index.keys[number]
        return words_ip(words[0], words[1], int(words[2]) >> 16) if words[3] else words_endpoint(words[:3])

    def connections(self, number: int, background: Background) -> int | None:
        """Return how many connections a service had; None for a host."""
        words = self._index.keys[number]
        at = np.flatnonzero((background.services == words[:3]).all(axis=1)) if not words[3] else np.empty(0)
        return int(background.of_service[at[0]]) if at.size else None


def of_hosts(
    found: Iterable[tuple[Case, Finding | None]], background: Background, most: int, ratio: str
) -> list[Finding]:
    """Return findings of services; where more than `most` are of one host, one finding of the host in their place.

    Its count, peak, times and connections are those of all of them together, exactly; `ratio` is the name of the
    evidence that says which share of the attempts they are.
    """
    by_host: dict[bytes, list[tuple[Case, Finding]]] = defaultdict(list)
    for case, finding in found:
        if finding is not None:
            by_host[background.services[case.group, :2].tobytes()].append((case, finding))
    told = []
    for pairs in by_host.values():
        findings = [finding for _, finding in pairs]
        told += findings if len(pairs) <= most else [_of_host([case for case, _ in pairs], findings, background, ratio)]
    return told


def _of_host(cases: list[Case], findings: list[Finding], background: Background, ratio: str) -> Finding:
    events = [(case.series.events(BEGUN), case.series.events(OVER)) for case in cases]
    ticks = np.concatenate([part[0] for begun_over in events for part in begun_over])
    changes = np.concatenate([part for begun, over in events for part in (begun[1], -over[1])])
    words = background.services[cases[0].group]
    count = sum(finding.count for finding in findings)
    attempts = sum(finding.evidence["attempts"] for finding in findings)
    ranked = sorted(findings, key=lambda finding: (-finding.count, int(finding.subject.rpartition(":")[2])))
    evidence = {
        "attempts": attempts,
        ratio: round(count / attempts, 4),
        "services": len(findings),
        "ports": [int(finding.subject.rpartition(":")[2]) for finding in ranked[:_PORTS_NAMED]],
        "answered_before": sum(finding.evidence["answered_before"] for finding in findings),
    }
    return replace(
        ranked[0],
        subject=words_ip(words[0], words[1], int(words[2]) >> 16),
        first_ts_ns=min(finding.first_ts_ns for finding in findings),
        last_ts_ns=max(finding.last_ts_ns for finding in findings),
        count=count,
        peak=max(1, int(running_sum(ticks, changes)[1].max())),
        evidence=evidence,
        flow_ids=tuple(sorted(flow_id for finding in findings for flow_id in finding.flow_ids)[:_FLOW_IDS]),
    )
