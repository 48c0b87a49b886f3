"""connection_refused: a service that answers SYNs with RST: nobody listens on the port, or a firewall says so."""

from __future__ import annotations

import numpy as np

from conntrack.core.keys import endpoint_words, hash_words
from conntrack.core.survey import Attempt, Trait
from conntrack.detect.batch import Background, Batch
from conntrack.detect.cases import Case, Cases, of_hosts
from conntrack.detect.distinct import Distinct
from conntrack.detect.finding import Finding, few_lone_ones, worst_first
from conntrack.detect.limits import WHOLE, Limits
from conntrack.detect.options import DetectOptions

__all__ = ["ConnectionRefused"]


class ConnectionRefused:
    """Finds services that refuse connections (RFC 9293 section 3.5.2, group 1: a RST to a SYN for a closed port).

    From the first refusal to the last, more than `refused_ratio_min` of the attempts were refused. Services with one
    refusal are told if there are at most `lone_subjects_max` of them; more are a scan. More than `host_services_max`
    services of a host are one finding of the host. Severity: info.
    """

    kind = "connection_refused"

    def __init__(self, options: DetectOptions | None = None, limits: Limits = WHOLE) -> None:
        self.options = options or DetectOptions()
        self._cases = Cases(limits)
        self._clients = Distinct(self.options.sources_exact, limits.values)

    def feed(self, batch: Batch) -> None:
        """Take in a batch."""
        rows = batch.having(Trait.REFUSED)
        if not rows.size:
            return
        flows, services = batch.rows, batch.services[rows]
        self._cases.add(services, flows["flow_id"][rows], flows["syn_ts_ns"][rows], flows["reset_ts_ns"][rows])
        self._clients.add(services, hash_words(endpoint_words(flows, client=True, picks=rows)[:, :2].copy()))

    def merge(self, other: ConnectionRefused, services: np.ndarray) -> None:
        """Take in what `other` was fed; `services` turns its numbers of services into ours."""
        self._cases.merge(other._cases, services)
        self._clients.merge(other._clients, services)

    def findings(self, background: Background) -> list[Finding]:
        """Return the services that refuse."""
        cases = self._cases.with_share(1, self.options.refused_ratio_min, background)
        told = [(case, self._finding(case, background)) for case in cases]
        found = of_hosts(told, background, self.options.host_services_max, "refused_ratio")
        return worst_first(few_lone_ones(found, self.options.lone_subjects_max))[: self.options.subjects_max]

    def _finding(self, case: Case, background: Background) -> Finding | None:
        during = background.attempts_of(case.group, case.first_ts_ns, case.last_begun_ts_ns)
        attempts = max(sum(during.values()), case.count)
        if case.count <= self.options.refused_ratio_min * attempts:
            return None
        before = background.attempts_of(case.group, 0, case.first_ts_ns)
        clients, clients_by = self._clients.count(case.group)
        subject = background.name(case.group)
        port = subject.rpartition(":")[2]
        return Finding(
            kind=self.kind,
            subject=subject,
            severity="info",
            first_ts_ns=case.first_ts_ns,
            last_ts_ns=case.last_ts_ns,
            count=case.count,
            peak=case.peak,
            evidence={
                "attempts": attempts,
                "refused_ratio": round(case.count / attempts, 4),
                "answered_before": before[Attempt.IN_TIME] + before[Attempt.LATE],
                "distinct_clients": clients,
                "distinct_clients_by": clients_by,
            },
            caveats=("A firewall or load balancer in between can send this RST as well as the host itself.",),
            next_steps=(
                f"On the server: ss -tln '( sport = :{port} )' (does anything listen, and on which address?)",
                f"On the server: nft list ruleset | grep -i reset (a firewall that refuses port {port}?)",
            ),
            flow_ids=case.flow_ids,
        )
