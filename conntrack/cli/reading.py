"""Reading captures for a command: the arguments, progress, Ctrl-C between batches, and what a damaged input means.

Knows capture and nothing of what the segments are for.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import click

from conntrack.cli.errors import ExitCode, say
from conntrack.cli.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from conntrack.capture import Capture

__all__ = [
    "Reading",
    "Source",
    "captures_argument",
    "check_profile",
    "epoch_option",
    "open_reading",
    "profile_option",
    "source_options",
    "truncated_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Source:
    """How captures are read: what the options of `source_options` say."""

    filter: str | None = None
    reader: Literal["native", "pyshark"] = "native"
    display_filter: str | None = None


def source_options(command: _Command) -> _Command:
    """Add the options that say how captures are read; the command gets them as one `source`."""

    @click.option(
        "--filter",
        "filter_",
        metavar="EXPRESSION",
        help="Only frames that pass, as for tcpdump: 'tcp port 443 and net 10.0.0.0/8'.",
    )
    @click.option(
        "--reader",
        type=click.Choice(("native", "pyshark")),
        default="native",
        help="pyshark: have tshark dissect the files, for what only it understands; a thousand times slower.",
    )
    @click.option("--display-filter", metavar="EXPRESSION", help="Wireshark's, with --reader pyshark: 'http.request'.")
    @wraps(command)
    def packed(
        *args: Any, filter_: str | None, reader: Literal["native", "pyshark"], display_filter: str | None, **kwargs: Any
    ) -> Any:
        return command(*args, source=Source(filter_, reader, display_filter), **kwargs)

    return cast(_Command, packed)


captures_argument: Callable[[_Command], _Command] = click.argument(
    "captures", metavar="CAPTURE...", nargs=-1, required=True, type=click.Path(allow_dash=True)
)
epoch_option = click.option("--epoch", is_flag=True, help="Times in unix seconds instead of RFC 3339.")
truncated_option = click.option(
    "--allow-truncated", is_flag=True, help="A damaged or cut input is no failure: exit with 0 instead of 3."
)
profile_option = click.option(
    "--profile", metavar="NAME", default="linux", show_default=True, help="Whose timers the hosts keep."
)


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
    """Batches of segments of an open capture, until its end or Ctrl-C."""

    def __init__(self, capture: Capture, interrupt: _Interrupt, progress: Progress) -> None:
        self.capture = capture
        self._interrupt = interrupt
        self._progress = progress

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self._interrupt.asked

    def __iter__(self) -> Iterator[np.ndarray[Any, Any]]:
        batches = iter(self.capture)
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
            yield segments
            info = self.capture.info
            self._progress.update(info.bytes, info.bytes_total, info.packets)
        self._progress.close()

    def finish(self, *, allow_truncated: bool) -> ExitCode:
        """Say what was wrong with the input; return the exit code that follows."""
        self._progress.close()
        for note in self.capture.info.notes:
            say(note)
        for fault in self.capture.info.faults:
            say(str(fault))
        if self.interrupted:
            say(f"interrupted; the first {self.capture.info.packets:,} packets were used")
            return ExitCode.INTERRUPTED
        return ExitCode.DAMAGED if self.capture.info.faults and not allow_truncated else ExitCode.DONE


@contextmanager
def open_reading(captures: tuple[str, ...], source: Source | None = None) -> Iterator[Reading]:
    """Open `captures` as one, in order of time; Ctrl-C stops the reading, not the command, until this is left."""
    from conntrack.capture import open_capture

    source = source or Source()
    interrupt = _Interrupt()
    own_signals = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, interrupt) if own_signals else None
    progress = Progress()
    try:
        with open_capture(
            captures, filter=source.filter, reader=source.reader, display_filter=source.display_filter
        ) as capture:
            yield Reading(capture, interrupt, progress)
    finally:
        progress.close()
        if own_signals:
            signal.signal(signal.SIGINT, before)
