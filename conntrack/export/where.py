"""`--where`: which rows are wanted, as conditions on the columns of their schema, all of which must hold.

    server_state=CLOSE_WAIT and server_port=443
    client_ip=10.0.0.0/8, duration_s>=60, flags~midstream

A condition is `column op value`; the operators are = != < <= > >= and ~ (the printed text contains). "none" is the
value of a time or a count that is not known. Evaluated a batch at a time. There is no "or" and there are no brackets
on purpose: what needs more takes `--format ndjson` and a query language.
"""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from conntrack.errors import ConntrackError
from conntrack.export.columns import COLUMNS, Column, Kind
from conntrack.export.lines import texts
from conntrack.states import NO_TIME_NS
from conntrack.times import parse_duration, parse_time

__all__ = ["Filter", "WhereError", "parse_where"]

Values = np.ndarray[Any, Any]

_CONDITION = re.compile(
    r"\s*(?P<name>\w+)\s*(?P<op>!=|<=|>=|==|=|<|>|~)\s*"
    r"(?P<value>\"[^\"]*\"|'[^']*'|[^\s,\"']+)\s*(?P<next>,|and\b|$)",
    re.IGNORECASE,
)
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EQUAL = ("=", "==", "!=", "~")
_STATE_ALIASES = {  # what ss and netstat print; the output never does
    "ESTAB": "ESTABLISHED",
    "FIN_WAIT1": "FIN_WAIT_1",
    "FIN_WAIT2": "FIN_WAIT_2",
    "SYN_RECV": "SYN_RECEIVED",
    "SYN_RCVD": "SYN_RECEIVED",
}


class WhereError(ConntrackError):
    """A filter that cannot be understood (exit code 2)."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed `--where`: `mask` gives the rows for which every condition holds."""

    conditions: tuple[Callable[[Values], Values], ...]

    def mask(self, flows: Values) -> Values:
        """Return bool, shape (n,), for `flows` (of the columns' dtype, shape (n,))."""
        mask = np.ones(len(flows), np.bool_)
        for condition in self.conditions:
            mask &= condition(flows)
        return mask


def parse_where(text: str, columns: Sequence[Column] = COLUMNS) -> Filter:
    """Return the filter on `columns` that `text` describes.

    Raises:
        WhereError: not of the form above, no such column, or a value that the column cannot have.
    """
    by_name = {column.name: column for column in columns}
    conditions = []
    at, more = 0, True
    while more:
        match = _CONDITION.match(text, at)
        if match is None:
            raise WhereError(
                f"--where: cannot read '{text[at:].strip() or text}'; write column op value, op one of "
                "= != < <= > >= ~, joined by 'and'"
            )
        column = _column(match["name"], by_name)
        conditions.append(_condition(column, match["op"], match["value"].strip("\"'")))
        at, more = match.end(), bool(match["next"])
    return Filter(tuple(conditions))


def _column(name: str, by_name: Mapping[str, Column]) -> Column:
    column = by_name.get(name.lower())
    if column is None:
        close = get_close_matches(name.lower(), by_name, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"the columns are {', '.join(by_name)}"
        raise WhereError(f"--where: no column '{name}'; {hint}")
    return column


def _condition(column: Column, op: str, value: str) -> Callable[[Values], Values]:
    try:
        match column.kind:
            case Kind.FLAGS:
                return _has_flag(column, op, value)
            case _ if op == "~":
                return lambda flows: np.array([value in cell for cell in texts(column, flows)], np.bool_)
            case Kind.INTEGER:
                return _compare(column, op, int(value))
            case Kind.COUNT:
                return _compare(column, op, -1 if value.lower() == "none" else int(value))
            case Kind.TIME:
                return _compare(column, op, _known_or(value, parse_time))
            case Kind.SECONDS:
                return _compare(column, op, _known_or(value, parse_duration))
        if op not in _EQUAL:
            raise ValueError(f"takes only {' '.join(_EQUAL)}, not {op}")
        match column.kind:
            case Kind.WORD:
                return _compare(column, op, _word(column, value))
            case Kind.ADDRESS:
                return _in_network(column, op, value)
            case _:
                return _compare(column, op, value.encode())
    except ValueError as error:
        reason = f"'{value}' is not a number" if "invalid literal" in str(error) else str(error)
        raise WhereError(f"--where: {column.name}: {reason}") from None


def _known_or(value: str, parse: Callable[[str], int]) -> int:
    return NO_TIME_NS if value.lower() == "none" else parse(value)


def _compare(column: Column, op: str, value: int | bytes) -> Callable[[Values], Values]:
    compare = _COMPARE[op]
    unknown = {Kind.TIME: NO_TIME_NS, Kind.SECONDS: NO_TIME_NS, Kind.COUNT: -1}.get(column.kind)
    ordered = op not in _EQUAL and unknown is not None

    def condition(flows: Values) -> Values:
        values = column.values(flows)
        mask: Values = compare(values, value)
        return mask & (values != unknown) if ordered else mask  # the unknown is not early

    return condition


def _word(column: Column, value: str) -> int:
    words = [word.upper() for word in column.words]
    spelled = value.upper().replace("-", "_")
    spelled = _STATE_ALIASES.get(spelled, spelled)
    if spelled not in words:
        raise ValueError(f"no '{value}'; there are {', '.join(column.words)}")
    return words.index(spelled)


def _has_flag(column: Column, op: str, value: str) -> Callable[[Values], Values]:
    if op not in _EQUAL:
        raise ValueError("takes only = and ~ (has the flag) and != (has it not)")
    bit = np.uint32(1 << _word(column, value))
    wanted = op != "!="
    return lambda flows: ((column.values(flows) & bit) != 0) == wanted


def _in_network(column: Column, op: str, value: str) -> Callable[[Values], Values]:
    """An address is a network of one; IPv4 is mapped as in the dtypes."""
    network = ipaddress.ip_network(value, strict=False)
    base, mask = network.network_address.packed, network.netmask.packed
    first = 16 - len(base)
    base_bytes, mask_bytes = np.frombuffer(base, np.uint8), np.frombuffer(mask, np.uint8)
    wanted = op != "!="

    def condition(flows: Values) -> Values:
        inside: Values = ((column.values(flows)[:, first:] & mask_bytes) == base_bytes).all(axis=1)
        inside &= flows["ip_version"] == network.version
        return inside if wanted else ~inside

    return condition
