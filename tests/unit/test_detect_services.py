"""The summary by service."""

from __future__ import annotations

import numpy as np
import pytest
from detected import everything
from flow_rows import at, completed, flow, flows, half_open, many, refused, unanswered


def summary(rows, most=50):
    return everything(rows).services(most)


def test_what_a_service_did():
    rows = flows(
        many(completed(), np.arange(7)), half_open(), many(unanswered(), np.arange(2)), refused(),
        flow(syn_ts=0.0, synack_ts=0.1, established_ts=0.2, client_since_ts=0.2, server_since_ts=0.2),
        completed(server="[::1]:53", client="[::1]:5000"),
    )  # fmt: skip
    web, dns = summary(rows)
    assert (web["service"], dns["service"]) == ("10.0.0.2:80", "[::1]:53")
    counted = {
        name: web[name] for name in ("connections", "established", "refused", "unanswered", "open_at_end", "reset")
    }
    assert counted == {
        "connections": 12, "established": 8, "refused": 1, "unanswered": 2, "open_at_end": 1, "reset": 0,
    }  # fmt: skip
    assert web["server_payload_bytes"] == 7000
    assert web["client_states"] == {"CLOSED": 11, "ESTABLISHED": 1}
    assert web["server_states"] == {"CLOSED": 9, "LISTEN": 2, "ESTABLISHED": 1}
    assert [row["service"] for row in summary(rows, most=1)] == ["10.0.0.2:80"]


def test_handshake_quantiles_are_close():
    rng = np.random.default_rng(5)
    took = rng.lognormal(-4, 1, 5000)
    rows = many(completed(), np.zeros(5000))
    rows["established_ts_ns"] = at(0) + (took * 1e9).astype(np.int64)
    (row,) = summary(rows)
    for quantile in (0.5, 0.95, 0.99):
        assert row[f"handshake_p{quantile * 100:.0f}_s"] == pytest.approx(np.quantile(took, quantile), rel=0.1)


def test_a_service_nobody_reached_has_no_handshake_time():
    (row,) = summary(unanswered())
    assert row["handshake_p50_s"] is None
    assert everything().services() == []


def test_most_services_are_kept_apart():
    rows = many(completed(), np.zeros(5000))
    rows["server_port"] = 1 + np.arange(5000) % 2500
    result = summary(rows, most=5000)
    assert len(result) == 2500
    assert {row["connections"] for row in result} == {2}
