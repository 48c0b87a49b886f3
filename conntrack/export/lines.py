"""TSV, CSV and NDJSON: every column of a schema, a line for each row, made by compiled code (core/lines.pyx).

Lines end with a line feed. TSV and CSV have a header line, and empty cells where nothing is known; no value of the
schemas holds a NUL, a tab, a comma, a quote or a line feed, so nothing needs quoting (tests/unit/test_export_columns.py
holds that). NDJSON has the columns in order, null where nothing is known, times as strings (numbers with `epoch`), and
flags as a list.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.core import lines
from conntrack.export.columns import SCHEMA_VERSION, Column, Kind

__all__ = ["RowLines", "before", "end_of", "kind_of", "octets", "texts"]

_CHUNK = 4_096
"""Rows written at a time: about 3 MB of text, and what numpy takes to hand out a column does not count any more."""
_KINDS = {
    Kind.INTEGER: lines.INTEGER,
    Kind.COUNT: lines.COUNT,
    Kind.TIME: lines.TIME,
    Kind.SECONDS: lines.SECONDS,
    Kind.WORD: lines.WORD,
    Kind.ADDRESS: lines.ADDRESS,
    Kind.TEXT: lines.TEXT,
    Kind.FLAGS: lines.FLAGS,
}


_SEPARATORS = {"tsv": "\t", "csv": ",", "ndjson": None}


class RowLines:
    """Writes rows, all columns of them.

    Args:
        name: "tsv", "csv" or "ndjson".
        columns: of the rows' dtype; the last one is the version of the schema, the same in every row.
        epoch: times in unix seconds instead of RFC 3339.
    """

    def __init__(self, name: str, *, columns: tuple[Column, ...], epoch: bool = False) -> None:
        self._separator = _SEPARATORS[name]
        self._columns = columns
        *self._read, schema = columns
        fields = [
            (before(name, at, column.name), kind_of(column, epoch=epoch), column.words)
            for at, column in enumerate(self._read)
        ]
        json = self._separator is None
        end = end_of(name, len(fields), schema.name, SCHEMA_VERSION)
        self._lines = lines.Lines(fields, end, json=json, nothing=b"null" if json else b"")
        self._page = np.empty(_CHUNK * self._lines.most_bytes, np.uint8)

    def header(self) -> bytes:
        """Return the names of the columns; nothing for NDJSON, which has them in every row."""
        if self._separator is None:
            return b""
        return self._separator.join(column.name for column in self._columns).encode() + b"\n"

    def rows(self, flows: np.ndarray[Any, Any]) -> bytes:
        """Return one line for each of `flows` (of the columns' dtype, shape (n,))."""
        return b"".join(self._write(flows[at : at + _CHUNK]) for at in range(0, len(flows), _CHUNK))

    def finish(self) -> bytes:
        """Return nothing: the last row is the end."""
        return b""

    def _write(self, rows: np.ndarray[Any, Any]) -> bytes:
        values = [column.values(rows) for column in self._read]
        return self._page[: self._lines.write(values, rows["ip_version"], self._page)].tobytes()


def before(format_: str, at: int, name: str) -> bytes:
    """Return what stands before the value of the column `name`, the `at`-th of a line."""
    separator = _SEPARATORS[format_]
    if separator is None:
        return f'{"," if at else "{"}"{name}":'.encode()
    return separator.encode() if at else b""


def end_of(format_: str, at: int, name: str, value: int) -> bytes:
    """Return the end of a line: the column `name`, the `at`-th, whose value is always the same."""
    return b"%s%d%s" % (before(format_, at, name), value, b"}\n" if _SEPARATORS[format_] is None else b"\n")


def kind_of(column: Column, *, epoch: bool = False) -> int:
    """Return the kind of core.lines that writes `column`."""
    return lines.SECONDS if epoch and column.kind is Kind.TIME else _KINDS[column.kind]


def octets(
    column: Column, rows: np.ndarray[Any, Any], *, end: bytes = b""
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the cells of one column as text, one behind the other.

    Args:
        column: of `rows`.
        rows: of the column's dtype, shape (n,).
        end: what stands behind each cell.

    Returns:
        The text, uint8, and where each cell of it ends, int32, shape (n,).
    """
    line = lines.Lines([(b"", kind_of(column), column.words)], end)
    out = np.empty(len(rows) * line.most_bytes, np.uint8)
    ends = np.empty(len(rows), np.int32)
    size = line.write([column.values(rows)], rows["ip_version"], out, ends)
    return out[:size].copy(), ends


def texts(column: Column, rows: np.ndarray[Any, Any]) -> list[str]:
    """Return the cells of `column` for `rows` (of its dtype, shape (n,)) as strings: for filters and tables."""
    written, _ = octets(column, rows, end=b"\n")
    return written.tobytes().decode("ascii").split("\n")[:-1]
