"""The JSON Schema of `ctrack host`: shipped as it is made, met by this host, and all that the rules give is in it."""

from __future__ import annotations

import ast
import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from reported import meet_the_schema, validator
from test_cli_host import REPORT

from conntrack.cli import main
from conntrack.detect.finding import Finding
from conntrack.host.watch import RULES
from conntrack.report.host import render_host_json
from conntrack.report.host_glossary import HOST_EVIDENCE
from conntrack.report.host_jsonschema import OF_A_HOST, render_schema
from conntrack.states import TcpState

LEAK = Finding(
    "close_wait_leak",
    "0.0.0.0:80",
    "warning",
    1_763_726_400 * 10**9,
    1_763_726_402 * 10**9,
    12,
    12,
    {
        "side": "server",
        "cause": "application_leak",
        "processes": {"web/7": 12},
        "unit": None,
        "leaking": 12,
        "oldest_s": 61.0,
        "median_age_s": 60.5,
        "not_accepted_ratio": 0.0,
        "distinct_peers": 1,
        "top_peers": {"10.0.0.9": 12},
        "growth": -3,
        "growth_per_min": -90.0,
    },
    flow_ids=(1, 2**63 + 1),
)
CHANGES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "another schema": (("schema",), 2),
    "a time in words": (("host", "first_ts"), "yesterday"),
    "no such source": (("host", "source"), "ss"),
    "a state that is none": (("services", 0, "states", "OPEN"), 1),
    "a negative count": (("sockets", "total"), -1),
    "half a socket": (("counters", "Tcp.OutSegs", "growth"), 0.5),
    "a kind of captures": (("findings", 0, "kind"), "port_scan"),
    "no such cause": (("findings", 0, "evidence", "cause"), "leak"),
    "a share in words": (("findings", 0, "evidence", "not_accepted_ratio"), "8 %"),
}


def document() -> dict[str, Any]:
    report = replace(REPORT, states={state.name: 1 for state in TcpState}, findings=(LEAK,))
    made: dict[str, Any] = json.loads(render_host_json(report))
    return made


def test_what_is_shipped_is_what_is_made(root: Path) -> None:
    shipped = (root / "conntrack" / "report" / "host.schema.json").read_text()
    assert shipped == render_schema(), "python -m conntrack.report.host_jsonschema writes it anew"


def test_every_kind_of_finding_has_its_evidence() -> None:
    assert set(OF_A_HOST.names) == {rule.kind for rule in RULES}


def test_every_name_of_evidence_is_one_that_a_rule_gives_and_the_other_way_round(root: Path) -> None:
    """Read from the sources: keys of the dictionaries in conntrack/host that are evidence."""
    given: set[str] = set()
    for path in sorted((root / "conntrack" / "host").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                given.add(node.value.removesuffix("_ns") if node.value.endswith("_ts_ns") else node.value)
    named = {spelled.rstrip("?~") for names in OF_A_HOST.names.values() for spelled in names.split()}
    assert named <= given
    assert {name.removesuffix("_ns") if name.endswith("_ts_ns") else name for name in HOST_EVIDENCE} == named


@pytest.mark.parametrize("options", [(), ("--epoch",)])
def test_this_host_meets_it(capfd: pytest.CaptureFixture[str], options: tuple[str, ...]) -> None:
    assert main(["host", "--for", "0s", "--format", "json", *options]) == 0
    meet_the_schema(json.loads(capfd.readouterr().out), "host")


def test_a_finding_meets_it() -> None:
    meet_the_schema(document(), "host")


@pytest.mark.parametrize(("path", "value"), CHANGES.values(), ids=CHANGES)
def test_other_documents_do_not(path: tuple[Any, ...], value: Any) -> None:
    changed = copy.deepcopy(document())
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validator("host").validate(changed)
