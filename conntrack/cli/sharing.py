"""A command's work shared by many workers: processes on this machine, or a Dask cluster; and work that can go on later.

Owns the options that ask for it. Ctrl-C ends the command without a result: what workers have read is in parts, of which
none is complete. What was exchanged is removed then, as it is after SIGTERM (errors.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from conntrack.cli.errors import ExitCode, say
from conntrack.cli.progress import Progress
from conntrack.cli.reading import asked_part, tag_in_key
from conntrack.cli.tracking import spill_directory

if TYPE_CHECKING:
    from conntrack.capture import CaptureInfo
    from conntrack.cluster.run import Run

__all__ = ["finish_shared", "is_shared", "no_tracking", "open_shared", "sharing_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_WORKERS = "conntrack.workers"
_CLUSTER = "conntrack.cluster"
_CHECKPOINT = "conntrack.checkpoint"


def _remember(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def remember(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        ctx.meta[key] = value

    return remember


def sharing_options(command: _Command) -> _Command:
    """Give a command --workers, --cluster and --checkpoint, which is_shared and open_shared know."""
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
        "the directory of --spill by the same names; takes the extra [cluster].",
    )
    checkpoint = click.option(
        "--checkpoint",
        metavar="FILE",
        type=click.Path(),
        expose_value=False,
        callback=_remember(_CHECKPOINT),
        help="Keep what is done in FILE, and segments in FILE.parts (30 to 40 bytes each): the same command goes on "
        "from there when it was stopped or killed. Processes on this machine work, one for each core or --workers.",
    )
    return workers(cluster(checkpoint(command)))


def _asked(key: str) -> Any:
    return click.get_current_context().meta.get(key)


def is_shared() -> bool:
    """Return whether the work is to be shared."""
    return any(_asked(key) is not None for key in (_WORKERS, _CLUSTER, _CHECKPOINT))


def no_tracking(threads: int | None, max_memory: int | None) -> None:
    """Raise a usage error if options are given that are for one process."""
    if threads is not None or max_memory is not None:
        raise click.UsageError("--threads and --max-memory are for one process; leave them out")


@contextmanager
def open_shared(captures: tuple[str, ...], profile: str) -> Iterator[Run]:
    """Have the captures read by workers, for as long as this is open."""
    from conntrack.cli.reading import check_profile
    from conntrack.cluster.crew import dask_crew, process_crew
    from conntrack.cluster.run import open_run

    check_profile(profile)
    workers, address, checkpoint = _asked(_WORKERS), _asked(_CLUSTER), _asked(_CHECKPOINT)
    directory, part = spill_directory(), asked_part()
    if workers is not None and address is not None:
        raise click.UsageError("--workers and --cluster are two ways; give one")
    if checkpoint is not None and address is not None:
        raise click.UsageError("--checkpoint is for one machine: on a cluster its scheduler makes up for what dies")
    if checkpoint is not None and directory is not None:
        raise click.UsageError("--checkpoint sets segments aside beside its file; leave --spill out")
    if part.get("follow"):
        raise click.UsageError("--follow is for one process; leave --workers, --cluster and --checkpoint out")
    if address is not None and directory is None:
        raise click.UsageError("--cluster: give --spill a directory that all workers see")
    crew = dask_crew(address) if address is not None else process_crew(workers or len(os.sched_getaffinity(0)))
    progress = Progress()
    try:
        with open_run(
            captures,
            crew,
            directory=directory,
            profile=profile,
            tag_in_key=tag_in_key(),
            part=part,
            checkpoint=checkpoint,
            watch=progress,
        ) as run:
            for note in run.info.notes:
                say(note)
            yield run
            progress.close()
    except KeyboardInterrupt:
        progress.close()
        if checkpoint is not None and os.path.lexists(checkpoint):
            say(f"interrupted; {checkpoint} has what was done: the same command goes on from there")
        raise
    finally:
        progress.close()


def finish_shared(info: CaptureInfo, *, allow_truncated: bool) -> ExitCode:
    """Say what was wrong with the input; return the exit code that follows."""
    for fault in info.faults:
        say(str(fault))
    return ExitCode.DAMAGED if info.faults and not allow_truncated else ExitCode.DONE
