"""One capture against one snapshot: which instant, which addresses, then sockets.py or firewall.py."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from conntrack.compare.firewall import compare_firewall
from conntrack.compare.model import Comparison, Snapshot
from conntrack.compare.reasons import Instant
from conntrack.compare.sockets import compare_sockets
from conntrack.compare.wire import Wanted, flows_at
from conntrack.errors import InputError
from conntrack.tracker import Tracker

__all__ = ["compare"]


def compare(
    segment_batches: Iterable[np.ndarray[Any, Any]],
    tracker: Tracker,
    snapshot: Snapshot,
    *,
    at: Callable[[], int | None] | None = None,
    end: Callable[[], int | None],
    host: str | None = None,
) -> Comparison:
    """Return on which sockets a capture and a snapshot disagree.

    Args:
        segment_batches: SEGMENT_DTYPE, shape (n,) each.
        tracker: one that has seen nothing yet.
        snapshot: what the kernel said.
        at: returns the instant to compare, nanoseconds since 1970, asked for once the first batch is there; the
            snapshot's own without, and the end of the capture where it has none.
        end: returns when the capture's last packet was, asked for at the end.
        host: the address whose sockets are compared; those that the snapshot's sockets have without.

    Raises:
        InputError: the snapshot does not say whose sockets it has, and no host is given.
    """
    hosts = _hosts(snapshot, host)
    pairs = [(socket.local, socket.remote) for socket in snapshot.sockets]
    for entry in snapshot.entries:
        pairs += [entry.original, entry.reply]
    sockets = [socket for socket in snapshot.sockets if host is None or socket.local.ip == host]
    if not snapshot.entries and not hosts:
        raise InputError(f"{snapshot.name}: no socket with an address of the host; give --host IP")
    wanted = Wanted(None if snapshot.entries else hosts, pairs)
    at_ns, flows = flows_at(segment_batches, tracker, wanted, lambda: at() if at is not None else snapshot.at_ns)
    end_ns = end()
    instant = Instant(at_ns or 0, at_ns or 0 if end_ns is None else end_ns)
    if snapshot.entries:
        agreed, found = compare_firewall(snapshot.entries, flows, host, instant)
    else:
        agreed, found = compare_sockets(sockets, flows, hosts, instant)
    found.sort(key=lambda row: (row.reason, row.wire or "", row.kernel or "", row.local, row.remote))
    return Comparison(instant.at_ns, end_ns, tuple(sorted(hosts)), agreed, tuple(found))


def _hosts(snapshot: Snapshot, host: str | None) -> set[str]:
    if host is not None:
        return {host}
    found = {ip for ip in map(ipaddress.ip_address, snapshot.addresses) if not ip.is_unspecified and not ip.is_loopback}
    # A host that talks to itself alone: by its connections, as nearly every host listens there.
    return {str(ip) for ip in found} or {socket.local.ip for socket in snapshot.sockets}
