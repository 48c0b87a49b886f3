"""How a command tracks: whose timers, on how many threads, within how much memory, or set aside on disk.

Knows no capture and no output.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from conntrack.cli.errors import say
from conntrack.cli.progress import Progress
from conntrack.cli.reading import check_profile, profile_option, tag_in_key, tag_option

if TYPE_CHECKING:
    import numpy as np

    from conntrack.cluster.spill import SpillTracker
    from conntrack.pipeline import Analysis
    from conntrack.sharded import ShardedTracker
    from conntrack.tracker import Tracker

__all__ = ["Tracking", "check_memory", "memory_option", "spill_directory", "tracking_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_UNLIMITED = 1 << 62
_SPILL = "conntrack.spill"


def _size(ctx: click.Context, option: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    if value == "none":
        return _UNLIMITED
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", value.strip().lower())
    if found is None:
        raise click.UsageError(f"{option.opts[0]}: '{value}' is no size; give 512M, 4G or none", ctx)
    return int(float(found[1]) * _UNITS[found[2]])


memory_option = click.option(
    "--max-memory",
    callback=_size,
    metavar="SIZE",
    help="For the connections alive at one time (512M, 4G, none); half of the memory there is by default. "
    "Beyond it those idle for longest are given up, and counted.",
)


def check_memory(max_memory: int | None) -> None:
    """Raise a usage error if --max-memory is too small."""
    from conntrack.upkeep import LEAST_BUDGET

    if max_memory is not None and max_memory < LEAST_BUDGET:
        raise click.UsageError(f"--max-memory: at least {LEAST_BUDGET >> 20}M")


def _remember_spill(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    ctx.meta[_SPILL] = value


def spill_directory() -> str | None:
    """Return the directory of --spill."""
    directory: str | None = click.get_current_context().meta.get(_SPILL)
    return directory


class Tracking:
    """What was asked for; `follow` does it."""

    def __init__(self, profile: str, threads: int | None, max_memory: int | None) -> None:
        check_profile(profile)
        self._spill = spill_directory()
        if self._spill is not None and max_memory is not None:
            raise click.UsageError("--spill gives nobody up; leave --max-memory out")
        self.profile = profile
        self._tag_in_key = tag_in_key()
        self._threads = threads
        self._max_memory = max_memory
        self._tracker: Tracker | ShardedTracker | SpillTracker | None = None

    def begin(self, progress: Progress) -> Tracker | ShardedTracker | SpillTracker:
        """Return a new tracker. `progress` shows what comes after reading."""
        from conntrack.sharded import MOST_THREADS, make_tracker

        check_memory(self._max_memory)
        if self._threads is not None and self._threads > MOST_THREADS:
            raise click.UsageError(f"--threads: at most {MOST_THREADS}")
        if self._spill is not None:
            from conntrack.cluster.spill import SpillTracker

            self._tracker = SpillTracker(
                self._spill,
                threads=self._threads,
                profile=self.profile,
                tag_in_key=self._tag_in_key,
                followed=progress.followed,
            )
        else:
            self._tracker = make_tracker(
                self.profile, threads=self._threads, max_memory=self._max_memory, tag_in_key=self._tag_in_key
            )
        return self._tracker

    def follow(
        self, segment_batches: Iterable[np.ndarray[Any, Any]], progress: Progress, *, ordered: bool
    ) -> Iterator[np.ndarray[Any, Any]]:
        """Yield every connection once, in batches of FLOW_DTYPE.

        Args:
            segment_batches: SEGMENT_DTYPE, shape (n,) each.
            progress: shows what comes after reading.
            ordered: those left at the end come by flow_id; set aside on disk, they come in no particular order.
        """
        from conntrack.pipeline import flow_batches

        return flow_batches(segment_batches, self.begin(progress), ordered=ordered)

    def analyze(self, segment_batches: Iterable[np.ndarray[Any, Any]], progress: Progress, analysis: Analysis) -> None:
        """Feed every connection to `analysis` once; each thread its own. `progress` shows what comes after reading."""
        analysis.follow(segment_batches, self.begin(progress))

    def say_evicted(self) -> None:
        """Say how many connections were given up, if any were."""
        evicted = self._tracker.evicted if self._tracker is not None else 0
        if evicted:
            connections = "1 connection was" if evicted == 1 else f"{evicted:,} connections were"
            say(f"{connections} given up to stay within --max-memory: those that had been idle for longest")


def tracking_options(command: _Command) -> _Command:
    """Give a command --profile, --tag-in-key, --threads, --max-memory and --spill, which Tracking takes or knows."""
    for decorate in reversed(
        (
            profile_option,
            tag_option,
            click.option(
                "--threads",
                type=click.IntRange(1),
                metavar="N",
                help="How many threads work; one for each core by default. The result is the same.",
            ),
            memory_option,
            click.option(
                "--spill",
                metavar="DIRECTORY",
                type=click.Path(exists=True, file_okay=False),
                expose_value=False,
                callback=_remember_spill,
                help="Instead set segments aside in this directory (30 to 40 bytes each), and follow a 256th of the "
                "connections at a time with each thread: none is given up.",
            ),
        )
    ):
        command = decorate(command)
    return command
