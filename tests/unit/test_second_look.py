"""A second look gives the rows of the first reading, and the stories that explain tells, whatever else is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conntrack
from conntrack.explain import FourTuple, SecondLook, StoryTeller, find_tuples, second_look
from conntrack.pipeline import look_again


@pytest.fixture(scope="module")
def incident(root: Path) -> str:
    return str(root / "tests" / "captures" / "incident.pcap")


@pytest.fixture(scope="module")
def flows(incident: str) -> np.ndarray[Any, Any]:
    rows = conntrack.analyze(incident).flows
    assert rows is not None
    return rows[np.argsort(rows["flow_id"])]


def batches(path: str) -> Iterator[np.ndarray[Any, Any]]:
    for batch in conntrack.read_segments(path):
        for at in range(0, len(batch), 700):
            yield batch[at : at + 700]


def looked(path: str, wanted: list[int], told: list[int]) -> tuple[np.ndarray[Any, Any], list[Any]]:
    look = SecondLook(find_tuples(batches(path), wanted), told)
    for batch in batches(path):
        look.feed(batch)
    return look.finish()


@pytest.mark.parametrize("every", [1, 7])
def test_rows_are_those_of_the_first_reading(incident: str, flows: np.ndarray[Any, Any], every: int) -> None:
    chosen = flows[::every]
    rows, stories = looked(incident, chosen["flow_id"].tolist(), [])
    rows = rows[np.argsort(rows["flow_id"])]
    assert rows["flow_id"].tolist() == chosen["flow_id"].tolist()
    for name in rows.dtype.names or ():
        assert (rows[name] == chosen[name]).all(), name
    assert stories == []


def test_stories_are_those_of_explain(incident: str) -> None:
    told = [2202, 4, 68]
    _, stories = looked(incident, [4, 33, 68, 2202], told)
    assert [story.flow_id for story in stories] == told
    for story in stories:
        four = find_tuples(batches(incident), [story.flow_id])[story.flow_id]
        teller = StoryTeller(four, only=story.flow_id)
        last_ns = 0
        for batch in batches(incident):
            last_ns = int(batch["ts_ns"].max())
            teller.feed(four.select(batch)) if len(four.select(batch)) else None
        (expected,) = [each for each in teller.finish(last_ns) if each.flow_id == story.flow_id]
        assert story.steps == expected.steps
        assert story.row is not None and expected.row is not None
        assert story.row.tobytes() == expected.row.tobytes()
        assert story.capture_last_ts_ns == last_ns


def test_a_long_story_is_cut_and_the_rest_counted(incident: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_look, "MOST_SEGMENTS", 3)
    (row,), (story,) = looked(incident, [4], [4])
    assert len(story.steps) == 3
    assert story.left_out == 9 - 3
    assert story.row is not None and int(story.row["server_packets"][0]) == int(row["server_packets"]) == 4


def test_frames_that_are_no_connections_are_left_out(incident: str) -> None:
    assert find_tuples(batches(incident), []) == {}
    found = find_tuples(batches(incident), [4, 5, 10**9])
    assert sorted(found) == [4, 5]
    rows, stories = looked(incident, [5, 10**9], [5])  # 5 is the answer to 4, not the first of its connection
    assert len(rows) == 0 and stories == []


def test_the_hash_is_the_same_both_ways(incident: str) -> None:
    for batch in batches(incident):
        hashes = second_look._hashes(batch)
        for at in range(0, len(batch), 97):
            four = FourTuple.of(batch[at])
            assert second_look._hash_of(four) == second_look._hash_of(FourTuple(four.b, four.a)) == int(hashes[at])


def test_a_capture_that_shrank_meanwhile_has_fewer_stories(incident: str, tmp_path: Path) -> None:
    report = conntrack.analyze(incident, keep_flows=False)
    short = tmp_path / "short.pcap"
    short.write_bytes(Path(incident).read_bytes()[:100_000])
    from conntrack.capture import open_capture

    told = look_again(report, lambda: open_capture([str(short)]))
    assert {story.flow_id for story in told.stories} < set(range(1_300))


def test_a_pipe_has_no_ladders(incident: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = conntrack.analyze(incident, ladders=True)
    assert [story.flow_id for story in report.stories] == [2202, 2204, 2206, 4, 33, 47]
    assert report.to_html().count('class="ladder"') == 6
    assert "There are no ladders in this page" not in report.to_html()
    assert "There are no ladders in this page" in conntrack.analyze(incident).to_html()
