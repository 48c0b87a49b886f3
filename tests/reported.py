"""Holds JSON documents and lines against the schemas that the package ships."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema

__all__ = ["meet_the_schema", "validator"]


SHIPPED = {
    "report": "conntrack.report",
    "host": "conntrack.report",
    "live": "conntrack.cli",
    "compare": "conntrack.cli",
}


@cache
def validator(of: str = "report") -> Any:
    """A shipped schema, ready to validate; it is a valid one itself."""
    kind = jsonschema.Draft202012Validator
    schema = json.loads(files(SHIPPED[of]).joinpath(f"{of}.schema.json").read_text())
    kind.check_schema(schema)
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


def meet_the_schema(document: dict[str, Any], of: str = "report") -> None:
    """Hold `document` against a schema, and its evidence to nothing but what the schema speaks of."""
    check = validator(of)
    check.validate(document)
    findings = [document["finding"]] if "finding" in document else document.get("findings", [])
    for finding in findings:
        known = check.schema["$defs"][f"{finding['kind']}_evidence"]["properties"]
        assert set(finding["evidence"]) <= set(known), finding["kind"]
