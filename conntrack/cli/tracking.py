"""How a command has the connections of its captures followed: in memory, or set aside on disk first.

Owns the options that choose, and nothing of what becomes of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import numpy as np

__all__ = ["flow_rows", "spill_option"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_SPILL = "conntrack.spill"


def _remember(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    ctx.meta[_SPILL] = value


spill_option = click.option(
    "--spill",
    metavar="DIRECTORY",
    type=click.Path(exists=True, file_okay=False),
    expose_value=False,
    callback=_remember,
    help="Set segments aside in this directory (30 to 40 bytes each) and follow a 256th of the connections at a time, "
    "for captures whose connections do not fit into memory.",
)


def flow_rows(
    segment_batches: Iterable[np.ndarray[Any, Any]], profile: str, *, ordered: bool
) -> Iterator[np.ndarray[Any, Any]]:
    """Yield every connection once, in batches of FLOW_DTYPE, in the way that the command was asked for.

    Args:
        segment_batches: SEGMENT_DTYPE, shape (n,) each.
        profile: whose timers the hosts keep.
        ordered: those left at the end come by flow_id; set aside, they come in no particular order.
    """
    directory = click.get_current_context().meta.get(_SPILL)
    if directory is not None:
        from conntrack.cluster.spill import spilled_flows

        return spilled_flows(segment_batches, directory, profile=profile)
    from conntrack.pipeline import flow_batches
    from conntrack.tracker import Tracker

    return flow_batches(segment_batches, Tracker(profile=profile), ordered=ordered)
