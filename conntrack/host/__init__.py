"""This machine's own TCP sockets and counters, from the kernel: what `ss` and `nstat` show, as numpy and as findings.

Reads only, needs no privilege for the most part, and says what is missing without. The table is that of the caller's
network namespace. Linux only.

    from conntrack import host

    rows = host.sockets(with_owners=True)               # numpy, HOST_SOCKET_DTYPE
    watch = host.Watch()
    watch.feed(host.look())                             # again later, for growth and counters
    for finding in watch.findings(): ...

Each part is imported when it is first used: who asks for the sockets alone does not wait for the findings.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_PARTS = {
    "HOST_SOCKET_DTYPE": "messages",
    "HostOptions": "options",
    "Look": "looks",
    "Probe": "probe",
    "Sockets": "table",
    "Watch": "watch",
    "look": "looks",
    "read_snapshot": "snapshot",
    "read_sockets": "table",
    "sockets": "table",
}


def __getattr__(name: str) -> Any:
    if name not in _PARTS:
        raise AttributeError(f"module 'conntrack.host' has no attribute {name!r}")
    value = getattr(import_module(f"conntrack.host.{_PARTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
