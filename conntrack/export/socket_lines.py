"""Sockets as TSV, CSV and NDJSON: every column of SOCKET_COLUMNS, a line each, at the speed of writing them.

A thousand instants of a busy host are millions of rows, so the lines are made by compiled code (core/lines.pyx); here
is what they are made of. The lines are those of csv.py and ndjson.py, which know any columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.core import lines
from conntrack.core.abi import SOCKET_DTYPE
from conntrack.export.columns import SCHEMA_VERSION, SOCKET_COLUMNS, Column, Kind

__all__ = ["SocketLines"]

_CHUNK = 4_096
"""Rows written at a time: about half a megabyte of text, which stays in the cache."""
_KINDS = {Kind.INTEGER: lines.INTEGER, Kind.WORD: lines.WORD, Kind.ADDRESS: lines.ADDRESS}


class SocketLines:
    """Writes rows of SOCKET_DTYPE.

    Args:
        format_: "tsv", "csv" or "ndjson".
        epoch: times in unix seconds instead of RFC 3339.
    """

    def __init__(self, format_: str, *, epoch: bool = False) -> None:
        self._separator = {"tsv": "\t", "csv": ",", "ndjson": None}[format_]
        self._time = lines.EPOCH if epoch else lines.TIME
        *read, schema = SOCKET_COLUMNS  # the last one is the same in every row
        fields = [
            (self._before(at, column.name), *self._source(column), column.words) for at, column in enumerate(read)
        ]
        json = self._separator is None
        end = b"%s%d%s" % (self._before(len(read), schema.name), SCHEMA_VERSION, b"}\n" if json else b"\n")
        self._lines = lines.Lines(SOCKET_DTYPE, fields, end, json=json)
        self._page = np.empty(_CHUNK * self._lines.most_bytes, np.uint8)

    def header(self) -> bytes:
        """Return the names of the columns; nothing for NDJSON."""
        if self._separator is None:
            return b""
        return self._separator.join(column.name for column in SOCKET_COLUMNS).encode() + b"\n"

    def rows(self, flows: np.ndarray[Any, Any]) -> bytes:
        """Return one line for each of `flows` (SOCKET_DTYPE, shape (n,))."""
        flows = np.ascontiguousarray(flows)
        return b"".join(self._write(flows[at : at + _CHUNK]) for at in range(0, len(flows), _CHUNK))

    def finish(self) -> bytes:
        """Return nothing: the last row is the end."""
        return b""

    def _write(self, rows: np.ndarray[Any, Any]) -> bytes:
        return self._page[: self._lines.write(rows, self._page)].tobytes()

    def _before(self, at: int, name: str) -> bytes:
        if self._separator is None:
            return f'{"," if at else "{"}"{name}":'.encode()
        return self._separator.encode() if at else b""

    def _source(self, column: Column) -> tuple[int, str]:
        """Return the kind of a column, and the field of SOCKET_DTYPE that it is."""
        if column.kind is Kind.TIME:
            return self._time, f"{column.name}_ns"
        return _KINDS[column.kind], column.name
