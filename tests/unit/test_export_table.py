"""The table for a terminal: aligned, fitting, the telling columns first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conntrack.core.abi import FLOW_DTYPE
from conntrack.export.table import Table


def flows(count: int, *, v6: bool = False) -> np.ndarray[Any, Any]:
    rows = np.zeros(count, FLOW_DTYPE)
    rows["flow_id"] = np.arange(1, count + 1)
    rows["client_ip"] = 255 if v6 else np.frombuffer(bytes(10) + b"\xff\xff\x0a\x00\x00\x01", np.uint8)
    rows["server_ip"] = rows["client_ip"]
    rows["client_port"], rows["server_port"] = 60_000, 443
    rows["ip_version"] = 6 if v6 else 4
    rows["client_state"], rows["server_state"] = 6, 7
    rows["last_ts_ns"] = 1_500_000_000
    return rows


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_lines_fit_and_columns_align(width: int) -> None:
    lines = Table(width=width).rows(flows(3)).decode().splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= width
    assert {line.index("CLOSE_WAIT") for line in lines[1:]} == {lines[0].index("server_state")}


def test_a_narrow_terminal_keeps_who_and_which_state() -> None:
    heading, row = Table(width=80).rows(flows(1)).decode().splitlines()
    assert heading.split() == ["flow_id", "client", "server", "client_state", "server_state", "duration_s"]
    assert row.split() == ["1", "10.0.0.1:60000", "10.0.0.1:443", "FIN_WAIT_2", "CLOSE_WAIT", "1.500"]


def test_a_wide_terminal_shows_all() -> None:
    heading = Table(width=300).rows(flows(1)).decode().splitlines()[0]
    assert "first_ts" in heading and heading.endswith("flags")


def test_ipv6_is_never_cut() -> None:
    assert "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:60000" in Table(width=80).rows(flows(1, v6=True)).decode()


def test_later_batches_keep_the_heading_and_may_widen() -> None:
    table = Table(width=100)
    first, second = table.rows(flows(1)), table.rows(flows(1, v6=True))
    assert b"client_state" in first
    assert b"client_state" not in second
