"""A sheet of text: paragraphs, headings, tables and charts that fit its width. What a person reads is written on one.

rich draws it: its Console, Table and Text measure, break, align and colour; here is only what a page of ours looks
like. No text is markup, and all of it goes through `printable` before rich sees it. Knows no report.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from conntrack.report.format import printable, sparkline

__all__ = ["LEAST_WIDTH", "Chart", "Sheet"]

LEAST_WIDTH = 60
"""Columns that a page is written for; in fewer it would be unreadable."""
_PARAGRAPH = 100
"""Columns that an eye follows from one line to the next."""
_GAP = 2
"""Columns of the terminal between those of a table."""
_THEME = Theme(
    {
        "critical": "bold red", "warning": "bold yellow", "info": "bold cyan", "good": "bold green", "heading": "bold",
        "state": "cyan", "trouble": "yellow", "bad": "red", "faint": "dim",
    }
)  # fmt: skip
_UNIT = re.compile(
    r"(?<=\d) (?=(?:%|[kMGT]?B|ms|s|min|h|d)(?!\w))|(?<=\d [dh]) (?=\d)|(?<=\d min) (?=\d)|(?<= wscale) (?=\d)"
)
_NO_BREAK = "\ue000"
"""Between a number and what it belongs to while lines are broken. It is not printable: no text from outside has one."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A line of bars, as wide as its column of a table can be, but for each of `values` one at most."""

    values: Sequence[float]
    ascii_only: bool = False

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it; called by rich."""
        yield Text(" " * _GAP + sparkline(self.values, options.max_width - _GAP, ascii_only=self.ascii_only))

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        """Say how wide it may be; called by rich."""
        return Measurement(1, _GAP + len(self.values))


class Sheet:
    """Collects lines.

    Args:
        width: columns at most.
        color: with ANSI colours, which repeat what the words say.
        paragraph: columns of a paragraph at most; tables of numbers and charts take what there is.
    """

    def __init__(self, width: int, *, color: bool = False, paragraph: int = _PARAGRAPH) -> None:
        self.width = width
        self._paragraph = min(width, paragraph)
        self._file = StringIO()
        self._console = Console(  # all that it would else ask the environment for is said
            file=self._file, width=width, height=1, color_system="standard" if color else None, no_color=not color,
            force_terminal=color, force_jupyter=False, legacy_windows=False, theme=_THEME,
            markup=False, emoji=False, highlight=False,
        )  # fmt: skip

    def text(self) -> str:
        """Return everything that was added."""
        drawn = self._file.getvalue().replace(_NO_BREAK, " ")
        return "\n".join(line.rstrip() for line in drawn.split("\n"))

    def add(self, line: str = "", style: str = "") -> None:
        """Add a line, cut where it is too long.

        Args:
            style: a severity, or what a part of a page is; "" is none.
        """
        self._console.print(Text(printable(line), style), no_wrap=True, overflow="ellipsis")

    def heading(self, text: str, *, style: str = "heading") -> None:
        """Add a blank line and a heading."""
        self.add()
        self.wrap(text, style=style)

    def wrap(self, text: str, *, front: str = "", style: str = "") -> None:
        """Add a paragraph, broken at spaces, and within a word that is longer than a line.

        Args:
            front: stands before it, alone: the lines are as far in as it is wide.
            style: of the text, as for `add`.
        """
        front, text = printable(front), printable(text)
        if not style and cell_len(front) + cell_len(text) <= self._paragraph:
            self._file.write(f"{front}{text}\n")  # nothing to do for rich: a ladder can have 200,000 of these
            return
        for line in Text(_UNIT.sub(_NO_BREAK, text)).wrap(self._console, self._paragraph - cell_len(front)):
            line.rstrip()
            line.stylize(style)
            self._console.print(Text(front) + line, soft_wrap=True)
            front = " " * cell_len(front)

    def table(
        self,
        headings: Sequence[str],
        rows: Iterable[Sequence[str | Chart]],
        *,
        numbers: bool = True,
        indent: int = 2,
        widths: Sequence[int] = (),
    ) -> None:
        """Add a table.

        Args:
            headings: of its columns; all "" for none.
            rows: its cells.
            numbers: all columns but the first stand on the right, and none is broken: where not all have room, those
                without any number are given up, then those on the right. Charts take what room is left. Otherwise
                words, on the left, broken as in a paragraph.
            indent: columns in front of it.
            widths: of the first columns: of numbers at least, of words exactly.
        """
        columns = [list(column) for column in zip(headings, *rows, strict=True)]
        while numbers and sum(_GAP + _width(column) for column in columns) > self.width and len(columns) > 1:
            bare = [at for at, column in enumerate(columns) if at and set(column[1:]) <= {"", "0"}]
            del columns[bare[-1] if bare else -1]
        # of numbers the width is known, gap included, and rich need not measure them: that would take twice as long
        grid = Table(
            box=None, padding=(0, 0 if numbers else 2, 0, 0), pad_edge=False, show_header=any(headings), header_style=""
        )
        for at, (column, width) in enumerate(zip_longest(columns, widths[: len(columns)])):
            if numbers and not isinstance(column[-1], Chart):
                width = (_GAP if at else 0) + max(width or 0, _width(column))
            grid.add_column(
                Text.styled(str(column[0]), "heading"),
                justify="right" if at and width and numbers else "left",
                overflow="fold",
                width=width,
            )
        for row in list(zip(*columns, strict=True))[1:]:
            grid.add_row(
                *(Text(_UNIT.sub(_NO_BREAK, printable(cell))) if isinstance(cell, str) else cell for cell in row)
            )
        self._console.print(Padding(grid, (0, 0, 0, indent)), width=self.width if numbers else self._paragraph)


def _width(column: Sequence[str | Chart]) -> int:
    return max(cell_len(printable(cell)) if isinstance(cell, str) else 1 for cell in column)
