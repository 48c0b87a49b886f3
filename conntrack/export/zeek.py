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

from conntrack.export.cells import Cells, Matrix, digits, join, seconds
from conntrack.export.columns import COLUMNS

__all__ = ["ConnLog"]

Values = np.ndarray[Any, Any]

_CHUNK = 4_096
_BY_NAME = {column.name: column for column in COLUMNS}
_UID_LETTERS = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", np.uint8)

_FIELDS = (
    ("ts", "time"),
    ("uid", "string"),
    ("id.orig_h", "addr"),
    ("id.orig_p", "port"),
    ("id.resp_h", "addr"),
    ("id.resp_p", "port"),
    ("proto", "enum"),
    ("service", "string"),
    ("duration", "interval"),
    ("orig_bytes", "count"),
    ("resp_bytes", "count"),
    ("conn_state", "string"),
    ("local_orig", "bool"),
    ("local_resp", "bool"),
    ("missed_bytes", "count"),
    ("history", "string"),
    ("orig_pkts", "count"),
    ("orig_ip_bytes", "count"),
    ("resp_pkts", "count"),
    ("resp_ip_bytes", "count"),
    ("tunnel_parents", "set[string]"),
    ("community_id", "string"),
)
_UNSET = b"-"


class ConnLog:
    """Writes connections (FLOW_DTYPE) as one conn.log in Zeek's TSV."""

    def __init__(self) -> None:
        self._cells = Cells(epoch=True)

    def header(self) -> bytes:
        """Return the lines that say how to read the rest."""
        lines = [
            "#separator \\x09",
            "#set_separator\t,",
            "#empty_field\t(empty)",
            "#unset_field\t-",
            "#path\tconn",
            "#fields\t" + "\t".join(name for name, _ in _FIELDS),
            "#types\t" + "\t".join(kind for _, kind in _FIELDS),
        ]
        return "".join(f"{line}\n" for line in lines).encode()

    def rows(self, flows: Values) -> bytes:
        """Return one line for each of `flows` (FLOW_DTYPE, shape (n,))."""
        return b"".join(self._lines(flows[at : at + _CHUNK]) for at in range(0, len(flows), _CHUNK))

    def finish(self) -> bytes:
        """Return nothing: there is no last line (see above)."""
        return b""

    def _lines(self, flows: Values) -> bytes:
        elapsed = flows["last_ts_ns"] - flows["first_ts_ns"]
        timed = elapsed > 0  # of one instant Zeek knows no duration, and then no bytes either
        covered = {end: flows[f"{end}_unique_bytes"] + flows[f"{end}_gap_bytes"] for end in ("client", "server")}
        missed = flows["client_gap_bytes"] + flows["server_gap_bytes"]
        by_field: dict[str, Matrix | bytes] = {
            "ts": _microseconds(flows["first_ts_ns"]),
            "uid": _uids(flows),
            "id.orig_h": self._column("client_ip", flows),
            "id.orig_p": self._column("client_port", flows),
            "id.resp_h": self._column("server_ip", flows),
            "id.resp_p": self._column("server_port", flows),
            "proto": b"tcp",
            "duration": _unless(timed, _microseconds(elapsed)),
            "orig_bytes": _unless(timed, digits(covered["client"])),
            "resp_bytes": _unless(timed, digits(covered["server"])),
            "conn_state": self._column("zeek_conn_state", flows),
            "missed_bytes": digits(missed),
            "history": _unless(flows["history"][:, 0] != 0, self._column("zeek_history", flows)),
            "orig_pkts": self._column("client_packets", flows),
            "resp_pkts": self._column("server_packets", flows),
            "community_id": self._column("community_id", flows),
        }
        parts: list[Matrix | bytes] = []
        for name, _ in _FIELDS:
            parts += [by_field.get(name, _UNSET), b"\t"]
        parts[-1] = b"\n"
        return join(parts, len(flows))

    def _column(self, name: str, flows: Values) -> Matrix:
        return self._cells.write(_BY_NAME[name], flows)


def _microseconds(values_ns: Values) -> Matrix:
    """Return int64 nanoseconds as seconds with the six decimals that Zeek writes."""
    return seconds(values_ns)[:, :-3]


def _unless(known: Values, cells: Matrix) -> Matrix:
    """Return `cells` where `known`, else Zeek's mark of an unset field."""
    if not cells.shape[1]:
        cells = np.zeros((len(cells), 1), np.uint8)
    cells[~known] = 0
    cells[~known, 0] = _UNSET[0]
    return cells


def _uids(flows: Values) -> Matrix:
    """Return identifiers of Zeek's shape, "C" and 17 letters: flow_id and first_ts_ns, mixed (splitmix64)."""
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
