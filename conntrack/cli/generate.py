"""`ctrack generate`: synthetic captures with known truth, for trying and benchmarking."""

from __future__ import annotations

import json
from difflib import get_close_matches

import click

from conntrack.cli.errors import ExitCode, debug_option
from conntrack.cli.output import Output

__all__ = ["command"]


@click.command("generate", short_help="A made-up capture with known truth.")
@click.argument("out", metavar="OUT", required=False, type=click.Path(allow_dash=True))
@click.option("--list", "list_", is_flag=True, help="List the scenarios and stop.")
@click.option("--scenario", metavar="NAME", default="mixed", show_default=True, help="What happens in it (--list).")
@click.option(
    "--connections", metavar="N", type=click.IntRange(1), default=1000, show_default=True, help="How many connections."
)
@click.option("--packets", metavar="N", type=click.IntRange(1), help="How many packets at most.")
@click.option("--seed", metavar="N", type=click.IntRange(0), default=1, show_default=True, help="The same again.")
@click.option("--truth", "truth_path", metavar="FILE", type=click.Path(), help="Write what is in it, as JSON, to FILE.")
@debug_option
def command(
    out: str | None,
    list_: bool,
    scenario: str,
    connections: int,
    packets: int | None,
    seed: int,
    truth_path: str | None,
) -> int:
    """Write a made-up capture to OUT (pcap; - for standard output). The same arguments give the same bytes."""
    from conntrack.generate import SCENARIOS, generate

    if list_:
        width = max(map(len, SCENARIOS))
        with Output(None) as output:
            output.write_text("".join(f"{name:{width}}  {meaning}\n" for name, meaning in SCENARIOS.items()))
        return ExitCode.DONE
    if out is None:
        raise click.UsageError("missing OUT: the capture to write, - for standard output")
    if scenario not in SCENARIOS:
        close = get_close_matches(scenario, SCENARIOS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(SCENARIOS)}"
        raise click.UsageError(f"--scenario: no '{scenario}'; {hint}")
    with Output(out) as output:
        if output.is_terminal:
            raise click.UsageError("a capture is no text for a terminal; name a file, or pipe it")
        truth = generate(output.stream, scenario=scenario, connections=connections, packets=packets, seed=seed)
    if truth_path is not None:
        with Output(truth_path) as output:
            output.write_text(json.dumps(truth, indent=2) + "\n")
    return ExitCode.DONE
