"""The JSON Schema (draft 2020-12) of `ctrack host --format json`, the evidence of each kind of finding included.

Owns which evidence each rule of a host gives; host.py writes the documents. The package ships what this makes, as
host.schema.json beside it; a test holds the two together, and the reports of real hosts against it.
"""

from __future__ import annotations

import json
from typing import Any

from conntrack.report.host_glossary import HOST_EVIDENCE
from conntrack.report.json import SCHEMA
from conntrack.report.schema_parts import (
    COUNTS,
    DRAFT,
    INTEGER,
    STATES,
    TEXT,
    TIME,
    Evidence,
    definitions,
    nullable,
    object_of,
)

__all__ = ["OF_A_HOST", "render_schema"]

_STUCK = "orphans orphans_max~ orphans_ratio distinct_peers top_peers"

_KINDS = {
    "syn_flood": "shape half_open? half_open_peak? half_open_peak_ts? abandoned? completion_ratio?~ backlog? "
    "backlog_ratio? syn_cookies_sent~ syn_cookies_returned~ syns_dropped~ listen_drops~ observed_s~ "
    "syn_cookies_setting~ distinct_sources? top_sources?",
    "close_wait_leak": "side cause processes unit~ leaking oldest_s median_age_s not_accepted_ratio distinct_peers "
    "top_peers growth? growth_per_min? observed_s? service_connections? ratio_of_service? descriptors? "
    "descriptors_max?",
    "time_wait_buildup": "side service? ephemeral_ports? occupancy_ratio? other_sockets_there? rate_per_s "
    "tcp_tw_reuse?~ time_wait?",
    "time_wait_table_full": "time_wait limit~ limit_ratio overflows",
    "accept_queue_overflow": "processes? unit?~ accept_queue? accept_queue_peak? backlog?~ dropped?~ "
    "dropped_since_listen?~ listen_overflows~ listen_drops~ full_at_looks?",
    "fin_wait_2_stuck": f"side waiting orphaned oldest_s processes {_STUCK}",
    "last_ack_stuck": f"side waiting fins_repeated_most longest_silence_s~ {_STUCK}",
    "retransmissions": "retransmitted sent retransmit_ratio observed_s timeouts~ fast_retransmits~ lost_retransmits~ "
    "syn_retransmits~ spurious~ top_peers",
    "reset_storm": "resets rate_per_s window_s opened resets_to_opened aborted_by_programs_here resets_sent~ "
    "keep_alives_failed~",
    "conntrack_table_full": "entries limit limit_ratio dropped insert_failed~",
}
"""Each kind's evidence, by its name in the document: with `?` where it may be missing, `~` where it may be null."""

_TYPES: dict[str, dict[str, Any]] = {  # of those whose names do not say what they are
    "cause": {"enum": ["application_leak", "accept_starvation"]},
    "full_at_looks": TEXT,
    "growth": {"type": "integer"},
    "growth_per_min": {"type": "number"},
    "processes": {"description": "command/pid to how many sockets", **COUNTS},
    "resets_to_opened": {"type": "number", "minimum": 0},
    "service": TEXT,
    "shape": {"enum": ["half_open", "syn_cookies"]},
    "side": {"enum": ["client", "server"]},
    "syn_cookies_setting": TEXT,
    "tcp_tw_reuse": TEXT,
    "top_peers": COUNTS,
    "top_sources": COUNTS,
    "unit": TEXT,
}

OF_A_HOST = Evidence(_KINDS, HOST_EVIDENCE, _TYPES, "The kernel's socket cookies, the lowest of those behind it.")


def render_schema() -> str:
    """Return the schema of one document."""
    counter = object_of(
        {"total": INTEGER, "growth": {"description": "Between the looks; null after one.", **nullable(INTEGER)}}
    )
    document = {
        "$schema": DRAFT,
        "title": f"ctrack host --format json, schema version {SCHEMA}",
        "description": "One report. Keys may be added; none is taken away or changes what it means.",
        **object_of(
            {
                "schema": {"const": SCHEMA},
                "host": object_of(_host()),
                "sockets": object_of({"total": INTEGER, "states": object_of(dict.fromkeys(STATES, INTEGER))}),
                "services": {"type": "array", "items": object_of(_service())},
                "counters": {"description": "The kernel's.", "type": "object", "additionalProperties": counter},
                "findings": {"type": "array", "items": {"$ref": "#/$defs/finding"}},
            }
        ),
        "$defs": definitions(OF_A_HOST),
    }
    return json.dumps(document, indent=2) + "\n"


def _host() -> dict[str, Any]:
    return {
        "name": TEXT,
        "first_ts": TIME,
        "last_ts": TIME,
        "looks": INTEGER,
        "source": {"enum": ["netlink", "procfs"]},
        "compared_with": {"description": "The file of --since.", **nullable(TEXT)},
        "notes": {"description": "What could not be read, and what would help.", "type": "array", "items": TEXT},
        "interrupted": {"type": "boolean"},
    }


def _service() -> dict[str, Any]:
    return {
        "service": {"description": "ip:port, or [ip6]:port", **TEXT},
        "processes": _TYPES["processes"],
        "unit": {"description": "The systemd unit, or container:ID.", **nullable(TEXT)},
        "accept_queue": INTEGER,
        "backlog": {"description": "Its limit; null where the kernel does not tell.", **nullable(INTEGER)},
        "states": {"propertyNames": {"enum": STATES}, **COUNTS},
    }


if __name__ == "__main__":
    from pathlib import Path

    Path(__file__).with_name("host.schema.json").write_text(render_schema())
