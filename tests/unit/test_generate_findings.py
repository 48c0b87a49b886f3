"""What is found in a generated capture is what its truth says, at default settings, for both versions of IP."""

from __future__ import annotations

from pathlib import Path

import pytest

import conntrack
from conntrack.generate import SCENARIOS, generate


@pytest.mark.parametrize("ip_version", [4, 6])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_truth_is_found_and_nothing_else(tmp_path: Path, scenario: str, ip_version: int) -> None:
    path = tmp_path / "generated.pcap"
    with path.open("wb") as out:
        truth = generate(out, scenario=scenario, connections=1_000, seed=7, ip_version=ip_version)
    expected = {(one["kind"], one["subject"]) for one in truth["findings"]}
    findings = conntrack.analyze(path).findings
    assert expected <= {(one.kind, one.subject) for one in findings}
    assert {(one.kind, one.subject) for one in findings if one.severity != "info"} <= expected
