"""conntrack/detect/quality.py: which bytes are lost, which services are named; parts are as good as the whole."""

from __future__ import annotations

from types import SimpleNamespace

import detected
import numpy as np
import pytest
from flow_rows import at, completed, flows, many

from conntrack import detect
from conntrack.detect.quality import lost_bytes

END = at(600)


def on_services(duplicates):
    """As many connections as numbers, each with a service of its own."""
    rows = many(completed(), np.arange(len(duplicates)) / 10)
    rows["server_port"] = 1 + np.arange(len(rows))
    rows["client_duplicates"] = duplicates
    return rows


def top_services(duplicates):
    (finding,) = detected.found(detect.DuplicateFrames, on_services(duplicates), END)
    return list(finding.evidence["top_services"])


def test_a_keep_alive_of_each_end_is_no_loss():
    rows = many(completed(), np.arange(6.0))
    rows["client_gap_bytes"] = [0, 1, 1, 2, 3, 0]
    rows["server_gap_bytes"] = [0, 0, 1, 1, 0, 2**40]
    lost = lost_bytes(SimpleNamespace(rows=rows), np.arange(6))
    assert lost.tolist() == [0, 0, 0, 3, 3, 2**40]
    assert lost_bytes(SimpleNamespace(rows=rows), np.array([5, 3])).tolist() == [2**40, 3]


def test_services_without_any_are_not_named():
    """However many there are."""
    assert top_services([9, 0, 0, 9, 0, 0, 0, 0]) == ["10.0.0.2:1", "10.0.0.2:4"]
    assert top_services([9, 9, 0]) == ["10.0.0.2:1", "10.0.0.2:2"]
    assert len(top_services([9] * 5)) == len(top_services([9] * 6)) == 5


def test_parts_that_are_merged_find_the_same():
    rows = flows(on_services([9, 0, 9, 9, 9, 9]), on_services([9, 9, 0, 9, 9, 9]))
    whole = detected.everything(rows).findings(END)
    parts = [detected.everything(part) for part in np.array_split(rows, 3)]
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0].findings(END) == whole
    (finding,) = [one for one in whole if one.kind == "duplicate_frames"]
    assert list(finding.evidence["top_services"].values()) == [2, 2, 2, 2, 1]


@pytest.mark.parametrize("services", [4, 5, 6, 7, 12, 300])
def test_the_five_with_most_are_named_in_any_order(services):
    random = np.random.default_rng(services)
    for _ in range(2):
        counts = 1 + random.permutation(services)
        rows = many(completed(client_duplicates=3), np.arange(counts.sum()) / 100)
        rows["server_port"] = np.repeat(1 + np.arange(services), counts)
        (finding,) = detected.found(detect.DuplicateFrames, rows, END)
        assert list(finding.evidence["top_services"].values()) == sorted(counts.tolist(), reverse=True)[:5]
