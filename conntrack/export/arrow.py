"""Connections, or sockets, as Arrow columns: what pyarrow, polars, pandas, DuckDB and Ibis take as it is.

Owns which Arrow type each kind of column has, and the turn from an array of structs to columns, a piece at a time.
Needs no pyarrow: `capsule.pyx` hands the buffers out. Files are in parquet.py. Arrow's formats by letter:
arrow.apache.org/docs/format/CDataInterface.html.

    INTEGER  the unsigned integer it is         TIME     timestamp[ns, UTC], null where not known
    SECONDS  float64, null where not known      WORD     dictionary of utf8
    ADDRESS  utf8, or fixed_size_binary[16]     TEXT     utf8
    FLAGS    list of utf8                       COUNT    int64, null where not known
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from conntrack.core.abi import FLOW_DTYPE, SOCKET_DTYPE
from conntrack.export.capsule import schema_capsule, stream_capsule
from conntrack.export.columns import (
    COLUMNS,
    HOST_SOCKET_COLUMNS,
    SCHEMA_VERSION,
    SOCKET_COLUMNS,
    Column,
    Kind,
    flow_columns,
)
from conntrack.export.lines import octets
from conntrack.states import NO_TIME_NS

__all__ = ["Addresses", "Array", "ArrowTable", "Field", "record_batch", "schema", "to_arrow"]

Values = np.ndarray[Any, Any]
Addresses = Literal["text", "binary"]

BATCH_ROWS = 65_536
"""Rows of a record batch: 30 MB of columns. No 32-bit offset of a text column can run over."""

_TURNED_ROWS = 1_024
"""Half a megabyte of rows: a column after the other takes its values from the cache."""

_NUMBERS = (Kind.INTEGER, Kind.COUNT, Kind.WORD, Kind.TIME, Kind.SECONDS)
_INTEGERS = {1: "C", 2: "S", 4: "I", 8: "L"}  # format by itemsize
_NS = 1e9


@dataclass(frozen=True, slots=True)
class Field:
    """What an ArrowSchema says of one column."""

    name: str
    format: str
    nullable: bool = False
    children: tuple[Field, ...] = ()
    dictionary: Field | None = None
    metadata: bytes | None = None


@dataclass(frozen=True, slots=True)
class Array:
    """What an ArrowArray has of one column; the buffers are contiguous arrays, None where there is none."""

    length: int
    buffers: tuple[Values | None, ...]
    null_count: int = 0
    children: tuple[Array, ...] = ()
    dictionary: Array | None = None


class _HasPaths(Protocol):
    @property
    def paths(self) -> Sequence[str]: ...


class _HasFlows(Protocol):
    @property
    def flows(self) -> Values | None: ...
    @property
    def capture(self) -> _HasPaths: ...


def to_arrow(
    rows: Values | Iterable[Values] | _HasFlows,
    *,
    addresses: Addresses = "text",
    columns: Sequence[str] | None = None,
    paths: Sequence[str] | None = None,
) -> ArrowTable:
    """Return connections, or sockets, for whatever takes Arrow: `polars.DataFrame(to_arrow(rows))`.

    Args:
        rows: FLOW_DTYPE, SOCKET_DTYPE or HOST_SOCKET_DTYPE, shape (n,), which must stay as they are while the result
            is used; or batches of FLOW_DTYPE, as `track` yields them, which are read once, as the consumer asks; or a
            Report, which stands for its `flows`.
        addresses: "text" for strings, "binary" for the 16 bytes in network order (IPv4 as ::ffff:a.b.c.d).
        columns: the names of those wanted, in that order; by default the whole schema.
        paths: words for the numbers of the column `path`: `report.capture.paths`, which a Report brings itself. Without
            them it is "path 3".

    Raises:
        TypeError: rows of another dtype.
        ValueError: no such column, or a report made without keeping the connections.

    Example:
        >>> import conntrack, polars
        >>> flows = polars.DataFrame(conntrack.to_arrow(conntrack.track("tests/captures/incident.pcap")))
        >>> flows.filter(polars.col("server_state") == "CLOSE_WAIT")["server_port"].unique().to_list()
        [8080]
    """
    if hasattr(rows, "flows") and hasattr(rows, "capture"):
        if rows.flows is None:
            raise ValueError("this report kept no connections: analyze(..., keep_flows=True)")
        paths = rows.capture.paths if paths is None else paths
        rows = rows.flows
    return ArrowTable(rows, addresses=addresses, columns=columns, paths=paths)


class ArrowTable:
    """Rows as an Arrow stream, by the PyCapsule interface: hand it to a consumer. Made by `to_arrow`."""

    def __init__(
        self,
        rows: Values | Iterable[Values],
        *,
        addresses: Addresses = "text",
        columns: Sequence[str] | None = None,
        paths: Sequence[str] | None = None,
    ) -> None:
        self._rows = rows
        self._addresses: Addresses = addresses
        table = flow_columns(paths)
        if isinstance(rows, np.ndarray):
            table = table if rows.dtype == FLOW_DTYPE else _table_of(rows.dtype)
        self._columns = _chosen(table, columns)

    def __arrow_c_schema__(self) -> object:
        """Return the schema as an "arrow_schema" capsule."""
        return schema_capsule(schema(self._columns, self._addresses))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the rows as an "arrow_array_stream" capsule; the consumer casts if it wants other types."""
        batches = (record_batch(piece, self._columns, self._addresses) for piece in self._pieces())
        return stream_capsule(schema(self._columns, self._addresses), batches)

    def _pieces(self) -> Iterator[Values]:
        for rows in [self._rows] if isinstance(self._rows, np.ndarray) else self._rows:
            for at in range(0, len(rows), BATCH_ROWS):
                yield rows[at : at + BATCH_ROWS]


def _table_of(dtype: np.dtype[Any]) -> tuple[Column, ...]:
    if dtype == FLOW_DTYPE:
        return COLUMNS
    if dtype == SOCKET_DTYPE:
        return SOCKET_COLUMNS
    if {"flow_id", "recv_queue", "unit"} <= set(dtype.names or ()):
        return HOST_SOCKET_COLUMNS
    raise TypeError(f"rows are FLOW_DTYPE, SOCKET_DTYPE or HOST_SOCKET_DTYPE, not {dtype}")


def _chosen(table: tuple[Column, ...], names: Sequence[str] | None) -> tuple[Column, ...]:
    if names is None:
        return table
    by_name = {column.name: column for column in table}
    for name in names:
        if name not in by_name:
            raise ValueError(f"no column '{name}'; there are {', '.join(by_name)}")
    return tuple(by_name[name] for name in names)


def schema(columns: Sequence[Column], addresses: Addresses) -> Field:
    """Return the schema of record batches of `columns`; its metadata has the version, as "conntrack.schema"."""
    metadata = _metadata({"conntrack.schema": str(SCHEMA_VERSION)})
    return Field("", "+s", children=tuple(_field(column, addresses) for column in columns), metadata=metadata)


def record_batch(rows: Values, columns: Sequence[Column], addresses: Addresses) -> Array:
    """Return `rows` (the columns' dtype, shape (n,)) as one record batch; shares no memory with them."""
    numbers = _turned(rows, [column for column in columns if column.kind in _NUMBERS])
    children = tuple(
        _numbers(column, numbers.pop(0)) if column.kind in _NUMBERS else _array(column, rows, addresses)
        for column in columns
    )
    return Array(len(rows), (None,), children=children)


def _turned(rows: Values, columns: Sequence[Column]) -> list[Values]:
    """Return the values of `columns`, contiguous; a few rows at a time, which stay in the cache for all of them."""
    turned = [np.empty(len(rows), column.values(rows[:0]).dtype) for column in columns]
    for at in range(0, len(rows), _TURNED_ROWS):
        some = rows[at : at + _TURNED_ROWS]
        for values, column in zip(turned, columns, strict=True):
            values[at : at + _TURNED_ROWS] = column.values(some)
    return turned


def _metadata(pairs: dict[str, str]) -> bytes:
    parts = [struct.pack("=i", len(pairs))]
    for pair in pairs.items():
        for word in pair:
            parts += [struct.pack("=i", len(word.encode())), word.encode()]
    return b"".join(parts)


def _field(column: Column, addresses: Addresses) -> Field:
    match column.kind:
        case Kind.INTEGER:
            return Field(column.name, _INTEGERS[column.values(_NO_ROWS[column in COLUMNS]).dtype.itemsize])
        case Kind.COUNT:
            return Field(column.name, "l", nullable=True)
        case Kind.TIME:
            return Field(column.name, "tsn:UTC", nullable=True)
        case Kind.SECONDS:
            return Field(column.name, "g", nullable=True)
        case Kind.WORD:
            return Field(column.name, "c", dictionary=Field("", "u"))
        case Kind.ADDRESS:
            return Field(column.name, "u" if addresses == "text" else "w:16")
        case Kind.TEXT:
            return Field(column.name, "u")
        case Kind.FLAGS:
            return Field(column.name, "+l", children=(Field("item", "u"),))


_NO_ROWS = (np.empty(0, SOCKET_DTYPE), np.empty(0, FLOW_DTYPE))


def _numbers(column: Column, values: Values) -> Array:
    """Return a column that is numbers in Arrow too."""
    n = len(values)
    if column.kind is Kind.WORD:
        return Array(n, (None, values.view(np.int8)), dictionary=_words(column.words))
    if column.kind is Kind.INTEGER:
        return Array(n, (None, values))
    known = values >= 0 if column.kind is Kind.COUNT else values != NO_TIME_NS
    nulls = n - int(np.count_nonzero(known))
    if column.kind is Kind.SECONDS:
        values = values / _NS
    return Array(n, (np.packbits(known, bitorder="little") if nulls else None, values), null_count=nulls)


def _array(column: Column, rows: Values, addresses: Addresses) -> Array:
    n = len(rows)
    if column.kind is Kind.FLAGS:
        return _flags(column.words, column.values(rows))
    if column.kind is Kind.ADDRESS and addresses == "binary":
        return Array(n, (None, np.ascontiguousarray(column.values(rows)).reshape(-1)))
    return _text(column, rows)


def _text(column: Column, rows: Values) -> Array:
    """Return one string a row."""
    written, ends = octets(column, rows)
    return Array(len(rows), (None, np.concatenate((_ZERO, ends)), written))


def _words(words: Sequence[str]) -> Array:
    encoded = [word.encode() for word in words]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    return Array(len(words), (None, offsets, np.frombuffer(b"".join(encoded), np.uint8)))


def _flags(words: Sequence[str], values: Values) -> Array:
    """Return a list of strings a row: the words of the bits that are set, which are few."""
    some = np.flatnonzero(values)
    bits = (values[some, None] >> np.arange(len(words), dtype=values.dtype)) & 1
    which = np.nonzero(bits)[1]
    offsets = np.zeros(len(values) + 1, np.int32)
    offsets[some + 1] = bits.sum(axis=1)
    np.cumsum(offsets, out=offsets)
    spelled = np.array([word.encode() for word in words])
    lengths = np.char.str_len(spelled).astype(np.int32)[which]
    ends = np.cumsum(lengths, dtype=np.int32)
    octets = spelled.view(np.uint8).reshape(len(words), -1)[which]
    text = Array(len(which), (None, np.concatenate((_ZERO, ends)), octets[octets != 0]))
    return Array(len(values), (None, offsets), children=(text,))


_ZERO = np.zeros(1, np.int32)
