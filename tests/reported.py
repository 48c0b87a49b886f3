"""Holds a JSON report against the schema that the package ships."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema

__all__ = ["meet_the_schema", "validator"]


@cache
def validator() -> Any:
    """The shipped schema, ready to validate; it is a valid one itself."""
    kind = jsonschema.Draft202012Validator
    schema = json.loads(files("conntrack.report").joinpath("report.schema.json").read_text())
    kind.check_schema(schema)
    return kind(schema)


def meet_the_schema(document: dict[str, Any]) -> None:
    """Hold `document` against the schema, and its evidence to nothing but what the schema speaks of."""
    check = validator()
    check.validate(document)
    for finding in document["findings"]:
        known = check.schema["$defs"][f"{finding['kind']}_evidence"]["properties"]
        assert set(finding["evidence"]) <= set(known), finding["kind"]
