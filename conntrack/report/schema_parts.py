"""The parts that the JSON Schemas of findings are made of: types, objects, and a finding with the evidence of its kind.

Which evidence each kind has is said by who has the kinds: jsonschema.py for a capture, host_jsonschema.py for a host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conntrack.detect.finding import SEVERITIES
from conntrack.report.glossary import Term
from conntrack.states import TcpState
from conntrack.times import RFC3339_PATTERN

__all__ = [
    "COUNTS", "DRAFT", "INTEGER", "NUMBER", "STATES", "TEXT", "TIME", "TIME_OR_NULL", "Evidence", "definitions",
    "nullable", "object_of",
]  # fmt: skip

DRAFT = "https://json-schema.org/draft/2020-12/schema"
STATES = [state.name for state in TcpState]
INTEGER: dict[str, Any] = {"type": "integer", "minimum": 0}
NUMBER: dict[str, Any] = {"type": "number", "minimum": 0}
TEXT: dict[str, Any] = {"type": "string"}
TIME: dict[str, Any] = {"$ref": "#/$defs/time"}
TIME_OR_NULL: dict[str, Any] = {"anyOf": [TIME, {"type": "null"}]}
COUNTS: dict[str, Any] = {"type": "object", "additionalProperties": INTEGER}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What each kind of finding has as evidence.

    Attributes:
        names: of each kind, by the names in the document: with `?` where it may be missing, `~` where it may be null.
        meanings: glossary of those names (with _ts_ns where the document has _ts).
        types: of those whose names do not say what they are.
        identifiers: what the numbers in `flow_ids` are.
    """

    names: Mapping[str, str]
    meanings: Mapping[str, Term]
    types: Mapping[str, dict[str, Any]]
    identifiers: str = field(default="The lowest of those behind it.")


def definitions(evidence: Evidence) -> dict[str, Any]:
    """Return the `$defs` of a schema: "time", "finding", and the evidence of each kind."""
    return {
        "time": {
            "description": "RFC 3339 in UTC; unix seconds with --epoch.",
            "type": ["string", "number"],
            "pattern": RFC3339_PATTERN,
        },
        "finding": _finding(evidence),
        **{f"{kind}_evidence": _evidence(evidence, kind) for kind in evidence.names},
    }


def object_of(properties: dict[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the type of an object that has all of `properties` but the `optional` ones, which it may have."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def nullable(value: dict[str, Any]) -> dict[str, Any]:
    """Return the type that may be null as well."""
    return {**value, "type": [value["type"], "null"]} if "type" in value else TIME_OR_NULL


def _finding(evidence: Evidence) -> dict[str, Any]:
    sentences = {"type": "array", "items": TEXT}
    common = {
        "kind": {"enum": list(evidence.names)},
        "subject": {"description": "A service (ip:port), the address of a host, or capture.", **TEXT},
        "severity": {"enum": list(SEVERITIES)},
        "first_ts": TIME,
        "last_ts": TIME,
        "count": {"description": "Connections concerned.", **INTEGER},
        "peak": {"description": "The most of them at one instant.", **INTEGER},
        "evidence": {"type": "object"},
        "caveats": sentences,
        "next_steps": sentences,
        "flow_ids": {"description": evidence.identifiers, "type": "array", "maxItems": 100,
                     "items": {"type": "integer", "minimum": 1}, "uniqueItems": True},
    }  # fmt: skip
    by_kind = [
        {
            "if": {"properties": {"kind": {"const": kind}}},
            "then": {"properties": {"evidence": {"$ref": f"#/$defs/{kind}_evidence"}}},
        }
        for kind in evidence.names
    ]
    return {**object_of(common), "allOf": by_kind}


def _evidence(evidence: Evidence, kind: str) -> dict[str, Any]:
    properties = {}
    optional = []
    for spelled in evidence.names[kind].split():
        name = spelled.rstrip("?~")
        meaning = evidence.meanings.get(name) or evidence.meanings[f"{name}_ns"]
        value = evidence.types.get(name) or _by_unit(name)
        properties[name] = {"description": meaning.means, **(nullable(value) if "~" in spelled else value)}
        if "?" in spelled:
            optional.append(name)
    return object_of(properties, optional=tuple(optional))


def _by_unit(name: str) -> dict[str, Any]:
    """Return the type of evidence: the unit at the end of its name decides, else it is a count."""
    if name.endswith("_ts"):
        return TIME
    measured = name.endswith(("_s", "_per_min")) or "ratio" in name.split("_")
    return NUMBER if measured else INTEGER
