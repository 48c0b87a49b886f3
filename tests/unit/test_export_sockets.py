"""Sockets as lines, against the plain way of writing each value."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrack.addresses import ip_text
from conntrack.core.abi import SOCKET_DTYPE
from conntrack.export import make_exporter
from conntrack.export.columns import SCHEMA_VERSION, SOCKET_COLUMNS
from conntrack.states import NO_TIME_NS, Evidence, TcpState
from conntrack.times import rfc3339, unix_seconds

NAMES = [column.name for column in SOCKET_COLUMNS]
TIMES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(1_763_000_000 * 10**9, 1_764_000_000 * 10**9),
    st.sampled_from((NO_TIME_NS, 0, -1, 951_782_399 * 10**9, 951_868_800 * 10**9, 4_107_542_400 * 10**9)),
)
ENDS = st.binary(min_size=16, max_size=16)
SOCKETS = st.tuples(
    st.integers(0, 2**48 - 1), TIMES, TIMES, ENDS, ENDS, st.integers(0, 65_535), st.integers(0, 65_535),
    st.sampled_from((4, 6)), st.sampled_from(list(TcpState)), st.sampled_from(list(Evidence)),
)  # fmt: skip


def rows_of(drawn: list[tuple[Any, ...]]) -> np.ndarray[Any, Any]:
    rows = np.zeros(len(drawn), SOCKET_DTYPE)
    for row, values in zip(rows, drawn, strict=True):
        for name, value in zip(SOCKET_DTYPE.names or (), values, strict=False):
            row[name] = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
    return rows


def plain(row: np.void, *, epoch: bool) -> list[Any]:
    """The values of a row, as NDJSON has them."""

    def time(ts_ns: int) -> str | None:
        return None if ts_ns == NO_TIME_NS else (unix_seconds if epoch else rfc3339)(ts_ns)

    version = int(row["ip_version"])
    return [
        TcpState(row["state"]).name,
        ip_text(row["local_ip"], version),
        int(row["local_port"]),
        ip_text(row["remote_ip"], version),
        int(row["remote_port"]),
        time(int(row["since_ts_ns"])),
        Evidence(row["evidence"]).name.lower(),
        time(int(row["at_ts_ns"])),
        int(row["flow_id"]),
        SCHEMA_VERSION,
    ]


@pytest.mark.parametrize("epoch", [False, True])
@pytest.mark.parametrize(("name", "separator"), [("tsv", "\t"), ("csv", ",")])
@given(drawn=st.lists(SOCKETS, max_size=20))
def test_delimited(name: str, separator: str, epoch: bool, drawn: list[tuple[Any, ...]]) -> None:
    rows = rows_of(drawn)
    exporter = make_exporter(name, of="sockets", epoch=epoch)
    text = (exporter.header() + exporter.rows(rows)).decode("ascii")
    wanted = [["" if value is None else str(value) for value in plain(row, epoch=epoch)] for row in rows]
    assert list(csv.reader(io.StringIO(text), delimiter=separator)) == [NAMES, *wanted]


@pytest.mark.parametrize("epoch", [False, True])
@given(drawn=st.lists(SOCKETS, max_size=20))
def test_ndjson(epoch: bool, drawn: list[tuple[Any, ...]]) -> None:
    rows = rows_of(drawn)
    exporter = make_exporter("ndjson", of="sockets", epoch=epoch)
    assert exporter.header() == b""
    lines = exporter.rows(rows).decode("ascii").splitlines()
    seen = [json.loads(line, parse_float=str) for line in lines]
    assert [list(line) for line in seen] == [NAMES] * len(rows)
    assert [list(line.values()) for line in seen] == [plain(row, epoch=epoch) for row in rows]


def test_more_rows_than_are_written_at_a_time() -> None:
    rows = np.zeros(10_000, SOCKET_DTYPE)
    rows["flow_id"] = np.arange(10_000)
    exporter = make_exporter("tsv", of="sockets")
    lines = exporter.rows(rows[::3]).decode("ascii").splitlines()
    assert [int(line.rsplit("\t", 2)[1]) for line in lines] == list(range(0, 10_000, 3))
