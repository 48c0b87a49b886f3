"""Columns as text, a batch at a time and without a Python call for each cell.

Every cell is written into a uint8 matrix of its column, (n, width), padded with NUL; the matrices stand side by side
with their separators, and one pass drops the NULs. No value of the schema holds a NUL, a tab, a comma, a quote or a
line feed, so nothing needs quoting (tests/unit/test_export_columns.py holds that). Knows kinds, not what
columns mean. The whole schema costs about 5 us a row this way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from conntrack.addresses import addresses_text
from conntrack.export.columns import Column, Kind
from conntrack.states import NO_TIME_NS

__all__ = ["Cells", "Matrix", "digits", "join", "seconds", "texts"]

Matrix = np.ndarray[Any, Any]
"""uint8, shape (n, width): one cell a row, NULs anywhere are no part of it."""

_NS = 1_000_000_000
_DAY_S = 86_400
_MOST_DAYS = 4_096
"""A batch that spans more days than this (only damaged timestamps do) sorts them instead of tabling the span."""


def join(parts: Sequence[Matrix | bytes], rows: int) -> bytes:
    """Return `rows` lines: each row of the matrices side by side, constant bytes between them as they stand."""
    # A page is an array of structs, one field a column: assigning a field copies a cell at a time, not a byte.
    template = bytearray()
    names: list[str] = []
    formats: list[str] = []
    offsets: list[int] = []
    blocks: list[np.ndarray[Any, Any]] = []
    for part in parts:
        if isinstance(part, bytes):
            template += part
        elif part.shape[1]:
            names.append(f"cell{len(names)}")
            formats.append(f"V{part.shape[1]}")
            offsets.append(len(template))
            blocks.append(np.ascontiguousarray(part).view(formats[-1]).reshape(rows))
            template += bytes(part.shape[1])
    layout: Any = {"names": names, "formats": formats, "offsets": offsets, "itemsize": len(template)}
    page = np.empty(rows, np.dtype(layout))
    page.view(f"V{len(template)}")[:] = np.void(bytes(template))
    for name, block in zip(names, blocks, strict=True):
        page[name] = block
    return page.tobytes().translate(None, b"\0")


def texts(column: Column, flows: np.ndarray[Any, Any]) -> list[str]:
    """Return the cells of `column` for `flows` (FLOW_DTYPE, shape (n,)) as strings: for filters and tables."""
    lines = join((Cells().write(column, flows), b"\n"), len(flows))
    return lines.decode("ascii").split("\n")[:-1]


class Cells:
    """Writes columns as cells: the choices that hold for a whole output.

    Attributes:
        epoch: times in unix seconds instead of RFC 3339.
        json: strings quoted, flags as a list, `null` where nothing is known (else an empty cell).
    """

    def __init__(self, *, epoch: bool = False, json: bool = False) -> None:
        self.epoch = epoch
        self.json = json

    def write(self, column: Column, flows: np.ndarray[Any, Any]) -> Matrix:
        """Return the cells of `column` for `flows` (FLOW_DTYPE, shape (n,))."""
        values = column.values(flows)
        match column.kind:
            case Kind.INTEGER:
                return digits(values)
            case Kind.COUNT:
                return self._known(np.where(values < 0, NO_TIME_NS, values), _counts)
            case Kind.SECONDS:
                return self._known(values, seconds)
            case Kind.TIME:
                return self._known(values, seconds if self.epoch else _rfc3339, quoted=not self.epoch)
            case Kind.WORD:
                table = _bytes(np.array([word.encode() for word in column.words]))
                return self._quoted(table.view(f"V{table.shape[1]}")[values, 0].view(np.uint8).reshape(len(values), -1))
            case Kind.ADDRESS:
                return self._quoted(_addresses(values, flows["ip_version"]))
            case Kind.TEXT:
                cells = _bytes(values)
                used = np.flatnonzero(cells.any(axis=0))
                return self._quoted(cells[:, : used[-1] + 1 if len(used) else 0])
            case Kind.FLAGS:
                return self._flags(column.words, values)

    def _quoted(self, cells: Matrix) -> Matrix:
        if not self.json:
            return cells
        quoted = np.full((len(cells), cells.shape[1] + 2), ord('"'), np.uint8)
        quoted[:, 1:-1] = cells
        return quoted

    def _known(
        self, values: np.ndarray[Any, Any], write: Callable[[np.ndarray[Any, Any]], Matrix], *, quoted: bool = False
    ) -> Matrix:
        """Write the times that are known; the cells of the others are empty, or null in JSON."""
        unknown = values == NO_TIME_NS
        nothing = np.frombuffer(b"null" if self.json else b"", np.uint8)
        if unknown.all():
            return np.tile(nothing, (len(values), 1))
        cells = write(values)
        if quoted:
            cells = self._quoted(cells)
        if unknown.any():
            cells[unknown] = 0
            cells[unknown, : len(nothing)] = nothing
        return cells

    def _flags(self, words: tuple[str, ...], values: np.ndarray[Any, Any]) -> Matrix:
        combinations, which = np.unique(values, return_inverse=True)
        table = []
        for bits in combinations.tolist():
            names = [word for bit, word in enumerate(words) if bits >> bit & 1]
            table.append(json.dumps(names, separators=(",", ":")) if self.json else "|".join(names))
        return _bytes(np.array([text.encode() for text in table], "S")[which])


def _bytes(strings: np.ndarray[Any, Any]) -> Matrix:
    """Return an array of dtype S, shape (n,), as (n, width)."""
    return np.ascontiguousarray(strings).view(np.uint8).reshape(len(strings), strings.dtype.itemsize)


@cache
def _fours() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return 0..9999 as four ASCII characters in a uint32: without leading zeros (NULs), and with them."""
    plain = np.frombuffer(b"".join(str(n).encode().rjust(4, b"\0") for n in range(10_000)), np.uint32)
    padded = np.frombuffer(b"".join(b"%04d" % n for n in range(10_000)), np.uint32)
    return plain, padded


def _divide(values: np.ndarray[Any, Any], divisor: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return quotient and remainder; several times faster than np.divmod, which does not know the divisor."""
    quotient = values // values.dtype.type(divisor)
    return quotient, values - quotient * values.dtype.type(divisor)


def digits(values: np.ndarray[Any, Any]) -> Matrix:
    """Return unsigned integers in decimal, four digits at a step."""
    plain, padded = _fours()
    highest = int(values.max(initial=0))
    width = len(str(highest))
    if highest < 2**32:
        values = values.astype(np.uint32, copy=False)
    groups: list[np.ndarray[Any, Any]] = []
    while highest >= 10_000:
        rest, low = _divide(values, 10_000)
        group = np.where(rest > 0, padded[low], plain[low])
        if groups:
            group[values == 0] = 0  # nothing is left of the shorter numbers
        groups.append(group)
        values, highest = rest, highest // 10_000
    top = plain[values]
    if groups:
        top[values == 0] = 0
    return np.stack([top, *reversed(groups)], axis=1).view(np.uint8)[:, -width:]


def _counts(values: np.ndarray[Any, Any]) -> Matrix:
    """Return int64 of 0 or more in decimal; anything below as anything."""
    figures = digits(np.maximum(values, 0).view(np.uint64))
    return np.pad(figures, ((0, 0), (max(0, 4 - figures.shape[1]), 0)))  # room for "null"


def _nanoseconds(fraction: np.ndarray[Any, Any], cells: Matrix) -> None:
    """Write 0..999999999 as nine digits into `cells` (n, 9)."""
    plain, padded = _fours()
    rest, low = _divide(fraction.astype(np.uint32), 10_000)
    high, middle = _divide(rest, 10_000)
    words = np.empty((len(fraction), 3), np.uint32)
    words[:, 0], words[:, 1], words[:, 2] = plain[high], padded[middle], padded[low]
    cells[:] = words.view(np.uint8)[:, 3:]


def seconds(values: np.ndarray[Any, Any]) -> Matrix:
    """Return int64 nanoseconds as seconds with nine decimals; NO_TIME_NS as anything."""
    whole, fraction = _divide(np.abs(np.maximum(values, NO_TIME_NS + 1)), _NS)
    figures = digits(whole.view(np.uint64))
    cells = np.empty((len(values), figures.shape[1] + 11), np.uint8)
    cells[:, 0] = (values < 0) * np.uint8(ord("-"))
    cells[:, 1:-10] = figures
    cells[:, -10] = ord(".")
    _nanoseconds(fraction, cells[:, -9:])
    return cells


@cache
def _clock() -> np.ndarray[Any, Any]:
    """Return the seconds of a day as "hh:mm:ss", each in a uint64."""
    clock = (b"%02d:%02d:%02d" % (s // 3600, s // 60 % 60, s % 60) for s in range(_DAY_S))
    return np.frombuffer(b"".join(clock), np.uint64)


def _rfc3339(values: np.ndarray[Any, Any]) -> Matrix:
    """Return int64 nanoseconds since 1970 as RFC 3339 in UTC, with nanoseconds; NO_TIME_NS as anything."""
    seconds, fraction = _divide(values, _NS)
    days, second_of_day = _divide(seconds, _DAY_S)
    known = days[values != NO_TIME_NS]
    first, last = int(known.min()), int(known.max())
    table: np.ndarray[Any, Any]
    which: np.ndarray[Any, Any] | int
    if first == last:
        table, which = np.array([first]), 0
    elif last - first < _MOST_DAYS:
        table, which = np.arange(first, last + 1), np.clip(days - first, 0, last - first)
    else:
        table, which = np.unique(days, return_inverse=True)
    dates = np.datetime_as_string(table.astype("datetime64[D]")).astype("S10")
    cells = np.empty((len(values), 30), np.uint8)
    cells[:, :10] = _bytes(dates)[which]
    cells[:, 10] = ord("T")
    cells[:, 11:19] = _clock()[second_of_day].view(np.uint8).reshape(-1, 8)
    cells[:, 19] = ord(".")
    _nanoseconds(fraction, cells[:, 20:29])
    cells[:, 29] = ord("Z")
    return cells


@cache
def _octets() -> np.ndarray[Any, Any]:
    """Return 0..255 as decimal with a dot behind, each in a uint32."""
    return np.frombuffer(b"".join((b"%d." % n).ljust(4, b"\0") for n in range(256)), np.uint32)


def _addresses(values: np.ndarray[Any, Any], versions: np.ndarray[Any, Any]) -> Matrix:
    """Return addresses as conntrack.addresses spells them; IPv4, of which floods have millions, without a call each."""
    dotted: Matrix = _octets()[values[:, 12:]].view(np.uint8).reshape(-1, 16)
    dotted[:, 12:] *= dotted[:, 12:] != ord(".")  # no dot behind the last
    others = np.flatnonzero(versions != 4)
    if not len(others):
        return dotted
    spelled = _bytes(np.array(addresses_text(values[others], versions[others]), "S"))
    cells = np.zeros((len(values), max(16, spelled.shape[1])), np.uint8)
    cells[:, :16] = dotted
    cells[others] = 0
    cells[others, : spelled.shape[1]] = spelled
    return cells
