"""The JSON Schema (draft 2020-12) of `ctrack report --format json`, the evidence of each kind of finding included.

Owns which evidence each kind has and of which type; json.py writes the documents. The package ships what this makes, as
report.schema.json beside it; a test holds the two together, and real reports against it.
"""

from __future__ import annotations

import json
from typing import Any

from conntrack.report.glossary import EVIDENCE as MEANINGS
from conntrack.report.json import SCHEMA
from conntrack.report.schema_parts import (
    COUNTS,
    DRAFT,
    INTEGER,
    NUMBER,
    STATES,
    TEXT,
    TIME_OR_NULL,
    Evidence,
    definitions,
    nullable,
    object_of,
)

__all__ = ["EVIDENCE", "OF_A_CAPTURE", "render_schema"]

_OF_SERVICE_OR_HOST = "attempts answered_before distinct_clients? distinct_clients_by? services? ports?"
_COMMON_TIME_WAIT = "rate_before_peak_per_s peak_ts reused reused_by_rfc6191 reused_after_retry counted_every_s"

EVIDENCE = {
    "syn_flood": "shape attempts completion_ratio honest_delayed_or_refused_ratio~ syn_rate_peak_per_s half_open_peak "
    "half_open_peak_ts~ backlog backlog_ratio abandoned answered_once_ratio~ synack_retransmissions unanswered "
    "unanswered_once distinct_sources distinct_sources_by alike_ratio~",
    "close_wait_leak": "side cause leaking closed_late oldest_s median_age_s growth_per_min never_sent_ratio "
    "spoke_after_fin syn_onto_stale perhaps_lost distinct_peers top_peers service_connections? ratio_of_service?",
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
    "most_tried_host": TEXT,
    "most_tried_ports": _PORTS,
    "ports": {"anyOf": [INTEGER, _PORTS]},
    "service": TEXT,
    "targets_by": TEXT,
    "top_peers": COUNTS,
    "top_services": COUNTS,
}

OF_A_CAPTURE = Evidence(EVIDENCE, MEANINGS, {**_ODD, **{name: {"enum": words} for name, words in _WORDS.items()}})


def render_schema() -> str:
    """Return the schema of one document."""
    document = {
        "$schema": DRAFT,
        "title": f"ctrack report --format json, schema version {SCHEMA}",
        "description": "One report. Keys may be added; none is taken away or changes what it means.",
        **object_of(
            {
                "schema": {"const": SCHEMA},
                "capture": object_of(_capture()),
                "connections": object_of(
                    {
                        "total": INTEGER,
                        "evicted": INTEGER,
                        "client_states": _all_states(),
                        "server_states": _all_states(),
                        "summarised": {
                            "description": "What ctrack live kept less of than there was, because it went on for long.",
                            "type": "array",
                            "items": TEXT,
                        },
                    },
                    optional=("summarised",),
                ),
                "findings": {"type": "array", "items": {"$ref": "#/$defs/finding"}},
                "services": {"type": "array", "maxItems": 50, "items": object_of(_service())},
                "series": object_of(
                    {**_instants(), "client": _STATE_SERIES, "server": _STATE_SERIES, "groups": object_of(_groups())}
                ),
            }
        ),
        "$defs": {
            "state_counts": {"propertyNames": {"enum": STATES}, **COUNTS},
            "state_series": {
                "description": "State to the number of ends in it at every step; states that never occur are left out.",
                "type": "object",
                "propertyNames": {"enum": STATES},
                "additionalProperties": {"type": "array", "items": INTEGER},
            },
            **definitions(OF_A_CAPTURE),
        },
    }
    return json.dumps(document, indent=2) + "\n"


def _all_states() -> dict[str, Any]:
    return object_of(dict.fromkeys(STATES, INTEGER))


def _capture() -> dict[str, Any]:
    return {
        "files": {"type": "array", "items": TEXT},
        "bytes": INTEGER,
        "packets": INTEGER,
        "tcp_segments": INTEGER,
        "first_ts": TIME_OR_NULL,
        "last_ts": TIME_OR_NULL,
        "skipped": {"description": "Frames that were not tracked, by reason.", **COUNTS},
        "time_inversions": {"description": "Packets with a time before the one before them.", **INTEGER},
        "faults": {"description": "What was damaged, a line each.", "type": "array", "items": TEXT},
        "interrupted": {"description": "Whether reading was stopped before the end.", "type": "boolean"},
    }


def _service() -> dict[str, Any]:
    counts = ("connections", "established", "refused", "reset", "unanswered", "midstream", "open_at_end")
    sides = ("client_payload_bytes", "server_payload_bytes", "client_retransmits", "server_retransmits")
    handshakes = ("handshake_p50_s", "handshake_p95_s", "handshake_p99_s")
    return {
        "service": {"description": "ip:port, or [ip6]:port", **TEXT},
        **dict.fromkeys((*counts, *sides), INTEGER),
        "client_states": _STATE_COUNTS,
        "server_states": _STATE_COUNTS,
        **{name: nullable(NUMBER) for name in handshakes},
    }


def _instants() -> dict[str, Any]:
    return {
        "first_ts": TIME_OR_NULL,
        "step_s": {"description": "From one instant to the next; null without series.", **nullable(NUMBER)},
    }


def _groups() -> dict[str, Any]:
    return {
        **_instants(),
        "services": {"type": "object", "additionalProperties": _STATE_SERIES},
        "services_rest": _STATE_SERIES,
        "services_total": INTEGER,
        "hosts": {"type": "object", "additionalProperties": _STATE_SERIES},
        "clients_counted": {"type": "boolean"},
        "unproven_clients_counted": {"type": "boolean"},
    }


if __name__ == "__main__":
    from pathlib import Path

    Path(__file__).with_name("report.schema.json").write_text(render_schema())
