"""`ctrack generate`: synthetic captures with known truth, for trying and benchmarking."""

from __future__ import annotations

import json

import click

from conntrack.cli.errors import ExitCode, debug_option
from conntrack.cli.examples import examples
from conntrack.cli.output import Output
from conntrack.generate import SCENARIOS

__all__ = ["command"]

_STORIES = "\b\nScenarios:\n" + "\n".join(f"  {name:16}  {story}" for name, story in SCENARIOS.items())
_END = f"{_STORIES}\n\n{examples('generate')}"


@click.command(
    "generate", short_help="A made-up capture with known truth.", epilog=f"{_STORIES}\n\n{examples('generate')}"
)
@click.argument("out", metavar="OUT", type=click.Path(allow_dash=True))
@click.option(
    "--scenario",
    metavar="NAME",
    type=click.Choice(tuple(SCENARIOS)),
    default="mixed",
    show_default=True,
    help="The story.",
)
@click.option(
    "--connections",
    metavar="N",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="How many, more or less.",
)
@click.option(
    "--seed", metavar="N", type=click.IntRange(0), default=1, show_default=True, help="Another one of its kind."
)
@click.option(
    "--truth", "truth_path", metavar="FILE", type=click.Path(), help="Write what is true of it to FILE, as JSON."
)
@debug_option
def command(out: str, scenario: str, connections: int, seed: int, truth_path: str | None) -> int:
    """Write a made-up capture to OUT (pcap; - for standard output). The same arguments give the same bytes."""
    from conntrack.generate import generate

    with Output(out) as output:
        if output.is_terminal:
            raise click.UsageError("a capture is nothing for a terminal; name a file, or pipe it")
        truth = generate(output.stream, scenario=scenario, connections=connections, seed=seed)
    if truth_path is not None:
        with Output(truth_path) as output:
            output.write_text(json.dumps(truth, indent=2) + "\n")
    return ExitCode.DONE
