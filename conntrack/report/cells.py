"""Columns of a terminal: how many a text takes, and text that is broken or cut to fit in so many.

A wide character (most of CJK, most emoji) takes two and a combining one none: file names have them, and whatever else
comes from outside. By Unicode Standard Annex 11 and the general categories, as Python's unicodedata has them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

__all__ = ["cells", "cut", "wrap"]

_PIECES = re.compile(r" +|[^ ]+")
_NO_WIDTH = ("Mn", "Me", "Cf")
_DOTS = "..."


def cells(text: str) -> int:
    """Return how many columns `text` takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def cut(text: str, width: int) -> str:
    """Return `text` if it takes no more than `width` columns, else its beginning with dots behind it."""
    if cells(text) <= width:
        return text
    return _fitting(_fitting(text, max(width - len(_DOTS), 0)) + _DOTS, width)


def wrap(text: str, width: int, *, subsequent_indent: str = "") -> list[str]:
    """Return `text` in lines of at most `width` columns, broken at spaces, and within a word that is longer than that.

    As textwrap.wrap does it where every character takes one column; hyphens break nothing. No text is no line. A
    character that is wider than `width` has a line of its own.
    """
    return list(_lines(_PIECES.findall(text), width, subsequent_indent))


def _lines(pieces: list[str], width: int, indent: str) -> Iterator[str]:
    pieces.reverse()
    front = ""
    while pieces:
        room = max(width - len(front), 1)
        line = ""
        while pieces and cells(line) + cells(pieces[-1]) <= room:
            line += pieces.pop()
        if pieces and cells(pieces[-1]) > room:  # no line has room for it
            part = _fitting(pieces[-1], room - cells(line)) or ("" if line else pieces[-1][0])
            line += part
            pieces[-1] = pieces[-1][len(part) :]
        if line := line.rstrip(" "):
            yield front + line
            front = indent
            if pieces and pieces[-1].startswith(" "):
                pieces.pop()


def _fitting(text: str, width: int) -> str:
    """Return the longest beginning of `text` that takes no more than `width` columns."""
    taken = 0
    for at, char in enumerate(text):
        taken += _cells(char)
        if taken > width:
            return text[:at]
    return text


def _cells(char: str) -> int:
    if unicodedata.category(char) in _NO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
