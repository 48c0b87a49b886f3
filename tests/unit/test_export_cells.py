"""Cells written a batch at a time, against the plain way of writing each value."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from conntrack.addresses import ip_text
from conntrack.core.abi import FLOW_DTYPE
from conntrack.export.cells import Cells, join, texts
from conntrack.export.columns import COLUMNS
from conntrack.states import NO_TIME_NS
from conntrack.times import rfc3339, unix_seconds

BY_NAME = {column.name: column for column in COLUMNS}
TIMES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(1_763_000_000 * 10**9, 1_764_000_000 * 10**9))


def written(name: str, cells: Cells, **fields: Any) -> list[str]:
    flows = np.zeros(len(next(iter(fields.values()))), FLOW_DTYPE)
    for field, values in fields.items():
        flows[field] = values
    page = join((cells.write(BY_NAME[name], flows), b"\n"), len(flows))
    return page.decode("ascii").split("\n")[:-1]


def known(write: Callable[[int], str], unknown: str, values: list[int]) -> list[str]:
    return [unknown if value == NO_TIME_NS else write(value) for value in values]


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 20_000), min_size=1))
def test_integers(values: list[int]) -> None:
    assert written("client_payload_bytes", Cells(), client_payload_bytes=values) == [str(value) for value in values]


@given(st.lists(st.integers(0, 65_535), min_size=1))
def test_ports(values: list[int]) -> None:
    assert written("client_port", Cells(), client_port=values) == [str(value) for value in values]


@given(st.lists(TIMES, min_size=1))
def test_times(values: list[int]) -> None:
    assert written("syn_ts", Cells(), syn_ts_ns=values) == known(rfc3339, "", values)
    assert written("syn_ts", Cells(epoch=True), syn_ts_ns=values) == known(unix_seconds, "", values)
    quoted = known(lambda ts_ns: f'"{rfc3339(ts_ns)}"', "null", values)
    assert written("syn_ts", Cells(json=True), syn_ts_ns=values) == quoted
    assert written("syn_ts", Cells(json=True, epoch=True), syn_ts_ns=values) == known(unix_seconds, "null", values)


@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.sampled_from((4, 6))), min_size=1))
def test_addresses(ends: list[tuple[bytes, int]]) -> None:
    packed = np.frombuffer(b"".join(raw for raw, _ in ends), np.uint8).reshape(-1, 16)
    versions = [version for _, version in ends]
    expected = [ip_text(raw, version) for raw, version in ends]
    assert written("client_ip", Cells(), client_ip=packed, ip_version=versions) == expected


@given(st.lists(st.integers(0, 2**15 - 1), min_size=1))
def test_flags_are_names_in_the_order_of_their_bits(values: list[int]) -> None:
    words = BY_NAME["flags"].words
    names = [[word for bit, word in enumerate(words) if value >> bit & 1] for value in values]
    assert written("flags", Cells(), flags=values) == ["|".join(each) for each in names]
    assert [json.loads(cell) for cell in written("flags", Cells(json=True), flags=values)] == names


def test_words_and_history() -> None:
    assert written("server_state", Cells(), server_state=[7, 0]) == ["CLOSE_WAIT", "CLOSED"]
    assert written("server_state", Cells(json=True), server_state=[2]) == ['"SYN_SENT"']
    letters = np.zeros((2, 32), np.uint8)
    letters[0, :3] = np.frombuffer(b"ShA", np.uint8)
    assert written("zeek_history", Cells(), history=letters) == ["ShA", ""]
    assert written("zeek_history", Cells(json=True), history=letters) == ['"ShA"', '""']


def test_durations_have_a_sign_and_nine_decimals() -> None:
    times = {"first_ts_ns": [10, 0, 0], "last_ts_ns": [4, 0, 3_000_000_001]}
    assert written("duration_s", Cells(), **times) == ["-0.000000006", "0.000000000", "3.000000001"]


def test_texts_of_no_rows_is_empty() -> None:
    assert texts(BY_NAME["zeek_history"], np.zeros(0, FLOW_DTYPE)) == []
