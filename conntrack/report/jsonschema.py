"""The JSON Schema (draft 2020-12) of `ctrack report --format json`, the evidence of each kind of finding included.

Owns which evidence each kind has and of which type; json.py writes the documents. The package ships what this makes, as
report.schema.json beside it; a test holds the two together, and real reports against it.
"""

from __future__ import annotations

import json
from typing import Any

from conntrack.detect.finding import SEVERITIES
from conntrack.report.glossary import EVIDENCE as MEANINGS
from conntrack.report.json import SCHEMA
from conntrack.states import TcpState
from conntrack.times import RFC3339_PATTERN

__all__ = ["EVIDENCE", "render_schema"]

_OF_SERVICE_OR_HOST = "attempts answered_before distinct_clients? distinct_clients_by? services? ports?"
_COMMON_TIME_WAIT = "rate_before_peak_per_s peak_ts reused reused_by_rfc6191 reused_after_retry counted_every_s"

EVIDENCE = {
    "syn_flood": "shape attempts completion_ratio honest_delayed_or_refused_ratio~ syn_rate_peak_per_s half_open_peak "
    "half_open_peak_ts~ backlog backlog_ratio abandoned answered_once_ratio~ synack_retransmissions unanswered "
    "unanswered_once distinct_sources distinct_sources_by alike_ratio~",
    "close_wait_leak": "side cause leaking closed_late oldest_s median_age_s growth_per_min never_sent_ratio "
    "spoke_after_fin syn_onto_stale distinct_peers top_peers service_connections? ratio_of_service?",
    "time_wait_buildup": "side service occupancy_ratio? ephemeral_ports? sustainable_per_s? kernel_memory_bytes? "
    + _COMMON_TIME_WAIT,
    "accept_queue_overflow": "attempts affected_ratio synack_repeats_after_ack never_served waiting_before "
    "failed_meanwhile late_meanwhile",
    "reset_storm": "reset_by_server reset_by_client window_s service_connections reset_ratio",
    "port_scan": "direction targets targets_by hosts ports refused unanswered given_up most_tried_host "
    "most_tried_ports",
    "unanswered_syn": f"{_OF_SERVICE_OR_HOST} unanswered_ratio syns? repeated?",
    "connection_refused": f"{_OF_SERVICE_OR_HOST} refused_ratio",
    "zero_window_stall": "side zero_window_segments service_connections~ stalled_ratio~",
    "fin_wait_2_stuck": "side waited_at_least_s orphans_max orphans_ratio service_connections~",
    "last_ack_stuck": "side fins orphans_max orphans_ratio service_connections~",
    "one_sided_capture": "connections one_sided_ratio only_from_client only_from_server top_services",
    "capture_loss": "connections affected_ratio gap_bytes gap_ratio top_services",
    "duplicate_frames": "copies copies_ratio connections affected_ratio top_services",
}
"""Each kind's evidence, by its name in the document: with `?` where it may be missing, `~` where it may be null."""

_STATES = [state.name for state in TcpState]
_INTEGER: dict[str, Any] = {"type": "integer", "minimum": 0}
_NUMBER: dict[str, Any] = {"type": "number", "minimum": 0}
_TEXT: dict[str, Any] = {"type": "string"}
_TIME: dict[str, Any] = {"$ref": "#/$defs/time"}
_TIME_OR_NULL: dict[str, Any] = {"anyOf": [_TIME, {"type": "null"}]}
_COUNTS: dict[str, Any] = {"type": "object", "additionalProperties": _INTEGER}
_STATE_COUNTS = {"$ref": "#/$defs/state_counts"}
_STATE_SERIES = {"$ref": "#/$defs/state_series"}
_PORTS: dict[str, Any] = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 65_535}}
_WORDS = {
    "cause": ["application_leak", "accept_starvation"],
    "direction": ["ports of a host", "hosts on a port"],
    "distinct_clients_by": ["exact", "HyperLogLog", "at least"],
    "distinct_sources_by": ["exact", "HyperLogLog", "at least"],
    "shape": ["fast", "slow", "syn_cookies", "all_syn"],
    "side": ["client", "server"],
}
_ODD: dict[str, dict[str, Any]] = {  # those whose names do not say what they are
    "alike_ratio": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}},
    "most_tried_host": _TEXT,
    "most_tried_ports": _PORTS,
    "ports": {"anyOf": [_INTEGER, _PORTS]},
    "service": _TEXT,
    "targets_by": _TEXT,
    "top_peers": _COUNTS,
    "top_services": _COUNTS,
}


def render_schema() -> str:
    """Return the schema of one document."""
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"ctrack report --format json, schema version {SCHEMA}",
        "description": "One report. Keys may be added; none is taken away or changes what it means.",
        **_object(
            {
                "schema": {"const": SCHEMA},
                "capture": _object(_capture()),
                "connections": _object(
                    {
                        "total": _INTEGER,
                        "evicted": _INTEGER,
                        "client_states": _all_states(),
                        "server_states": _all_states(),
                    }
                ),
                "findings": {"type": "array", "items": {"$ref": "#/$defs/finding"}},
                "services": {"type": "array", "maxItems": 50, "items": _object(_service())},
                "series": _object(
                    {**_instants(), "client": _STATE_SERIES, "server": _STATE_SERIES, "groups": _object(_groups())}
                ),
            }
        ),
        "$defs": {
            "time": {
                "description": "RFC 3339 in UTC; unix seconds with --epoch.",
                "type": ["string", "number"],
                "pattern": RFC3339_PATTERN,
            },
            "state_counts": {"propertyNames": {"enum": _STATES}, **_COUNTS},
            "state_series": {
                "description": "State to the number of ends in it at every step; states that never occur are left out.",
                "type": "object",
                "propertyNames": {"enum": _STATES},
                "additionalProperties": {"type": "array", "items": _INTEGER},
            },
            "finding": _finding(),
            **{f"{kind}_evidence": _evidence(kind) for kind in EVIDENCE},
        },
    }
    return json.dumps(document, indent=2) + "\n"


def _object(properties: dict[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _all_states() -> dict[str, Any]:
    return _object(dict.fromkeys(_STATES, _INTEGER))


def _capture() -> dict[str, Any]:
    return {
        "files": {"type": "array", "items": _TEXT},
        "bytes": _INTEGER,
        "packets": _INTEGER,
        "tcp_segments": _INTEGER,
        "first_ts": _TIME_OR_NULL,
        "last_ts": _TIME_OR_NULL,
        "skipped": {"description": "Frames that were not tracked, by reason.", **_COUNTS},
        "time_inversions": {"description": "Packets with a time before the one before them.", **_INTEGER},
        "faults": {"description": "What was damaged, a line each.", "type": "array", "items": _TEXT},
        "interrupted": {"description": "Whether reading was stopped before the end.", "type": "boolean"},
    }


def _service() -> dict[str, Any]:
    counts = ("connections", "established", "refused", "reset", "unanswered", "midstream", "open_at_end")
    sides = ("client_payload_bytes", "server_payload_bytes", "client_retransmits", "server_retransmits")
    handshakes = ("handshake_p50_s", "handshake_p95_s", "handshake_p99_s")
    return {
        "service": {"description": "ip:port, or [ip6]:port", **_TEXT},
        **dict.fromkeys((*counts, *sides), _INTEGER),
        "client_states": _STATE_COUNTS,
        "server_states": _STATE_COUNTS,
        **{name: _nullable(_NUMBER) for name in handshakes},
    }


def _instants() -> dict[str, Any]:
    return {
        "first_ts": _TIME_OR_NULL,
        "step_s": {"description": "From one instant to the next; null without series.", **_nullable(_NUMBER)},
    }


def _groups() -> dict[str, Any]:
    return {
        **_instants(),
        "services": {"type": "object", "additionalProperties": _STATE_SERIES},
        "services_rest": _STATE_SERIES,
        "services_total": _INTEGER,
        "hosts": {"type": "object", "additionalProperties": _STATE_SERIES},
        "clients_counted": {"type": "boolean"},
        "unproven_clients_counted": {"type": "boolean"},
    }


def _finding() -> dict[str, Any]:
    sentences = {"type": "array", "items": _TEXT}
    common = {
        "kind": {"enum": list(EVIDENCE)},
        "subject": {"description": "A service (ip:port), the address of a host, or capture.", **_TEXT},
        "severity": {"enum": list(SEVERITIES)},
        "first_ts": _TIME,
        "last_ts": _TIME,
        "count": {"description": "Connections concerned.", **_INTEGER},
        "peak": {"description": "The most of them at one instant.", **_INTEGER},
        "evidence": {"type": "object"},
        "caveats": sentences,
        "next_steps": sentences,
        "flow_ids": {"description": "The lowest of those behind it.", "type": "array", "maxItems": 100,
                     "items": {"type": "integer", "minimum": 1}, "uniqueItems": True},
    }  # fmt: skip
    by_kind = [
        {
            "if": {"properties": {"kind": {"const": kind}}},
            "then": {"properties": {"evidence": {"$ref": f"#/$defs/{kind}_evidence"}}},
        }
        for kind in EVIDENCE
    ]
    return {**_object(common), "allOf": by_kind}


def _evidence(kind: str) -> dict[str, Any]:
    properties = {}
    optional = []
    for spelled in EVIDENCE[kind].split():
        name = spelled.rstrip("?~")
        meaning = MEANINGS.get(name) or MEANINGS[f"{name}_ns"]
        value = _value(name)
        properties[name] = {"description": meaning.means, **(_nullable(value) if spelled.endswith("~") else value)}
        if spelled.endswith("?"):
            optional.append(name)
    return _object(properties, optional=tuple(optional))


def _value(name: str) -> dict[str, Any]:
    """Return the type of evidence: the unit at the end of its name decides, else it is a count."""
    if name in _ODD:
        return _ODD[name]
    if name in _WORDS:
        return {"enum": _WORDS[name]}
    if name.endswith("_ts"):
        return _TIME
    measured = name.endswith(("_s", "_per_min")) or "ratio" in name.split("_")
    return _NUMBER if measured else _INTEGER


def _nullable(value: dict[str, Any]) -> dict[str, Any]:
    """Return the type that may be null as well."""
    return {**value, "type": [value["type"], "null"]} if "type" in value else _TIME_OR_NULL


if __name__ == "__main__":
    from pathlib import Path

    Path(__file__).with_name("report.schema.json").write_text(render_schema())
