"""TSV, CSV and NDJSON of the sockets of many instants: a socket's line is spelled when it changes, and copied after.

The same bytes as lines.RowLines writes, which spells every line anew. Keeps the rows and the lines of the instant
before, some 500 octets a socket.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.core import lines
from conntrack.core.abi import SOCKET_DTYPE
from conntrack.core.weave import Page, compare, weave
from conntrack.export.columns import SCHEMA_VERSION, SOCKET_COLUMNS, Column
from conntrack.export.lines import before, end_of, kind_of

__all__ = ["InstantLines"]

Array = np.ndarray[Any, Any]

_INSTANT = next(at for at, column in enumerate(SOCKET_COLUMNS) if column.name == "at_ts")
_CHUNK = 4_096
"""New lines spelled at a time."""


class InstantLines:
    """Writes the sockets of one instant after the other.

    Args:
        name: "tsv", "csv" or "ndjson".
        epoch: times in unix seconds instead of RFC 3339.
    """

    def __init__(self, name: str, *, epoch: bool = False) -> None:
        json = name == "ndjson"
        nothing = b"null" if json else b""
        fields = [
            (before(name, at, column.name), kind_of(column, epoch=epoch), column.words)
            for at, column in enumerate(SOCKET_COLUMNS[:-1])
        ]
        literal, kind, _ = fields[_INSTANT]
        end = end_of(name, len(fields), SOCKET_COLUMNS[-1].name, SCHEMA_VERSION)
        self._heads = _Part(SOCKET_COLUMNS[:_INSTANT], fields[:_INSTANT], literal, json=json, nothing=nothing)
        self._tails = _Part(SOCKET_COLUMNS[_INSTANT + 1 : -1], fields[_INSTANT + 1 :], end, json=json, nothing=nothing)
        self._instant = lines.Lines([(b"", kind, ())], b"", json=json, nothing=nothing)
        self._rows = np.empty(0, SOCKET_DTYPE)
        self._pages = Page(), Page()

    def rows(self, rows: Array) -> Array:
        """Return a line for each of `rows`, all of one instant and by flow_id.

        Args:
            rows: SOCKET_DTYPE, shape (n,).

        Returns:
            The text, uint8, valid until the next call.
        """
        same = np.empty(len(rows), np.int32)
        compare(self._rows, rows, same)
        fresh = rows[same < 0]
        page, done = self._pages
        weave(same, done, self._heads.write(fresh), self._tails.write(fresh), self._spell(rows[:1]), page)
        self._rows, self._pages = rows, (done, page)
        return page.octets()

    def _spell(self, first: Array) -> bytes:
        """Return the instant of a row as text; nothing where there is no row."""
        out = np.empty(len(first) * self._instant.most_bytes, np.uint8)
        return out[: self._instant.write([first["at_ts_ns"]], first["ip_version"], out)].tobytes()


class _Part:
    """Some of the columns of a line, and what comes behind them."""

    def __init__(
        self, columns: tuple[Column, ...], fields: list[Any], end: bytes, *, json: bool, nothing: bytes
    ) -> None:
        self._columns = columns
        self._lines = lines.Lines(fields, end, json=json, nothing=nothing)

    def write(self, rows: Array) -> tuple[Array, Array]:
        """Return the text of each of `rows`, one behind the other, and where each ends."""
        texts, ends, size = [np.empty(0, np.uint8)], np.empty(len(rows), np.int32), 0
        for at in range(0, len(rows), _CHUNK):
            part = rows[at : at + _CHUNK]
            out = np.empty(len(part) * self._lines.most_bytes, np.uint8)
            values = [column.values(part) for column in self._columns]
            used = self._lines.write(values, part["ip_version"], out, ends[at : at + _CHUNK])
            ends[at : at + _CHUNK] += size
            size += used
            texts.append(out[:used].copy())
        return np.concatenate(texts), ends
