"""unanswered_syn: a service whose clients send SYN after SYN and get nothing back: down, filtered, or overloaded.

Only clients that show themselves to be real are believed: they repeat their SYN (RFC 6298 section 2: after a second),
or several come. Crowds of SYNs of which most are tried once are a scan or a flood, and told there.
"""

from __future__ import annotations

import numpy as np

from conntrack.core.keys import endpoint_words, hash_words
from conntrack.core.survey import Attempt, Trait
from conntrack.detect.batch import Background, Batch
from conntrack.detect.cases import Case, Cases, ended, of_hosts
from conntrack.detect.columns import ns_of
from conntrack.detect.distinct import Distinct
from conntrack.detect.episodes import window_sums
from conntrack.detect.finding import Finding, few_lone_ones, worst_first
from conntrack.detect.limits import WHOLE, Limits
from conntrack.detect.options import DetectOptions

__all__ = ["UnansweredSyn"]

_ALONE, _REPEATED, _SYNS, _LAST = 2, 3, 4, 5


class UnansweredSyn:
    """Finds services that answer nobody, for the whole capture or from some moment on.

    From the first unanswered SYN to the last, more than `unanswered_ratio_min` of the attempts got no answer; at least
    one of them repeated its SYN, or there are `unanswered_min` clients; and no more than `syn_once_ratio` were tried
    only once where there are `syn_window_syns` at the rate or from the sources of a flood (`syn_source_rate_per_s`,
    `syn_sources_min`, `syn_tries_per_source_max`): clients with an impatient timeout come back instead. More than
    `host_services_max` such services are one finding of their host. Severity: info. A service that is down has better
    witnesses than a capture.
    """

    kind = "unanswered_syn"

    def __init__(self, options: DetectOptions | None = None, limits: Limits = WHOLE) -> None:
        self.options = options or DetectOptions()
        self._cases = Cases(limits)
        self._clients = Distinct(self.options.sources_exact, limits.values)

    def feed(self, batch: Batch) -> None:
        """Take in a batch."""
        rows = batch.having(Trait.UNANSWERED)
        if not rows.size:
            return
        flows, services = batch.rows, batch.services[rows]
        syn, syns = flows["syn_ts_ns"][rows], flows["client_syns"][rows].astype(np.int64)
        self._cases.add(services, flows["flow_id"][rows], syn, ended(flows["closed_ts_ns"][rows]))
        last = flows["last_ts_ns"][rows]
        # SYNs within a moment of each other are no repetition of a TCP that waits for an answer.
        alone = (syns <= 1) | (last - syn < ns_of(self.options.handshake_wait_s / 2))
        self._cases.note(services[alone], syn[alone], _ALONE)
        self._cases.note(services[~alone], syn[~alone], _REPEATED)
        self._cases.note(services, syn, _SYNS, syns)
        self._cases.note(services, last, _LAST)
        self._clients.add(services, hash_words(endpoint_words(flows, client=True, picks=rows)[:, :2].copy()))

    def merge(self, other: UnansweredSyn, services: np.ndarray) -> None:
        """Take in what `other` was fed; `services` turns its numbers of services into ours."""
        self._cases.merge(other._cases, services)
        self._clients.merge(other._clients, services)

    def findings(self, background: Background) -> list[Finding]:
        """Return the services that answer nobody."""
        cases = self._cases.with_share(1, self.options.unanswered_ratio_min, background)
        told = [(case, self._finding(case, background)) for case in cases]
        found = of_hosts(told, background, self.options.host_services_max, "unanswered_ratio")
        return worst_first(few_lone_ones(found, self.options.lone_subjects_max))[: self.options.subjects_max]

    def _finding(self, case: Case, background: Background) -> Finding | None:
        options, series = self.options, case.series
        settled = background.end_ts_ns - ns_of(options.syn_retry_wait_s)
        alone, repeated = series.total(_ALONE, 0, settled), series.total(_REPEATED)
        unanswered = alone + repeated
        clients, clients_by = self._clients.count(case.group)
        if not repeated and clients < options.unanswered_min:
            return None
        forged = clients >= options.syn_sources_min and unanswered <= options.syn_tries_per_source_max * clients
        window = max(1, ns_of(options.syn_window_s) // series.step_ns)
        fast = window_sums(*series.events(_ALONE), window)[1].max(initial=0)
        flood = forged or fast >= options.syn_source_rate_per_s * options.syn_window_s
        if flood and alone > options.syn_once_ratio * unanswered and unanswered >= options.syn_window_syns:
            return None
        last_syn_ts_ns = int(series.events(_LAST)[0].max(initial=0)) * series.step_ns
        during = background.attempts_of(case.group, case.first_ts_ns, last_syn_ts_ns)
        attempts = max(sum(during.values()), case.count)
        if unanswered <= options.unanswered_ratio_min * attempts:
            return None
        before = background.attempts_of(case.group, 0, case.first_ts_ns)
        answered_before = before[Attempt.IN_TIME] + before[Attempt.LATE]
        subject = background.name(case.group)
        port = subject.rpartition(":")[2]
        caveats = [
            "Only TCP is read: an ICMP answer (unreachable, prohibited) would not show here.",
            "The answers may take another way than the one that was captured.",
        ]
        if not repeated:
            caveats.append("Nobody repeated the SYN: a scanner, or clients with a timeout of a second or less.")
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
                "unanswered_ratio": round(case.count / attempts, 4),
                "syns": series.total(_SYNS),
                "repeated": repeated,
                "answered_before": answered_before,
                "distinct_clients": clients,
                "distinct_clients_by": clients_by,
            },
            caveats=tuple(caveats),
            next_steps=(
                f"On the server: ss -tln '( sport = :{port} )' (does anything listen?)",
                f"On the server: nft list ruleset | grep -w {port}; nstat -az TcpExtListenDrops TcpExtTCPReqQFullDrop",
                f"On the server: tcpdump -ni any 'tcp port {port} and tcp[13] & 2 != 0' (do the SYNs arrive?)",
            ),
            flow_ids=case.flow_ids,
        )
