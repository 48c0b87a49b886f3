"""`ctrack info`: what is in a capture, how it was taken, and what of it will not be tracked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from conntrack.cli.errors import debug_option
from conntrack.cli.examples import examples
from conntrack.cli.output import Output, choose_format, output_option
from conntrack.cli.reading import captures_argument, epoch_option, open_reading, truncated_option
from conntrack.report.format import bytes_text, count, duration, instant, path_text
from conntrack.times import rfc3339

if TYPE_CHECKING:
    from conntrack.capture import CaptureInfo
    from conntrack.capture.interfaces import Interface

__all__ = ["command"]

_SCHEMA = 1
_FORMATS = ("text", "json")
MOST_PATHS = 8
"""Paths that the text names; JSON has all."""


@click.command("info", short_help="What is in a capture, and how it was taken.", epilog=examples("info"))
@captures_argument
@click.option(
    "--format", "format_", type=click.Choice(_FORMATS), help="Text for people (default), or one JSON document."
)
@output_option
@epoch_option
@truncated_option
@debug_option
def command(
    captures: tuple[str, ...], format_: str | None, output_path: str | None, epoch: bool, allow_truncated: bool
) -> int:
    """Say what is in a capture and how it was taken: format, interfaces, clock, times, rate, drops, silences, disorder.

    And what of it will not be tracked, with the reason. The whole capture is read for it.
    """
    chosen = choose_format(format_, output_path, {".txt": "text", ".json": "json"}, terminal="text", piped="text")

    from conntrack.capture.silence import Silences

    silences = Silences()
    with open_reading(captures, output_path) as reading:
        with Output(output_path, captures) as output:
            for segments in reading:
                silences.feed(segments)
            info = reading.capture.info
            if chosen == "json":
                output.write_text(json.dumps(_document(info, silences.longest(), epoch=epoch), indent=2) + "\n")
            else:
                output.write_text(_text(info, silences.longest(), output.width, epoch=epoch))
        return reading.finish(allow_truncated=allow_truncated)


def _text(info: CaptureInfo, silences: list[tuple[int, int]], width: int, *, epoch: bool) -> str:
    from conntrack.report.sheet import LEAST_WIDTH, Sheet

    sheet = Sheet(max(width, LEAST_WIDTH))
    sheet.table(["", ""], _lines(info, silences, epoch=epoch), numbers=False, indent=0, widths=[14])
    return sheet.text()


def _lines(info: CaptureInfo, silences: list[tuple[int, int]], *, epoch: bool) -> Iterator[tuple[str, str]]:
    for described in info.described:
        name = "standard input" if described.path == "-" else path_text(described.path)
        yield "file", f"{name}: {described.format or 'not read'}, {count(described.packets, 'packet')}"
        for interface in described.interfaces:
            yield "interface", _interface(interface)
        if described.comments:
            yield "comments", f"{count(described.comments)} on its packets; their text is not read"
    yield "packets", f"{count(info.packets)} ({bytes_text(info.bytes)})"
    yield "TCP segments", count(info.tcp_segments)
    if info.first_ts_ns is not None and info.last_ts_ns is not None:
        span_ns = info.last_ts_ns - info.first_ts_ns
        yield "first", instant(info.first_ts_ns, epoch=epoch)
        yield "last", instant(info.last_ts_ns, epoch=epoch)
        yield "duration", duration(span_ns)
        if span_ns:
            yield "rate", f"{info.packets / span_ns * 1e9:,.1f} packets a second"
    yield "out of order", f"{count(info.time_inversions, 'packet')} with a time before the one before"
    for begin, length in silences:
        yield "silence", f"{duration(length)} without a TCP segment from {instant(begin, epoch=epoch)}"
    if not info.skipped:
        yield "not tracked", "nothing"
    for reason, number in sorted(info.skipped.items(), key=lambda item: -item[1]):
        yield "not tracked", f"{count(number, 'packet')}: {_words(reason)}"
    if info.incomplete:
        yield "incomplete", f"{count(info.incomplete, 'IP packet')} of which not all fragments came"
    if info.subframes:
        yield "not read", f"{count(info.subframes, 'frame')} behind the first of an 802.11 aggregate (A-MSDU)"
    for path in info.paths[1 : MOST_PATHS + 1]:
        yield "path", path
    if len(info.paths) > MOST_PATHS + 1:
        yield "path", f"and {count(len(info.paths) - MOST_PATHS - 1)} more"
    for fault in info.faults:
        yield "damaged", str(fault)


def _interface(interface: Interface) -> str:
    from conntrack.capture.linklayer import link_type_name

    snap = f"frames cut to {interface.snap_bytes:,} bytes" if interface.snap_bytes else "frames whole"
    parts = [interface.name, interface.description, link_type_name(interface.link_type), snap]
    parts.append(f"clock of {interface.ts_resolution}")
    parts += [f"filter '{interface.filter}'" if interface.filter else "", interface.os, interface.application]
    if interface.received is not None:
        parts.append(f"{count(interface.received, 'packet')} received")
    if interface.dropped is not None:
        parts.append(f"{count(interface.dropped, 'packet')} dropped while it was taken")
    return ", ".join(part for part in parts if part)


def _words(reason: str) -> str:
    from conntrack.capture.linklayer import REASONS
    from conntrack.core.decode import Outcome

    if reason == "outside_time":
        return "before --from or after --to"
    return REASONS[Outcome[reason.upper()]]


def _document(info: CaptureInfo, silences: list[tuple[int, int]], *, epoch: bool) -> dict[str, Any]:
    def at(ts_ns: int | None) -> str | float | None:
        return None if ts_ns is None else ts_ns / 1e9 if epoch else rfc3339(ts_ns)

    return {
        "schema": _SCHEMA,
        "files": [
            {
                "path": path_text(described.path),
                "format": described.format,
                "packets": described.packets,
                "comments": described.comments,
                "interfaces": [
                    {name: getattr(interface, name) for name in interface.__slots__}
                    for interface in described.interfaces
                ],
            }
            for described in info.described
        ],
        "bytes": info.bytes,
        "packets": info.packets,
        "tcp_segments": info.tcp_segments,
        "first_ts": at(info.first_ts_ns),
        "last_ts": at(info.last_ts_ns),
        "time_inversions": info.time_inversions,
        "silences": [{"begin_ts": at(begin), "length_s": length / 1e9} for begin, length in silences],
        "skipped": dict(info.skipped),
        "incomplete": info.incomplete,
        "subframes": info.subframes,
        "paths": list(info.paths),
        "notes": list(info.notes),
        "faults": [str(fault) for fault in info.faults],
    }
