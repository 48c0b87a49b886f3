"""`ctrack explain`: one connection, segment by segment, as an annotated tcpdump."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from conntrack.cli.errors import debug_option, say
from conntrack.cli.examples import examples
from conntrack.cli.output import Output, choose_format, output_option
from conntrack.cli.reading import (
    Reading,
    captures_argument,
    check_profile,
    epoch_option,
    open_reading,
    profile_option,
    tag_in_key,
    tag_option,
    truncated_option,
)
from conntrack.errors import ConntrackError
from conntrack.report import STORY_FORMATS, STORY_SUFFIXES
from conntrack.report.format import count
from conntrack.states import NO_TIME_NS

if TYPE_CHECKING:
    import numpy as np

    from conntrack.explain import FourTuple, NetworkTellers, Story, StoryTeller

    Segments = np.ndarray[Any, Any]

__all__ = ["command"]

_LIST = "'ctrack flows CAPTURE' lists the connections"


class NotFoundError(ConntrackError):
    """There is no such connection in the capture (exit code 2)."""


@click.command("explain", short_help="One connection, segment by segment.", epilog=examples("explain"))
@captures_argument
@click.option("--flow", "flow_id", metavar="ID", type=click.IntRange(1), help="The connection with this flow_id.")
@click.option(
    "--between",
    metavar="A:P B:P",
    nargs=2,
    help="Each connection between two endpoints, e.g. 10.0.0.1:40112 10.0.0.2:80, [2001:db8::1]:80.",
)
@click.option("--all", "all_", is_flag=True, help="Tell every segment; else long stretches of plain data are folded.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(STORY_FORMATS),
    help="Text for people (default), or one JSON document with every segment.",
)
@output_option
@profile_option
@tag_option
@epoch_option
@truncated_option
@debug_option
def command(
    captures: tuple[str, ...],
    flow_id: int | None,
    between: tuple[str, str] | None,
    all_: bool,
    format_: str | None,
    output_path: str | None,
    profile: str,
    epoch: bool,
    allow_truncated: bool,
) -> int:
    """Tell one connection: each segment, what it was taken for, and both ends' states after it, with the reason.

    Give the flow_id that `ctrack flows` and the findings of a report show (--flow), or two endpoints (--between).
    """
    if (flow_id is None) == (between is None):
        raise click.UsageError("name a connection by one of --flow ID and --between A:P B:P")
    chosen = choose_format(format_, output_path, STORY_SUFFIXES, terminal="text", piped="text")
    check_profile(profile)

    from conntrack.explain import NetworkTellers, StoryTeller

    make = partial(StoryTeller, profile=profile, fold=chosen == "text" and not all_)
    four = None if between is None else _four_tuple(between)
    or_tag = ""
    if flow_id is not None:
        with open_reading(captures, output_path) as reading:
            batches = iter(reading)
            four, batch = _find(batches, flow_id)
            if reading.interrupted:
                return reading.finish(allow_truncated=allow_truncated)
            if four is None:
                reading.finish(allow_truncated=True)
                raise NotFoundError(f"--flow {flow_id}: no TCP segment has this frame number; {_LIST}")
            if batch is not None and batch["tag"][0] and not tag_in_key():
                or_tag = f", or --flow {flow_id} --tag-in-key if it was listed with that"
            if reading.capture.info.bytes_total is None:  # a pipe is read once: from here on
                teller = make(four, only=flow_id)
                last_ns = _follow(chain([batch], batches), teller, four)
                stories = _told(teller, last_ns, flow_id, or_tag)
                for story in stories:
                    story.notes.append("Read from a pipe: what was on these ports before is not known.")
                return _write(stories, reading, captures, chosen, output_path, epoch, allow_truncated)
    assert four is not None
    with open_reading(captures, output_path, again=flow_id is not None) as reading:
        if four.tag is None and tag_in_key():
            tellers = NetworkTellers(four, make)
            stories = tellers.finish(_follow(reading, tellers, four))
            if tellers.untold:
                say(f"--between: on more than {count(tellers.networks, 'network')}; only the first of them are told")
        else:
            teller = make(four, only=flow_id)
            stories = _told(teller, _follow(reading, teller, four), flow_id, or_tag)
        if not stories and not reading.interrupted:
            reading.finish(allow_truncated=True)
            raise NotFoundError(f"--between {four.a} {four.b}: no such connection in the capture; {_LIST}")
        return _write(stories, reading, captures, chosen, output_path, epoch, allow_truncated)


def _four_tuple(between: tuple[str, str]) -> FourTuple:
    from conntrack.explain import FourTuple, parse_endpoint

    try:
        a, b = (parse_endpoint(text) for text in between)
    except ValueError as error:
        raise click.UsageError(f"--between: {error}") from None
    if a.version != b.version:
        raise click.UsageError(f"--between: {a} and {b} are of different IP versions")
    return FourTuple(a, b)


def _find(batches: Iterator[Segments], frame: int) -> tuple[FourTuple | None, Segments | None]:
    """Return the 4-tuple of the segment in `frame`, and its batch from there on; None, None if it is no segment."""
    import numpy as np

    from conntrack.explain import FourTuple

    for batch in batches:  # in order of time, which is not always that of the frames
        at = np.flatnonzero(batch["frame"] == frame)
        if len(at):
            return FourTuple.of(batch[at[0]], with_tag=tag_in_key()), batch[at[0] :]
    return None, None


def _follow(batches: Iterable[Segments | None], teller: StoryTeller | NetworkTellers, four: FourTuple) -> int:
    """Feed the segments of `four` to the teller; return the time of the last segment of all."""
    last_ns = NO_TIME_NS
    for batch in batches:
        if batch is not None:
            last_ns = max(last_ns, int(batch["ts_ns"].max()))
            segments = four.select(batch)
            if len(segments):
                teller.feed(segments)
    return last_ns


def _told(teller: StoryTeller, last_ns: int, flow_id: int | None, or_tag: str) -> list[Story]:
    stories = teller.finish(last_ns)
    if flow_id is None:
        return stories
    wanted = [story for story in stories if story.flow_id == flow_id]
    if not wanted and teller.owner is not None:
        raise NotFoundError(
            f"--flow {flow_id}: the frame is not the first of its connection; give --flow {teller.owner}{or_tag}"
        )
    return wanted


def _write(
    stories: list[Story],
    reading: Reading,
    captures: tuple[str, ...],
    format_: str,
    output_path: str | None,
    epoch: bool,
    allow_truncated: bool,
) -> int:
    from conntrack.report.ladder import render_ladder, render_ladder_json

    with Output(output_path, captures) as output:
        if format_ == "json":
            from conntrack.export import make_exporter

            exporter = make_exporter("ndjson", epoch=epoch)
            rows = [json.loads(exporter.rows(story.row)) for story in stories if story.row is not None]
            output.write_text(render_ladder_json(stories, rows, files=captures, epoch=epoch))
        else:
            output.write_text(
                render_ladder(stories, files=captures, width=output.width, color=output.color, epoch=epoch)
            )
    return reading.finish(allow_truncated=allow_truncated)
