"""`ctrack host`: what is wrong with the TCP connections of the running host, from its own sockets and counters."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from conntrack.cli.errors import ExitCode, debug_option
from conntrack.cli.examples import examples
from conntrack.cli.output import Output, choose_format, output_option
from conntrack.cli.reading import epoch_option
from conntrack.cli.thresholds import fail_on_option, set_thresholds, threshold_option, worst_of

if TYPE_CHECKING:
    from conntrack.host.watch import Watch
    from conntrack.report.host import HostReport

__all__ = ["command"]

_FORMATS = ("text", "json")
_SUFFIXES = {".txt": "text", ".json": "json"}
_LOOK_EVERY_NS = 10**9
"""At most: a look every second, fewer where one takes long."""
_SHARE = 10
"""A look may take this part of the time: 100,000 sockets and their processes take a second."""


@click.command("host", short_help="Findings on the running host, from its kernel.", epilog=examples("host"))
@click.option(
    "--for",
    "for_",
    metavar="DURATION",
    default="2s",
    show_default=True,
    help="Watch for so long, e.g. 60s or 5min: what grows meanwhile is told as growth. 0s is one look.",
)
@click.option(
    "--since",
    metavar="FILE",
    type=click.Path(),
    help="Count growth and age from an earlier snapshot on: a file of 'ctrack sockets --format ndjson'.",
)
@click.option(
    "--format", "format_", type=click.Choice(_FORMATS), help="Text for people (default), or one JSON document."
)
@output_option
@fail_on_option
@threshold_option("close_wait_age_s=10")
@epoch_option
@debug_option
def command(
    for_: str,
    since: str | None,
    format_: str | None,
    output_path: str | None,
    fail_on: str | None,
    thresholds: tuple[str, ...],
    epoch: bool,
) -> int:
    """Say what is wrong with the TCP connections of this host, now: findings first, then what they are made from.

    Which process leaks CLOSE_WAIT, whose accept queue is full, who is under a SYN flood, towards whom ports run out to
    TIME_WAIT, what waits in FIN_WAIT_2 and LAST_ACK, how much is sent again or reset, how full nf_conntrack is. From
    the kernel's socket table and counters, of this network namespace; nothing is changed. Works without root, which
    would name the processes of other users.
    """
    chosen = choose_format(format_, output_path, _SUFFIXES, terminal="text", piped="text")

    from conntrack.host.options import HostOptions
    from conntrack.host.snapshot import read_snapshot
    from conntrack.host.watch import Watch
    from conntrack.times import parse_length

    try:
        length_ns = parse_length(for_)
    except ValueError as error:
        raise click.UsageError(f"--for: {error}") from None
    watch = Watch(set_thresholds(HostOptions, thresholds))
    if since is not None:
        watch.feed(read_snapshot(since))
    with _stop_on_interrupt() as stop, Output(output_path, () if since is None else (since,)) as output:
        _look(watch, length_ns, stop)
        interrupted = stop.is_set()
        report = _report(watch, since, interrupted=interrupted)
        output.write_text(_render(report, chosen, output, epoch=epoch))
    if interrupted:
        return ExitCode.INTERRUPTED
    if fail_on is not None and worst_of(report.findings, fail_on):
        return ExitCode.FINDINGS
    return ExitCode.DONE


def _look(watch: Watch, length_ns: int, stop: threading.Event) -> None:
    """Look at once, and again and again until `length_ns` later, or until somebody sets `stop`."""
    from conntrack.host.looks import look

    before = time.monotonic_ns()
    watch.feed(look())
    begin = now = time.monotonic_ns()
    while not stop.is_set() and (left := begin + length_ns - now) > 0:
        if stop.wait(min(left, max(_LOOK_EVERY_NS, _SHARE * (now - before))) / 1e9):
            return
        before = time.monotonic_ns()
        watch.feed(look())
        now = time.monotonic_ns()


@contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """Let Ctrl-C end the watching and not the command; the second one does."""
    stop = threading.Event()

    def ask(_signal: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    own_signals = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, ask) if own_signals else None
    try:
        yield stop
    finally:
        if own_signals:
            signal.signal(signal.SIGINT, before)


_COUNTERS = (
    "Tcp.ActiveOpens",
    "Tcp.PassiveOpens",
    "Tcp.AttemptFails",
    "Tcp.EstabResets",
    "Tcp.OutSegs",
    "Tcp.RetransSegs",
    "Tcp.OutRsts",
    "TcpExt.ListenOverflows",
    "TcpExt.ListenDrops",
    "TcpExt.SyncookiesSent",
    "TcpExt.SyncookiesRecv",
    "TcpExt.SyncookiesFailed",
    "TcpExt.TCPReqQFullDrop",
    "TcpExt.TCPTimeouts",
    "TcpExt.TCPTimeWaitOverflow",
    "TcpExt.TCPAbortOnMemory",
    "nf_conntrack.drop",
    "nf_conntrack.early_drop",
    "nf_conntrack.insert_failed",
)
"""Those that a report shows, where the kernel has them."""


def _report(watch: Watch, since: str | None, *, interrupted: bool) -> HostReport:
    """Turn what was seen into plain data."""
    import numpy as np

    from conntrack.host.services import holders, unit_of_most
    from conntrack.report.host import HostReport
    from conntrack.states import TcpState

    last = watch.last

    def by_state(rows: Any) -> dict[str, int]:
        counts = np.bincount(rows["state"], minlength=len(TcpState))
        return {state.name: int(counts[state]) for state in TcpState}

    services: list[dict[str, Any]] = []
    for number, service in enumerate(last.services):
        states = by_state(last.rows[last.service_of == number])
        del states["LISTEN"]
        listening = last.rows[list(service.sockets)]
        services.append(
            {
                "service": service.name,
                "processes": holders(listening),
                "unit": unit_of_most(listening),
                "accept_queue": service.accept_queue,
                "backlog": None if service.backlog < 0 else service.backlog,
                "states": states,
            }
        )
    services.sort(key=lambda service: -sum(service["states"].values()))
    return HostReport(
        host=last.host,
        first_ts_ns=watch.first.at_ts_ns,
        last_ts_ns=last.at_ts_ns,
        looks=watch.looks - (since is not None),
        source=last.source,
        states=by_state(last.rows),
        services=tuple(services),
        counters={name: (last.counters[name], watch.grown(name)) for name in _COUNTERS if name in last.counters},
        findings=tuple(watch.findings()),
        compared_with=since,
        notes=last.notes,
        interrupted=interrupted,
    )


def _render(report: HostReport, format_: str, output: Output, *, epoch: bool) -> str:
    from conntrack.report.host import render_host_json, render_host_text

    if format_ == "json":
        return render_host_json(report, epoch=epoch)
    return render_host_text(report, width=output.width, color=output.color, epoch=epoch)
