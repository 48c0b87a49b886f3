"""NDJSON: one JSON object a line and row, the schema's columns in order, null where nothing is known.

Integers and seconds are numbers, times are strings (numbers with `epoch`), flags a list of strings. Knows no other
format.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.export.cells import Cells, Matrix, join
from conntrack.export.columns import COLUMNS, Column

__all__ = ["Ndjson"]

_CHUNK = 4_096
"""Rows written at a time, as in csv.py."""


class Ndjson:
    """Writes one JSON object a line."""

    def __init__(self, *, epoch: bool = False, columns: tuple[Column, ...] = COLUMNS) -> None:
        self._columns = columns
        self._cells = Cells(epoch=epoch, json=True)

    def header(self) -> bytes:
        """Return nothing: the names are in every row."""
        return b""

    def rows(self, flows: np.ndarray[Any, Any]) -> bytes:
        """Return one line for each of `flows` (of the columns' dtype, shape (n,))."""
        return b"".join(self._lines(flows[at : at + _CHUNK]) for at in range(0, len(flows), _CHUNK))

    def finish(self) -> bytes:
        """Return nothing: the last row is the end."""
        return b""

    def _lines(self, flows: np.ndarray[Any, Any]) -> bytes:
        parts: list[Matrix | bytes] = []
        before = "{"
        for column in self._columns:
            parts += [f'{before}"{column.name}":'.encode(), self._cells.write(column, flows)]
            before = ","
        return join([*parts, b"}\n"], len(flows))
