"""The page's numbers: read back they are what they were, and a reduced series keeps every peak."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from flow_rows import T0, flow, flows
from hypothesis import given
from hypothesis import strategies as st

from conntrack.report.packed import pack, pack_rows, reduced


def unpacked(column: dict[str, str]) -> list[Any]:
    return np.frombuffer(base64.b64decode(column["d"]), "<" + column["t"]).tolist()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 255], "u1"),
        ([0, 256], "u2"),
        ([65_536], "u4"),
        ([1 << 32], "f8"),
        ([-1], "f8"),
        ([0.5], "f8"),
        ([], "u1"),
    ],
)
def test_a_column_takes_the_room_that_it_needs(values: list[Any], kind: str) -> None:
    column = pack(np.array(values, dtype=None if values else np.uint64))
    assert column["t"] == kind
    assert unpacked(column) == values


def test_rows_come_back() -> None:
    rows = flows(
        flow("10.0.0.9:1", "[2001:db8::1]:443", first_ts=1.5, last_ts=4),
        flow(
            "9.0.0.0:65535", "10.0.0.9:80", client_syns=1, server_syns=1, syn_ts=2, synack_ts=2.25, established_ts=2.5
        ),
    )
    rows["ip_version"][0] = 6
    packed = pack_rows(rows, T0)
    column = {name: unpacked(values) for name, values in packed["columns"].items()}
    assert packed["rows"] == 2
    assert packed["ips"] == ["9.0.0.0", "10.0.0.9", "::ffff:10.0.0.9", "2001:db8::1"], "in order, and by version"
    assert [packed["ips"][at] for at in column["server_ip"]] == ["2001:db8::1", "10.0.0.9"]
    assert column["client_port"] == [1, 65_535]
    assert column["start"] == [1.5, 2.0]
    assert column["duration"] == [2.5, 0.5]
    assert np.isnan(column["handshake"][0]) and column["handshake"][1] == 0.5
    assert pack_rows(rows[:0], T0)["ips"] == []


def test_what_few_captures_have_is_there_if_a_row_has_it() -> None:
    rows = flows(flow("10.0.0.1:1", "10.0.0.2:80"), flow("10.0.0.1:1", "10.0.0.2:80"))
    assert not {"tag", "reused"} & pack_rows(rows, T0)["columns"].keys()
    rows["tag"][1], rows["reused_age_ns"][0] = 7, 2_500_000_000
    column = {name: unpacked(values) for name, values in pack_rows(rows, T0)["columns"].items()}
    assert column["tag"] == [0, 7]
    assert column["reused"][0] == 2.5 and np.isnan(column["reused"][1])


@given(st.lists(st.integers(0, 10**6), max_size=300), st.integers(1, 50))
def test_no_peak_and_no_trough_is_lost(values: list[int], half: int) -> None:
    kept = reduced(values, 2 * half)
    if len(values) <= 2 * half:
        assert kept == values
        return
    assert len(kept) == 2 * half
    for stretch in range(half):
        part = values[stretch * len(values) // half : (stretch + 1) * len(values) // half]
        pair = kept[2 * stretch : 2 * stretch + 2]
        assert sorted(pair) == [min(part), max(part)]
        assert pair[0] == next(value for value in part if value in pair), "in their order"
