"""Connections as Arrow: every consumer sees the types that the schema says, and what goes out comes back the same."""

from __future__ import annotations

import gc
import io
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars
import pyarrow
import pyarrow.parquet
import pytest
from test_export_columns import many_flows

import conntrack
from conntrack.core.abi import FLOW_DTYPE, SEGMENT_DTYPE, SOCKET_DTYPE
from conntrack.errors import InputError
from conntrack.export import BINARY, make_exporter
from conntrack.export.arrow import BATCH_ROWS, to_arrow
from conntrack.export.columns import COLUMNS, SOCKET_COLUMNS, Column, Kind
from conntrack.export.lines import texts
from conntrack.states import NO_TIME_NS, TcpState

READERS = {
    "parquet": lambda data: pyarrow.parquet.read_table(io.BytesIO(data)),
    "arrow": lambda data: pyarrow.ipc.open_file(data).read_all(),
    "arrows": lambda data: pyarrow.ipc.open_stream(data).read_all(),
}
TYPES = {
    Kind.TIME: pyarrow.timestamp("ns", "UTC"),
    Kind.SECONDS: pyarrow.float64(),
    Kind.WORD: pyarrow.dictionary(pyarrow.int8(), pyarrow.string()),
    Kind.ADDRESS: pyarrow.string(),
    Kind.TEXT: pyarrow.string(),
}


def realistic_flows(count: int) -> np.ndarray[Any, Any]:
    """`many_flows`, but times that Python can print, and durations that a float64 holds to the nanosecond."""
    flows = many_flows(count)
    for name in FLOW_DTYPE.names or ():
        if name.endswith("_ts_ns"):
            unknown = flows[name] == NO_TIME_NS
            flows[name] = 1_700_000_000 * 10**9 + flows[name] % (40 * 86_400 * 10**9)
            flows[name][unknown] = NO_TIME_NS
    for name in ("first_ts_ns", "last_ts_ns"):
        flows[name][flows[name] == NO_TIME_NS] = 1_700_000_000 * 10**9
    return flows


def written(name: str, flows: np.ndarray[Any, Any], **choices: Any) -> bytes:
    exporter = make_exporter(name, **choices)
    return exporter.header() + exporter.rows(flows) + exporter.finish()


def expected(column: Column, flows: np.ndarray[Any, Any]) -> list[Any]:
    """The values as a plain reading of the dtype gives them: by Python, a row at a time."""
    values = column.values(flows)
    match column.kind:
        case Kind.WORD:
            return [column.words[value] for value in values.tolist()]
        case Kind.FLAGS:
            return [[word for bit, word in enumerate(column.words) if value >> bit & 1] for value in values.tolist()]
        case Kind.TIME:
            return [None if value == NO_TIME_NS else value for value in values.tolist()]
        case Kind.SECONDS:
            return [None if value == NO_TIME_NS else value / 1e9 for value in values.tolist()]
        case Kind.ADDRESS | Kind.TEXT:
            return texts(column, flows)
        case Kind.INTEGER:
            return values.tolist()


def assert_holds(table: pyarrow.Table, flows: np.ndarray[Any, Any]) -> None:
    table.validate(full=True)
    assert table.column_names == [column.name for column in COLUMNS]
    for column in COLUMNS:
        got = table[column.name]
        if column.kind is Kind.TIME:
            got = got.cast(pyarrow.int64())
        assert got.to_pylist() == expected(column, flows), column.name


def test_every_column_has_its_type_and_its_values() -> None:
    flows = realistic_flows(3_000)
    table = pyarrow.table(to_arrow(flows))
    for column in COLUMNS:
        wanted = TYPES.get(column.kind)
        if column.kind is Kind.INTEGER:
            wanted = pyarrow.from_numpy_dtype(column.values(flows).dtype)
        if column.kind is Kind.FLAGS:
            wanted = pyarrow.list_(pyarrow.field("item", pyarrow.string(), nullable=False))
        assert table.schema.field(column.name).type == wanted, column.name
    assert table.schema.metadata == {b"conntrack.schema": b"1"}
    assert_holds(table, flows)


@pytest.mark.parametrize("name", BINARY)
def test_a_round_trip_through_a_file_loses_nothing(name: str) -> None:
    flows = realistic_flows(3_000)
    table = READERS[name](written(name, flows))
    assert table.schema.metadata[b"conntrack.schema"] == b"1"
    assert_holds(table, flows)


@pytest.mark.parametrize("name", BINARY)
def test_any_split_into_batches_gives_the_same_rows(name: str) -> None:
    flows = realistic_flows(2_000)
    exporter = make_exporter(name)
    rows = [exporter.rows(part) for part in (flows[:1], flows[1:1], flows[1:])]
    parts = [exporter.header(), *rows, exporter.finish()]
    assert READERS[name](b"".join(parts)).equals(READERS[name](written(name, flows)))


@pytest.mark.parametrize("name", BINARY)
def test_no_rows_make_a_file_with_the_schema(name: str) -> None:
    table = READERS[name](written(name, np.zeros(0, FLOW_DTYPE)))
    assert (table.num_rows, table.column_names) == (0, [column.name for column in COLUMNS])


@pytest.mark.parametrize("name", BINARY)
def test_addresses_as_bytes(name: str) -> None:
    flows = realistic_flows(100)
    table = READERS[name](written(name, flows, addresses="binary"))
    assert table.schema.field("client_ip").type == pyarrow.binary(16)
    assert table["client_ip"].to_pylist() == [bytes(address) for address in flows["client_ip"]]


def test_more_rows_than_a_batch_holds() -> None:
    flows = np.repeat(realistic_flows(7), 10_000)[: BATCH_ROWS + 1]
    table = pyarrow.table(to_arrow(flows, columns=["server_port", "flow_id"]))
    assert [chunk.num_rows for chunk in table.to_batches()] == [BATCH_ROWS, 1]
    assert table["flow_id"].to_numpy().tolist() == flows["flow_id"].tolist()


def test_polars_takes_a_result_as_it_is() -> None:
    flows = realistic_flows(500)
    frame = polars.DataFrame(to_arrow(flows))
    assert frame.schema["first_ts"] == polars.Datetime("ns", "UTC")
    assert frame.schema["client_state"] == polars.Categorical
    assert frame.schema["flags"] == polars.List(polars.String)
    assert frame.schema["client_packets"] == polars.UInt64
    assert frame["client_state"].to_list() == [TcpState(state).name for state in flows["client_state"]]
    assert frame["syn_ts"].is_null().to_list() == (flows["syn_ts_ns"] == NO_TIME_NS).tolist()


def test_duckdb_takes_a_result_as_it_is() -> None:
    flows = realistic_flows(500)
    connection = duckdb.connect()
    connection.register("result", to_arrow(flows))
    types = {name: kind for name, kind, *_ in connection.sql("describe from result").fetchall()}
    assert types["first_ts"] == "TIMESTAMPTZ_NS"
    assert (types["flags"], types["client_state"], types["duration_s"]) == ("VARCHAR[]", "VARCHAR", "DOUBLE")
    counted = dict(connection.sql("select server_state, count(*) from result group by 1").fetchall())
    states, counts = np.unique(flows["server_state"], return_counts=True)
    assert counted == {TcpState(state).name: count for state, count in zip(states, counts.tolist(), strict=True)}


@pytest.mark.parametrize("name", ["parquet"])
def test_duckdb_and_polars_read_the_file_with_the_right_types(name: str, tmp_path: Any) -> None:
    flows = realistic_flows(500)
    path = tmp_path / "flows.parquet"
    path.write_bytes(written(name, flows))
    types = {column: kind for column, kind, *_ in duckdb.sql(f"describe from '{path}'").fetchall()}
    assert (types["first_ts"], types["client_state"]) == ("TIMESTAMPTZ_NS", "VARCHAR")
    assert (types["flags"], types["client_ip"], types["client_packets"]) == ("VARCHAR[]", "VARCHAR", "UBIGINT")
    frame = polars.read_parquet(path)
    assert frame.schema["first_ts"] == polars.Datetime("ns", "UTC")
    assert frame.schema["client_state"] == polars.Categorical
    assert frame["flow_id"].to_list() == flows["flow_id"].tolist()


def test_what_duckdb_and_polars_read_is_what_was_there(tmp_path: Any) -> None:
    """Every column and row of a file: whole addresses, times to the nanosecond, nulls where nothing is known."""
    flows = realistic_flows(700)
    path = tmp_path / "flows.parquet"
    path.write_bytes(written("parquet", flows))
    frame = polars.read_parquet(path)
    times = {column.name for column in COLUMNS if column.kind is Kind.TIME}
    select = ", ".join(f"epoch_ns({name}) as {name}" if name in times else name for name in frame.columns)
    rows = duckdb.sql(f"select {select} from '{path}' order by file_row_number").fetchall()
    for column, cells in zip(COLUMNS, zip(*rows, strict=True), strict=True):
        values = frame[column.name].dt.epoch("ns") if column.name in times else frame[column.name]
        assert values.to_list() == expected(column, flows), column.name
        assert list(cells) == expected(column, flows), column.name


def test_a_report_is_a_stream_of_its_connections(root: Path) -> None:
    report = conntrack.analyze(root / "tests" / "captures" / "incident.pcap")
    assert report.flows is not None
    assert_holds(pyarrow.table(report), report.flows)
    assert pyarrow.schema(report) == pyarrow.table(report).schema
    assert polars.DataFrame(report).height == len(report.flows)  # again: it is not used up
    states = duckdb.sql("select distinct server_state from report where server_port = 8080").fetchall()
    assert states == [("CLOSE_WAIT",)]
    chosen = pyarrow.table(to_arrow(report, columns=["server_ip", "flow_id"], addresses="binary"))
    assert chosen.column_names == ["server_ip", "flow_id"]
    assert chosen["server_ip"].to_pylist() == [bytes(address) for address in report.flows["server_ip"]]


def test_a_report_without_connections_says_so(root: Path) -> None:
    report = conntrack.analyze(root / "tests" / "captures" / "incident.pcap", keep_flows=False)
    with pytest.raises(ValueError, match="kept no connections: analyze"):
        pyarrow.table(report)
    with pytest.raises(ValueError, match="kept no connections"):
        to_arrow(report)


def test_batches_as_they_come_are_read_once() -> None:
    flows = realistic_flows(90)
    result = to_arrow(iter([flows[:30], flows[30:]]))
    assert pyarrow.table(result)["flow_id"].to_pylist() == flows["flow_id"].tolist()
    assert pyarrow.table(result).num_rows == 0


def test_what_a_source_raises_reaches_the_consumer() -> None:
    def batches() -> Any:
        yield realistic_flows(3)
        raise RuntimeError("the disk is gone")

    with pytest.raises(Exception, match="the disk is gone"):
        pyarrow.table(to_arrow(batches()))


def test_sockets_have_their_own_columns() -> None:
    rows = np.zeros(3, SOCKET_DTYPE)
    rows["ip_version"] = 4
    rows["state"] = TcpState.CLOSE_WAIT
    table = pyarrow.table(to_arrow(rows))
    assert table.column_names == [column.name for column in SOCKET_COLUMNS]
    assert table["state"].to_pylist() == ["CLOSE_WAIT"] * 3


def test_other_rows_and_other_columns_are_refused() -> None:
    with pytest.raises(TypeError, match="rows are FLOW_DTYPE, SOCKET_DTYPE or HOST_SOCKET_DTYPE"):
        to_arrow(np.zeros(1, SEGMENT_DTYPE))
    with pytest.raises(ValueError, match="no column 'colour'; there are flow_id"):
        to_arrow(np.zeros(1, FLOW_DTYPE), columns=["colour"])


def test_capsules_that_nobody_takes_keep_nothing() -> None:
    flows = realistic_flows(10)
    before = sys.getrefcount(flows)
    for _ in range(100):
        result = to_arrow(flows)
        result.__arrow_c_schema__()
        result.__arrow_c_stream__()
    del result
    gc.collect()
    assert sys.getrefcount(flows) == before


def test_a_table_outlives_the_rows_it_was_made_of() -> None:
    flows = realistic_flows(50)
    ports = flows["server_port"].tolist()
    table = pyarrow.table(to_arrow(flows.copy()))
    gc.collect()
    assert table["server_port"].to_pylist() == ports


@pytest.mark.parametrize("name", BINARY)
def test_without_pyarrow_it_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=rf"{name}: pyarrow is not installed; pip install 'tcp-conntrack\[arrow\]'"):
        make_exporter(name)


def test_to_arrow_is_part_of_the_package() -> None:
    assert conntrack.to_arrow is to_arrow
