"""Connections of public captures, told: the end is that of the whole capture, and every change has a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conntrack.capture import open_capture
from conntrack.explain import Folded, FourTuple, StorySegment, StoryTeller
from conntrack.pipeline import flow_batches
from conntrack.report.ladder import render_ladder
from conntrack.tracker import Tracker

CAPTURES = [
    "CESNET+ipfixprobe/tests/functional/inputs/tls.pcap",
    "OISF+suricata-verify/tests/tcp-rst-unacked-stream-09/TLPW1-tcp-110.37.219.134-10.12.14.101-tcp-990-49230.pcap",
    "OISF+suricata-verify/tests/tcp-split-handshake-01-4whs/split-handshake-4whs.pcap",
    "the-tcpdump-group+tcpdump/tests/mptcp-fclose.pcap",
    "zeek+zeek/testing/btest/Traces/tcp/ssh-dups.pcap",
]


@pytest.mark.parametrize("name", CAPTURES, ids=lambda name: name.rsplit("/", 1)[-1])
def test_every_connection_is_told_to_its_end(shared: Path, name: str) -> None:
    with open_capture([shared / "captures" / name]) as capture:
        segments = np.concatenate([batch.copy() for batch in capture])
    rows = np.concatenate(list(flow_batches([segments], Tracker())))
    done = set()
    for flow_id in rows["flow_id"]:
        if flow_id in done:
            continue
        four = FourTuple.of(segments[segments["frame"] == flow_id][0])
        teller = StoryTeller(four, fold=False)
        teller.feed(four.select(segments))
        stories = teller.finish(int(segments["ts_ns"].max()))
        assert max(map(len, render_ladder(stories, files=[name]).splitlines())) <= 80
        for story in stories:
            done.add(story.flow_id)
            assert story.row is not None
            assert story.row.tobytes() == rows[rows["flow_id"] == story.flow_id].tobytes()
            states = list(story.begins)
            strayed = [0, 0]
            for step in story.steps:
                assert not isinstance(step, Folded)
                for change in step.changes:
                    assert (states[change.side], bool(change.reason)) == (change.before, True)
                    states[change.side] = change.after
                if isinstance(step, StorySegment):
                    assert step.taken_for
                    strayed[step.side] += any(word.startswith(("out of order", "fills")) for word in step.taken_for)
            assert strayed == [story.row[f"{side}_out_of_order"][0] for side in ("client", "server")]
    assert done == set(rows["flow_id"].tolist())
