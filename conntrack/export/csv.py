"""CSV and TSV: every column of the schema, a header line, empty cells where nothing is known.

Lines end with a line feed. No value of the schema needs quoting (see cells.py): a row is cells and separators.
Knows no other format.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.export.cells import Cells, Matrix, join
from conntrack.export.columns import COLUMNS, Column

__all__ = ["Delimited"]

_CHUNK = 4_096
"""Rows written at a time: about 4 MB of cells, which stays in the cache."""


class Delimited:
    """Writes rows with one character between the cells."""

    def __init__(self, separator: str, *, epoch: bool = False, columns: tuple[Column, ...] = COLUMNS) -> None:
        self._columns = columns
        self._separator = separator.encode()
        self._cells = Cells(epoch=epoch)

    def header(self) -> bytes:
        """Return the names of the columns."""
        return self._separator.join(column.name.encode() for column in self._columns) + b"\n"

    def rows(self, flows: np.ndarray[Any, Any]) -> bytes:
        """Return one line for each of `flows` (of the columns' dtype, shape (n,))."""
        return b"".join(self._lines(flows[at : at + _CHUNK]) for at in range(0, len(flows), _CHUNK))

    def finish(self) -> bytes:
        """Return nothing: the last row is the end."""
        return b""

    def _lines(self, flows: np.ndarray[Any, Any]) -> bytes:
        parts: list[Matrix | bytes] = []
        for column in self._columns:
            parts += [self._cells.write(column, flows), self._separator]
        parts[-1] = b"\n"
        return join(parts, len(flows))
