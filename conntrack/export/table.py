"""The table for a terminal: as many of the telling columns as the width holds, aligned, never wrapped.

For eyes; scripts take tsv or ndjson. Each batch may widen the columns, none narrows them. Knows no terminal: it is told
the width. Not drawn by rich, as other tables are (report/sheet.py): rich.table.Table wants all rows before the first
line, and takes about half a millisecond for one; here 100,000 sockets take two seconds, and flows come as they end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conntrack.export.columns import COLUMNS, HOST_SOCKET_COLUMNS, Column, flow_columns
from conntrack.export.lines import texts
from conntrack.states import NO_TIME_NS
from conntrack.times import rfc3339, unix_seconds

__all__ = ["Table"]

_GAP = "  "
_CHUNK = 4_096
_BY_NAME = {column.name: column for column in COLUMNS}
_BY_SOCKET_NAME = {column.name: column for column in HOST_SOCKET_COLUMNS}  # those of a capture are among them


def _plain(name: str, columns: Mapping[str, Column] = _BY_NAME) -> Callable[[np.ndarray[Any, Any]], list[str]]:
    return lambda flows: texts(columns[name], flows)


def _endpoint(end: str, columns: Mapping[str, Column] = _BY_NAME) -> Callable[[np.ndarray[Any, Any]], list[str]]:
    def cells(flows: np.ndarray[Any, Any]) -> list[str]:
        addresses = texts(columns[f"{end}_ip"], flows)
        ports = texts(columns[f"{end}_port"], flows)
        return [
            f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            for address, port in zip(addresses, ports, strict=True)
        ]

    return cells


def _sum(field: str) -> Callable[[np.ndarray[Any, Any]], list[str]]:
    return lambda flows: list(map(str, (flows[f"client_{field}"] + flows[f"server_{field}"]).tolist()))


def _cut(name: str, length: int) -> Callable[[np.ndarray[Any, Any]], list[str]]:
    return lambda flows: [text[:length] for text in texts(_BY_NAME[name], flows)]


@dataclass(frozen=True, slots=True)
class _Field:
    """One column of the table: its heading, its cells, whether numbers stand in it, and how soon it is given up."""

    heading: str
    cells: Callable[[np.ndarray[Any, Any]], list[str]]
    right: bool
    rank: int


def _fields(epoch: bool, paths: Sequence[str] | None) -> tuple[_Field, ...]:
    milliseconds = 14 if epoch else 23  # "1763703480.123", "2026-11-21T05:38:00.123": enough for eyes
    return (
        _Field("flow_id", _plain("flow_id"), True, 0),
        _Field("client", _endpoint("client"), False, 0),
        _Field("server", _endpoint("server"), False, 0),
        _Field("client_state", _plain("client_state"), False, 0),
        _Field("server_state", _plain("server_state"), False, 0),
        _Field("first_ts", _cut("first_ts", milliseconds), False, 2),
        _Field("duration_s", _duration, True, 1),
        _Field("packets", _sum("packets"), True, 4),
        _Field("bytes", _sum("payload_bytes"), True, 3),
        _Field("end_reason", _plain("end_reason"), False, 5),
        _Field("flags", _plain("flags"), False, 6),
        _Field("path", _plain("path", {column.name: column for column in flow_columns(paths)}), False, 7),
    )


def _socket_fields(epoch: bool) -> tuple[_Field, ...]:
    """Return what `ss -tan` shows, and what it cannot: since when, how we know, and for how long."""
    return (
        _Field("state", _plain("state", _BY_SOCKET_NAME), False, 0),
        _Field("local", _endpoint("local", _BY_SOCKET_NAME), False, 0),
        _Field("remote", _endpoint("remote", _BY_SOCKET_NAME), False, 0),
        _Field("since", _since(epoch), False, 0),
        _Field("evidence", _plain("evidence", _BY_SOCKET_NAME), False, 0),
        _Field("for_s", _age, True, 1),
        _Field("flow_id", _plain("flow_id", _BY_SOCKET_NAME), True, 2),
    )


def _host_fields(epoch: bool) -> tuple[_Field, ...]:
    """Return what `ss -tanp` shows, and how long it has been so; times of day would all be the same."""
    return (
        _Field("state", _plain("state", _BY_SOCKET_NAME), False, 0),
        _Field("recv_q", _plain("recv_queue", _BY_SOCKET_NAME), True, 0),
        _Field("send_q", _plain("send_queue", _BY_SOCKET_NAME), True, 0),
        _Field("local", _endpoint("local", _BY_SOCKET_NAME), False, 0),
        _Field("remote", _endpoint("remote", _BY_SOCKET_NAME), False, 0),
        _Field("for_s", _age, True, 2),
        _Field("process", _process, False, 1),
        _Field("timer", _timer, False, 4),
        _Field("retransmits", _plain("retransmits", _BY_SOCKET_NAME), True, 5),
        _Field("unit", _plain("unit", _BY_SOCKET_NAME), False, 3),
    )


def _process(sockets: np.ndarray[Any, Any]) -> list[str]:
    names = zip(sockets["process"].tolist(), sockets["pid"].tolist(), strict=True)
    return [f"{name.decode('ascii')}/{pid}" if pid >= 0 else "" for name, pid in names]


def _timer(sockets: np.ndarray[Any, Any]) -> list[str]:
    names = texts(_BY_SOCKET_NAME["timer"], sockets)
    left = sockets["timer_ns"].tolist()
    return ["" if ns == NO_TIME_NS else f"{name} {unix_seconds(ns)[:-8]}" for name, ns in zip(names, left, strict=True)]


def _age(sockets: np.ndarray[Any, Any]) -> list[str]:
    times = zip(sockets["at_ts_ns"].tolist(), sockets["since_ts_ns"].tolist(), strict=True)
    return ["" if since == NO_TIME_NS else unix_seconds(at - since)[:-6] for at, since in times]


def _since(epoch: bool) -> Callable[[np.ndarray[Any, Any]], list[str]]:
    """The time of day, or the date where the instant has another: ten characters, so that IPv4 fits in 80."""

    def cells(sockets: np.ndarray[Any, Any]) -> list[str]:
        since = sockets["since_ts_ns"].tolist()
        if epoch:
            return ["" if ts_ns == NO_TIME_NS else unix_seconds(ts_ns)[:-10] for ts_ns in since]
        days = [rfc3339(at_ns)[:10] for at_ns in sockets["at_ts_ns"].tolist()]
        spelled = ["" if ts_ns == NO_TIME_NS else rfc3339(ts_ns) for ts_ns in since]
        return [text[11:21] if text[:10] == day else text[:10] for text, day in zip(spelled, days, strict=True)]

    return cells


def _duration(flows: np.ndarray[Any, Any]) -> list[str]:
    return [unix_seconds(ns)[:-6] for ns in _BY_NAME["duration_s"].values(flows).tolist()]


class Table:
    """Writes an aligned table `width` columns wide; both ends and states are always there.

    Args:
        width: columns of the terminal.
        epoch: times in unix seconds.
        of: "flows", "sockets" or "host".
        paths: words for the outer paths of connections; the column is there if the first rows have one.
    """

    def __init__(
        self, *, width: int = 80, epoch: bool = False, of: str = "flows", paths: Sequence[str] | None = None
    ) -> None:
        self._width = width
        others = {"sockets": _socket_fields, "host": _host_fields}
        self._fields = _fields(epoch, paths) if of == "flows" else others[of](epoch)
        self._widths = {field.heading: len(field.heading) for field in self._fields}
        self._shown: tuple[_Field, ...] = ()

    def header(self) -> bytes:
        """Return nothing: the first rows decide the widths, and the headings come with them."""
        return b""

    def rows(self, flows: np.ndarray[Any, Any]) -> bytes:
        """Return one line for each of `flows` (shape (n,)), below the headings at the first call."""
        lines: list[str] = []
        for at in range(0, len(flows), _CHUNK):
            chunk = flows[at : at + _CHUNK]
            cells = {field.heading: field.cells(chunk) for field in (self._shown or self._fields)}
            for heading, column in cells.items():
                self._widths[heading] = max(self._widths[heading], max(map(len, column)))
            if not self._shown:
                if not any(cells.get("path", ())):
                    self._fields = tuple(field for field in self._fields if field.heading != "path")
                self._shown = self._choose()
                lines.append(self._line([field.heading for field in self._shown]))
            columns = [cells[field.heading] for field in self._shown]
            lines += [self._line(row) for row in zip(*columns, strict=True)]
        return "".join(lines).encode()

    def finish(self) -> bytes:
        """Return nothing: the last row is the end."""
        return b""

    def _choose(self) -> tuple[_Field, ...]:
        """Return the fields that fit, giving up the least telling first."""
        shown = list(self._fields)
        for rank in sorted({field.rank for field in shown} - {0}, reverse=True):
            if sum(self._widths[field.heading] + len(_GAP) for field in shown) - len(_GAP) <= self._width:
                break
            shown = [field for field in shown if field.rank != rank]
        return tuple(shown)

    def _line(self, row: list[str] | tuple[str, ...]) -> str:
        padded = (
            cell.rjust(self._widths[field.heading]) if field.right else cell.ljust(self._widths[field.heading])
            for field, cell in zip(self._shown, row, strict=True)
        )
        return _GAP.join(padded).rstrip() + "\n"
