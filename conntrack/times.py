"""Instants as text and back: RFC 3339 in UTC with nanoseconds, or unix seconds. Exact integers throughout.

Owns the two spellings that the output promises and the one parser of TIME arguments. Knows no flow and no report; whole
columns of times are written by core/lines.pyx. Read RFC 3339 section 5.6.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from conntrack.states import NO_TIME_NS

__all__ = [
    "RFC3339_PATTERN",
    "parse_duration",
    "parse_length",
    "parse_time",
    "rfc3339",
    "time_of_day",
    "unix_seconds",
]

RFC3339_PATTERN = r"^-?\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$"
"""What `rfc3339` writes, as a regular expression of ECMA-262 (which JSON Schema takes)."""
_NS = 1_000_000_000
_ISO = re.compile(r"(?P<seconds>.*?:\d\d)(?:[.,](?P<fraction>\d{1,9})\d*)?(?P<zone>Z|[+-]\d\d:?\d\d)?", re.IGNORECASE)
_CLOCK = re.compile(r"[0-2]?\d:\d\d(?::\d\d(?:[.,]\d+)?)?", re.ASCII)
_UNITS_NS = {"ms": _NS // 1000, "s": _NS, "m": 60 * _NS, "min": 60 * _NS, "h": 3600 * _NS}
_LENGTH = re.compile(rf"(?P<number>[0-9.]+) ?(?P<unit>{'|'.join(_UNITS_NS)})?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(ts_ns: int) -> str:
    """Return `ts_ns` (nanoseconds since 1970, UTC) as "2026-11-21T05:38:00.123456789Z"."""
    seconds, nanoseconds = divmod(int(ts_ns), _NS)
    days, second_of_day = divmod(seconds, 86_400)
    date = datetime.fromordinal(_EPOCH.toordinal() + days)
    clock = f"{second_of_day // 3600:02}:{second_of_day // 60 % 60:02}:{second_of_day % 60:02}"
    return f"{date:%Y-%m-%d}T{clock}.{nanoseconds:09}Z"


def unix_seconds(ns: int) -> str:
    """Return `ns` nanoseconds as exact seconds, "1763703480.123456789"; a length of time as well as an instant."""
    seconds, nanoseconds = divmod(abs(int(ns)), _NS)
    return f"{'-' if ns < 0 else ''}{seconds}.{nanoseconds:09}"


def parse_duration(text: str) -> int:
    """Return the nanoseconds in `text` seconds ("1.5"); ValueError if it is no finite number within 292 years."""
    return _nanoseconds(text, text, _NS)


def parse_length(text: str) -> int:
    """Return the nanoseconds in `text`, seconds or a number with its unit: "1.5", "250ms", "60s", "5min", "2h".

    Raises:
        ValueError: it is no finite number of any of these, from 0 to 292 years.
    """
    length = _LENGTH.fullmatch(text)
    if length is None:
        raise ValueError(f"'{text}' is not a length of time; write 60s, 5min or 2h")
    return _nanoseconds(text, length["number"], _UNITS_NS[length["unit"] or "s"])


def _nanoseconds(text: str, number: str, unit_ns: int) -> int:
    try:
        ns = int(Decimal(number) * unit_ns)
    except (InvalidOperation, OverflowError, ValueError):
        raise ValueError(f"'{text}' is not a number of seconds") from None
    if not NO_TIME_NS < ns < -NO_TIME_NS:
        raise ValueError(f"'{text}' is out of range")
    return ns


def parse_time(text: str) -> int:
    """Return the instant `text` in nanoseconds since 1970: ISO 8601 (UTC where it names no zone) or unix seconds.

    Raises:
        ValueError: it is neither; the message says what is accepted.
    """
    try:
        return parse_duration(text)
    except ValueError:
        pass
    match = _ISO.fullmatch(text)
    try:
        if match is None:  # a date, or hours and minutes: no fraction to keep
            moment, fraction = datetime.fromisoformat(text), ""
        else:
            moment = datetime.fromisoformat(match["seconds"] + (match["zone"] or "").upper())
            fraction = match["fraction"] or ""
    except ValueError:
        raise ValueError(f"'{text}' is not a time; write 2026-11-21T12:03:15Z or unix seconds") from None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    ns = (since.days * 86_400 + since.seconds) * _NS + int(fraction.ljust(9, "0"))
    if not NO_TIME_NS < ns < -NO_TIME_NS:
        raise ValueError(f"'{text}' is out of range (1677 to 2262)")
    return ns


def time_of_day(text: str, day_of_ns: int) -> int | None:
    """Return the instant of a bare time of day, "12:03" or "12:03:15.5", on the UTC day of the instant `day_of_ns`.

    None if `text` is none; then it may be what `parse_time` reads.
    """
    if not _CLOCK.fullmatch(text):
        return None
    try:
        return parse_time(f"{rfc3339(day_of_ns)[:10]}T{text:0>{len(text) + (text.index(':') == 1)}}")
    except ValueError:
        return None
