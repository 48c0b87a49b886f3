"""Zeek's conn.log: the fields of its base script, for zeek-cut and everything built on such logs.

Owns which of our columns each of Zeek's fields is. `uid` is made from the connection's number and first time, so that
the same capture gives the same; `orig_bytes` and `resp_bytes` are, as in Zeek, sequence numbers covered: payload
without retransmissions and with what the capture lacks (missed_bytes). `duration` is to the connection's last segment
(Zeek ends it before the last ACKs of a close). What a record of ours does not have is unset ("-"): the service, and the
bytes at the IP level. #open and #close are left out, since the same input gives the same bytes. Read Zeek's
scripts/base/protocols/conn/main.zeek and docs.zeek.org, "Log formats".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conntrack.core.lines import COUNT, MICROSECONDS, TEXT, Lines
from conntrack.export.columns import COLUMNS
from conntrack.export.lines import kind_of
from conntrack.states import NO_TIME_NS

__all__ = ["ConnLog"]

Values = np.ndarray[Any, Any]

_CHUNK = 4_096
_BY_NAME = {column.name: column for column in COLUMNS}
_UID_LETTERS = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", np.uint8)
_UNSET = "-"

_FIELDS: tuple[tuple[str, str, str | int], ...] = (  # Zeek's name and type; our column, or the kind of what is made
    ("ts", "time", MICROSECONDS),
    ("uid", "string", TEXT),
    ("id.orig_h", "addr", "client_ip"),
    ("id.orig_p", "port", "client_port"),
    ("id.resp_h", "addr", "server_ip"),
    ("id.resp_p", "port", "server_port"),
    ("proto", "enum", "= tcp"),
    ("service", "string", "= -"),
    ("duration", "interval", MICROSECONDS),
    ("orig_bytes", "count", COUNT),
    ("resp_bytes", "count", COUNT),
    ("conn_state", "string", "zeek_conn_state"),
    ("local_orig", "bool", "= -"),
    ("local_resp", "bool", "= -"),
    ("missed_bytes", "count", COUNT),
    ("history", "string", "zeek_history"),
    ("orig_pkts", "count", "client_packets"),
    ("orig_ip_bytes", "count", "= -"),
    ("resp_pkts", "count", "server_packets"),
    ("resp_ip_bytes", "count", "= -"),
    ("tunnel_parents", "set[string]", "= -"),
    ("community_id", "string", "community_id"),
)


class ConnLog:
    """Writes connections (FLOW_DTYPE) as one conn.log in Zeek's TSV."""

    def __init__(self) -> None:
        fields: list[tuple[bytes, int, tuple[str, ...]]] = []
        self._sources: list[str] = []  # our column, or Zeek's field, of each value
        before = ""
        for name, _, source in _FIELDS:
            if isinstance(source, str) and source.startswith("= "):  # the same in every row
                before += source.removeprefix("= ") + "\t"
                continue
            column = _BY_NAME[source] if isinstance(source, str) else None
            kind = kind_of(column) if column is not None else int(source)
            fields.append((before.encode(), kind, column.words if column is not None else ()))
            self._sources.append(name if column is None else column.name)
            before = "\t"
        self._lines = Lines(fields, b"\n", nothing=_UNSET.encode())
        self._page = np.empty(_CHUNK * self._lines.most_bytes, np.uint8)

    def header(self) -> bytes:
        """Return the lines that say how to read the rest."""
        lines = [
            "#separator \\x09",
            "#set_separator\t,",
            "#empty_field\t(empty)",
            "#unset_field\t-",
            "#path\tconn",
            "#fields\t" + "\t".join(name for name, _, _ in _FIELDS),
            "#types\t" + "\t".join(kind for _, kind, _ in _FIELDS),
        ]
        return "".join(f"{line}\n" for line in lines).encode()

    def rows(self, flows: Values) -> bytes:
        """Return one line for each of `flows` (FLOW_DTYPE, shape (n,))."""
        return b"".join(self._write(flows[at : at + _CHUNK]) for at in range(0, len(flows), _CHUNK))

    def finish(self) -> bytes:
        """Return nothing: there is no last line (see above)."""
        return b""

    def _write(self, flows: Values) -> bytes:
        elapsed = flows["last_ts_ns"] - flows["first_ts_ns"]
        timed = elapsed > 0  # of one instant Zeek knows no duration, and then no bytes either
        covered = {end: flows[f"{end}_unique_bytes"] + flows[f"{end}_gap_bytes"] for end in ("client", "server")}
        made = {
            "ts": flows["first_ts_ns"],
            "uid": _uids(flows),
            "duration": np.where(timed, elapsed, NO_TIME_NS),
            "orig_bytes": np.where(timed, covered["client"].view(np.int64), -1),
            "resp_bytes": np.where(timed, covered["server"].view(np.int64), -1),
            "missed_bytes": (flows["client_gap_bytes"] + flows["server_gap_bytes"]).view(np.int64),
        }
        columns = [made[name] if name in made else _BY_NAME[name].values(flows) for name in self._sources]
        return self._page[: self._lines.write(columns, flows["ip_version"], self._page)].tobytes()


def _uids(flows: Values) -> Values:
    """Return identifiers of Zeek's shape, "C" and 17 letters (uint8, shape (n, 18)): number and time, by splitmix64."""
    state = flows["flow_id"] ^ flows["first_ts_ns"].view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    cells = np.empty((len(flows), 18), np.uint8)
    cells[:, 0] = ord("C")
    for first in (1, 10):  # nine of 62 letters are 53.6 of the 64 bits
        state = state + np.uint64(0x9E3779B97F4A7C15)
        mixed = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
        for column in range(first, min(first + 9, 18)):
            mixed, letter = np.divmod(mixed, np.uint64(len(_UID_LETTERS)))
            cells[:, column] = _UID_LETTERS[letter]
    return cells
