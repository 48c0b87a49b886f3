"""`ctrack live`: the report while it happens. A screen for people, lines in a pipe, events for machines."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from conntrack.cli.errors import ExitCode, debug_option, say
from conntrack.cli.examples import examples
from conntrack.cli.live_status import Status, change_line, screen, status_line, take_status
from conntrack.cli.output import Output, choose_format, output_option
from conntrack.cli.reading import check_profile, epoch_option, profile_option, tag_in_key, tag_option
from conntrack.cli.report import render
from conntrack.cli.thresholds import set_thresholds, threshold_option
from conntrack.cli.tracking import check_memory, memory_option
from conntrack.report import SUFFIXES
from conntrack.times import rfc3339

if TYPE_CHECKING:
    from conntrack.capture import Capture
    from conntrack.capture.live import Captured
    from conntrack.live import Change, Intake, Session

__all__ = ["command"]

SCHEMA = 1
_TICK_S = 0.2
"""How soon Ctrl-C and the time are noticed."""
_LINE_S = 10.0
"""Where nobody watches a screen, the status is a line so often."""
_SHARE = 0.1
"""Of the time that may go into looking: where a look takes longer, it is looked less often."""
_ENDS_WITHIN_S = 10.0
_PIPE_ENDS_WITHIN_S = 1.0
"""How long, after Ctrl-C, is waited for what was captured before: for dumpcap, and for who writes into a pipe."""


@click.command("live", short_help="The report while it happens.", epilog=examples("live"))
@click.argument("pipe", metavar="[-]", required=False, type=click.Path(allow_dash=True))
@click.option("-i", "--interface", "interfaces", metavar="IFACE", multiple=True, help="Capture on it; may be repeated.")
@click.option("--filter", "filter_", metavar="EXPRESSION", help="Only what passes, as for tcpdump: 'tcp port 443'.")
@click.option(
    "-w",
    "--write",
    "keep",
    metavar="FILE",
    type=click.Path(),
    help="Keep the packets as well (FILE.part until it ends).",
)
@click.option(
    "--snap",
    "snap_bytes",
    metavar="BYTES",
    type=click.IntRange(0),
    help="Of each frame (default 256; all of it with -w).",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(("text", "ndjson")),
    default="text",
    show_default=True,
    help="A screen on a terminal, lines in a pipe; or events: a finding opened, grew, ended.",
)
@click.option(
    "--window",
    "window_s",
    metavar="SECONDS",
    type=click.FloatRange(1),
    default=300,
    show_default=True,
    help="Findings are of the connections of so many last seconds; one ends when they show it no more.",
)
@click.option(
    "--every",
    "every_s",
    metavar="SECONDS",
    type=click.FloatRange(0.1),
    default=1,
    show_default=True,
    help="Look so often.",
)
@click.option("--for", "for_s", metavar="SECONDS", type=click.FloatRange(0), help="End by itself after so long.")
@click.option("--listen", metavar="ADDRESS", help="Serve Prometheus metrics there: 9100 (on loopback), 0.0.0.0:9100.")
@output_option
@threshold_option("syn_backlog=128")
@profile_option
@tag_option
@memory_option
@epoch_option
@debug_option
def command(
    pipe: str | None,
    interfaces: tuple[str, ...],
    filter_: str | None,
    keep: str | None,
    snap_bytes: int | None,
    format_: str,
    window_s: float,
    every_s: float,
    for_s: float | None,
    listen: str | None,
    output_path: str | None,
    thresholds: tuple[str, ...],
    profile: str,
    max_memory: int | None,
    epoch: bool,
) -> int:
    """Track what passes an interface now, or comes through a pipe (-), and say what is wrong as it happens.

    Ctrl-C (or SIGTERM) ends it with the report of everything since the start, as "ctrack report" gives it: on standard
    output, or in the file of -o. The exit code is 0 then.

    Packets come through dumpcap, which has the right to capture; ctrack itself needs none.
    """
    if (pipe is None) == (not interfaces):
        raise click.UsageError("give an interface with -i, or - for a capture on standard input")
    if pipe is not None and snap_bytes is not None:
        raise click.UsageError("--snap is for -i; whoever writes into the pipe has cut the frames")
    check_profile(profile)
    check_memory(max_memory)
    chosen = choose_format(None, output_path, SUFFIXES, terminal="text", piped="text")

    from conntrack.detect import DetectOptions
    from conntrack.live import Session

    options = set_thresholds(DetectOptions, thresholds)
    session = Session(
        profile=profile,
        options=options,
        window_s=window_s,
        choose=chosen == "html",
        tag_in_key=tag_in_key(),
        max_memory=max_memory,
    )
    with Output(None) as output, _opened(interfaces, pipe, filter_, keep, snap_bytes) as live:
        live.window_s, live.every_s = window_s, every_s
        view = _view(output, format_, epoch=epoch)
        stop_serving = _listen(listen, live) if listen is not None else _nothing
        try:
            live.run(session, view, for_s)
        finally:
            stop_serving()
            view.close()
        live.say_what_was_lost()
        report = session.report(live.capture.info)
        if format_ == "ndjson":
            view.stopped(live.last)
        if output_path is not None or format_ != "ndjson":
            with Output(output_path, (keep,) if keep else ()) as file:
                file.write_text(render(report, chosen, file, epoch=epoch))
    return ExitCode.DAMAGED if live.capture.info.faults else ExitCode.DONE


class _Stop:
    """Ctrl-C and SIGTERM, noticed at the next tick; the second Ctrl-C is the usual KeyboardInterrupt."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, _signal: int, _frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class _Live:
    """A capture that goes on, taken from and looked at until it ends or is to end."""

    def __init__(self, source: str, capture: Capture, captured: Captured | None, intake: Intake, stop: _Stop) -> None:
        self.capture = capture
        self.window_s = self.every_s = 0.0
        self.last: Status | None = None
        self._source = source
        self._captured = captured
        self._intake = intake
        self._stop = stop
        self._noted = 0

    def run(self, session: Session, view: _View, for_s: float | None) -> None:
        """Feed the session and show what it sees, until the end."""
        begun_s = time.monotonic()
        look_s = begun_s + self.every_s
        end_s = None if for_s is None else begun_s + for_s
        deadline_s: float | None = None
        while not self._intake.ended:
            now_s = time.monotonic()
            if deadline_s is None and (self._stop.asked or (end_s is not None and now_s >= end_s)):
                deadline_s = now_s + (_PIPE_ENDS_WITHIN_S if self._captured is None else _ENDS_WITHIN_S)
                if self._captured is not None:
                    self._captured.stop()
            if deadline_s is not None and now_s >= deadline_s:
                break
            segments = self._intake.take(min(_TICK_S, max(look_s - now_s, 0.0)))
            if segments is not None:
                session.feed(segments)
            if time.monotonic() >= look_s and deadline_s is None:
                cost_s = self._look(session, view, begun_s, partial(self._catch_up, session))
                look_s = time.monotonic() + max(self.every_s, cost_s / _SHARE)
        self._look(session, view, begun_s)

    def say_what_was_lost(self) -> None:
        """Say on standard error how the capture went."""
        self._say_notes()
        for fault in self.capture.info.faults:
            say(str(fault))
        dropped = None if self.last is None else self.last.dropped
        if dropped:
            say(f"{self._source}: {dropped:,} packets were dropped while capturing; a --filter makes them fewer")

    def _catch_up(self, session: Session) -> None:
        """Feed what waits by now, so that a look, however long it takes, lets no more wait."""
        due = self._intake.waiting
        while due > 0 and (segments := self._intake.take(0.0)) is not None:
            due -= len(segments)
            session.feed(segments)

    def _look(self, session: Session, view: _View, begun_s: float, between: Callable[[], None] | None = None) -> float:
        look = session.look(between)
        self.last = take_status(
            look,
            self.capture,
            source=self._source,
            running_s=time.monotonic() - begun_s,
            window_s=self.window_s,
            waiting=self._intake.waiting,
        )
        for change in look.changes:
            view.change(change)
        view.status(self.last)
        self._say_notes()
        return look.cost_s

    def _say_notes(self) -> None:
        notes = self.capture.info.notes
        for note in notes[self._noted :]:
            say(note)
        self._noted = len(notes)


@contextmanager
def _opened(
    interfaces: tuple[str, ...], pipe: str | None, filter_: str | None, keep: str | None, snap_bytes: int | None
) -> Iterator[_Live]:
    """Open what is to be captured, and take it in; Ctrl-C and SIGTERM end that and not the command."""
    from conntrack.capture.live import open_interfaces, open_pipe
    from conntrack.live import Intake

    captured: Captured | None = None
    if pipe is None:
        capture, captured = open_interfaces(interfaces, filter=filter_, keep=keep, snap_bytes=snap_bytes)
        source = captured.path
    else:
        capture = open_pipe(pipe, filter=filter_, keep=keep)
        source = "standard input" if pipe == "-" else pipe
    stop = _Stop()
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, stop) for number in signals}
    intake = Intake(capture)
    try:
        yield _Live(f"{source}{f' ({filter_})' if filter_ else ''}", capture, captured, intake, stop)
    finally:
        if captured is not None:
            captured.stop()
        if intake.abandon(_ENDS_WITHIN_S if captured is not None else 0.0):
            capture.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _nothing() -> None:
    pass


def _listen(listen: str, live: _Live) -> Callable[[], None]:
    from conntrack.cli.live_metrics import families
    from conntrack.metrics import serve

    url, stop = serve(listen, lambda: families(live.last))
    say(f"metrics at {url}")
    return stop


class _View:
    """Lines, one every _LINE_S and one for each change; what the others do otherwise."""

    def __init__(self, output: Output, *, epoch: bool) -> None:
        self.output = output
        self.epoch = epoch
        self._next_s = 0.0

    def change(self, change: Change) -> None:
        """Show an event."""
        self.write(change_line(change, epoch=self.epoch) + "\n")

    def status(self, status: Status) -> None:
        """Show what holds now."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _LINE_S
            self.write(status_line(status, epoch=self.epoch) + "\n")

    def stopped(self, status: Status | None) -> None:
        """Show the end, where there is no report."""

    def close(self) -> None:
        """Leave the terminal as it was, and room before the report."""
        self.write("\n")

    def write(self, text: str) -> None:
        self.output.write_text(text)
        self.output.stream.flush()


class _Screen(_View):
    """The alternate screen of a terminal, drawn anew at each look; what was there before comes back in the end."""

    def __init__(self, output: Output, *, epoch: bool) -> None:
        super().__init__(output, epoch=epoch)
        self.write("\x1b[?1049h\x1b[?25l")

    def change(self, change: Change) -> None:
        pass  # the screen has it

    def status(self, status: Status) -> None:
        width, height = shutil.get_terminal_size((80, 24))
        lines = screen(status, width, height, color=self.output.color, epoch=self.epoch)
        self.write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")

    def close(self) -> None:
        self.write("\x1b[?25h\x1b[?1049l")


class _Events(_View):
    """One JSON object a line."""

    def change(self, change: Change) -> None:
        from conntrack.report.json import finding_as_json

        document = finding_as_json(change.finding, epoch=self.epoch)
        self._event(change.event, change.ts_ns, {"finding": document})

    def status(self, status: Status) -> None:
        pass

    def stopped(self, status: Status | None) -> None:
        if status is not None:
            look = status.look
            self._event(
                "stopped",
                look.ts_ns,
                {
                    "packets": status.packets,
                    "tcp_segments": look.segments,
                    "dropped_packets": status.dropped,
                    "skipped": status.skipped,
                    "connections": look.connections,
                    "open_findings": len(look.findings),
                },
            )

    def close(self) -> None:
        pass

    def _event(self, event: str, ts_ns: int | None, rest: dict[str, Any]) -> None:
        at = None if ts_ns is None else ts_ns / 1e9 if self.epoch else rfc3339(ts_ns)
        self.write(json.dumps({"schema": SCHEMA, "event": event, "ts": at, **rest}) + "\n")


def _view(output: Output, format_: str, *, epoch: bool) -> _View:
    if format_ == "ndjson":
        return _Events(output, epoch=epoch)
    if output.is_terminal and os.environ.get("TERM") != "dumb":
        return _Screen(output, epoch=epoch)
    return _View(output, epoch=epoch)
