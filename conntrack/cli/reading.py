"""Reading captures for a command: which and what part of them, progress, Ctrl-C between batches, damaged inputs.

Knows capture and nothing of what the segments are for.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from conntrack.cli.errors import ExitCode, say
from conntrack.cli.output import nobody_reads
from conntrack.cli.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from conntrack.capture import Capture

__all__ = [
    "Reading",
    "asked_part",
    "captures_argument",
    "check_profile",
    "epoch_option",
    "needs_no_capture",
    "open_reading",
    "optional_captures_argument",
    "profile_option",
    "tag_in_key",
    "tag_option",
    "truncated_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_PART = "conntrack.capture"
_TAG_IN_KEY = "conntrack.tag_in_key"


def _remember(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    ctx.meta.setdefault(_PART, {})[option.name] = value


def _time(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
    from conntrack.times import parse_time

    try:
        _remember(ctx, option, None if value is None else parse_time(value))
    except ValueError as error:
        raise click.UsageError(f"{option.opts[0]}: {error}", ctx) from None


def captures_argument(command: _Command) -> _Command:
    """Give a command the argument CAPTURE... and the options that say what of it is read; open_reading knows them."""
    argument = click.argument(
        "captures", metavar="CAPTURE...", nargs=-1, required=True, type=click.Path(allow_dash=True)
    )
    return argument(_part_options(command))


def optional_captures_argument(command: _Command) -> _Command:
    """Give a command the same, but it may be called without; `needs_no_capture` then is to be asked."""
    argument = click.argument("captures", metavar="[CAPTURE...]", nargs=-1, type=click.Path(allow_dash=True))
    return argument(_part_options(command))


def needs_no_capture(*others: str) -> None:
    """Raise a usage error if an option was given that says something of a capture; `others` are the command's own."""
    ctx = click.get_current_context()
    of_captures = {"recursive", "follow", "from_ns", "to_ns", "filter", "reader", "display_filter", *others}
    for option in ctx.command.params:
        if option.name in of_captures and ctx.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} is of captures, and none is given: it would be this host, now")


def _part_options(command: _Command) -> _Command:
    for decorate in reversed(
        (
            click.option(
                "-r",
                "--recursive",
                is_flag=True,
                expose_value=False,
                callback=_remember,
                help="Read the captures in directories, and below.",
            ),
            click.option(
                "--follow",
                is_flag=True,
                expose_value=False,
                callback=_remember,
                help="Read on as the file, or the rotating set (a directory, or 'ring_*' in quotes), is written.",
            ),
            click.option(
                "--from", "from_ns", metavar="TIME", expose_value=False, callback=_time, help="Begin at this time."
            ),
            click.option(
                "--to",
                "to_ns",
                metavar="TIME",
                expose_value=False,
                callback=_time,
                help="End at this time; nothing behind it is read.",
            ),
            click.option(
                "--filter",
                metavar="EXPRESSION",
                expose_value=False,
                callback=_remember,
                help="Only frames that pass, as for tcpdump: 'tcp port 443 and net 10.0.0.0/8'.",
            ),
            click.option(
                "--reader",
                type=click.Choice(("native", "pyshark")),
                default="native",
                expose_value=False,
                callback=_remember,
                help="pyshark: have tshark dissect the files, for what only it understands; a thousand times slower.",
            ),
            click.option(
                "--display-filter",
                metavar="EXPRESSION",
                expose_value=False,
                callback=_remember,
                help="Wireshark's, with --reader pyshark: 'http.request'.",
            ),
        )
    ):
        command = decorate(command)
    return command


epoch_option = click.option("--epoch", is_flag=True, help="Times in unix seconds instead of RFC 3339.")
truncated_option = click.option(
    "--allow-truncated", is_flag=True, help="A damaged or cut input is no failure: exit with 0 instead of 3."
)
profile_option = click.option(
    "--profile", metavar="NAME", default="linux", show_default=True, help="Whose timers the hosts keep."
)


def _remember_tag(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[_TAG_IN_KEY] = value


tag_option = click.option(
    "--tag-in-key",
    is_flag=True,
    expose_value=False,
    callback=_remember_tag,
    help="The VLAN, or the tunnel's identifier (column tag), is part of what makes a connection: the same addresses "
    "and ports on two networks are two. Not where each direction has a VLAN of its own.",
)


def tag_in_key() -> bool:
    """Return whether --tag-in-key was given."""
    asked: bool = click.get_current_context().meta.get(_TAG_IN_KEY, False)
    return asked


def check_profile(name: str) -> None:
    """Raise a usage error if no host's timers are known as `name`."""
    from conntrack.timeouts import PROFILES

    if name not in PROFILES:
        raise click.UsageError(f"--profile: no '{name}'; there are {', '.join(PROFILES)}")


class _Interrupt:
    """Ctrl-C that lets the batch in hand be finished: a connection is never left half stepped.

    While waiting for input it ends the wait at once; the second Ctrl-C is the usual KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.asked = False
        self.waiting = True  # opening a pipe may wait as well

    def __call__(self, _signal: int, _frame: object) -> None:
        again, self.asked = self.asked, True
        if self.waiting or again:
            raise KeyboardInterrupt


class Reading:
    """Batches of segments of an open capture, until its end or Ctrl-C.

    Attributes:
        progress: shows how far it has come; whatever follows may go on with it.

    Raises:
        BrokenPipeError: nobody reads any more what would be written.
    """

    def __init__(
        self,
        capture: Capture,
        interrupt: _Interrupt,
        progress: Progress,
        *,
        output_path: str | None,
        again: bool = False,
    ) -> None:
        self.capture = capture
        self._interrupt = interrupt
        self.progress = progress
        self._output_path = output_path
        self._again = again
        self._noted = 0

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self._interrupt.asked

    def __iter__(self) -> Iterator[np.ndarray[Any, Any]]:
        batches = iter(self.capture)
        self._say_notes()
        while True:
            try:
                self._interrupt.waiting = True
                if self._interrupt.asked:
                    break
                segments = next(batches)
            except (StopIteration, KeyboardInterrupt):
                break
            finally:
                self._interrupt.waiting = False
            self._say_notes()
            if nobody_reads(self._output_path):
                raise BrokenPipeError
            yield segments
            info = self.capture.info
            self.progress.read(info.bytes, info.bytes_total, info.packets)
        self.progress.close()

    def finish(self, *, allow_truncated: bool) -> ExitCode:
        """Say what was wrong with the input; return the exit code that follows."""
        self.progress.close()
        self._say_notes()
        for fault in self.capture.info.faults:
            say(str(fault))
        if self.interrupted:
            say(f"interrupted; the first {self.capture.info.packets:,} packets were used")
            return ExitCode.INTERRUPTED
        return ExitCode.DAMAGED if self.capture.info.faults and not allow_truncated else ExitCode.DONE

    def _say_notes(self) -> None:
        if self._again:
            return
        notes = self.capture.info.notes
        for note in notes[self._noted :]:
            say(note)
        self._noted = len(notes)


def asked_part() -> dict[str, Any]:
    """Return what of the captures the options ask for: arguments of open_capture."""
    part: dict[str, Any] = dict(click.get_current_context().meta.get(_PART, {}))
    from_ns, to_ns = part.get("from_ns"), part.get("to_ns")
    if from_ns is not None and to_ns is not None and from_ns > to_ns:
        raise click.UsageError("--from is after --to")
    return part


@contextmanager
def open_reading(captures: tuple[str, ...], output_path: str | None, *, again: bool = False) -> Iterator[Reading]:
    """Open what captures_argument asks for; Ctrl-C stops the reading, not the command, until this is left.

    Data goes to `output_path`. What is read `again` was spoken of the first time.
    """
    from conntrack.capture import open_capture

    part = asked_part()
    interrupt = _Interrupt()
    own_signals = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, interrupt) if own_signals else None
    progress = Progress()
    try:
        with open_capture(captures, **part) as capture:
            yield Reading(capture, interrupt, progress, output_path=output_path, again=again)
    finally:
        progress.close()
        if own_signals:
            signal.signal(signal.SIGINT, before)
