"""A command's work shared by many workers: processes on this machine, or a Dask cluster.

Owns the options that ask for it. Ctrl-C ends the command without a result: what workers have read is in parts, of which
none is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from conntrack.cli.errors import ExitCode, say
from conntrack.cli.reading import asked_part
from conntrack.cli.tracking import spill_directory

if TYPE_CHECKING:
    from conntrack.capture import CaptureInfo
    from conntrack.cluster.run import Run

__all__ = ["finish_shared", "is_shared", "open_shared", "sharing_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_WORKERS = "conntrack.workers"
_CLUSTER = "conntrack.cluster"


def _remember(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def remember(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        ctx.meta[key] = value

    return remember


def sharing_options(command: _Command) -> _Command:
    """Give a command --workers and --cluster, which is_shared and open_shared know."""
    workers = click.option(
        "--workers",
        type=click.IntRange(1),
        metavar="N",
        expose_value=False,
        callback=_remember(_WORKERS),
        help="Share the work among N processes on this machine; they exchange segments in the directory of --spill.",
    )
    cluster = click.option(
        "--cluster",
        metavar="ADDRESS",
        expose_value=False,
        callback=_remember(_CLUSTER),
        help="Share it among the workers of a Dask scheduler (tcp://host:8786), which see the captures and "
        "the directory of --spill by the same names (pip install 'tcp-conntrack[cluster]').",
    )
    return workers(cluster(command))


def _asked(key: str) -> Any:
    return click.get_current_context().meta.get(key)


def is_shared() -> bool:
    """Return whether the work is to be shared."""
    return _asked(_WORKERS) is not None or _asked(_CLUSTER) is not None


@contextmanager
def open_shared(captures: tuple[str, ...], profile: str) -> Iterator[Run]:
    """Have the captures read by workers, for as long as this is open."""
    from conntrack.cli.reading import check_profile
    from conntrack.cluster.crew import dask_crew, process_crew
    from conntrack.cluster.run import open_run

    check_profile(profile)
    workers, address, directory, part = _asked(_WORKERS), _asked(_CLUSTER), spill_directory(), asked_part()
    if workers is not None and address is not None:
        raise click.UsageError("--workers and --cluster are two ways; give one")
    if part.get("follow"):
        raise click.UsageError("--follow is for one process; leave --workers and --cluster out")
    if address is not None and directory is None:
        raise click.UsageError("--cluster: give --spill a directory that all workers see")
    crew = dask_crew(address) if address is not None else process_crew(workers)
    with open_run(captures, crew, directory=directory, profile=profile, part=part) as run:
        for note in run.info.notes:
            say(note)
        yield run


def finish_shared(info: CaptureInfo, *, allow_truncated: bool) -> ExitCode:
    """Say what was wrong with the input; return the exit code that follows."""
    for fault in info.faults:
        say(str(fault))
    return ExitCode.DAMAGED if info.faults and not allow_truncated else ExitCode.DONE
