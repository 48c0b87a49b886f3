"""The JSON Schemas (draft 2020-12) of what `ctrack live` and `ctrack compare` write with `--format ndjson`.

live.py and compare.py write the lines. The package ships what this makes, as live.schema.json and compare.schema.json
beside it; a test holds them together, and real lines against them.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from conntrack.cli import compare, live
from conntrack.compare.reasons import REASONS
from conntrack.report.jsonschema import OF_A_CAPTURE
from conntrack.report.schema_parts import (
    COUNTS,
    DRAFT,
    INTEGER,
    STATES,
    TEXT,
    TIME,
    TIME_OR_NULL,
    definitions,
    nullable,
    object_of,
)

__all__ = ["render_schema"]


def render_schema(of: Literal["live", "compare"]) -> str:
    """Return the schema of one line."""
    document = {
        "$schema": DRAFT,
        "title": f"ctrack {of} --format ndjson, schema version {(live if of == 'live' else compare).SCHEMA}",
        **(_event() if of == "live" else _disagreement()),
    }
    return json.dumps(document, indent=2) + "\n"


def _event() -> dict[str, Any]:
    of_a_finding = {"event": {"enum": ["opened", "grew", "ended"]}, "ts": TIME, "finding": {"$ref": "#/$defs/finding"}}
    stopped = {
        "event": {"const": "stopped"},
        "ts": TIME_OR_NULL,
        "packets": INTEGER,
        "tcp_segments": INTEGER,
        "dropped_packets": {
            "description": "As far as the capturing program says; null where it says nothing.",
            **nullable(INTEGER),
        },
        "skipped": {"description": "Frames that were not tracked, by reason.", **COUNTS},
        "connections": INTEGER,
        "open_findings": INTEGER,
    }
    return {
        "description": "An event: what became of a finding, or the end. Keys may be added; none is taken away.",
        **object_of({"schema": {"const": live.SCHEMA}}),
        "oneOf": [object_of(of_a_finding), object_of(stopped)],
        "$defs": definitions(OF_A_CAPTURE),
    }


def _disagreement() -> dict[str, Any]:
    address = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
    port = {"type": "integer", "minimum": 0, "maximum": 65_535}
    state = "|".join(STATES)
    wire = {"pattern": f"^({state})(/({state}))?$", **nullable(TEXT)}
    fields: dict[str, Any] = {
        "local_ip": address,
        "local_port": port,
        "remote_ip": address,
        "remote_port": port,
        "wire_state": {
            "description": "Null where the capture has no such socket; against a firewall's entry both ends' states.",
            **wire,
        },
        "kernel_state": {"description": "Null where the snapshot has no such socket.", **nullable(TEXT)},
        "reason": {"enum": list(REASONS)},
        "since_ts": {"description": "Since when the wire has been in its state.", **TIME_OR_NULL},
        "last_ts": {"description": "Its last segment.", **TIME_OR_NULL},
        "flow_id": {"description": "The connection's first frame.", **nullable(INTEGER)},
        "at_ts": {"description": "The instant that is compared.", **TIME_OR_NULL},
        "explanation": {"description": "The reason in a sentence.", **TEXT},
    }
    return {
        "description": "A socket on which the wire and the kernel disagree. Keys may be added; none is taken away.",
        **object_of({"schema": {"const": compare.SCHEMA}, **fields}),
        "$defs": {"time": definitions(OF_A_CAPTURE)["time"]},
    }


if __name__ == "__main__":
    from pathlib import Path

    Path(__file__).with_name("live.schema.json").write_text(render_schema("live"))
    Path(__file__).with_name("compare.schema.json").write_text(render_schema("compare"))
