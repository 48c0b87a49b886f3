"""The JSON Schema of the report: valid, shipped as it is made, met by every real report, and not by others."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from reported import meet_the_schema, validator

from conntrack import analyze
from conntrack.detect import DETECTORS
from conntrack.generate import SCENARIOS, generate
from conntrack.report.json import render_json
from conntrack.report.jsonschema import EVIDENCE, render_schema

FINDING = 0
CHANGES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "another schema": (("schema",), 2),
    "a time in words": (("capture", "first_ts"), "yesterday"),
    "a share in words": (("findings", FINDING, "evidence", "completion_ratio"), "8 %"),
    "a negative count": (("findings", FINDING, "count"), -1),
    "no such kind": (("findings", FINDING, "kind"), "flood"),
    "no such severity": (("findings", FINDING, "severity"), "bad"),
    "no such shape": (("findings", FINDING, "evidence", "shape"), "round"),
    "a finding without a time": (("findings", FINDING, "first_ts"), None),
    "no such state": (("series", "client", "OPEN"), [1]),
    "half an end": (("series", "groups", "services_rest", "ESTABLISHED"), [0.5]),
    "services as words": (("services", 0), "10.9.0.2:443"),
}


@pytest.fixture(scope="module")
def incident(root: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(render_json(analyze(root / "tests" / "captures" / "incident.pcap")))
    return document


def test_what_is_shipped_is_what_is_made() -> None:
    shipped = files("conntrack.report").joinpath("report.schema.json").read_text()
    assert shipped == render_schema(), "python -m conntrack.report.jsonschema writes it anew"


def test_every_kind_of_finding_has_its_evidence() -> None:
    assert set(EVIDENCE) == {detector.kind for detector in DETECTORS}


def test_every_name_of_evidence_is_one_that_a_detector_gives(root: Path) -> None:
    """The other way round is `meet_the_schema`'s."""
    sources = "".join(path.read_text() for path in sorted((root / "conntrack" / "detect").glob("*.py")))
    named = {spelled.rstrip("?~") for names in EVIDENCE.values() for spelled in names.split()}
    assert [name for name in named if f'"{name}"' not in sources and f'"{name}_ns"' not in sources] == []


@pytest.mark.parametrize("epoch", [False, True])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_reports_of_generated_captures_meet_it(tmp_path: Path, scenario: str, epoch: bool) -> None:
    path = tmp_path / "generated.pcap"
    with path.open("wb") as out:
        truth = generate(out, scenario=scenario, connections=500, seed=3)
    document = json.loads(render_json(analyze(path), epoch=epoch))
    assert {one["kind"] for one in truth["findings"]} <= {one["kind"] for one in document["findings"]}
    meet_the_schema(document)


def test_a_damaged_capture_and_an_empty_one_meet_it(root: Path, tmp_path: Path) -> None:
    whole = (root / "tests" / "captures" / "incident.pcap").read_bytes()
    for size, faults, packets in ((len(whole) - 10, 1, 6_056), (24, 0, 0)):
        path = tmp_path / "cut.pcap"
        path.write_bytes(whole[:size])
        document = json.loads(render_json(analyze(path)))
        assert (len(document["capture"]["faults"]), document["capture"]["packets"]) == (faults, packets)
        meet_the_schema(document)


@pytest.mark.parametrize(("path", "value"), CHANGES.values(), ids=CHANGES)
def test_other_documents_do_not(incident: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    check = validator()
    check.validate(incident)
    changed = copy.deepcopy(incident)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        check.validate(changed)


def test_what_must_be_there_is_asked_for(incident: dict[str, Any]) -> None:
    check = validator()
    for place, keys in ((incident, list(incident)), (incident["capture"], list(incident["capture"]))):
        for key in keys:
            kept = place.pop(key)
            with pytest.raises(jsonschema.ValidationError):
                check.validate(incident)
            place[key] = kept
    check.validate(incident)
