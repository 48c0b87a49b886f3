"""`ctrack bench`: how fast it is on this machine, in less than a minute."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from conntrack.cli.errors import ExitCode, debug_option
from conntrack.cli.examples import examples
from conntrack.cli.output import Output, output_option
from conntrack.version import VERSION

if TYPE_CHECKING:
    from conntrack.bench import Measured

__all__ = ["command"]


@click.command("bench", short_help="How fast it is on this machine.", epilog=examples("bench"))
@click.option(
    "--connections",
    metavar="N",
    type=click.IntRange(1_000, 10_000_000),
    default=50_000,
    show_default=True,
    help="In the generated capture; each has about 14 packets.",
)
@click.option("--threads", type=click.IntRange(1, 256), metavar="N", help="Of the last stage; one for each core.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="For people, or for programs.",
)
@output_option
@debug_option
def command(connections: int, threads: int | None, format_: str, output_path: str | None) -> int:
    """Generate a capture in a temporary directory, the same every time, and measure each stage of a report on it.

    A stage includes those before it. Times are medians of three; compare them on a machine that does nothing else.
    """
    from conntrack.bench import measure

    with Output(output_path) as output:
        measured = measure(connections, threads=threads)
        if format_ == "json":
            output.write_text(json.dumps({"schema": 1, "version": VERSION, **asdict(measured)}, indent=2) + "\n")
        else:
            output.write_text(_text(measured, output.width, color=output.color))
    return ExitCode.DONE


def _text(measured: Measured, width: int, *, color: bool) -> str:
    from conntrack.report.sheet import LEAST_WIDTH, Sheet

    sheet = Sheet(max(width, LEAST_WIDTH), color=color)
    sheet.wrap(
        f"ctrack {VERSION}: {measured.packets:,} packets ({measured.bytes / 1e6:,.0f} MB), "
        f"{measured.connections:,} connections, load {measured.load_1m:.1f}"
    )
    sheet.add()
    rows = (
        [stage.name, f"{stage.seconds:.3f}", f"{stage.ns_a_packet:.1f}", f"{1e3 / stage.ns_a_packet:.2f}"]
        for stage in measured.stages
    )
    sheet.table(["stage", "seconds", "ns a packet", "million packets a second"], rows, indent=0)
    sheet.heading(
        f"memory: {measured.bytes_a_connection:.0f} bytes a connection in the table, "
        f"{measured.peak_bytes / 1e6:,.0f} MB in all at the peak",
        style="",
    )
    return sheet.text()
