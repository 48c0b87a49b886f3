"""`ctrack report`: findings, then the counts behind them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from conntrack.cli.errors import ExitCode, debug_option, say
from conntrack.cli.examples import examples
from conntrack.cli.output import Output, choose_format, output_option
from conntrack.cli.reading import (
    Reading,
    captures_argument,
    epoch_option,
    open_reading,
    tag_in_key,
    truncated_option,
)
from conntrack.cli.sharing import finish_shared, is_shared, no_tracking, open_shared, sharing_options
from conntrack.cli.thresholds import fail_on_option, set_thresholds, threshold_option, worst_of
from conntrack.cli.tracking import Tracking, tracking_options
from conntrack.errors import ConntrackError
from conntrack.report import FORMATS, SUFFIXES

if TYPE_CHECKING:
    from conntrack.capture.unchanged import FileState
    from conntrack.detect.options import DetectOptions
    from conntrack.report.model import Report

__all__ = ["command", "render"]


@click.command("report", short_help="Findings, then counts by state, services and time.", epilog=examples("report"))
@captures_argument
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="Text for people (default), one JSON document (schema 1), or one HTML page that needs nothing else.",
)
@output_option
@fail_on_option
@threshold_option("syn_backlog=128")
@tracking_options
@sharing_options
@epoch_option
@truncated_option
@debug_option
def command(
    captures: tuple[str, ...],
    format_: str | None,
    output_path: str | None,
    fail_on: str | None,
    thresholds: tuple[str, ...],
    profile: str,
    threads: int | None,
    max_memory: int | None,
    epoch: bool,
    allow_truncated: bool,
) -> int:
    """Say what is wrong with the TCP connections: findings first, then counts by state, services and time.

    Which service is SYN-flooded, who leaks CLOSE_WAIT, which client runs out of ports to TIME_WAIT; each with its
    evidence, since when, the connections behind it, what would weaken it, and what to do next.

    The HTML page has charts that zoom and a table of connections as well, and tells some of those behind the findings
    segment by segment; for that the captures are read again, which a pipe does not allow.
    """
    chosen = choose_format(format_, output_path, SUFFIXES, terminal="text", piped="text")
    if chosen == "html" and output_path in (None, "-") and sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError("--format html: standard output is a terminal; give -o report.html")

    from conntrack.capture.unchanged import FileState
    from conntrack.detect.options import DetectOptions
    from conntrack.pipeline import Analysis

    options = set_thresholds(DetectOptions, thresholds)
    if is_shared():
        no_tracking(threads, max_memory)
        return _shared(captures, chosen, output_path, fail_on, options, profile, epoch, allow_truncated)
    tracking = Tracking(profile, threads, max_memory)
    analysis = Analysis(options, choose=chosen == "html")
    with open_reading(captures, output_path) as reading:
        states = {name: FileState.of(name) for name in reading.capture.info.files}
        with Output(output_path, captures) as output:
            tracking.analyze(reading, reading.progress, analysis)
            report = analysis.report(reading.capture.info, interrupted=reading.interrupted)
            stopped = False
            if chosen == "html" and reading.capture.info.bytes_total is not None and not reading.interrupted:
                report, stopped = _with_ladders(report, captures, output_path, profile, states)
            output.write_text(render(report, chosen, output, epoch=epoch))
        code = reading.finish(allow_truncated=allow_truncated)
    if stopped:
        return ExitCode.INTERRUPTED
    return _failed_on(report, fail_on, code)


def _failed_on(report: Report, level: str | None, code: ExitCode) -> ExitCode:
    if code == ExitCode.DONE and level is not None and worst_of(report.findings, level):
        return ExitCode.FINDINGS
    return code


def _shared(
    captures: tuple[str, ...],
    chosen: str,
    output_path: str | None,
    fail_on: str | None,
    options: DetectOptions,
    profile: str,
    epoch: bool,
    allow_truncated: bool,
) -> ExitCode:
    """The command when its work is shared by workers; a page has no ladders then."""
    with Output(output_path, captures) as output, open_shared(captures, profile) as run:
        report = run.analysis(options, choose=chosen == "html").report(run.info)
        output.write_text(render(report, chosen, output, epoch=epoch))
        output.flush()
    return _failed_on(report, fail_on, finish_shared(run.info, allow_truncated=allow_truncated))


def _with_ladders(
    report: Report,
    captures: tuple[str, ...],
    output_path: str | None,
    profile: str,
    states: Mapping[str, FileState | None],
) -> tuple[Report, bool]:
    """Return the report with the stories behind its findings, and whether Ctrl-C ended the reading for them.

    Then, and where the captures cannot be read again, the report is what it was.
    """
    from conntrack.pipeline import look_again

    readings: list[Reading] = []

    @contextmanager
    def reopen() -> Iterator[Reading]:
        with open_reading(captures, output_path, again=True) as reading:
            readings.append(reading)
            yield reading

    try:
        told = look_again(report, reopen, profile=profile, tag_in_key=tag_in_key())
        for name, state in states.items():
            if state is not None:
                state.check(name)
    except ConntrackError as error:
        say(f"{error}; the page has no ladders")
        return report, False
    if any(reading.interrupted for reading in readings):
        say("interrupted; the page has no ladders, everything else is complete")
        return report, True
    return told, False


def render(report: Report, format_: str, output: Output, *, epoch: bool) -> str:
    """Return `report` as `format_` for `output`."""
    if format_ == "json":
        from conntrack.report.json import render_json

        return render_json(report, epoch=epoch)
    if format_ == "html":
        return report.to_html(epoch=epoch)
    from conntrack.report.text import render_text

    return render_text(report, width=output.width, color=output.color, ascii_only=not output.shows("▁█"), epoch=epoch)
