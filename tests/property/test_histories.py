"""The tracker and the model (model.py) agree on histories of every kind (histories.py), state by state.

The suite takes a few thousand. For more, by other dice, for as long as one likes (a thousand a second):

    CONNTRACK_HISTORIES=200000 CONNTRACK_SEED=7 pytest -s tests/property/test_histories.py

Where they differ, the history is cut down to what is needed for that, and shown with both answers. One of the two is
wrong then; which, is for ../shared/semantics.md, RFC 9293 and the kernel to say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from random import Random

import numpy as np
from histories import History, draw_history, join
from model import Model
from model_connection import Row
from numpy.typing import NDArray
from segments import FLAGS, START_NS
from tracked import agreed, track

HISTORIES = int(os.environ.get("CONNTRACK_HISTORIES", "4000"))
SEED = int(os.environ.get("CONNTRACK_SEED", "1"))
TOGETHER = 64
"""So many are one capture, with as many clients: connections must not touch each other."""
END_NS = START_NS + 10_000 * 10**9
SHOWN = 5


def answers(history: History) -> tuple[list[Row], list[Row]]:
    """What the tracker says of all frames, and the model of those that are not there twice.

    A frame that is there twice may be counted as a segment (core/copies.pxd), and then is the last one for a timer: of
    a connection that has such frames the model's answer may be that with their times, too.
    """
    ours = agreed(track(history.segments, at_ns=history.ended_ns))
    models = _models(history, timed=False)
    if not history.copies.any():
        return ours, models
    ours, models = ([_states(row) for row in rows] for rows in (ours, models))
    timed = [_states(row) for row in _models(history, timed=True)] if ours != models else []
    if len(ours) == len(models) == len(timed):
        models = [later if row == later else first for row, first, later in zip(ours, models, timed, strict=True)]
    return ours, models


def _models(history: History, *, timed: bool) -> list[Row]:
    model = Model()
    for segments, copies in _runs(history):
        if not copies:
            model.process(segments)
        elif timed:
            model.tell_times(segments)
    return model.rows(history.ended_ns)


def _runs(history: History) -> Iterator[tuple[NDArray[np.void], bool]]:
    """The segments in pieces that are copies, or are not."""
    edges = [0, *(np.flatnonzero(np.diff(history.copies)) + 1).tolist(), len(history.segments)]
    for begin, end in pairwise(edges):
        if begin < end:
            yield history.segments[begin:end], bool(history.copies[begin])


def _states(row: Row) -> Row:
    return row._replace(client_since_ts_ns=0, server_since_ts_ns=0, last_ts_ns=0, client_packets=0, server_packets=0)


def differ(history: History) -> bool:
    ours, models = answers(history)
    return ours != models


def cut_down(history: History) -> History:
    """The history without all that it still differs without."""
    at = len(history.segments) - 1
    while at >= 0:
        twin = at + 1 < len(history.segments) and history.copies[at + 1] and not history.copies[at]
        left = History(
            np.delete(history.segments, [at, at + twin]), np.delete(history.copies, [at, at + twin]), history.ended_ns
        )
        if len(left.segments) and differ(left):
            history, at = left, len(left.segments)
        at -= 1
    return history


def shown(history: History) -> str:
    """A history for people, with both answers."""
    lines = []
    for s, copy in zip(history.segments, history.copies, strict=True):
        flags = "".join(letter for letter, bit in FLAGS.items() if s["flags"] & bit)
        lines.append(
            f"{s['frame']:3} {(int(s['ts_ns']) - END_NS) / 1e9:10.4f} {s['src_port']:5} > {s['dst_port']:5} [{flags}]"
            f" seq {s['seq']} ack {s['ack']} len {s['payload_bytes']} window {s['window']} scale {s['window_scale']}"
            f" tsval {s['tsval'] if s['options'] else '-'} id {s['ip_id']}{' copy' if copy else ''}"
        )
    for name, rows in zip(("tracker", "model"), answers(history), strict=True):
        for row in rows:
            lines.append(
                f"{name:7} flow {row.flow_id} generation {row.generation}, client {row.client[1]}:"
                f" {row.client_state.name} {row.server_state.name}"
                f" since {(row.client_since_ts_ns - END_NS) / 1e9:.4f} {(row.server_since_ts_ns - END_NS) / 1e9:.4f},"
                f" packets {row.client_packets} {row.server_packets}"
            )
    return "\n".join(lines)


def test_the_tracker_and_the_model_agree_on_every_history() -> None:
    found: list[str] = []
    for block in range(-(-HISTORIES // TOGETHER)):
        dice = Random(SEED << 32 | block)
        histories = [draw_history(dice, number + 1) for number in range(TOGETHER)]
        histories = [history for history in histories if len(history.segments)]
        if not differ(join(histories, END_NS)):
            continue
        alone = [one for one in (join([history], END_NS) for history in histories) if differ(one)]
        assert alone, f"block {block} of seed {SEED}: each alone agrees, together they do not"
        found += [f"block {block} of seed {SEED}\n{shown(cut_down(one))}" for one in alone]
        if len(found) >= SHOWN:
            break
    assert not found, "\n\n".join(found[:SHOWN])


def test_histories_are_what_they_are_said_to_be() -> None:
    """Every trouble that a capture can have is among the first two thousand of the suite's own dice."""
    segments, copies = [], 0
    going_back = other_times = 0
    for block in range(32):
        dice = Random(1 << 32 | block)
        for number in range(TOGETHER):
            history = draw_history(dice, number + 1)
            segments.append(history.segments)
            copies += int(history.copies.sum())
            steps = np.diff(history.segments["ts_ns"])
            going_back += int((steps < 0).any())
            other_times += int((steps > 59 * 10**9).any())
    rows = np.concatenate(segments)
    assert copies > 1000 and going_back > 50 and other_times > 200
    assert {4, 6} == set(rows["ip_version"].tolist())
    for flags in (2, 18, 4, 20, 17, 16, 3, 0):  # S, S., R, R., F., ., and flags that nobody sends
        assert int((rows["flags"] == flags).sum()) > 10, flags
    assert int((rows["window"] == 0).sum()) > 100
    one_sided = sum(len(np.unique(part["src_port"])) == 1 and len(part) > 4 for part in segments)
    assert one_sided > 50
