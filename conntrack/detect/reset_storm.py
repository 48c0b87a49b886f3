"""reset_storm: open connections that are cut by RST in great numbers at once, none of them closed by a FIN before.

One RST is how programs end a connection in a hurry; hundreds within seconds are a process that died, a server that was
restarted, or a device in between that lost its table.
"""

from __future__ import annotations

import numpy as np

from conntrack.core.survey import Trait
from conntrack.detect.batch import Background, Batch
from conntrack.detect.cases import Case, Cases
from conntrack.detect.columns import ns_of
from conntrack.detect.episodes import around_peak, window_sums
from conntrack.detect.finding import Finding, worst_first
from conntrack.detect.limits import WHOLE, Limits
from conntrack.detect.options import DetectOptions
from conntrack.states import ClosedBy

__all__ = ["ResetStorm"]

_BY_SERVER = 2


class ResetStorm:
    """Finds services whose open connections are reset in numbers.

    `reset_storm_count` within `reset_storm_window_s`, and `reset_storm_ratio_min` of all of the service's connections.
    Severity: warning where the server resets at least half of them; where the clients do, info (it is how many load
    generators, health checks and impatient clients close).
    """

    kind = "reset_storm"

    def __init__(self, options: DetectOptions | None = None, limits: Limits = WHOLE) -> None:
        self.options = options or DetectOptions()
        self._cases = Cases(limits)

    def feed(self, batch: Batch) -> None:
        """Take in a batch."""
        rows = batch.having(Trait.ABORTED)
        if not rows.size:
            return
        flows, services = batch.rows, batch.services[rows]
        reset = flows["reset_ts_ns"][rows]
        self._cases.add(services, flows["flow_id"][rows], reset, reset)
        by_server = flows["closed_by"][rows] == ClosedBy.SERVER
        self._cases.note(services[by_server], reset[by_server], _BY_SERVER)

    def merge(self, other: ResetStorm, services: np.ndarray) -> None:
        """Take in what `other` was fed; `services` turns its numbers of services into ours."""
        self._cases.merge(other._cases, services)

    def findings(self, background: Background) -> list[Finding]:
        """Return the storms, worst first."""
        least = self.options.reset_storm_count
        cases = self._cases.with_least(least, len(background.services), background.end_ts_ns)
        return worst_first(self._finding(case, background) for case in cases)[: self.options.subjects_max]

    def _finding(self, case: Case, background: Background) -> Finding | None:
        options, series = self.options, case.series
        window = max(1, ns_of(options.reset_storm_window_s) // series.step_ns)
        ticks, counts = series.events(0)
        instants, sums = window_sums(ticks, counts, window)
        connections = int(background.of_service[case.group])
        if sums.max() < options.reset_storm_count or case.count < options.reset_storm_ratio_min * connections:
            return None
        low, high = around_peak(sums)
        first = int(ticks[np.searchsorted(ticks, instants[low] - window, side="right")])
        last = int(ticks[np.searchsorted(ticks, instants[high], side="right") - 1])
        by_server = series.total(_BY_SERVER)
        subject = background.name(case.group)
        server = 2 * by_server >= case.count
        return Finding(
            kind=self.kind,
            subject=subject,
            severity="warning" if server else "info",
            first_ts_ns=(first - 1) * series.step_ns,
            last_ts_ns=min(last * series.step_ns, background.end_ts_ns),
            count=int(counts[(ticks >= first) & (ticks <= last)].sum()),
            peak=int(sums.max()),
            evidence={
                "reset_by_server": by_server,
                "reset_by_client": case.count - by_server,
                "window_s": options.reset_storm_window_s,
                "service_connections": connections,
                "reset_ratio": round(case.count / connections, 4),
            },
            caveats=(
                "A RST names the address of an end; a firewall or load balancer in between can have sent it.",
                "The peak is the number within the window, not at one instant.",
            ),
            next_steps=(
                "On the server: journalctl -e; dmesg | tail (was the process restarted, killed, out of memory?)"
                if server
                else "At the clients: do they time out, or close with SO_LINGER 0?",
                "nstat -az TcpExtTCPAbortOnClose TcpExtTCPAbortOnData TcpExtTCPAbortOnMemory TcpOutRsts",
            ),
            flow_ids=case.flow_ids,
        )
