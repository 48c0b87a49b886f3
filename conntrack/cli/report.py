"""`ctrack report`: findings, then the counts behind them."""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from conntrack.cli.errors import ExitCode, debug_option
from conntrack.cli.output import Output, choose_format, output_option
from conntrack.cli.reading import (
    captures_argument,
    check_profile,
    epoch_option,
    open_reading,
    profile_option,
    truncated_option,
)
from conntrack.report import FORMATS, SUFFIXES

if TYPE_CHECKING:
    from conntrack.detect.options import DetectOptions
    from conntrack.report.model import Report

__all__ = ["command"]

_SEVERITIES = ("info", "warning", "critical")  # detect.finding.SEVERITIES, which needs numpy; a test compares them


@click.command("report", short_help="Findings, then counts by state, services and time.")
@captures_argument
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="Text for people (default), or one JSON document (schema 1).",
)
@output_option
@click.option("--fail-on", type=click.Choice(_SEVERITIES), help="Exit with 1 if a finding is at least this bad.")
@click.option(
    "--threshold",
    "thresholds",
    metavar="NAME=VALUE",
    multiple=True,
    help="Set a threshold of the detectors, e.g. syn_backlog=128; may be repeated.",
)
@profile_option
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
    epoch: bool,
    allow_truncated: bool,
) -> int:
    """Say what is wrong with the TCP connections: findings first, then counts by state, services and time.

    Which service is SYN-flooded, who leaks CLOSE_WAIT, which client runs out of ports to TIME_WAIT; each with its
    evidence, since when, the connections behind it, what would weaken it, and what to do next.
    """
    chosen = choose_format(format_, output_path, SUFFIXES, terminal="text", piped="text")

    from conntrack.pipeline import Analysis, flow_batches
    from conntrack.tracker import Tracker

    check_profile(profile)
    analysis = Analysis(_options(thresholds))
    with open_reading(captures) as reading:
        with Output(output_path, captures) as output:
            for flows in flow_batches(reading, Tracker(profile=profile), ordered=False):
                analysis.feed(flows)
            report = analysis.report(reading.capture.info, interrupted=reading.interrupted)
            output.write_text(_render(report, chosen, output, epoch=epoch))
        code = reading.finish(allow_truncated=allow_truncated)
    if code == ExitCode.DONE and fail_on is not None and _worst(report) >= _SEVERITIES.index(fail_on):
        return ExitCode.FINDINGS
    return code


def _render(report: Report, format_: str, output: Output, *, epoch: bool) -> str:
    if format_ == "json":
        from conntrack.report.json import render_json

        return render_json(report, epoch=epoch)
    from conntrack.report.text import render_text

    return render_text(report, width=output.width, color=output.color, ascii_only=not output.shows("▁█"), epoch=epoch)


def _worst(report: Report) -> int:
    return max((_SEVERITIES.index(finding.severity) for finding in report.findings), default=-1)


def _options(thresholds: tuple[str, ...]) -> DetectOptions:
    """Return the detectors' options with `thresholds` set; every field of DetectOptions can be."""
    from conntrack.detect.options import DetectOptions

    kinds: dict[str, Any] = {field.name: field.type for field in fields(DetectOptions)}
    values: dict[str, Any] = {}
    for given in thresholds:
        name, _, value = given.partition("=")
        if name not in kinds:
            close = get_close_matches(name, kinds, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(kinds)}"
            raise click.UsageError(f"--threshold: no '{name}'; {hint}")
        try:
            values[name] = int(value) if kinds[name] == "int" else float(value)
        except ValueError:
            raise click.UsageError(f"--threshold: {name} takes a number, not '{value}'") from None
    return DetectOptions(**values)
