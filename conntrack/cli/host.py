"""`ctrack host`: what is wrong with the TCP connections of the running host, from its own sockets and counters."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from conntrack.cli.errors import ExitCode, debug_option, say
from conntrack.cli.examples import examples
from conntrack.cli.output import Output, choose_format, output_option
from conntrack.cli.reading import epoch_option
from conntrack.cli.thresholds import fail_on_option, set_thresholds, threshold_option, worst_of

if TYPE_CHECKING:
    from conntrack.host.looks import Look
    from conntrack.host.options import HostOptions
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
    help="Watch for so long, e.g. 60s or 5min: what grows meanwhile is told as growth. 0s is one look; 2s by default. "
    "With --listen how far back growth is counted, 5min by default.",
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
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="Go on until interrupted, and serve Prometheus metrics there: 9100 (on loopback), 0.0.0.0:9100.",
)
@output_option
@fail_on_option
@threshold_option("close_wait_age_s=10")
@epoch_option
@debug_option
def command(
    for_: str | None,
    since: str | None,
    format_: str | None,
    listen: str | None,
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

    Ctrl-C (or SIGTERM) ends the watching with the report of what was seen until then.
    """
    if listen is not None and since is not None:
        raise click.UsageError("--since does not go with --listen")
    chosen = choose_format(format_, output_path, _SUFFIXES, terminal="text", piped="text")

    from conntrack.host.options import HostOptions
    from conntrack.host.snapshot import read_snapshot
    from conntrack.host.watch import Watch
    from conntrack.times import parse_length

    try:
        length_ns = parse_length(for_ or ("2s" if listen is None else "5min"))
    except ValueError as error:
        raise click.UsageError(f"--for: {error}") from None
    options = set_thresholds(HostOptions, thresholds)
    with _stop_on_signal() as stop, Output(output_path, () if since is None else (since,)) as output:
        if listen is not None:
            report = _serve(listen, length_ns, options, stop)
        else:
            watch = Watch(options)
            if since is not None:
                watch.feed(read_snapshot(since))
            _look(watch.feed, length_ns, stop)
            report = _report(watch, since, interrupted=stop.is_set())
        output.write_text(_render(report, chosen, output, epoch=epoch))
    if report.interrupted and listen is None:
        return ExitCode.INTERRUPTED
    if fail_on is not None and worst_of(report.findings, fail_on):
        return ExitCode.FINDINGS
    return ExitCode.DONE


def _look(feed: Callable[[Look], None], length_ns: float, stop: threading.Event) -> None:
    """Look at once, and again and again until `length_ns` later, or until somebody sets `stop`."""
    from conntrack.host.looks import look

    before = time.monotonic_ns()
    feed(look())
    begin = now = time.monotonic_ns()
    while not stop.is_set() and (left := begin + length_ns - now) > 0:
        if stop.wait(min(left, max(_LOOK_EVERY_NS, _SHARE * (now - before))) / 1e9):
            return
        before = time.monotonic_ns()
        feed(look())
        now = time.monotonic_ns()


def _serve(listen: str, window_ns: int, options: HostOptions, stop: threading.Event) -> HostReport:
    """Serve what the last look says until somebody sets `stop`, and return that."""
    from conntrack.cli.host_metrics import families
    from conntrack.host.probe import Probe
    from conntrack.metrics import serve

    probe = Probe(window_ns, options)
    last: list[HostReport] = []

    def feed(look: Look) -> None:
        probe.feed(look)
        last[:] = [_report(probe.watch, None, interrupted=False)]

    url, stop_serving = serve(listen, lambda: families(last[0] if last else None))
    say(f"metrics at {url}")
    try:
        _look(feed, math.inf, stop)
    finally:
        stop_serving()
    return last[0]


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """Let Ctrl-C and SIGTERM end the watching and not the command; the second one does."""
    stop = threading.Event()

    def ask(_signal: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, ask) for number in signals}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    cells = (last.service_of + 1) * len(TcpState) + last.rows["state"]  # service_of is -1 where nothing listens
    counts = np.bincount(cells, minlength=(len(last.services) + 1) * len(TcpState)).reshape(-1, len(TcpState))
    services: list[dict[str, Any]] = []
    for service, of_service in zip(last.services, counts[1:].tolist(), strict=True):
        states = {state.name: of_service[state] for state in TcpState if state is not TcpState.LISTEN}
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
        states={state.name: int(counts[:, state].sum()) for state in TcpState},
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
