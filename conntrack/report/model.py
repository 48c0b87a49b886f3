"""`Report`: everything that was found, as plain data that any renderer can show. Decides and prints nothing.

Built once, at the end (conntrack/pipeline.py). Strings in it are as they came; renderers escape them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from conntrack.detect.finding import Finding

if TYPE_CHECKING:
    import numpy as np

    from conntrack.explain.model import Story
    from conntrack.export.arrow import ArrowTable

__all__ = ["CaptureSummary", "ConnectionCounts", "GroupSeries", "Report", "StateSeries"]


@dataclass(frozen=True, slots=True)
class CaptureSummary:
    """What was read.

    Attributes:
        files: the inputs as given ("-" is standard input).
        bytes: read from them.
        packets: frames in them.
        tcp_segments: those that were tracked.
        first_ts_ns, last_ts_ns: first and last frame, None where there was none.
        skipped: frames left out, by reason.
        time_inversions: segments older than the one before.
        faults: what was damaged, one line each.
        interrupted: whether reading was stopped before the end.
        paths: the outer paths of the connections, by FLOW_DTYPE.path; only plain frames' where flows are not kept.
    """

    files: tuple[str, ...]
    bytes: int
    packets: int
    tcp_segments: int
    first_ts_ns: int | None
    last_ts_ns: int | None
    skipped: dict[str, int] = field(default_factory=dict)
    time_inversions: int = 0
    faults: tuple[str, ...] = ()
    interrupted: bool = False
    paths: tuple[str, ...] = ("",)


@dataclass(frozen=True, slots=True)
class ConnectionCounts:
    """How many connections there were, and in which state each end was last seen; all 11 states, zeros included.

    Attributes:
        total: how many there were.
        client_states, server_states: state to number of ends.
        evicted: those of them that were given up to stay within the memory budget, in the state they had then.
    """

    total: int
    client_states: dict[str, int]
    server_states: dict[str, int]
    evicted: int = 0


@dataclass(frozen=True, slots=True)
class StateSeries:
    """How many ends were in each state, at instants `step_ns` apart.

    Attributes:
        first_ts_ns: the first instant.
        step_ns: from one to the next.
        client, server: state to counts, one an instant; states that never occur are left out.
    """

    first_ts_ns: int
    step_ns: int
    client: dict[str, list[int]]
    server: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class GroupSeries:
    """The same by service (the servers' ends) and by host (all of its ends), for those with the most at once.

    Attributes:
        first_ts_ns: the first instant.
        step_ns: from one to the next, a second or more.
        services, hosts: name to state to counts; the busiest first.
        services_rest: state to counts, of the servers' ends of all other services together.
        services_total: how many services there are.
        clients_counted, unproven_clients_counted: whether the hosts of clients that got past a handshake, and of those
            that never did, are among `hosts`; they are not once there are more than 65,536 of a kind.
    """

    first_ts_ns: int
    step_ns: int
    services: dict[str, dict[str, list[int]]]
    services_rest: dict[str, list[int]]
    services_total: int
    hosts: dict[str, dict[str, list[int]]]
    clients_counted: bool = True
    unproven_clients_counted: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """What `conntrack.analyze` returns; an Arrow stream of its connections, and a page for a notebook.

    Attributes:
        findings: the worst first.
        series, group_series: ends by state over time, of all connections and by service and host.
        services: the busiest first, as detect.services.ServiceSummary.result gives them.
        flows: every connection (FLOW_DTYPE), only where it was asked to keep them.
        chosen: the connections to show one by one, in the order of chosen.py (FLOW_DTYPE); None where none were kept.
        stories: connections behind findings, segment by segment, where the capture was read a second time for them.
        summarised: what was kept less of than there was, because it went on for long: a sentence each (ctrack live).
    """

    capture: CaptureSummary
    connections: ConnectionCounts
    findings: tuple[Finding, ...]
    series: StateSeries | None = None
    group_series: GroupSeries | None = None
    services: tuple[dict[str, Any], ...] = ()
    flows: np.ndarray[Any, Any] | None = None
    chosen: np.ndarray[Any, Any] | None = None
    stories: tuple[Story, ...] = ()
    summarised: tuple[str, ...] = ()

    def to_html(self, *, epoch: bool = False) -> str:
        """Return the report as one HTML page that needs nothing else: no network, no other file (report/html.py).

        The ladders of connections are in it if the report was made with `analyze(..., ladders=True)`.

        Args:
            epoch: times in unix seconds instead of dates.

        Raises:
            ModuleNotFoundError: jinja2 is not installed.
        """
        from conntrack.report.html import render_html

        return render_html(self, epoch=epoch)

    def __arrow_c_schema__(self) -> object:
        """Return the schema of `__arrow_c_stream__`."""
        return self._connections().__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return `flows` as an Arrow stream, for whatever takes one: `polars.DataFrame(report)`.

        `conntrack.to_arrow(report, ...)` gives chosen columns, or addresses as bytes.

        Raises:
            ValueError: the report was made without keeping the connections.
        """
        return self._connections().__arrow_c_stream__(requested_schema)

    def _connections(self) -> ArrowTable:
        from conntrack.export.arrow import to_arrow

        return to_arrow(self)

    def _repr_html_(self) -> str:
        """Return the page for a notebook's cell: in a frame of its own, which can reach nothing of the notebook."""
        from conntrack.report.html import render_frame

        return render_frame(self)
