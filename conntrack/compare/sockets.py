"""Which socket of a host is which end on the wire, and on which of them the two disagree. Reasons are reasons.py's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from conntrack.compare import reasons
from conntrack.compare.model import Disagreement, Endpoint, KernelSocket, WireFlow
from conntrack.compare.reasons import Instant
from conntrack.states import NO_TIME_NS, TcpState

__all__ = ["compare_sockets"]

Flows = dict[frozenset[Endpoint], WireFlow]
_NOT_OPEN = (TcpState.CLOSED, TcpState.LISTEN)


def compare_sockets(
    sockets: Iterable[KernelSocket], flows: Flows, hosts: set[str], instant: Instant
) -> tuple[int, list[Disagreement]]:
    """Return how many sockets agree, and the others.

    Args:
        sockets: of the host.
        flows: of the wire, by their two ends (wire.flows_at).
        hosts: addresses of the host; ends of others are not looked for in the kernel.
        instant: when.
    """
    agreed = 0
    found = []
    unknown: list[KernelSocket] = []
    known: set[tuple[Endpoint, Endpoint]] = set()
    for socket in sockets:
        known.add((socket.local, socket.remote))
        flow = flows.get(frozenset((socket.local, socket.remote)))
        if flow is None:
            unknown.append(socket)
            continue
        wire, _ = _end(flow, socket.local)
        if wire == socket.state:
            agreed += 1
        else:
            reason = reasons.of_difference(wire, socket.state, flow, socket.local, instant)
            found.append(_row(socket.local, socket.remote, flow, wire, socket.state, reason))
    missing = {
        (local, remote): flow
        for flow in flows.values()
        for local, remote in ((flow.client, flow.server), (flow.server, flow.client))
        if (local, remote) not in known and _end(flow, local)[0] not in _NOT_OPEN
    }
    for socket, pair in _translated(unknown, missing):
        flow = missing.pop(pair)
        wire, _ = _end(flow, pair[0])
        found.append(_row(socket.local, socket.remote, flow, wire, socket.state, reasons.nat(flow), end=pair[0]))
        unknown.remove(socket)
    for socket in unknown:
        reason = reasons.only_in_kernel(socket)
        found.append(Disagreement(socket.local, socket.remote, None, socket.state.name, *reason))
    for (local, remote), flow in missing.items():
        if local.ip in hosts:
            wire, _ = _end(flow, local)
            found.append(_row(local, remote, flow, wire, None, reasons.only_on_wire(wire, flow, local, instant)))
    return agreed, found


def _end(flow: WireFlow, local: Endpoint) -> tuple[TcpState, int]:
    if flow.is_client(local):
        return flow.client_state, flow.client_since_ns
    return flow.server_state, flow.server_since_ns


def _row(
    local: Endpoint,
    remote: Endpoint,
    flow: WireFlow,
    wire: TcpState,
    kernel: TcpState | None,
    reason: tuple[str, str],
    *,
    end: Endpoint | None = None,
) -> Disagreement:
    since_ns = _end(flow, end or local)[1]
    return Disagreement(
        local,
        remote,
        wire.name,
        None if kernel is None else kernel.name,
        *reason,
        since_ns=None if since_ns == NO_TIME_NS else since_ns,
        last_ns=flow.last_ns,
        flow_id=flow.flow_id,
    )


def _translated(
    unknown: list[KernelSocket], missing: dict[tuple[Endpoint, Endpoint], WireFlow]
) -> Iterator[tuple[KernelSocket, tuple[Endpoint, Endpoint]]]:
    """Yield sockets with the ends on the wire that they are, but for a translated address of one end.

    One end is the same on both sides, and of the other at least the port (a translator that changes ports as well
    leaves nothing to know it by). Only where each is the only one for the other.
    """
    by_trait: dict[tuple[object, ...], list[tuple[Endpoint, Endpoint]]] = defaultdict(list)
    for local, remote in missing:
        by_trait["local", local, remote.port].append((local, remote))
        by_trait["remote", remote, local.port].append((local, remote))
    claims: dict[tuple[Endpoint, Endpoint], list[KernelSocket]] = defaultdict(list)
    for socket in unknown:
        candidates = [
            *by_trait["local", socket.local, socket.remote.port],
            *by_trait["remote", socket.remote, socket.local.port],
        ]
        if len(candidates) == 1:
            claims[candidates[0]].append(socket)
    for pair, sockets in claims.items():
        if len(sockets) == 1:
            yield sockets[0], pair
