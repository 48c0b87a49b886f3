"""conntrack/detect/finding.py: which finding comes first, and which are too lonely to be told one by one."""

from __future__ import annotations

import itertools

import pytest

from conntrack.detect.finding import Finding, few_lone_ones, worst_first


def finding(severity: str = "warning", peak: int = 5, count: int = 5, subject: str = "b") -> Finding:
    return Finding("kind", subject, severity, 0, 1, count, peak)  # type: ignore[arg-type]


WORST_FIRST = [
    finding("critical", 1, 1, "z"),
    finding("warning", 9, 2),
    finding("warning", 5, 7),
    finding("warning", 5, 6, "a"),
    finding("warning", 5, 6, "b"),
    finding("info", 99, 99, "a"),
]


def test_severity_then_the_most_at_once_then_how_many_then_the_subject() -> None:
    for order in itertools.permutations([*WORST_FIRST, None]):
        assert worst_first(order) == WORST_FIRST
    assert worst_first([None]) == []


@pytest.mark.parametrize(("lone", "left"), [(0, 2), (3, 5), (4, 2)])
def test_findings_of_one_connection_each_are_told_while_they_are_few(lone: int, left: int) -> None:
    found = [finding(count=2), *(finding(count=1, subject=str(n)) for n in range(lone)), None, finding(count=3)]
    told = few_lone_ones(found, 3)
    assert len(told) == left
    assert told == [one for one in found if one is not None and (left > 2 or one.count > 1)]
