"""The way from captures to a report, put together: capture, tracker, detectors, Report. For Python and for the command.

Owns the order of the steps and nothing else: `Analysis` and `flow_batches` take what they are handed, `analyze` and
`track` open captures as well. Prints nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from conntrack.capture import open_capture
from conntrack.core.abi import FLOW_DTYPE
from conntrack.detect import DETECTORS, Detection, DetectOptions
from conntrack.detect.limits import WHOLE, Limits
from conntrack.report.chosen import Chosen, put_first
from conntrack.report.model import CaptureSummary, ConnectionCounts, GroupSeries, Report, StateSeries
from conntrack.sharded import make_tracker
from conntrack.states import TcpState

if TYPE_CHECKING:
    from conntrack.capture import Capture, CaptureInfo
    from conntrack.detect.finding import Finding

__all__ = ["Analysis", "analyze", "flow_batches", "look_again", "read_segments", "track"]

Path = str | os.PathLike[str]
Reader = Literal["native", "pyshark"]
Segments = np.ndarray[Any, Any]

_OCTETS = f"V{FLOW_DTYPE.itemsize}"  # a row: numpy copies structs field by field
LADDERS_EACH = 3
"""Connections behind a finding whose segments are told, the first ones."""
MOST_LADDERS = 30
"""Of all findings together; about 10 kB of page each."""


def read_segments(
    *paths: Path, filter: str | None = None, reader: Reader = "native", display_filter: str | None = None
) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the TCP segments of captures, in batches of SEGMENT_DTYPE, each valid until the next is asked for.

    Args:
        paths: captures, taken as one in order of time; "-" is standard input.
        filter: only frames that pass this expression of pcap-filter(7) are decoded.
        reader: "pyshark" has tshark dissect the files, a thousand times slower (capture.pyshark).
        display_filter: Wireshark's, for reader "pyshark".

    Raises:
        InputError: an input cannot be opened or is of no supported kind.
        CaptureError: an input is damaged or cut short; raised at the end, after everything that could be read.

    Example:
        >>> import conntrack
        >>> sum(len(segments) for segments in conntrack.read_segments("tests/captures/incident.pcap"))
        6057
    """
    with open_capture(paths, filter=filter, reader=reader, display_filter=display_filter) as capture:
        yield from capture
        if capture.info.faults:
            raise capture.info.faults[0]


class AnyTracker(Protocol):
    """What takes segments and gives rows: Tracker, ShardedTracker, cluster.spill.SpillTracker."""

    @property
    def feeds(self) -> int: ...
    def deliver_to(self, feeds: Sequence[Callable[[Segments], None]]) -> None: ...
    def process(self, segments: Segments) -> None: ...
    def retired(self) -> Iterator[Segments]: ...
    def finish(self, *, ordered: bool = True) -> Iterator[Segments]: ...
    def close(self) -> None: ...


def flow_batches(
    segment_batches: Iterable[np.ndarray[Any, Any]], tracker: AnyTracker, *, ordered: bool = True
) -> Iterator[np.ndarray[Any, Any]]:
    """Yield every connection of `segment_batches` once, in batches of FLOW_DTYPE: when it is over, or at the end.

    Args:
        segment_batches: SEGMENT_DTYPE, shape (n,) each.
        tracker: a new one; it is finished and closed after this.
        ordered: the connections that are left at the end come by flow_id (see Tracker.finish).
    """
    try:
        for segments in segment_batches:
            tracker.process(segments)
            yield from tracker.retired()
        yield from tracker.finish(ordered=ordered)
    finally:
        tracker.close()


def track(
    *paths: Path,
    profile: str = "linux",
    threads: int | None = None,
    max_memory: int | None = None,
    tag_in_key: bool = False,
    filter: str | None = None,
    reader: Reader = "native",
    display_filter: str | None = None,
) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the connections of captures in batches of FLOW_DTYPE, each connection once, when it is over.

    Args:
        paths: captures, taken as one in order of time; "-" is standard input.
        profile: whose timers the hosts keep (timeouts.PROFILES).
        threads: how many work, by default one for each core; the rows are the same, in the same order.
        max_memory: bytes for the connections alive at one time, by default half of the memory that there is; beyond
            them those that were idle for longest end as EndReason.EVICTED (upkeep.py).
        tag_in_key: the VLAN ids or the tunnel's identifier are part of what makes a connection (Tracker).
        filter: only frames that pass this expression of pcap-filter(7) are decoded.
        reader: "pyshark" has tshark dissect the files, a thousand times slower (capture.pyshark).
        display_filter: Wireshark's, for reader "pyshark".

    Raises:
        InputError: an input cannot be opened or is of no supported kind.
        CaptureError: an input is damaged or cut short; raised at the end, after every connection was yielded.

    Example:
        >>> import conntrack
        >>> leaked = 0
        >>> for flows in conntrack.track("tests/captures/incident.pcap"):
        ...     leaked += int((flows["server_state"] == conntrack.CLOSE_WAIT).sum())
        >>> leaked
        76
    """
    with open_capture(paths, filter=filter, reader=reader, display_filter=display_filter) as capture:
        yield from flow_batches(
            capture, make_tracker(profile, threads=threads, max_memory=max_memory, tag_in_key=tag_in_key)
        )
        if capture.info.faults:
            raise capture.info.faults[0]


def analyze(
    *paths: Path,
    profile: str = "linux",
    options: DetectOptions | None = None,
    keep_flows: bool = True,
    ladders: bool = False,
    threads: int | None = None,
    max_memory: int | None = None,
    tag_in_key: bool = False,
    filter: str | None = None,
    reader: Reader = "native",
    display_filter: str | None = None,
) -> Report:
    """Return what is wrong with the TCP connections of captures.

    A damaged or cut input raises nothing: what came before is used and `report.capture.faults` says so.

    Args:
        paths: captures, taken as one in order of time; "-" is standard input.
        profile: whose timers the hosts keep (timeouts.PROFILES).
        options: thresholds of the detectors.
        keep_flows: put every connection into `report.flows`, about 450 bytes each; without, memory follows the
            connections that are alive at one time.
        ladders: tell some of the connections behind the findings segment by segment, in `report.stories`; the captures
            are read a second time for it, so there are none if one of them is a pipe.
        threads: how many work, by default one for each core; the report is the same.
        max_memory: bytes for the connections alive at one time, by default half of the memory that there is; beyond
            them those that were idle for longest are given up (upkeep.py), and the report says how many.
        tag_in_key: the VLAN ids or the tunnel's identifier are part of what makes a connection (Tracker).
        filter: only frames that pass this expression of pcap-filter(7) are decoded.
        reader: "pyshark" has tshark dissect the files, a thousand times slower (capture.pyshark).
        display_filter: Wireshark's, for reader "pyshark".

    Raises:
        InputError: an input cannot be opened or is of no supported kind.

    Example:
        >>> import conntrack
        >>> report = conntrack.analyze("tests/captures/incident.pcap")
        >>> [(finding.kind, finding.subject) for finding in report.findings if finding.severity != "info"]
        [('syn_flood', '10.9.0.2:443'), ('close_wait_leak', '10.9.0.2:8080')]
    """
    analysis = Analysis(options, choose=not keep_flows)
    kept = []

    def reopen() -> Capture:
        return open_capture(paths, filter=filter, reader=reader, display_filter=display_filter)

    with reopen() as capture:
        tracker = make_tracker(profile, threads=threads, max_memory=max_memory, tag_in_key=tag_in_key)
        if keep_flows:
            for flows in flow_batches(capture, tracker):
                analysis.feed(flows)
                kept.append(flows.view(_OCTETS).copy())
        else:
            analysis.follow(capture, tracker)
        flows = np.concatenate(kept).view(FLOW_DTYPE) if kept else np.empty(0, FLOW_DTYPE)
        report = analysis.report(capture.info, flows=flows if keep_flows else None)
    if ladders and capture.info.bytes_total is not None:
        return look_again(report, reopen, profile=profile, tag_in_key=tag_in_key)
    return report


def look_again(
    report: Report,
    reopen: Callable[[], AbstractContextManager[Iterable[Segments]]],
    *,
    profile: str = "linux",
    tag_in_key: bool = False,
) -> Report:
    """Return `report` with the stories of some connections behind its findings, and all of those among the chosen.

    Args:
        report: what was found.
        reopen: gives the segments once more, from the beginning; called twice (or not at all, without findings). If
            they end early or are not what they were, stories are missing.
        profile, tag_in_key: as in the first reading.
    """
    behind = list(dict.fromkeys(flow_id for finding in report.findings for flow_id in finding.flow_ids))
    told = list(dict.fromkeys(flow_id for finding in report.findings for flow_id in finding.flow_ids[:LADDERS_EACH]))
    if not behind:
        return report
    from conntrack.explain import SecondLook, find_tuples  # a report without ladders starts without them

    with reopen() as batches:
        tuples = find_tuples(batches, behind, tag_in_key=tag_in_key)
    look = SecondLook(tuples, told[:MOST_LADDERS], profile=profile)
    with reopen() as batches:
        for batch in batches:
            look.feed(batch)
    rows, stories = look.finish()
    chosen = None if report.chosen is None else put_first(report.chosen, behind, rows)
    return replace(report, chosen=chosen, stories=tuple(stories))


class Analysis:
    """Everything that a report says of connections, fed batch by batch.

    Args:
        options: thresholds of the detectors.
        choose: keep the connections that are worth showing one by one (report.chosen), 10 MB at most.
        limits: how much the detectors keep.

    Attributes:
        detection: what the detectors were fed.
    """

    def __init__(self, options: DetectOptions | None = None, *, choose: bool = False, limits: Limits = WHOLE) -> None:
        self.detection = Detection(DETECTORS, options, limits)
        self._chosen = Chosen() if choose else None

    def feed(self, flows: np.ndarray[Any, Any]) -> None:
        """Take in connections (FLOW_DTYPE, shape (n,)), each of them once."""
        self.detection.feed(flows)
        self.choose_from(flows)

    def follow(self, segment_batches: Iterable[Segments], tracker: AnyTracker) -> None:
        """Take in every connection of `segment_batches` once, each of the tracker's feeds with its part.

        Args:
            segment_batches: SEGMENT_DTYPE, shape (n,) each.
            tracker: a new one; it is finished and closed after this.
        """
        options, choose = self.detection.options, self._chosen is not None
        parts = [self, *(Analysis(options, choose=choose) for _ in range(tracker.feeds - 1))]
        tracker.deliver_to([part.feed for part in parts])
        for _ in flow_batches(segment_batches, tracker):
            raise AssertionError("rows are delivered")
        for part in parts[1:]:
            self.merge(part)

    def choose_from(self, flows: np.ndarray[Any, Any]) -> None:
        """Keep those of `flows` that are worth showing one by one; they are fed elsewhere and merged."""
        if self._chosen is not None:
            self._chosen.feed(flows)

    def merge(self, other: Analysis) -> None:
        """Take in what `other` was fed: other connections, or none; made with the same options.

        Connections to show are those of both, where both keep them; `choose_from` takes them where one does not.
        """
        self.detection.merge(other.detection)
        if self._chosen is not None and other._chosen is not None:
            self._chosen.merge(other._chosen)

    def narrow(self, end_ts_ns: int) -> None:
        """Let go what is beyond the limits of what is kept (Detection.narrowed); `end_ts_ns` is now."""
        self.detection = self.detection.narrowed(end_ts_ns)

    def report(
        self, info: CaptureInfo, *, interrupted: bool = False, flows: np.ndarray[Any, Any] | None = None
    ) -> Report:
        """Return what was found; `info` is the account of the capture, `flows` what is to be kept with it."""
        states = self.detection.states()
        client_states, server_states = ({state.name: int(counts[state]) for state in TcpState} for counts in states)
        findings = tuple(self.detection.findings(info.last_ts_ns or 0))
        total, evicted = int(states[0].sum()), self.detection.evicted
        if evicted:
            findings = tuple(_with_caveat(finding, evicted, total) for finding in findings)
        behind = [flow_id for finding in findings for flow_id in finding.flow_ids]
        return Report(
            capture=_summary(info, interrupted, keep_paths=flows is not None),
            connections=ConnectionCounts(total, client_states, server_states, evicted),
            findings=findings,
            series=_series(self.detection.series()),
            group_series=_group_series(self.detection.top_series()),
            services=tuple(self.detection.services()),
            flows=flows,
            chosen=None if self._chosen is None else put_first(self._chosen.result(), behind),
        )


def _with_caveat(finding: Finding, evicted: int, total: int) -> Finding:
    caveat = (
        f"{evicted} of {total} connections were given up when they had been idle for longest, to stay within the "
        "memory budget (--max-memory): what came of them later is not known, or counts as connections of its own."
    )
    return replace(finding, caveats=(*finding.caveats, caveat))


def _series(result: dict[str, Any]) -> StateSeries | None:
    if result["first_ts_ns"] is None:
        return None
    client, server = (
        {state: counts for state, counts in result[end].items() if any(counts)} for end in ("client", "server")
    )
    return StateSeries(result["first_ts_ns"], round(result["step_s"] * 1e9), client, server)


def _group_series(result: dict[str, Any]) -> GroupSeries | None:
    if result["first_ts_ns"] is None:
        return None
    services, hosts = ({group["name"]: group["states"] for group in result[kind]} for kind in ("services", "hosts"))
    return GroupSeries(
        first_ts_ns=result["first_ts_ns"],
        step_ns=round(result["step_s"] * 1e9),
        services=services,
        services_rest=result["services_rest"],
        services_total=result["services_total"],
        hosts=hosts,
        clients_counted=result["clients"],
        unproven_clients_counted=result["unproven_clients"],
    )


def _summary(info: CaptureInfo, interrupted: bool, *, keep_paths: bool) -> CaptureSummary:
    return CaptureSummary(
        files=tuple(info.files),
        bytes=info.bytes,
        packets=info.packets,
        tcp_segments=info.tcp_segments,
        first_ts_ns=info.first_ts_ns,
        last_ts_ns=info.last_ts_ns,
        skipped=dict(info.skipped),
        time_inversions=info.time_inversions,
        faults=tuple(str(fault) for fault in info.faults),
        interrupted=interrupted,
        paths=tuple(info.paths) if keep_paths else ("",),
    )
