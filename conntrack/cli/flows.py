"""`ctrack flows`: one row a connection, as they end; memory follows the connections alive, not the capture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from conntrack.cli.errors import debug_option, say, watched
from conntrack.cli.examples import examples
from conntrack.cli.output import Output, choose_format, output_option
from conntrack.cli.reading import (
    captures_argument,
    epoch_option,
    open_reading,
    truncated_option,
)
from conntrack.cli.sharing import finish_shared, is_shared, no_tracking, open_shared, sharing_options
from conntrack.cli.tracking import Tracking, tracking_options
from conntrack.export import BINARY, FLOW_FORMATS, FLOW_SUFFIXES, make_exporter
from conntrack.report.format import count

if TYPE_CHECKING:
    import numpy as np

    from conntrack.export.arrow import Addresses

__all__ = ["command"]


@click.command("flows", short_help="One row a connection.", epilog=examples("flows"))
@captures_argument
@click.option(
    "--format",
    "format_",
    type=click.Choice(FLOW_FORMATS),
    help="A table on a terminal, else TSV with every column (README: flows). arrow is Feather too, arrows the stream; "
    "these and parquet take the extra [arrow].",
)
@output_option
@click.option(
    "--addresses",
    type=click.Choice(("text", "binary")),
    default="text",
    show_default=True,
    help="In parquet and arrow: as strings, or as 16 bytes each.",
)
@click.option(
    "--where",
    metavar="CONDITIONS",
    help="Only connections for which all hold: column op value, joined by 'and'; op is one of = != < <= > >= ~ "
    '(contains). E.g. "server_state=CLOSE_WAIT and server_port=443", "client_ip=10.0.0.0/8, duration_s>60".',
)
@tracking_options
@sharing_options
@epoch_option
@truncated_option
@debug_option
def command(
    captures: tuple[str, ...],
    format_: str | None,
    output_path: str | None,
    addresses: Addresses,
    where: str | None,
    profile: str,
    threads: int | None,
    max_memory: int | None,
    epoch: bool,
    allow_truncated: bool,
) -> int:
    """List the connections, one row each: both ends' states, times, bytes, how each is known, and how it ended.

    A connection is written when it is over; those still open come last, in the state at the end of the capture.
    """
    chosen = choose_format(format_, output_path, FLOW_SUFFIXES, terminal="table", piped="tsv")

    from conntrack.export.columns import flow_columns
    from conntrack.export.where import parse_where

    if where is not None:
        parse_where(where)  # said before anything is opened; read again below, with the words of the capture's paths

    def write(flow_batches: Iterable[np.ndarray[Any, Any]], paths: Sequence[str]) -> None:
        wanted = parse_where(where, flow_columns(paths)) if where is not None else None
        with Output(output_path, captures) as output:
            if chosen in BINARY and output.is_terminal:
                raise click.UsageError(f"--format {chosen}: is no text; give -o FILE, or pipe it on")
            exporter = make_exporter(chosen, epoch=epoch, width=output.width, addresses=addresses, paths=paths)
            output.write(exporter.header())
            output.flush()
            total = written = 0
            for flows in flow_batches:
                for part in _parts(flows):
                    rows = part if wanted is None else part[wanted.mask(part)]
                    output.write(exporter.rows(rows))
                    total, written = total + len(part), written + len(rows)
                output.flush()
            output.write(exporter.finish())
            if not written and (output.is_terminal or watched()):  # a program sees that there is no row
                none = f"--where: holds for none of {count(total, 'connection')}; see 'ctrack flows --help'"
                say(none if total else "no TCP connection in this capture; 'ctrack info' says what is in it")

    if is_shared():
        no_tracking(threads, max_memory)
        with open_shared(captures, profile) as run:
            write(run.flows(), run.info.paths)
        return finish_shared(run.info, allow_truncated=allow_truncated)
    tracking = Tracking(profile, threads, max_memory)
    with open_reading(captures, output_path) as reading:
        write(tracking.follow(reading, reading.progress, ordered=True), reading.capture.info.paths)
        tracking.say_evicted()
        return reading.finish(allow_truncated=allow_truncated)


def _parts(flows: np.ndarray[Any, Any], rows: int = 8_192) -> Iterator[np.ndarray[Any, Any]]:
    """Cut a batch so that its text stays small: 65,536 rows would be 60 MB."""
    return (flows[at : at + rows] for at in range(0, len(flows), rows))
