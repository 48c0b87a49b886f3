"""This machine's socket table: over netlink, or from /proc where that is refused, with what is missing said.

Owns which source is asked and the words of the notes; how each is read is in netlink.py, procfs.py and owners.py.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from conntrack.errors import InputError
from conntrack.host import netlink, owners, procfs

__all__ = ["Sockets", "read_sockets", "sockets"]


@dataclass(frozen=True, slots=True, eq=False)
class Sockets:
    """The socket table at one moment.

    Attributes:
        rows: HOST_SOCKET_DTYPE, shape (n,).
        source: "netlink", or "procfs", which knows less (procfs.py).
        notes: what could not be read and what would help, one sentence each.
        owners_note: which processes could not be looked into, and who could; "" where all were.
    """

    rows: np.ndarray[Any, Any]
    source: str
    notes: tuple[str, ...] = ()
    owners_note: str = ""


def sockets(*, with_owners: bool = False) -> np.ndarray[Any, Any]:
    """Return this machine's TCP sockets, IPv4 and IPv6, in all states (LISTEN included), as `ss -tan` lists them.

    Args:
        with_owners: find the process and the unit of each as well, where permitted; takes about 2 us for every open
            file of every process.

    Returns:
        HOST_SOCKET_DTYPE, shape (n,), in the kernel's order. The first fields are those of SOCKET_DTYPE.

    Raises:
        InputError: neither netlink nor /proc gives the table.
    """
    return read_sockets(with_owners=with_owners).rows


def read_sockets(*, with_owners: bool = False) -> Sockets:
    """Return the same, with where it comes from and what is missing. Arguments and errors as for `sockets`."""
    found: list[owners.Holders] = []
    looking = threading.Thread(target=lambda: found.append(owners.find_holders()), name="holders")
    if with_owners:  # meanwhile: each takes as long as the other, and the kernel's part of it no GIL
        looking.start()
    notes = []
    source = "netlink"
    try:
        rows = netlink.dump()
    except OSError as refused:
        source = "procfs"
        why = (refused.strerror or str(refused)).lower()
        try:
            rows = procfs.read()
        except OSError as error:
            raise InputError(
                f"this host's sockets: netlink: {why}; {error.filename or procfs.NET}: "
                f"{(error.strerror or str(error)).lower()}; this needs Linux with /proc"
            ) from None
        notes.append(
            f"the kernel's sock_diag is not available ({why}): read from /proc/net/tcp, without ages, retransmissions "
            "and the limits of accept queues; 'modprobe tcp_diag' as root may help"
        )
    owners_note = ""
    if with_owners:
        looking.join()
        missing = owners.fill(rows, *found)
        if missing.unnamed and (missing.unreadable or os.geteuid()):
            who = "as root it would be" if os.geteuid() else "not even as root here, without CAP_SYS_PTRACE"
            processes = "process" if missing.unreadable == 1 else "processes"
            why = (
                f"the descriptors of {missing.unreadable:,} {processes} cannot be read"
                if missing.unreadable
                else "hidden"
            )
            owners_note = f"the process of {missing.unnamed:,} of {len(rows):,} sockets is not known ({why}); {who}"
    return Sockets(rows, source, tuple(notes), owners_note)
