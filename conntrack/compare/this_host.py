"""This machine's own sockets as a snapshot, from the kernel (conntrack.host)."""

from __future__ import annotations

import time

from conntrack.addresses import addresses_text
from conntrack.compare.model import Endpoint, KernelSocket, Snapshot
from conntrack.compare.ss import canonical_ip
from conntrack.states import TcpState

__all__ = ["snapshot_of_this_host"]


def snapshot_of_this_host() -> Snapshot:
    """Return the sockets that this machine has now.

    Raises:
        InputError: the kernel does not tell.
    """
    from conntrack.host import sockets

    rows = sockets()
    snapshot = Snapshot("this host", "host", at_ns=time.time_ns())
    locals_, remotes = (addresses_text(rows[f"{end}_ip"], rows["ip_version"]) for end in ("local", "remote"))
    ports = zip(rows["local_port"].tolist(), rows["remote_port"].tolist(), strict=True)
    for local, remote, (local_port, remote_port), number in zip(
        locals_, remotes, ports, rows["state"].tolist(), strict=True
    ):
        state = TcpState(number)
        local_ip, remote_ip = canonical_ip(local) or local, canonical_ip(remote) or remote
        snapshot.addresses.add(local_ip)
        if state == TcpState.LISTEN:
            snapshot.listening += 1
        elif state != TcpState.CLOSED:
            ends = Endpoint(local_ip, local_port), Endpoint(remote_ip, remote_port)
            snapshot.sockets.append(KernelSocket(*ends, state))
    return snapshot
