"""The schemas: every column's name, kind, meaning and derivation, in the order of the output. `flows` is made from
FLOW_DTYPE, `sockets` from SOCKET_DTYPE, and from HOST_SOCKET_DTYPE (conntrack/host/) without a capture.

The only lists of columns: exporters, filters, the terminal table and the README's table are made from them. Knows no
output format (lines.py writes the kinds). A column is added at the end of its group and never renamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from conntrack import derived
from conntrack.states import NO_TIME_NS, ClosedBy, DirectionEvidence, EndReason, Evidence, FlowFlag, TcpState

__all__ = [
    "COLUMNS",
    "FLAG_WORDS",
    "HOST_SOCKET_COLUMNS",
    "SCHEMA_VERSION",
    "SOCKET_COLUMNS",
    "Column",
    "Kind",
    "flow_columns",
    "render_markdown",
]

SCHEMA_VERSION = 1
"""Of rows in every format. Columns may be added under the same number; none is renamed or changes its kind."""

Values = np.ndarray[Any, Any]


class Kind(Enum):
    """What a column's values are, with their numpy form; the value is the word for people."""

    INTEGER = "integer"
    """Unsigned integers."""
    COUNT = "count"
    """int64, negative where not known."""
    TIME = "time"
    """int64 nanoseconds since 1970 (UTC), NO_TIME_NS where not known."""
    SECONDS = "seconds"
    """int64 nanoseconds, NO_TIME_NS where not known; written in seconds."""
    WORD = "word"
    """uint8 indices into the column's `words`."""
    ADDRESS = "address"
    """uint8, shape (n, 16), as in the dtypes."""
    TEXT = "text"
    """ASCII bytes (dtype S)."""
    FLAGS = "flags"
    """Bit i set means the column's `words[i]`."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the schema.

    Attributes:
        name: as printed.
        kind: what `values` returns.
        meaning: one line for people.
        values: FLOW_DTYPE, SOCKET_DTYPE or HOST_SOCKET_DTYPE, shape (n,), to the values, n rows.
        words: the names of the values of a WORD or FLAGS column, by number.
    """

    name: str
    kind: Kind
    meaning: str
    values: Callable[[Values], Values]
    words: tuple[str, ...] = ()


def _field(name: str) -> Callable[[Values], Values]:
    def values(flows: Values) -> Values:
        field: Values = flows[name]
        return field

    return values


def _history(flows: Values) -> Values:
    letters: Values = flows["history"].view("S32")[:, 0]
    return letters


def _schema(rows: Values) -> Values:
    return np.full(len(rows), SCHEMA_VERSION, np.uint8)


def _duration(flows: Values) -> Values:
    elapsed: Values = flows["last_ts_ns"] - flows["first_ts_ns"]
    return elapsed


def _count(name: str) -> Callable[[Values], Values]:
    def values(rows: Values) -> Values:
        wide: Values = rows[name].astype(np.int64)
        return wide

    return values


def _path_words(paths: Sequence[str] | None) -> Callable[[Values], Values]:
    # Numbers, where nobody knows the words; those past the end are too many to be told apart (core.paths).
    def word(number: int) -> str:
        if paths is None:
            return f"path {number}" if number else ""
        return paths[number] if number < len(paths) else "others"

    def values(flows: Values) -> Values:
        numbers = flows["path"]
        if not numbers.any():
            return np.zeros(len(flows), "S1")
        met, which = np.unique(numbers, return_inverse=True)
        cells: Values = np.array([word(number).encode() for number in met.tolist()], "S")[which]
        return cells

    return values


def _age(rows: Values) -> Values:
    since = rows["since_ts_ns"]
    return np.where(since == NO_TIME_NS, NO_TIME_NS, rows["at_ts_ns"] - since)


def _lower(members: Iterable[Any]) -> tuple[str, ...]:
    return tuple(member.name.lower() for member in members)


FLAG_WORDS = _lower(FlowFlag)
"""The flags' names by bit."""
_STATES = tuple(state.name for state in TcpState)
_EVIDENCE = _lower(Evidence)

_SIDE = (  # of each end: name, FLOW_DTYPE field after the prefix, meaning
    ("packets", "segments it sent"),
    ("payload_bytes", "payload it sent, retransmissions included"),
    ("wire_bytes", "whole frames it sent"),
    ("unique_bytes", "payload it sent, retransmissions left out"),
    ("retransmits", "segments it sent that carry nothing new"),
    ("out_of_order", "segments it sent that came beyond a hole, or filled one"),
    ("gap_bytes", "payload it sent that was acknowledged but is not in the capture"),
    ("zero_windows", "segments it sent that announce a window of 0"),
    ("syns", "SYNs it sent, retransmissions included (the server's are SYN+ACKs)"),
    ("fins", "FINs it sent"),
    ("rsts", "RSTs it sent"),
)

_STEPS = (
    ("syn", "first SYN seen"),
    ("synack", "first SYN+ACK seen"),
    ("established", "first ACK of the SYN+ACK seen"),
    ("client_fin", "client's FIN first seen"),
    ("server_fin", "server's FIN first seen"),
    ("reset", "first RST that closed anything"),
    ("closed", "both ends were CLOSED"),
)

COLUMNS: tuple[Column, ...] = (
    Column("flow_id", Kind.INTEGER, "frame number of the first segment; the same in every run", _field("flow_id")),
    Column("community_id", Kind.TEXT, "Community ID v1, seed 0", derived.community_id),
    Column(
        "generation", Kind.INTEGER, "1 for the first connection on the 4-tuple, 2 for the next", _field("generation")
    ),
    Column("client_ip", Kind.ADDRESS, "address of the end that opened the connection", _field("client_ip")),
    Column("client_port", Kind.INTEGER, "its port", _field("client_port")),
    Column("server_ip", Kind.ADDRESS, "address of the end that listened", _field("server_ip")),
    Column("server_port", Kind.INTEGER, "its port", _field("server_port")),
    Column(
        "direction_evidence",
        Kind.WORD,
        "why the client is called the client",
        _field("direction_evidence"),
        _lower(DirectionEvidence),
    ),
    Column("client_state", Kind.WORD, "RFC 9293 state of the client", _field("client_state"), _STATES),
    Column("server_state", Kind.WORD, "RFC 9293 state of the server", _field("server_state"), _STATES),
    Column(
        "client_state_evidence",
        Kind.WORD,
        "how the client's state is known",
        _field("client_state_evidence"),
        _EVIDENCE,
    ),
    Column(
        "server_state_evidence",
        Kind.WORD,
        "how the server's state is known",
        _field("server_state_evidence"),
        _EVIDENCE,
    ),
    Column("first_ts", Kind.TIME, "first segment", _field("first_ts_ns")),
    Column("last_ts", Kind.TIME, "last segment", _field("last_ts_ns")),
    Column("duration_s", Kind.SECONDS, "first segment to last", _duration),
    Column("closed_by", Kind.WORD, "which end closed first", _field("closed_by"), _lower(ClosedBy)),
    Column("end_reason", Kind.WORD, "why the connection's record ends", _field("end_reason"), _lower(EndReason)),
    *(
        Column(f"{end}_{name}", Kind.INTEGER, f"{end}: {meaning}", _field(f"{end}_{name}"))
        for end in ("client", "server")
        for name, meaning in _SIDE
    ),
    *(Column(f"{name}_ts", Kind.TIME, meaning, _field(f"{name}_ts_ns")) for name, meaning in _STEPS),
    Column(
        "handshake_rtt_client_s",
        Kind.SECONDS,
        "SYN+ACK to its ACK: capture point to client and back; unknown if repeated",
        derived.handshake_rtt_client_ns,
    ),
    Column(
        "handshake_rtt_server_s",
        Kind.SECONDS,
        "SYN to SYN+ACK: capture point to server and back; unknown if repeated",
        derived.handshake_rtt_server_ns,
    ),
    Column(
        "reused_time_wait_age_s",
        Kind.SECONDS,
        "age of the TIME_WAIT that it took its ports from; unknown where there was none",
        _field("reused_age_ns"),
    ),
    Column("flags", Kind.FLAGS, "what is special about it, joined by |", _field("flags"), FLAG_WORDS),
    Column(
        "tag",
        Kind.INTEGER,
        "network that its first segment was on: VLAN ids, or the identifier of the innermost tunnel; 0 for none",
        _field("tag"),
    ),
    Column(
        "path",
        Kind.TEXT,
        "layers and outer addresses that its first segment came by, eth/vlan 12/...; empty for plain frames",
        _path_words(None),
    ),
    Column(
        "zeek_conn_state",
        Kind.WORD,
        "Zeek's conn_state",
        derived.zeek_conn_state,
        derived.ZEEK_CONN_STATES,
    ),
    Column("zeek_history", Kind.TEXT, "Zeek's history letters, upper case for the client", _history),
    Column(
        "tcp_completeness",
        Kind.INTEGER,
        "Wireshark's tcp.completeness: SYN 1, SYN+ACK 2, ACK 4, data 8, FIN 16, RST 32",
        _field("completeness"),
    ),
    Column(
        "flow_end_reason",
        Kind.INTEGER,
        "IPFIX's flowEndReason: 1 idle timeout, 3 end of flow detected, 4 forced end, 5 lack of resources",
        derived.flow_end_reason,
    ),
    Column("schema", Kind.INTEGER, "version of this schema", _schema),
)


def flow_columns(paths: Sequence[str] | None) -> tuple[Column, ...]:
    """Return COLUMNS, `path` in the words of one reading: `paths` is its CaptureInfo.paths, which may still grow.

    Without it `path` is "path N", with FLOW_DTYPE's number, and empty for plain frames.
    """
    values = _path_words(paths)
    return tuple(replace(column, values=values) if column.name == "path" else column for column in COLUMNS)


SOCKET_COLUMNS: tuple[Column, ...] = (
    Column("state", Kind.WORD, "RFC 9293 state of this end", _field("state"), _STATES),
    Column("local_ip", Kind.ADDRESS, "address of this end", _field("local_ip")),
    Column("local_port", Kind.INTEGER, "its port", _field("local_port")),
    Column("remote_ip", Kind.ADDRESS, "address of the other end", _field("remote_ip")),
    Column("remote_port", Kind.INTEGER, "its port", _field("remote_port")),
    Column("since_ts", Kind.TIME, "when this end entered its state", _field("since_ts_ns")),
    Column("evidence", Kind.WORD, "how the state is known", _field("evidence"), _EVIDENCE),
    Column("at_ts", Kind.TIME, "the instant asked for; of a host, when its table was read", _field("at_ts_ns")),
    Column("flow_id", Kind.INTEGER, "the connection, as in flows; of a host, the kernel's cookie", _field("flow_id")),
    Column("schema", Kind.INTEGER, "version of this schema", _schema),
)

_TIMERS = ("none", "retransmission", "keep_alive", "time_wait", "zero_window_probe")
"""By number, as in conntrack/host/kernel.py; a test compares them."""

HOST_SOCKET_COLUMNS: tuple[Column, ...] = (
    *SOCKET_COLUMNS[:-1],
    Column("age_s", Kind.SECONDS, "in its state for at least so long, where the kernel tells", _age),
    Column("idle_s", Kind.SECONDS, "since anything was sent or received", _field("idle_ns")),
    Column("recv_queue", Kind.COUNT, "octets not yet read; LISTEN: connections not yet accepted", _count("recv_queue")),
    Column("send_queue", Kind.COUNT, "octets not yet acknowledged; LISTEN: its backlog", _count("send_queue")),
    Column("timer", Kind.WORD, "the timer that runs", _field("timer"), _TIMERS),
    Column("timer_s", Kind.SECONDS, "until it runs out", _field("timer_ns")),
    Column("timeouts", Kind.COUNT, "how often it ran out without an answer since", _count("timeouts")),
    Column("retransmits", Kind.COUNT, "segments sent again in its life", _count("retransmits")),
    Column("rtt_s", Kind.SECONDS, "round trip time, smoothed", _field("rtt_ns")),
    Column("sent_bytes", Kind.COUNT, "payload sent, retransmissions included", _count("sent_bytes")),
    Column("received_bytes", Kind.COUNT, "payload received", _count("received_bytes")),
    Column("drops", Kind.COUNT, "segments dropped by it; LISTEN: SYNs and finished handshakes", _count("drops")),
    Column("uid", Kind.COUNT, "its owner", _count("uid")),
    Column("inode", Kind.COUNT, "of the socket; 0 where no process holds it", _count("inode")),
    Column("pid", Kind.COUNT, "the process that holds it; the lowest of several", _count("pid")),
    Column("process", Kind.TEXT, "its command; odd characters as %XX", _field("process")),
    Column("unit", Kind.TEXT, "its systemd unit, or container:ID", _field("unit")),
    SOCKET_COLUMNS[-1],
)
"""Of the host's own sockets: the same, and what only the kernel knows."""


def render_markdown() -> str:
    """Return the schema of `flows` as the README's Markdown table."""
    lines = ["| column | kind | meaning |", "|---|---|---|"]
    for column in COLUMNS:
        few = f" ({', '.join(column.words)})" if column.words and column.words not in (_STATES, FLAG_WORDS) else ""
        meaning = f"{column.meaning}{few}".replace("|", "\\|")
        lines.append(f"| `{column.name}` | {column.kind.value} | {meaning} |")
    return "\n".join(lines) + "\n"
