"""A full accept queue that clients meet one by one: only SYNs without an answer, and connections never served."""

from __future__ import annotations

import detected
import numpy as np
from flow_rows import at, completed, flow, flows, half_open, many, unanswered

from conntrack.detect import AcceptQueueOverflow, SynFlood

END = at(100)


def waiting(start: float) -> np.ndarray:
    """Return an open connection whose client has asked, and whose server has only acknowledged."""
    return flow(
        first_ts=start, syn_ts=start, synack_ts=start + 0.01, established_ts=start + 0.02, client_packets=3,
        server_packets=2, client_syns=1, server_syns=1, client_payload_bytes=100,
    )  # fmt: skip


def found(*rows: np.ndarray) -> list[tuple[str, str, int, int]]:
    findings = detected.found(AcceptQueueOverflow, flows(*rows), END)
    return [(one.severity, one.subject, one.count, one.evidence["waiting_before"]) for one in findings]


IN_VAIN = [unanswered(10.0 + n, 4) for n in range(8)]


def test_a_queue_that_nobody_empties_is_found() -> None:
    assert found(*(waiting(n) for n in range(5)), *IN_VAIN) == [("warning", "10.0.0.2:80", 8, 5)]


def test_a_service_that_is_down_is_not() -> None:
    assert found(*IN_VAIN) == []
    assert found(*(completed(n) for n in range(5)), *IN_VAIN) == []


def test_what_waits_only_afterwards_is_no_reason() -> None:
    assert found(*(waiting(60.0 + n) for n in range(5)), *IN_VAIN) == []


def test_a_few_in_vain_among_many_are_not() -> None:
    assert found(*(waiting(n) for n in range(5)), *IN_VAIN, *(completed(10.0 + n / 4) for n in range(30))) == []


def test_a_slow_flood_is_seen_behind_honest_clients() -> None:
    flood = many(half_open(0, server_syns=6), np.arange(0, 90, 0.5))
    honest = many(completed(0), np.arange(0, 90, 0.2))
    (finding,) = detected.found(SynFlood, np.concatenate([flood, honest]), END)
    assert (finding.severity, finding.evidence["shape"]) == ("warning", "slow")
    assert 0.7 < finding.evidence["completion_ratio"] < 0.75
