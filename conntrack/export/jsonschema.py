"""The JSON Schema (draft 2020-12) of ndjson rows, made from the tables in columns.py.

The package ships what this makes, as flows.schema.json and sockets.schema.json beside it; a test holds them together.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from conntrack.export.columns import COLUMNS, HOST_SOCKET_COLUMNS, SCHEMA_VERSION, SOCKET_COLUMNS, Column, Kind
from conntrack.times import RFC3339_PATTERN

__all__ = ["render_schema"]

_TIME: dict[str, Any] = {
    "type": ["string", "number", "null"],
    "pattern": RFC3339_PATTERN,
}
"""A number, unix seconds, with --epoch."""


Rows = Literal["flows", "sockets"]


def render_schema(of: Rows) -> str:
    """Return the schema of one line of `ctrack flows` or `ctrack sockets` with `--format ndjson`."""
    columns, always = (COLUMNS, COLUMNS) if of == "flows" else (HOST_SOCKET_COLUMNS, SOCKET_COLUMNS)
    row = "connection" if of == "flows" else "end of a connection at an instant; what is not required, of a host alone"
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"ctrack {of} --format ndjson, schema version {SCHEMA_VERSION}",
        "description": f"One {row}. Columns may be added; none is renamed or changes its kind.",
        "type": "object",
        "properties": {column.name: {"description": column.meaning, **_values(column)} for column in columns},
        "required": [column.name for column in always],
    }
    return json.dumps(document, indent=2) + "\n"


def _values(column: Column) -> dict[str, Any]:
    if column.name == "schema":
        return {"const": SCHEMA_VERSION}
    match column.kind:
        case Kind.INTEGER:
            return {"type": "integer", "minimum": 0}
        case Kind.COUNT:
            return {"type": ["integer", "null"], "minimum": 0}
        case Kind.TIME:
            return dict(_TIME)
        case Kind.SECONDS:
            return {"type": ["number", "null"]}
        case Kind.WORD:
            return {"enum": list(column.words)}
        case Kind.ADDRESS:
            return {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
        case Kind.TEXT:
            return {"type": "string"}
        case Kind.FLAGS:
            return {"type": "array", "items": {"enum": list(column.words)}, "uniqueItems": True}


if __name__ == "__main__":
    from pathlib import Path

    kinds: tuple[Rows, ...] = ("flows", "sockets")
    for kind in kinds:
        Path(__file__).with_name(f"{kind}.schema.json").write_text(render_schema(kind))
