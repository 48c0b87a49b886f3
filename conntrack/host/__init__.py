"""This machine's own TCP sockets and counters, from the kernel: what `ss` and `nstat` show, as numpy and as findings.

Reads only, needs no privilege for the most part, and says what is missing without. The table is that of the caller's
network namespace. Linux only.

    from conntrack import host

    rows = host.sockets(with_owners=True)               # numpy, HOST_SOCKET_DTYPE
    watch = host.Watch()
    watch.feed(host.look())                             # again later, for growth and counters
    for finding in watch.findings(): ...
"""

from __future__ import annotations

from conntrack.host.looks import Look, look
from conntrack.host.messages import HOST_SOCKET_DTYPE
from conntrack.host.options import HostOptions
from conntrack.host.probe import Probe
from conntrack.host.snapshot import read_snapshot
from conntrack.host.table import Sockets, read_sockets, sockets
from conntrack.host.watch import Watch

__all__ = [
    "HOST_SOCKET_DTYPE",
    "HostOptions",
    "Look",
    "Probe",
    "Sockets",
    "Watch",
    "look",
    "read_snapshot",
    "read_sockets",
    "sockets",
]
