"""A sheet of text: paragraphs, headings, tables and charts that fit its width. What a person reads is written on one.

Columns are counted by rich (a wide character takes two, a combining one none), and nothing else is rich's: with its
Console, Table and Text the code was as long, and a report of 100 packets took 380 ms instead of 300 (55 to import them,
30 to draw), where 350 are promised. Everything from outside goes through `printable` before a person sees it.
Knows no report.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len, chop_cells, set_cell_size

from conntrack.report.format import printable, sparkline

__all__ = ["LEAST_WIDTH", "Chart", "Sheet", "cut"]

LEAST_WIDTH = 60
"""Columns that a page is written for; in fewer it would be unreadable."""


_SGR = {
    "critical": "1;31", "warning": "1;33", "info": "1;36", "good": "1;32", "heading": "1",
    "state": "36", "trouble": "33", "bad": "31", "faint": "2",
}  # fmt: skip
_PARAGRAPH = 100
"""Columns that an eye follows from one line to the next."""
_UNIT = re.compile(
    r"(?<=\d) (?=(?:%|[kMGT]?B|ms|s|min|h|d)(?!\w))|(?<=\d [dh]) (?=\d)|(?<=\d min) (?=\d)|(?<= wscale) (?=\d)"
)
_NO_BREAK = "\ue000"
"""Between a number and what it belongs to while lines are broken. It is not printable: no text from outside has one."""
_WORDS = re.compile(r" *[^ ]+")
_DOTS = "..."


def cut(text: str, width: int) -> str:
    """Return `text` if it takes no more than `width` columns, else its beginning with dots behind it."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(set_cell_size(text, max(width - len(_DOTS), 0)) + _DOTS, width)


@dataclass(frozen=True, slots=True)
class Chart:
    """A line of bars in the last column of a table, as wide as there is room, but for each of `values` one at most."""

    values: Sequence[float]
    ascii_only: bool = False


class Sheet:
    """Collects lines; what returns none adds some.

    Args:
        width: columns at most.
        color: with ANSI colours, which repeat what the words say.
        paragraph: columns of a paragraph at most; tables and charts take what there is.

    Attributes:
        lines: what was added.
    """

    def __init__(self, width: int, *, color: bool = False, paragraph: int = _PARAGRAPH) -> None:
        self.width = width
        self._paragraph = min(width, paragraph)
        self._color = color
        self.lines: list[str] = []

    def text(self) -> str:
        """Return everything that was added."""
        return "\n".join(self.lines) + "\n"

    def add(self, line: str = "") -> None:
        """Add a line as it stands."""
        self.lines.append(line)

    def paint(self, text: str, style: str) -> str:
        """Return `text` in a style: a severity, or what a part of a page is; "" is none."""
        return f"\x1b[{_SGR[style]}m{text}\x1b[0m" if self._color and style and text else text

    def heading(self, text: str, *, style: str = "heading") -> None:
        """Add a blank line and a heading."""
        self.add()
        self.wrap(text, style=style)

    def wrap(
        self, text: str, *, indent: int = 0, hang: int = 0, label: str = "", label_width: int = 0, style: str = ""
    ) -> None:
        """Add a paragraph.

        Args:
            text: broken at spaces, and within a word that is longer than a line.
            indent: columns in front of it.
            hang: columns in front of each line but the first, beside those.
            label: stands in front of the first line, or above it where it takes `label_width` columns or more.
            label_width: columns for the label, if there is one.
            style: of the text.
        """
        label = printable(label)
        left = indent + (label_width if label else 0)
        if label and cell_len(label) >= label_width:
            self.wrap(label, indent=indent)
            label = ""
        front = set_cell_size(" " * indent + label, left)
        for line in _broken(_UNIT.sub(_NO_BREAK, printable(text)), self._paragraph - left, hang):
            self.add(f"{front}{self.paint(line.replace(_NO_BREAK, ' '), style)}".rstrip())
            front = " " * (left + hang)

    def table(
        self,
        rows: Iterable[Sequence[str | Chart]],
        *,
        notes: Sequence[str] = (),
        widths: Sequence[int] = (),
    ) -> None:
        """Add a table, numbers aligned below their headings. Columns are given up until its lines fit: those without
        any number, then those on the right.

        Args:
            rows: the headings first. The first column stands on the left, numbers on the right; a column of charts
                takes what room is left.
            notes: for each row "" or what stands below it.
            widths: of the first columns, at least.
        """
        lines = [[printable(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
        columns = [list(column) for column in zip(*lines, strict=True)]
        while len(columns) > 1 and sum(2 + max(map(_size, column)) for column in columns) > self.width:
            bare = [at for at, column in enumerate(columns) if at and set(column[1:]) <= {"", "0"}]
            del columns[bare[-1] if bare else -1]
        least = [*widths, *[0] * len(columns)]
        sizes = [max(width, *map(_size, column)) for column, width in zip(columns, least, strict=False)]
        for row, note in zip_longest(zip(*columns, strict=True), notes, fillvalue=""):
            line = ""
            for at, (cell, size) in enumerate(zip(row, sizes, strict=True)):
                if isinstance(cell, Chart):
                    cell = sparkline(cell.values, self.width - cell_len(line) - 2, ascii_only=cell.ascii_only)
                blank = " " * (size - cell_len(cell))
                line += f"  {blank}{cell}" if at else f"  {cell}{blank}"
            self.add(line.rstrip())
            if note:
                self.wrap(note, indent=4)


def _size(cell: str | Chart) -> int:
    return cell_len(cell) if isinstance(cell, str) else 1


def _broken(text: str, room: int, hang: int) -> Iterator[str]:
    """Yield `text` in lines of at most `room` columns, and of `hang` fewer behind the first; spaces at breaks go."""
    line, width = "", room
    for word in _WORDS.findall(text):
        if cell_len(line) + cell_len(word) <= width:
            line += word
            continue
        if line:
            yield line
        width = room - hang
        *full, line = chop_cells(word.lstrip(" "), width)  # more than one where no line has room for it
        yield from full
    yield line
