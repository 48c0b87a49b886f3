"""The story of a connection as an annotated tcpdump that fits 80 columns, and as JSON. Knows plain data only.

Client on the left, server on the right; ASCII, so that it survives a mail. Under each segment stand the states that it
moved, with the rule's reason and source. Colour, where it is asked for, repeats what the words say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from conntrack.addresses import endpoint_text
from conntrack.explain.model import SIDES, Change, Expired, Folded, Story, StorySegment
from conntrack.report.format import bytes_text, count, duration, instant, path_text
from conntrack.report.sheet import Sheet
from conntrack.states import NO_TIME_NS, ClosedBy, DirectionEvidence, EndReason, Evidence, FlowFlag, TcpState
from conntrack.times import rfc3339

__all__ = ["end_text", "flags_text", "render_ladder", "render_ladder_json", "style_of"]

_LETTERS = "FSRP.UEWe"
"""By bit, as tcpdump writes them (print-tcp.c)."""
_RUNGS = 16
"""Columns between client and server, where there is room for them."""
_ROOM = 30
"""Columns for what a segment was taken for, where the numbers leave them."""
_LEAST_ROOM = 12
"""Where they do not even leave this, the words stand in a line of their own."""
_GOOD = ("ACK", "data", "FIN", "SYN", "SYN+ACK", "handshake complete", "ACK of SYN", "ACK of FIN", "keep-alive")
_BAD = ("RST", "old timestamp", "out of window", "odd flags", "pending SYN")

_DIRECTIONS = {
    DirectionEvidence.SYN: "it sent a SYN",
    DirectionEvidence.SYN_ACK: "the other end sent a SYN+ACK",
    DirectionEvidence.PORT: "the other end has the lower port: a guess, no handshake in the capture",
    DirectionEvidence.FIRST_SENDER: "it sent the first segment: a guess, no handshake in the capture",
}
_ENDS = {
    EndReason.OPEN_AT_END: "Not over when the capture ended.",
    EndReason.FIN: "Both ends closed with a FIN.",
    EndReason.RESET: "A RST ended it.",
    EndReason.REFUSED: "Refused: the SYN was answered by a RST.",
    EndReason.TIMEOUT: "The hosts' timers ended it.",
    EndReason.REPLACED: "A new connection took its place before it was over.",
    EndReason.EVICTED: "Given up to stay within the memory budget.",
}
_CLOSED_BY = {
    ClosedBy.CLIENT: "The client closed first.",
    ClosedBy.SERVER: "The server closed first.",
    ClosedBy.BOTH: "Both closed at once.",
}
_RESET_BY = {ClosedBy.CLIENT: "The client sent it.", ClosedBy.SERVER: "The server sent it."}
_EVIDENCE = {
    Evidence.SEEN: "",
    Evidence.INFERRED: "inferred: what caused it is not in the capture",
    Evidence.ASSUMED: "assumed: the capture began midway",
    Evidence.EXPIRED: "by the host's timer",
}
_COUNTS = (
    ("retransmits", "retransmitted"),
    ("out_of_order", "out of order"),
    ("zero_windows", "with a window of 0"),
    ("syns", "SYN"),
    ("fins", "FIN"),
    ("rsts", "RST"),
)


def flags_text(flags: int) -> str:
    """Return the flags as tcpdump writes them: "S.", "FP.", "none"."""
    return "".join(letter for bit, letter in enumerate(_LETTERS) if flags >> bit & 1) or "none"


def end_text(story: Story) -> str:
    """Return how the connection ended, and who began it, in sentences."""
    assert story.row is not None  # the teller has finished it
    row = story.row[0]
    reason, closed_by = EndReason(int(row["end_reason"])), ClosedBy(int(row["closed_by"]))
    sentences = [_ENDS[reason]]
    acked = [int(row[f"{side}_fin_acked_ts_ns"]) != NO_TIME_NS for side in SIDES]
    if reason == EndReason.OPEN_AT_END and all(acked):
        sentences = [f"{_ENDS[EndReason.FIN][:-1]}; TIME_WAIT was not over when the capture ended."]
    if reason in (EndReason.RESET, EndReason.TIMEOUT) and not int(row["client_fins"]) + int(row["server_fins"]):
        sentences += [_RESET_BY[closed_by]] if closed_by in _RESET_BY and reason == EndReason.RESET else []
    elif closed_by in _CLOSED_BY and reason != EndReason.REFUSED:
        sentences.append(_CLOSED_BY[closed_by])
    if reason == EndReason.OPEN_AT_END:
        silent_ns = story.capture_last_ts_ns - int(row["last_ts_ns"])
        if silent_ns > 0:
            sentences.append(f"Its last segment is {duration(silent_ns)} before that.")
    return " ".join(sentences)


def style_of(step: StorySegment) -> str:
    """Return how much a segment stands out: "" for what is ordinary, "trouble", or "bad"."""
    first = step.taken_for[0] if step.taken_for else ""
    if first.startswith(_BAD):
        return "bad"
    return "" if step.ordinary or first in _GOOD else "trouble"


def render_ladder(
    stories: Sequence[Story], *, files: Sequence[str], width: int = 80, color: bool = False, epoch: bool = False
) -> str:
    """Return the stories as text, one after the other.

    Args:
        stories: the connections of one 4-tuple, in order.
        files: the captures, as given.
        width: columns at most; below 80 is taken as 80, above 120 as 120.
        color: with ANSI colours.
        epoch: the absolute times in unix seconds instead of RFC 3339.
    """
    width = min(max(width, 80), 120)
    return "\n".join(_Ladder(story, files, width, color, epoch).render() for story in stories)


class _Ladder(Sheet):
    """The lines of one story."""

    def __init__(self, story: Story, files: Sequence[str], width: int, color: bool, epoch: bool) -> None:
        super().__init__(width, color=color, paragraph=width)
        assert story.row is not None  # the teller has finished it
        self._story = story
        self._row = story.row[0]
        self._files = files
        self._epoch = epoch
        self._start_ns = int(self._row["first_ts_ns"])
        for step in story.steps[:1]:
            self._start_ns = step.first_ts_ns if isinstance(step, Folded) else step.ts_ns
        segments = [step for step in story.steps if isinstance(step, StorySegment)]
        self._frame = max(5, *(len(str(s.frame)) for s in segments), 0)
        self._time = max([8, *(len(self._seconds(step)) for step in story.steps)])
        self._seq = max([3, *(len(_number(s.relative_seq, s.seq)) for s in segments)])
        self._ack = max([3, *(len(_number(s.relative_ack, s.ack)) for s in segments)])
        self._len = max([3, *(len(str(s.payload_bytes)) for s in segments)])
        most = max([2, *(len(flags_text(s.flags)) for s in segments)])
        self._indent = self._frame + 1 + self._time + 1
        others = self._indent + 3 + self._seq + 1 + self._ack + 1 + self._len + 2
        self._rungs = max(7 + most, min(_RUNGS, width - others - _ROOM))
        self._words = others + self._rungs

    def render(self) -> str:
        self._header()
        for step in self._story.steps:
            match step:
                case StorySegment():
                    self._segment(step)
                case Expired():
                    self._changes(step.changes, self._seconds(step))
                case Folded():
                    self._fold(step)
        if self._story.left_out:
            left = count(self._story.left_out, "more segment")
            self.wrap(f"... {left} not told: only the first {count(len(self._story.steps))} steps are kept ...")
        self._end()
        return self.text()

    # --- Before -------------------------------------------------------------------------------------------------------

    def _header(self) -> None:
        row, story = self._row, self._story
        self.wrap(f"Connection {story.flow_id}", style="heading")
        for name in self._files:
            self._tell(path_text(name))
        version = int(row["ip_version"])
        for side in SIDES:
            end = endpoint_text(row[f"{side}_ip"].tobytes(), version, int(row[f"{side}_port"]))
            why = _DIRECTIONS[DirectionEvidence(int(row["direction_evidence"]))]
            self._tell(f"{end}  ({why})" if side == "client" else end, f"{side} ")
        before = "" if story.generation == 1 else f", number {story.generation} on these ports"
        self._tell(f"{instant(self._start_ns, epoch=self._epoch)}{before}", "start  ")
        if row["tag"]:
            self._tell(f"{row['tag']}, of the network that its first segment was on", "tag    ")
        words = [word.name.lower().replace("_", " ") for word in FlowFlag(int(row["flags"])) if word.name]
        if words:
            self._tell(", ".join(words), "flags  ")
        for note in story.notes:
            self._tell(note)
        self.add()
        head = f"{'frame':>{self._frame}} {'seconds':>{self._time}} {'client':{self._rungs - 4}}server"
        head = f"{head:{self._words - self._seq - self._ack - self._len - 4}}"
        head += f"{'seq':>{self._seq}} {'ack':>{self._ack}} {'len':>{self._len}}  taken for"
        self.add(head[: self.width].rstrip(), "heading")
        client, server = (state.name for state in story.begins)
        self.wrap(f"before: client {client}, server {server}", front=" " * self._indent, style="faint")

    # --- Steps --------------------------------------------------------------------------------------------------------

    def _segment(self, step: StorySegment) -> None:
        flags = flags_text(step.flags)
        arrow = f"-- {flags} {'-' * (self._rungs - 5 - len(flags))}>"
        if step.side:
            arrow = f"<{'-' * (self._rungs - 5 - len(flags))} {flags} --"
        front = (
            f"{step.frame:>{self._frame}} {self._seconds(step):>{self._time}} |{arrow}| "
            f"{_number(step.relative_seq, step.seq):>{self._seq}} "
            f"{_number(step.relative_ack, step.ack):>{self._ack}} {step.payload_bytes:>{self._len}}"
        )
        words, style = ", ".join(step.taken_for), style_of(step)
        if self.width - self._words >= _LEAST_ROOM:
            self.wrap(words, front=f"{front:{self._words}}", style=style)
        else:
            self.add(front)
            self.wrap(words, front=" " * self._indent, style=style)
        self._changes(step.changes)

    def _changes(self, changes: Sequence[Change], seconds: str = "") -> None:
        for change in changes:
            text = f"{change.before.name} -> {change.after.name}"
            if change.reason:
                text += f": {change.reason} [{change.source}]"
            if change.evidence not in (Evidence.SEEN, Evidence.EXPIRED):
                text += f" ({_EVIDENCE[change.evidence]})"
            front = f"{seconds:>{self._indent - 1}} {SIDES[change.side]} "
            self.wrap(text, front=front, style="state")
            seconds = ""

    def _fold(self, step: Folded) -> None:
        told = [
            f"{bytes_text(step.payload_bytes[side])} from the {name}"
            for side, name in enumerate(SIDES)
            if step.payload_bytes[side]
        ]
        text = f"... {count(sum(step.segments), 'segment')} in order"
        text += f", {' and '.join(told) or 'ACKs only'}"
        text += f", in {duration(step.last_ts_ns - step.first_ts_ns)} (--all shows them) ..."
        self.wrap(text, front=" " * self._indent, style="faint")

    def _seconds(self, step: StorySegment | Expired | Folded) -> str:
        if isinstance(step, Folded):
            return ""
        ns = step.ts_ns - self._start_ns
        micros, rest = divmod(abs(ns), 1000)
        micros += rest >= 500
        return f"{'-' if ns < 0 else ''}{micros // 1_000_000}.{micros % 1_000_000:06}"

    def _tell(self, text: str, label: str = "", *, style: str = "") -> None:
        self.wrap(text, front=f"  {label}", style=style)

    # --- After --------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        row = self._row
        self.add()
        self.wrap(end_text(self._story), style="heading")
        for side in SIDES:
            state = TcpState(int(row[f"{side}_state"]))
            since_ns = int(row[f"{side}_since_ts_ns"]) - self._start_ns
            how = _EVIDENCE[Evidence(int(row[f"{side}_state_evidence"]))]
            self._tell(
                f"{state.name} since {since_ns / 1e9:.6f} s{f' ({how})' if how else ''}; "
                + "; ".join(self._counts(side)),
                f"{side}: ",
            )
        self._tell("[In brackets: sections of RFC 9293, or another source by name.]", style="faint")

    def _counts(self, side: str) -> Iterator[str]:
        row = self._row
        yield f"{count(int(row[f'{side}_packets']), 'segment')}, {bytes_text(int(row[f'{side}_payload_bytes']))}"
        again = int(row[f"{side}_payload_bytes"]) - int(row[f"{side}_unique_bytes"])
        told = [f"{count(int(row[f'{side}_{name}']))} {word}" for name, word in _COUNTS if row[f"{side}_{name}"]]
        if told:
            yield ", ".join(told)
        if again:
            yield f"{bytes_text(again)} sent again"
        if row[f"{side}_gap_bytes"]:
            yield f"{bytes_text(int(row[f'{side}_gap_bytes']))} lacking in the capture"


def _number(relative: int | None, absolute: int | None) -> str:
    return "" if absolute is None else str(absolute if relative is None else relative)


# --- JSON -------------------------------------------------------------------------------------------------------------


def render_ladder_json(
    stories: Sequence[Story], rows: Sequence[dict[str, Any]], *, files: Sequence[str], epoch: bool = False
) -> str:
    """Return the stories as one JSON document with a line feed at its end.

    Args:
        stories: as for `render_ladder`.
        rows: for each the columns of `ctrack flows`, as they are in its ndjson.
        files: the captures, as given.
        epoch: times as unix seconds, to the 0.2 us that a JSON number holds, instead of RFC 3339 strings.
    """

    def time(ts_ns: int) -> str | float:
        return ts_ns / 1e9 if epoch else rfc3339(ts_ns)

    document = {
        "schema": 1,
        "files": [path_text(name) for name in files],
        "connections": [
            {
                "connection": row,
                "before": _states(*story.begins),
                "notes": story.notes,
                "segments_left_out": story.left_out,
                "steps": [_step(step, time) for step in story.steps],
            }
            for story, row in zip(stories, rows, strict=True)
        ],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _states(client: TcpState, server: TcpState) -> dict[str, str]:
    return {"client": client.name, "server": server.name}


def _step(step: StorySegment | Expired | Folded, time: Any) -> dict[str, Any]:
    if isinstance(step, Folded):
        return {
            "kind": "folded",
            "first_ts": time(step.first_ts_ns),
            "last_ts": time(step.last_ts_ns),
            "first_frame": step.first_frame,
            "last_frame": step.last_frame,
            "segments": dict(zip(SIDES, step.segments, strict=True)),
            "payload_bytes": dict(zip(SIDES, step.payload_bytes, strict=True)),
        }
    after = {
        "changes": [
            {
                "side": SIDES[change.side],
                "before": change.before.name,
                "after": change.after.name,
                "reason": change.reason,
                "source": change.source,
                "evidence": change.evidence.name.lower(),
            }
            for change in step.changes
        ],
        "states": _states(step.client_state, step.server_state),
    }
    if isinstance(step, Expired):
        return {"kind": "timer", "ts": time(step.ts_ns), **after}
    return {
        "kind": "segment",
        "ts": time(step.ts_ns),
        "frame": step.frame,
        "from": SIDES[step.side],
        "flags": flags_text(step.flags),
        "seq": step.seq,
        "ack": step.ack,
        "relative_seq": step.relative_seq,
        "relative_ack": step.relative_ack,
        "payload_bytes": step.payload_bytes,
        "window": step.window,
        "taken_for": list(step.taken_for),
        **after,
    }
