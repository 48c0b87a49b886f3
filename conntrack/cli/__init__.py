"""The command `ctrack`: its name, its commands, its end. The only room that prints, asks for a terminal or exits.

One file per command, imported when it is called or its help is asked for; none of them imports numpy before it runs, so
that --help, --version and completion are quick. `ctrack FILE...` is `ctrack report FILE...`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from conntrack.cli.errors import ExitCode, Settings, debug_option, guarded
from conntrack.cli.examples import examples
from conntrack.version import VERSION

__all__ = ["main"]

COMMANDS = (
    "report", "flows", "sockets", "host", "explain", "info", "compare", "live", "states", "generate", "bench",
)  # fmt: skip
_DEFAULT = "report"
_COMPLETION = "_CTRACK_COMPLETE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: without the program's name; sys.argv[1:] when None.
    """
    settings = Settings()
    given = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _run(given, settings), settings)


def _run(arguments: list[str], settings: Settings) -> int:
    instruction = os.environ.get(_COMPLETION)
    if instruction:
        from click.shell_completion import shell_complete

        return shell_complete(_ctrack, {}, "ctrack", _COMPLETION, instruction)
    # Not _ctrack.main(): it ends a closed pipe with 1, which is ours for findings.
    with _ctrack.make_context("ctrack", arguments, obj=settings) as ctx:
        code: int = _ctrack.invoke(ctx)
        return code


class _Commands(click.Group):
    """Commands by file, imported late; an argument that is none of them is a capture for `report`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"conntrack.cli.{cmd_name}").command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands and options, and files, for a file alone is a report."""
        found = super().shell_complete(ctx, incomplete)
        return found if incomplete.startswith("-") else [*found, CompletionItem(incomplete, type="file")]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing and not args:  # completing the first word
            return super().parse_args(ctx, args)
        if not args:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(ExitCode.USAGE)
        own = {name for option in self.get_params(ctx) for name in option.opts}
        first = next((at for at, argument in enumerate(args) if argument not in own), None)
        if first is not None and args[first] not in COMMANDS:
            close = get_close_matches(args[first], COMMANDS, n=1)
            if close and not Path(args[first]).exists() and not ctx.resilient_parsing:
                raise click.UsageError(f"no command and no file '{args[first]}'; did you mean '{close[0]}'?", ctx)
            args = [*args[:first], _DEFAULT, *args[first:]]
        return super().parse_args(ctx, args)


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    click.echo(f"ctrack {VERSION}")
    ctx.exit()


@click.command(
    "ctrack",
    cls=_Commands,
    subcommand_metavar="COMMAND | CAPTURE...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples("report")
    + '\n\nCompletion: eval "$(_CTRACK_COMPLETE=bash_source ctrack)" in ~/.bashrc (zsh_source in ~/.zshrc); for fish '
    "_CTRACK_COMPLETE=fish_source ctrack > ~/.config/fish/completions/ctrack.fish.",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@debug_option
def _ctrack() -> None:
    """What is wrong with the TCP connections in a capture.

    "ctrack CAPTURE..." is "ctrack report CAPTURE...". Captures are pcap or pcapng files, compressed or not, what
    Wireshark's editcap reads, directories (-r), or - for standard input; several are taken as one, in order of time.

    Exit codes: 0 done, 1 findings (only with --fail-on), 2 usage, unsupported input or an output that cannot be
    written, 3 damaged input (what came before the damage was used), 130 interrupted, 141 closed pipe, 143 ended by
    SIGTERM, 129 by SIGHUP.
    """
