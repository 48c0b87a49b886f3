"""The JSON Schemas that are shipped: valid, made from the columns, and every row that is written meets them."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema
import numpy as np
import pytest
from test_export_arrow import realistic_flows

from conntrack.core.abi import SOCKET_DTYPE
from conntrack.export import make_exporter
from conntrack.export.jsonschema import render_schema

KINDS = ("flows", "sockets")


def validator(of: str) -> Any:
    schema = json.loads(files("conntrack.export").joinpath(f"{of}.schema.json").read_text())
    kind = jsonschema.Draft202012Validator
    kind.check_schema(schema)
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


def some_rows(of: str) -> np.ndarray[Any, Any]:
    flows = realistic_flows(500)
    if of == "flows":
        return flows
    rows = np.zeros(500, SOCKET_DTYPE)
    rows["ip_version"] = flows["ip_version"]
    rows["local_ip"], rows["remote_ip"] = flows["server_ip"], flows["client_ip"]
    rows["since_ts_ns"], rows["state"] = flows["syn_ts_ns"], flows["server_state"]
    rows["at_ts_ns"] = flows["last_ts_ns"]
    return rows


@pytest.mark.parametrize("of", KINDS)
def test_what_is_shipped_is_what_the_columns_make(of: Any) -> None:
    shipped = files("conntrack.export").joinpath(f"{of}.schema.json").read_text()
    assert shipped == render_schema(of), f"python -m conntrack.export.jsonschema writes {of}.schema.json anew"


@pytest.mark.parametrize("epoch", [False, True])
@pytest.mark.parametrize("of", KINDS)
def test_rows_meet_their_schema(of: str, epoch: bool) -> None:
    check = validator(of)
    lines = make_exporter("ndjson", of=of, epoch=epoch).rows(some_rows(of)).splitlines()
    assert len(lines) == 500
    for line in lines:
        check.validate(json.loads(line))


@pytest.mark.parametrize("of", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"since_ts": "yesterday", "first_ts": "yesterday"},
        {"state": "OPEN", "client_state": "OPEN"},
        {"local_ip": "10.0.0", "client_ip": "10.0.0"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_rows_do_not(of: str, change: dict[str, Any]) -> None:
    row = json.loads(make_exporter("ndjson", of=of).rows(some_rows(of)[:1]))
    changed = row | {key: value for key, value in change.items() if key in row}
    with pytest.raises(jsonschema.ValidationError):
        validator(of).validate(changed)
