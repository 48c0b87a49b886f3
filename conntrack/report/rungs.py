"""The story of a connection as the rows of a ladder for the page: who sent what, what it was taken for, what it moved.

Plain data for page/page.html; the words are those of ladder.py, which draws the same in text.
"""

from __future__ import annotations

from typing import Any

from conntrack.addresses import endpoint_text
from conntrack.explain.model import SIDES, Change, Expired, Folded, Story, StorySegment
from conntrack.report.format import bytes_text, count, duration
from conntrack.report.ladder import end_text, flags_text, style_of
from conntrack.states import Evidence

__all__ = ["MOST_RUNGS", "ladder"]

MOST_RUNGS = 60
"""Steps of a connection on the page, the first and the last of them; `ctrack explain` tells all."""
_FIRST = 40


def ladder(story: Story) -> dict[str, Any]:
    """Return what the page shows of `story`."""
    assert story.row is not None  # the teller has finished it
    row = story.row[0]
    version = int(row["ip_version"])
    start_ns = int(row["first_ts_ns"])
    rungs = [_rung(step, start_ns) for step in story.steps]
    if len(rungs) > MOST_RUNGS:
        left = len(rungs) - MOST_RUNGS
        gap = {"kind": "folded", "text": f"{count(left, 'step')} not shown here"}
        rungs = [*rungs[:_FIRST], gap, *rungs[_FIRST + left :]]
    if story.left_out:
        rungs.append({"kind": "folded", "text": f"{count(story.left_out, 'more segment')} not told"})
    ends = {side: endpoint_text(row[f"{side}_ip"].tobytes(), version, int(row[f"{side}_port"])) for side in SIDES}
    return {
        "id": story.flow_id,
        **ends,
        "begins": [state.name for state in story.begins],
        "rungs": rungs,
        "end": end_text(story),
        "notes": story.notes,
    }


def _rung(step: StorySegment | Expired | Folded, start_ns: int) -> dict[str, Any]:
    match step:
        case Folded():
            sizes = [
                f"{bytes_text(step.payload_bytes[side])} from the {name}"
                for side, name in enumerate(SIDES)
                if step.payload_bytes[side]
            ]
            text = f"{count(sum(step.segments), 'segment')} in order, {' and '.join(sizes) or 'ACKs only'}"
            return {"kind": "folded", "text": f"{text}, in {duration(step.last_ts_ns - step.first_ts_ns)}"}
        case Expired():
            return {"kind": "timer", "seconds": _seconds(step.ts_ns - start_ns), "changes": _changes(step.changes)}
    return {
        "kind": "segment",
        "frame": step.frame,
        "seconds": _seconds(step.ts_ns - start_ns),
        "side": SIDES[step.side],
        "flags": flags_text(step.flags),
        "seq": step.seq if step.relative_seq is None else step.relative_seq,
        "ack": "" if step.ack is None else step.ack if step.relative_ack is None else step.relative_ack,
        "length": step.payload_bytes,
        "taken_for": ", ".join(step.taken_for),
        "style": style_of(step),
        "changes": _changes(step.changes),
    }


def _changes(changes: tuple[Change, ...]) -> list[dict[str, str]]:
    return [
        {
            "side": SIDES[change.side],
            "before": change.before.name,
            "after": change.after.name,
            "why": change.reason,
            "source": change.source,
            "evidence": "" if change.evidence in (Evidence.SEEN, Evidence.EXPIRED) else change.evidence.name.lower(),
        }
        for change in changes
    ]


def _seconds(ns: int) -> str:
    return f"{ns / 1e9:.6f}"
