"""How a command ends, without a process of its own: what is said and which code, for every way to fail; its entry."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest

from conntrack import __main__ as entry
from conntrack import cli
from conntrack.cli import errors
from conntrack.cli.errors import STANDARD_OUTPUT, ExitCode, Settings, guarded
from conntrack.core.abi import FLOW_DTYPE
from conntrack.errors import CaptureError, InputError


def failing(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


NO_SPACE = os.strerror(errno.ENOSPC).lower()
ENDINGS = {
    "a usage error without a command": (
        click.UsageError("No such thing."), ExitCode.USAGE, "no such thing; see 'ctrack --help'",
    ),
    "a usage error that asks": (
        click.UsageError("Did you mean this?"), ExitCode.USAGE, "did you mean this? see 'ctrack --help'",
    ),
    "click's own": (click.ClickException("Could not open it"), ExitCode.USAGE, "Could not open it"),
    "an input": (InputError("a.pcap: is no capture"), ExitCode.USAGE, "a.pcap: is no capture"),
    "the system, of a file": (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a"), ExitCode.USAGE, f"a: {NO_SPACE}"),
    "the system, of nothing": (OSError("Odd"), ExitCode.USAGE, "odd"),
    "memory": (MemoryError(), ExitCode.USAGE, "out of memory; give fewer captures at once"),
    "a fault of ours": (
        ZeroDivisionError("x"), ExitCode.USAGE,
        "internal error: ZeroDivisionError: x; --debug shows where, please report it",
    ),
    "Ctrl-C": (KeyboardInterrupt(), ExitCode.INTERRUPTED, "interrupted"),
    "click's Ctrl-C": (click.Abort(), ExitCode.INTERRUPTED, "interrupted"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDINGS)
def test_one_line_and_a_code(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    error, code, said = ENDINGS[name]
    assert guarded(failing(error), Settings()) == code
    assert capfd.readouterr() == ("", f"ctrack: {said}\n")


def test_damage_has_a_code_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    error = CaptureError("a.pcap", 24, "cut short")
    assert guarded(failing(error), Settings()) == ExitCode.DAMAGED
    assert capfd.readouterr().err == f"ctrack: {error}\n"


def test_debug_shows_where(capfd: pytest.CaptureFixture[str]) -> None:
    assert guarded(failing(ZeroDivisionError("x")), Settings(debug=True)) == ExitCode.USAGE
    said = capfd.readouterr().err
    assert said.startswith("Traceback") and said.endswith("ctrack: internal error: ZeroDivisionError: x\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BrokenPipeError(), ExitCode.BROKEN_PIPE),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), STANDARD_OUTPUT), ExitCode.USAGE),
    ],
)
def test_what_is_left_for_a_broken_output_goes_nowhere(
    error: OSError, code: ExitCode, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else the interpreter would complain as it ends."""
    with (tmp_path / "out").open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        stream.write("the rest")
        assert guarded(failing(error), Settings()) == code
    assert (tmp_path / "out").stat().st_size == 0
    assert capfd.readouterr().err == ("" if code == ExitCode.BROKEN_PIPE else f"ctrack: standard output: {NO_SPACE}\n")


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_they_end_it(self, number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
        before = signal.getsignal(number)
        signal.signal(number, signal.SIG_DFL)
        try:
            assert guarded(lambda: signal.raise_signal(number) or 0, Settings()) == 128 + number
            assert signal.getsignal(number) == signal.SIG_DFL
        finally:
            signal.signal(number, before)
        assert capfd.readouterr().err == f"ctrack: ended by {number.name}\n"

    def test_what_is_ignored_stays_so(self) -> None:
        """nohup's."""
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            assert guarded(lambda: signal.raise_signal(signal.SIGHUP) or 7, Settings()) == 7
        finally:
            signal.signal(signal.SIGHUP, before)

    def test_another_thread_has_none(self) -> None:
        codes: list[int] = []
        thread = threading.Thread(target=lambda: codes.append(guarded(lambda: 5, Settings())))
        thread.start()
        thread.join()
        assert codes == [5]

    @pytest.mark.parametrize(
        ("error", "sent"),
        [(errors._Ended(signal.SIGTERM), signal.SIGTERM), (KeyboardInterrupt(), signal.SIGINT), (ValueError(), None)],
    )
    def test_one_that_is_lost_in_a_callback_is_sent_again(
        self, error: BaseException, sent: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And what else is lost there is told as ever."""
        told: list[object] = []
        timers: list[tuple[object, ...]] = []
        monkeypatch.setattr(sys, "unraisablehook", told.append)

        def timer(_: float, what: object, given: tuple[object, ...]) -> SimpleNamespace:
            return SimpleNamespace(start=lambda: timers.append((what, *given)))

        monkeypatch.setattr(errors.threading, "Timer", timer)
        lost = SimpleNamespace(exc_value=error)
        assert guarded(lambda: sys.unraisablehook(lost) or 0, Settings()) == 0  # type: ignore[arg-type]
        assert timers == ([] if sent is None else [(os.kill, os.getpid(), sent)])
        assert told == ([lost] if sent is None else [])


class TestEntry:
    """conntrack/__main__.py."""

    @pytest.fixture(autouse=True)
    def keep(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")

    def started(self, monkeypatch: pytest.MonkeyPatch, run: Callable[[], int], handler: object) -> tuple[int, object]:
        monkeypatch.setattr(cli, "main", run)
        before = signal.signal(signal.SIGINT, handler)  # type: ignore[arg-type]
        try:
            return entry.start(), signal.getsignal(signal.SIGINT)
        finally:
            signal.signal(signal.SIGINT, before)

    def test_ctrl_c_is_pythons_only_while_the_command_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def run() -> int:
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            return 3

        assert self.started(monkeypatch, run, signal.default_int_handler) == (3, signal.SIG_DFL)

    def test_where_it_is_ignored_it_stays_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the background of a script."""
        assert self.started(monkeypatch, lambda: 3, signal.SIG_IGN) == (3, signal.SIG_IGN)

    def test_between_the_two_it_is_a_code(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.started(monkeypatch, failing(KeyboardInterrupt()), signal.default_int_handler)[0] == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_numpy_takes_for_a_wrong_format(
    number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from numpy._core import _internal

    monkeypatch.setattr(_internal, "_dtype_from_pep3118", lambda _: signal.raise_signal(number))
    rows = memoryview(np.zeros(2, FLOW_DTYPE))
    assert guarded(lambda: len(np.asarray(rows)), Settings()) == code
    assert "internal error" not in capsys.readouterr().err
