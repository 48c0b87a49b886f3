"""`ctrack compare`: the sockets on which a capture and a host's kernel disagree, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
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
    truncated_option,
)
from conntrack.report.format import count, instant, words

if TYPE_CHECKING:
    from conntrack.compare import Comparison, Disagreement, Snapshot

__all__ = ["command"]

SCHEMA = 1
HOST = "host"
_FORMATS = ("table", "tsv", "ndjson")
_SUFFIXES = {".txt": "table", ".tsv": "tsv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
_SHOWN = 50
"""Disagreements of a kind in the table for people, which has a millisecond's work with each."""
_COLUMNS = (
    "local_ip", "local_port", "remote_ip", "remote_port", "wire_state", "kernel_state", "reason", "since_ts", "last_ts",
    "flow_id", "at_ts", "explanation",
)  # fmt: skip


@click.command("compare", short_help="Where the wire and the kernel disagree.", epilog=examples("compare"))
@captures_argument
@click.option(
    "--with",
    "snapshot_path",
    metavar="SNAPSHOT",
    required=True,
    help="What a kernel said: a file of 'ss -tan', of 'ctrack sockets --format ndjson', of 'conntrack -L' (or "
    "/proc/net/nf_conntrack); - for standard input; 'host' for this machine now.",
)
@click.option(
    "--at",
    "time",
    metavar="TIME",
    help="When the snapshot was taken, as for sockets. Its own time without, else the end of the capture.",
)
@click.option("--host", metavar="IP", help="Only this address; all that the snapshot's sockets have without.")
@click.option("--format", "format_", type=click.Choice(_FORMATS), help="A table on a terminal, else TSV.")
@output_option
@profile_option
@epoch_option
@truncated_option
@debug_option
def command(
    captures: tuple[str, ...],
    snapshot_path: str,
    time: str | None,
    host: str | None,
    format_: str | None,
    output_path: str | None,
    profile: str,
    epoch: bool,
    allow_truncated: bool,
) -> int:
    """List the sockets on which a capture and a kernel disagree, with both states and the likely reason.

    The capture says which state each end was in at that time; a snapshot of the host's sockets, or of a firewall's
    connections, says what its kernel took it for. Where the two differ, a segment was lost, dropped or translated, a
    peer is gone, or a program holds on to what is over.
    """
    chosen = choose_format(format_, output_path, _SUFFIXES, terminal="table", piped="tsv")

    from conntrack.compare import compare
    from conntrack.compare.ss import canonical_ip
    from conntrack.tracker import Tracker

    check_profile(profile)
    address = canonical_ip(host) if host is not None else None
    if host is not None and address is None:
        raise click.UsageError(f"--host: '{host}' is not an IP address")
    if snapshot_path == "-" and "-" in captures:
        raise click.UsageError("--with: standard input is the capture; give the snapshot as a file")
    if time is not None:
        _instant(time, 0)
    snapshot = _snapshot(snapshot_path)
    with open_reading(captures, output_path) as reading:
        info = reading.capture.info
        with Output(output_path, (*captures, snapshot_path)) as output:
            at = None if time is None else lambda: _instant(time, info.first_ts_ns or 0)
            comparison = compare(
                reading, Tracker(profile=profile), snapshot, at=at, end=lambda: info.last_ts_ns, host=address
            )
            _say_what_to_know(snapshot, comparison, reading, epoch=epoch)
            output.write_text(
                "".join(f"{line}\n" for line in _lines(comparison, snapshot, chosen, output, epoch=epoch))
            )
        return reading.finish(allow_truncated=allow_truncated)


def _snapshot(path: str) -> Snapshot:
    if path == HOST:
        from conntrack.compare.this_host import snapshot_of_this_host

        return snapshot_of_this_host()
    from conntrack.compare import read_snapshot

    return read_snapshot(path)


def _instant(text: str, first_ts_ns: int) -> int:
    from conntrack.times import parse_time, time_of_day

    at_ns = time_of_day(text, first_ts_ns)
    try:
        return parse_time(text) if at_ns is None else at_ns
    except ValueError as error:
        raise click.UsageError(f"--at: {error}") from None


def _say_what_to_know(snapshot: Snapshot, comparison: Comparison, reading: Reading, *, epoch: bool) -> None:
    for reason, number in snapshot.skipped.items():
        say(f"{snapshot.name}: {count(number, 'line')} not used: {reason}")
    first_ts_ns = reading.capture.info.first_ts_ns
    if comparison.end_ns is None:
        say("no packets in this capture; nothing is known of the wire")
    elif first_ts_ns is not None and comparison.at_ns < first_ts_ns:
        began = instant(first_ts_ns, epoch=epoch)
        say(f"the snapshot is older than the first packet, at {began}; give its time by --at")


def _lines(comparison: Comparison, snapshot: Snapshot, format_: str, output: Output, *, epoch: bool) -> Iterator[str]:
    if format_ != "table":
        say(_head(comparison, snapshot, epoch=epoch))
    match format_:
        case "ndjson":
            for row in comparison.disagreements:
                yield json.dumps({"schema": SCHEMA, **_fields(row, comparison, epoch=epoch)})
        case "tsv":
            yield "\t".join(_COLUMNS)
            for row in comparison.disagreements:
                fields = _fields(row, comparison, epoch=epoch)
                yield "\t".join("" if fields[name] is None else str(fields[name]) for name in _COLUMNS)
        case _:
            yield from _table(comparison, snapshot, output.width, epoch=epoch).splitlines()


def _head(comparison: Comparison, snapshot: Snapshot, *, epoch: bool) -> str:
    """Return the counts in one sentence."""
    found = comparison.disagreements
    total = comparison.agreed + len(found)
    what = count(total, "entry", "entries") if snapshot.entries else count(total, "socket")
    whose = f" of {', '.join(comparison.hosts[:3])}" if comparison.hosts and not snapshot.entries else ""
    more = f" and {count(len(comparison.hosts) - 3)} more" if len(comparison.hosts) > 3 and whose else ""
    where = f"{instant(comparison.at_ns, epoch=epoch)}: {what}{whose}{more} against {snapshot.name}"
    if not found:
        return f"{where}: the wire and the kernel agree on all of them"
    wire_only, kernel_only = (sum(getattr(row, name) is None for row in found) for name in ("kernel", "wire"))
    return (
        f"{where}: {count(comparison.agreed)} agree, {count(len(found))} do not ({count(wire_only)} only on the wire, "
        f"{count(kernel_only)} only in the kernel, {count(len(found) - wire_only - kernel_only)} in another state)"
    )


def _table(comparison: Comparison, snapshot: Snapshot, width: int, *, epoch: bool) -> str:
    from conntrack.report.sheet import LEAST_WIDTH, Sheet

    width = max(width, LEAST_WIDTH)
    sheet = Sheet(width, paragraph=width)
    sheet.wrap(_head(comparison, snapshot, epoch=epoch))
    rows = sorted(comparison.disagreements, key=lambda row: (row.reason, row.explanation, row.local, row.remote))
    for (reason, explanation), group in groupby(rows, key=lambda row: (row.reason, row.explanation)):
        sheet.heading(f"{words(reason)}: {explanation}")
        lines = [
            [_text(row.local), _text(row.remote), row.wire or "-", row.kernel or "-", str(row.flow_id or "-")]
            for row in group
        ]
        sheet.table(["local", "remote", "wire", "kernel", "flow"], lines[:_SHOWN], numbers=False)
        if len(lines) > _SHOWN:
            sheet.wrap(f"and {count(len(lines) - _SHOWN)} more: --format tsv has them", front="  ")
    return sheet.text()


def _text(end: Any) -> str:
    from conntrack.addresses import endpoint_text_of

    return endpoint_text_of(end.ip, end.port)


def _fields(row: Disagreement, comparison: Comparison, *, epoch: bool) -> dict[str, Any]:
    def at(ts_ns: int | None) -> str | float | None:
        return None if ts_ns is None else ts_ns / 1e9 if epoch else instant(ts_ns)

    values = (
        row.local.ip, row.local.port, row.remote.ip, row.remote.port, row.wire, row.kernel, row.reason,
        at(row.since_ns), at(row.last_ns), row.flow_id, at(comparison.at_ns), row.explanation,
    )  # fmt: skip
    return dict(zip(_COLUMNS, values, strict=True))
