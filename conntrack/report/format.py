"""Numbers, times and strings for people. Shared by every renderer; knows no report, imports no numpy.

Everything that comes from outside (file names, above all) goes through `printable` before a person sees it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from conntrack.report.glossary import EVIDENCE, Term
from conntrack.times import rfc3339, unix_seconds

__all__ = [
    "bytes_text",
    "clock",
    "count",
    "duration",
    "evidence_text",
    "instant",
    "path_text",
    "percent",
    "printable",
    "span",
    "sparkline",
    "told",
    "words",
]

_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = ".:-=+*#@"
_UNIT_OF_KEY = re.compile(r"_(?:ts_ns|bytes|per_s|per_min|s)$")
_RATES = (("_per_s", "a second"), ("_per_min", "a minute"))
_LONG = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def count(number: int, noun: str = "", plural: str = "") -> str:
    """Return "1,234", or with a noun "1,234 connections" and "1 connection"."""
    if not noun:
        return f"{number:,}"
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def bytes_text(number: int) -> str:
    """Return a size in SI units with three digits: "999 B", "3.05 GB"."""
    if number < 1000:
        return f"{number} B"
    size, units = number / 1000, ["kB", "MB", "GB", "TB", "PB", "EB"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{size:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f} {units[0]}"


def percent(ratio: float) -> str:
    """Return a share with three digits: "0.2 %", "99.8 %"; "100 %" only of all."""
    return f"{min(ratio * 100, 99.9) if ratio < 1 else 100:.3g} %"


def duration(ns: int) -> str:
    """Return a length of time in its two leading units: "0 s", "3.2 ms", "41.0 s", "7 min 11 s", "2 d 4 h"."""
    seconds = abs(ns) / 1e9
    sign = "-" if ns < 0 else ""
    if ns == 0:
        return "0 s"
    if seconds < 59.95:
        scale, unit = (1, "s") if seconds >= 0.9995 else (1e3, "ms") if seconds >= 0.0009995 else (1e6, "us")
        return f"{sign}{seconds * scale:.{1 if seconds * scale < 99.95 else 0}f} {unit}"
    whole = round(seconds)
    size, unit, below, small = next(row for row in _LONG if whole >= row[0])
    rest = whole % size // below
    return f"{sign}{whole // size:,} {unit}" + (f" {rest} {small}" if rest else "")


def instant(ts_ns: int, *, epoch: bool = False) -> str:
    """Return an instant in full: RFC 3339 with nanoseconds, or unix seconds."""
    return unix_seconds(ts_ns) if epoch else rfc3339(ts_ns)


def span(first_ns: int, last_ns: int, *, epoch: bool = False) -> str:
    """Return from when to when, and how long that is."""
    first, last = (instant(ts_ns, epoch=epoch) for ts_ns in (first_ns, last_ns))
    return f"{first} to {last} ({duration(last_ns - first_ns)})"


def clock(ts_ns: int, *, epoch: bool = False, day: bool = False) -> str:
    """Return an instant to the second, without the date: "12:03:15", for text that named the day before.

    With `day`, for text about several: "2026-11-21 12:03".
    """
    if epoch:
        return unix_seconds(ts_ns)[:-10]
    return rfc3339(ts_ns)[:16].replace("T", " ") if day else rfc3339(ts_ns)[11:19]


def path_text(path: str) -> str:
    """Return a file name as valid text: bytes that are no UTF-8 become \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Return `text` with everything that a terminal could obey, or could not show, as a backslash escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else f"\\x{ord(char) & 0xFF:02x}" if _is_byte(char) else _escape(char)
        for char in text
    )


def _is_byte(char: str) -> bool:
    """Whether `char` is a surrogate that stands for a byte of a file name (PEP 383)."""
    return 0xDC80 <= ord(char) <= 0xDCFF


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """Return `values` as at most `width` bars, the highest of each group shown; a blank is exactly zero."""
    bars = _ASCII_BARS if ascii_only else _BARS
    most = max(values, default=0)
    if most <= 0:
        return ""
    columns = min(width, len(values))
    line = []
    for column in range(columns):
        group = values[column * len(values) // columns : (column + 1) * len(values) // columns]
        height = max(group)
        line.append(bars[min(len(bars) - 1, int(height * len(bars) / most))] if height > 0 else " ")
    return "".join(line)


def evidence_text(key: str, value: Any, *, epoch: bool, meanings: Mapping[str, Term] = EVIDENCE) -> tuple[str, str]:
    """Return what a piece of evidence is called (by a glossary), and its value; the end of its key has the unit."""
    label = meanings[key].name if key in meanings else words(_UNIT_OF_KEY.sub("", key))
    if isinstance(value, int) and key.endswith("_ts_ns"):
        return label, instant(value, epoch=epoch)
    if isinstance(value, int) and key.endswith("_bytes"):
        return label, bytes_text(value)
    if isinstance(value, (int, float)):
        for end, unit in _RATES:
            if key.endswith(end):
                return label, f"{value:,} {unit}"
        if key.endswith("_s"):
            return label, duration(round(value * 1e9))
    if "ratio" in key.split("_") and isinstance(value, (int, float)):
        return label, f"{value * 100:.3g} %"
    if "ratio" in key.split("_") and isinstance(value, dict):
        return label, ", ".join(f"{name} ({inner * 100:.3g} %)" for name, inner in value.items())
    parts = key.split("_")
    is_port = "port" in parts or ("ports" in parts and isinstance(value, (list, tuple)))  # "ports" may also count them
    return label, _plain(value, grouped=not is_port)


def told(evidence: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the evidence that a person reads: nothing empty or zero, and how a number was counted beside it."""
    for key, value in evidence.items():
        empty = value is None or value == {} or (value == 0 and type(value) is int)
        if empty or key.removesuffix("_by") != key:
            continue
        how = evidence.get(f"{key}_by")
        yield key, value if how is None else f"{count(value)} ({how})"


def words(key: str) -> str:
    """Return a name of ours as words."""
    return key.replace("_", " ")


def _plain(value: Any, *, grouped: bool = True) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}" if grouped else str(value)
        case float():
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        case dict():
            return ", ".join(f"{key} ({_plain(inner)})" for key, inner in value.items())
        case list() | tuple():
            return ", ".join(_plain(inner, grouped=grouped) for inner in value)
    return str(value).replace("_", " ")
