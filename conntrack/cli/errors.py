"""How the command ends: exit codes, the one-line error, signals and the closed pipe. The only place that decides these.

Knows no command. The codes are those of design.md: 0 done, 1 findings (only with --fail-on), 2 usage, unsupported input
or an output that cannot be written, 3 damaged input, 130 interrupted, 141 closed pipe, 143 terminated and 129 hung up
(128 + the signal's number, as a shell reports them).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum

import click

from conntrack.errors import ConntrackError
from conntrack.report.format import printable

__all__ = ["STANDARD_OUTPUT", "ExitCode", "Settings", "debug_option", "guarded", "say", "watched"]


STANDARD_OUTPUT = "standard output"
"""What errors call it."""


_AGAIN_S = 0.01


class ExitCode(IntEnum):
    """What the process ends with."""

    DONE = 0
    FINDINGS = 1
    USAGE = 2
    DAMAGED = 3
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


@dataclass(slots=True)
class Settings:
    """What holds for a whole run of the command; `ctx.obj` of every click context."""

    debug: bool = False


def say(message: str) -> None:
    """Write one line of note or error to standard error: "ctrack: subject: what; what to do"."""
    with suppress(OSError, ValueError):  # closed: nobody to tell
        print(f"ctrack: {printable(message)}", file=sys.stderr, flush=True)


def watched() -> bool:
    """Return whether a person reads standard error."""
    return sys.stderr is not None and sys.stderr.isatty()


def _remember_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    settings = ctx.ensure_object(Settings)
    settings.debug = settings.debug or value


debug_option = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_remember_debug,
    help="Show the traceback of an error.",
)


def guarded(run: Callable[[], int], settings: Settings) -> int:
    """Return the exit code of `run()`, with every way in which it can fail turned into one line and a code."""
    try:
        with _ends_by_signal():
            try:
                return run()
            except Exception as error:
                if (asked := _what_asked_to_end(error)) is not None:
                    raise asked from None
                raise
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except BrokenPipeError:
        _abandon_stdout()
        return ExitCode.BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        return ExitCode.INTERRUPTED
    except _Ended as end:
        say(f"ended by {end.signal.name}")
        return 128 + end.signal
    except Exception as error:
        if settings.debug:
            traceback.print_exc()
        return _explain(error, settings)


class _Ended(BaseException):
    """A signal asks the command to end; what it has begun to write is removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


def _what_asked_to_end(error: BaseException | None) -> BaseException | None:
    # numpy, interrupted while it looks at the format of a buffer, raises a ValueError from the interruption.
    while error is not None and not isinstance(error, KeyboardInterrupt | _Ended):
        error = error.__cause__
    return error


@contextmanager
def _ends_by_signal() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise _Ended; a second one ends the process as it is, and nohup's SIGHUP stays ignored.

    Raised in a callback of the interpreter (of a weak reference, say) they and KeyboardInterrupt would be printed and
    lost: then the signal is sent again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    }
    hook = sys.unraisablehook

    def end(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise _Ended(number)

    def lost(unraisable: sys.UnraisableHookArgs) -> None:
        error = unraisable.exc_value
        if isinstance(error, _Ended):
            signal.signal(error.signal, end)
        elif not isinstance(error, KeyboardInterrupt):
            hook(unraisable)
            return
        number = error.signal if isinstance(error, _Ended) else signal.SIGINT
        threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number)).start()

    for number in before:
        signal.signal(number, end)
    sys.unraisablehook = lost
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _explain(error: Exception, settings: Settings) -> int:
    match error:
        case click.UsageError():
            help_ = f"see '{error.ctx.command_path} --help'" if error.ctx else "see 'ctrack --help'"
            message = " ".join(error.format_message().rstrip(".").split())
            say(f"{message[:1].lower()}{message[1:]}{' ' if message.endswith('?') else '; '}{help_}")
        case click.ClickException():
            say(error.format_message())
        case ConntrackError():
            say(str(error))
            return error.exit_code
        case OSError():
            if error.filename == STANDARD_OUTPUT:
                _abandon_stdout()
            where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
            say(f"{where}{(error.strerror or str(error)).lower()}")
        case MemoryError():
            say("out of memory; give fewer captures at once")
        case _:
            hint = "" if settings.debug else "; --debug shows where, please report it"
            say(f"internal error: {type(error).__name__}: {error}{hint}")
    return ExitCode.USAGE


def _abandon_stdout() -> None:
    """Let the interpreter flush what is left of standard output into nothing, so that its end stays quiet."""
    with suppress(OSError, ValueError):  # a standard output that is no file has nothing to flush
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
