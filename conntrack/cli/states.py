"""`ctrack states`: the state machine as it is used, every rule with its reason and source."""

from __future__ import annotations

import click

from conntrack.cli.errors import ExitCode, debug_option
from conntrack.cli.examples import examples
from conntrack.cli.output import Output, choose_format, output_option

__all__ = ["command"]

_FORMATS = ("text", "markdown")
_SUFFIXES = {".txt": "text", ".md": "markdown"}


@click.command("states", short_help="The state machine, with reasons and sources.", epilog=examples("states"))
@click.option(
    "--format", "format_", type=click.Choice(_FORMATS), help="The rules as text (default), or the table as Markdown."
)
@output_option
@debug_option
def command(format_: str | None, output_path: str | None) -> int:
    """Print the state machine: what each segment does to its sender and to its receiver, why, and by which source."""
    chosen = choose_format(format_, output_path, _SUFFIXES, terminal="text", piped="text")

    from conntrack.transitions import render_markdown, render_text

    with Output(output_path) as output:
        output.write_text(render_markdown() if chosen == "markdown" else render_text())
    return ExitCode.DONE
