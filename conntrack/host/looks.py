"""One look at this host: its sockets, counters and settings at a moment. What findings are made from; reads only."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from conntrack.host.counters import counters, settings
from conntrack.host.services import Service, find_services
from conntrack.host.table import read_sockets

__all__ = ["Look", "look"]

Rows = np.ndarray[Any, Any]


@dataclass(eq=False)
class Look:
    """What a host was like at one moment.

    Attributes:
        host: its name.
        at_ts_ns: when, nanoseconds since 1970.
        rows: its sockets (HOST_SOCKET_DTYPE, shape (n,)).
        source: "netlink", "procfs", or the name of the file that it was kept in.
        counters: as counters.counters gives them; empty for what was kept in a file.
        settings: sysctl to its numbers, as far as they are known.
        notes: what could not be read and what would help, one sentence each.
    """

    host: str
    at_ts_ns: int
    rows: Rows
    source: str = "netlink"
    counters: dict[str, int] = field(default_factory=dict)
    settings: dict[str, tuple[int, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def _grouped(self) -> tuple[list[Service], Rows]:
        return find_services(self.rows)

    @property
    def services(self) -> list[Service]:
        """What listens, in the kernel's order."""
        return self._grouped[0]

    @property
    def service_of(self) -> Rows:
        """Of each of `rows` the number of its service, int32; -1 for what this host opened."""
        return self._grouped[1]

    def setting(self, name: str) -> int | None:
        """Return the first number of a sysctl, None where it is not known."""
        values = self.settings.get(name)
        return values[0] if values else None


def look() -> Look:
    """Look at this host.

    Raises:
        InputError: its sockets cannot be read at all.
    """
    found = counters()
    table = read_sockets(with_owners=True)
    at_ts_ns = int(table.rows["at_ts_ns"][0]) if len(table.rows) else time.time_ns()
    notes = (*table.notes, table.owners_note) if table.owners_note else table.notes
    return Look(socket.gethostname(), at_ts_ns, table.rows, table.source, found, settings(), notes)
