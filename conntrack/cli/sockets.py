"""`ctrack sockets`: what `ss -tan` showed at given instants, from a capture, in one pass; or this host's own, now."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from conntrack.cli.errors import ExitCode, debug_option, say
from conntrack.cli.examples import examples
from conntrack.cli.output import Output, choose_format, output_option
from conntrack.cli.reading import (
    Reading,
    check_profile,
    epoch_option,
    needs_no_capture,
    open_reading,
    optional_captures_argument,
    profile_option,
    tag_in_key,
    tag_option,
    truncated_option,
)
from conntrack.export import FORMATS, SUFFIXES, Exporter, make_exporter
from conntrack.report.format import count, instant

if TYPE_CHECKING:
    import numpy as np

    from conntrack.capture import CaptureInfo
    from conntrack.export.where import Filter
    from conntrack.tracker import Tracker

    Rows = np.ndarray[Any, Any]

__all__ = ["command"]

_ROWS = 8_192
"""Most rows turned into text at a time: about a megabyte."""
_FEW = 1_024
"""Fewer rows than this are kept until there are more: a call for each of many instants costs more than their rows."""
_SILENCE_NS = 60 * 10**9
"""An instant that is further behind the packet before it is said to be: as long as TIME_WAIT lasts."""
_MANY = 1 << 20
"""Of more rows than this no text is kept for the next instant (export/instants.py): half a gigabyte."""


@click.command("sockets", short_help="What ss -tan showed at an instant, or shows now.", epilog=examples("sockets"))
@optional_captures_argument
@click.option(
    "--at",
    "times",
    metavar="TIME",
    multiple=True,
    help="The instant: ISO 8601 (UTC where it names no zone), unix seconds, or a time of day on the UTC day of the "
    "first packet. May be given more than once; the end of the capture without.",
)
@click.option("--host", metavar="IP", help="Only the sockets of this address; both ends of each connection without.")
@click.option(
    "--format", "format_", type=click.Choice(FORMATS), help="A table on a terminal, else TSV with every column."
)
@output_option
@click.option(
    "--where",
    metavar="CONDITIONS",
    help='Only sockets for which all hold, as in flows. E.g. "state=CLOSE_WAIT and local_port=443".',
)
@profile_option
@tag_option
@epoch_option
@truncated_option
@debug_option
def command(
    captures: tuple[str, ...],
    times: tuple[str, ...],
    host: str | None,
    format_: str | None,
    output_path: str | None,
    where: str | None,
    profile: str,
    epoch: bool,
    allow_truncated: bool,
) -> int:
    """List the sockets that were open at an instant: what "ss -tan" showed, since when, and how that is known.

    Every end that was in a state other than CLOSED and LISTEN is a row. Evidence: seen (in the capture), inferred (a
    later segment proves it), assumed (the capture began in the middle). Nothing behind the last TIME is read.

    Without a capture: this host's own sockets as they are now, from the kernel, LISTEN included, with their queues,
    timers and retransmissions, how long they have been in their state where the kernel tells, and the process and the
    unit or container that holds them, where permitted (all of them for root).
    """
    chosen = choose_format(format_, output_path, SUFFIXES, terminal="table", piped="tsv")

    from conntrack.addresses import parse_ip
    from conntrack.export.columns import HOST_SOCKET_COLUMNS, SOCKET_COLUMNS
    from conntrack.export.where import parse_where

    check_profile(profile)
    for text in times:
        _instant(text, 0)
    try:
        address = parse_ip(host) if host is not None else None
    except ValueError as error:
        raise click.UsageError(f"--host: {error}") from None
    if not captures:
        needs_no_capture("times", "profile", "tag_in_key", "allow_truncated")
        wanted = parse_where(where, HOST_SOCKET_COLUMNS) if where is not None else None
        return _now(chosen, output_path, host, address, wanted, epoch=epoch)
    from conntrack.tracker import Tracker

    wanted = parse_where(where, SOCKET_COLUMNS) if where is not None else None
    with open_reading(captures, output_path) as reading:
        with Output(output_path, captures) as output:
            view = _View(output, chosen, of="sockets", host=host, epoch=epoch)
            tracker = Tracker(profile=profile, tag_in_key=tag_in_key())
            for at_ns, rows in _answers(reading, tracker, times, address, epoch=epoch):
                view.show(at_ns, rows if wanted is None else rows[wanted.mask(rows)])
            view.finish()
        return reading.finish(allow_truncated=allow_truncated)


def _now(
    format_: str,
    output_path: str | None,
    host: str | None,
    address: tuple[bytes, int] | None,
    wanted: Filter | None,
    *,
    epoch: bool,
) -> int:
    """Write this host's own sockets, and say what of them could not be read."""
    import numpy as np

    from conntrack.host import read_sockets

    table = read_sockets(with_owners=True)
    rows = table.rows
    at_ns = int(rows["at_ts_ns"][0]) if len(rows) else time.time_ns()
    if address is not None:
        octets = np.frombuffer(address[0], np.uint8)
        rows = rows[(rows["local_ip"] == octets).all(axis=1) & (rows["ip_version"] == address[1])]
    if wanted is not None:
        rows = rows[wanted.mask(rows)]
    with Output(output_path) as output:
        view = _View(output, format_, of="host", host=host, epoch=epoch)
        view.show(at_ns, rows)
        view.finish()
    for note in table.notes:
        say(note)
    nameless = (rows["inode"] != 0) & (rows["pid"] < 0)
    if table.owners_note and format_ == "table" and nameless.any():  # a script sees that there is no pid
        say(table.owners_note)
    return ExitCode.DONE


def _answers(
    reading: Reading, tracker: Tracker, times: Sequence[str], host: tuple[bytes, int] | None, *, epoch: bool
) -> Iterator[tuple[int, Rows]]:
    """Yield the instants with their rows; then say which of them lie outside of the capture."""
    from conntrack.sockets import segments_of_host, sockets_at

    info = reading.capture.info
    seen: list[bool] = []
    batches = iter(reading) if host is None else _watch(reading, host, seen)
    first = next(batches, None)  # a time of day is on its day
    batches = batches if first is None else chain((first,), batches)
    if times:
        instants = [_instant(text, info.first_ts_ns or 0) for text in times]
        silent: dict[int, int] = {}
        for at_ns, rows in sockets_at(batches, tracker, instants, host=host):
            if tracker.now_ns is not None and at_ns - tracker.now_ns > _SILENCE_NS:
                silent[at_ns] = at_ns - tracker.now_ns
            yield at_ns, rows
        _say_what_is_outside(instants, info, epoch=epoch)
        if host is None:  # else not every segment is tracked
            _say_what_is_in_silence(silent, info, epoch=epoch)
        _say_who_is_not_there(host, seen)
        return
    for segments in batches if host is None else segments_of_host(batches, host):
        tracker.process(segments)
        for _ in tracker.retired():
            pass  # over: no socket
    if info.last_ts_ns is None:
        _say_what_is_outside([], info, epoch=epoch)
    else:
        yield info.last_ts_ns, tracker.sockets(info.last_ts_ns, host=host)
        _say_who_is_not_there(host, seen)


def _watch(batches: Iterable[Rows], host: tuple[bytes, int], seen: list[bool]) -> Iterator[Rows]:
    """Hand on batches of segments; put something into `seen` when one is of that host."""
    from conntrack.sockets import has_host

    for segments in batches:
        if not seen and has_host(segments, host):
            seen.append(True)
        yield segments


def _say_who_is_not_there(host: tuple[bytes, int] | None, seen: Sequence[bool]) -> None:
    if host is not None and not seen:
        from conntrack.addresses import ip_text

        say(f"--host: no segment of {ip_text(*host)} in what was read; 'ctrack report' lists the services")


def _instant(text: str, first_ts_ns: int) -> int:
    from conntrack.times import parse_time, time_of_day

    at_ns = time_of_day(text, first_ts_ns)
    try:
        return parse_time(text) if at_ns is None else at_ns
    except ValueError as error:
        raise click.UsageError(f"--at: {error}") from None


def _say_what_is_outside(instants: Sequence[int], info: CaptureInfo, *, epoch: bool) -> None:
    if info.first_ts_ns is None or info.last_ts_ns is None:
        say("no packets in this capture; nothing is known at any time")
        return
    early = [at_ns for at_ns in instants if at_ns < info.first_ts_ns]
    late = [at_ns for at_ns in instants if at_ns > info.last_ts_ns]
    for outside, where, so in (
        (early, f"before the first packet, at {instant(info.first_ts_ns, epoch=epoch)}", "nothing is known then"),
        (late, f"after the last packet, at {instant(info.last_ts_ns, epoch=epoch)}", "only timers went on"),
    ):
        if outside:
            which = instant(outside[0], epoch=epoch) if len(outside) == 1 else f"{len(outside):,} instants"
            say(f"--at: {which} {'is' if len(outside) == 1 else 'are'} {where}; {so}")


def _say_what_is_in_silence(silent: dict[int, int], info: CaptureInfo, *, epoch: bool) -> None:
    """Say which instants lie far behind the packet before them, though not behind the last: between two files, say."""
    from conntrack.report.format import duration

    within = {at_ns: gap_ns for at_ns, gap_ns in silent.items() if info.last_ts_ns and at_ns <= info.last_ts_ns}
    if within:
        one = len(within) == 1
        which = f"{instant(next(iter(within)), epoch=epoch)} is" if one else f"{len(within):,} instants are up to"
        most = duration(max(within.values()))
        say(f"--at: {which} {most} behind the packet before; nothing was captured between, only timers went on")


class _View:
    """Writes the sockets of one instant after the other: rows, or for people a table each."""

    def __init__(self, output: Output, format_: str, *, of: str, host: str | None, epoch: bool) -> None:
        from conntrack.export.instants import InstantLines

        self._output = output
        self._of = of
        self._host = host
        self._epoch = epoch
        self._tables = 0
        self._kept: list[Rows] = []
        self._kept_rows = 0
        self._rows = None if format_ == "table" else make_exporter(format_, of=of, epoch=epoch)
        self._instants = InstantLines(format_, epoch=epoch) if self._rows is not None and of == "sockets" else None
        if self._rows is not None:
            output.write(self._rows.header())

    def show(self, at_ns: int, rows: Rows) -> None:
        """Write `rows`, those of the instant `at_ns`."""
        if self._instants is not None and _FEW <= len(rows) <= _MANY:
            self.finish()
            self._output.write(self._instants.rows(rows).data)
            return
        if self._rows is not None:
            self._kept.append(rows)
            self._kept_rows += len(rows)
            if self._kept_rows >= _FEW:
                self.finish()
            return
        exporter = make_exporter("table", of=self._of, epoch=self._epoch, width=self._output.width)
        whose = f" of {self._host}" if self._host is not None else ""
        blank = "\n" if self._tables else ""
        self._tables += 1
        self._output.write_text(f"{blank}{_short(at_ns, epoch=self._epoch)}: {count(len(rows), 'socket')}{whose}\n")
        self._write(exporter, rows)

    def finish(self) -> None:
        """Write the rows that were kept to be turned into text together."""
        if self._rows is not None and self._kept:
            import numpy as np

            rows = self._kept[0]
            if len(self._kept) > 1:  # as bytes: numpy would join structs field by field
                rows = np.concatenate([part.view(f"V{part.itemsize}") for part in self._kept]).view(rows.dtype)
            self._write(self._rows, rows)
            self._kept.clear()
            self._kept_rows = 0

    def _write(self, exporter: Exporter, rows: Rows) -> None:
        for at in range(0, len(rows), _ROWS):
            self._output.write(exporter.rows(rows[at : at + _ROWS]))


def _short(at_ns: int, *, epoch: bool) -> str:
    """Return an instant without the zeros at its end."""
    text = instant(at_ns, epoch=epoch)
    return f"{text.rstrip('Z').rstrip('0').rstrip('.')}{'' if epoch else 'Z'}"
