"""What listens on a host, and which service each of its sockets belongs to; who holds a group of sockets.

A service is an address and a port that something listens on, whichever sockets do so (SO_REUSEPORT). A connection is of
the service with its local address and port, else of one that listens there on every address.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from conntrack.addresses import endpoint_text, ip_text
from conntrack.states import TcpState

__all__ = ["Service", "find_services", "holders", "subjects_of", "top_peers", "unit_of_most"]

Rows = np.ndarray[Any, Any]

_NAMED = 5
_ANY = {4: bytes(10) + b"\xff\xff" + bytes(4), 6: bytes(16)}
_END = 19  # octets: address, port, version


@dataclass(frozen=True, slots=True)
class Service:
    """A service of a host at one moment.

    Attributes:
        name: "address:port" as it listens, "0.0.0.0:80" or "[::]:80" for every address.
        sockets: listening sockets (rows of the look).
        accept_queue: connections that wait to be accepted, of the socket where it is the fullest.
        backlog: how many may wait there; -1 where the kernel did not tell.
        drops: what its listening sockets dropped in their life; -1 where not told.
    """

    name: str
    sockets: tuple[int, ...]
    accept_queue: int
    backlog: int
    drops: int

    @property
    def is_full(self) -> bool:
        """Whether the next connection finds no room (the kernel lets one more in than `backlog`)."""
        return self.backlog >= 0 and self.accept_queue >= max(self.backlog, 1)


def find_services(rows: Rows) -> tuple[list[Service], Rows]:
    """Return the services among `rows` (HOST_SOCKET_DTYPE, shape (n,)), and of each row the number of its service.

    The number is int32, -1 for what belongs to none: connections that this host opened.
    """
    listening = np.flatnonzero(rows["state"] == TcpState.LISTEN)
    ends = _ends(rows[listening])
    by_end: dict[bytes, list[int]] = {}
    for at, end in zip(listening.tolist(), ends, strict=True):
        by_end.setdefault(end, []).append(at)
    services = [_service(rows, numbers) for numbers in by_end.values()]
    number_of = {end: number for number, end in enumerate(by_end)}
    of: Rows = np.full(len(rows), -1, np.int32)
    candidates = np.flatnonzero(np.isin(rows["local_port"], rows["local_port"][listening]))
    if len(candidates):
        distinct, which = np.unique(np.array(_ends(rows[candidates]), f"V{_END}"), return_inverse=True)
        of[candidates] = np.array([_number(end.tobytes(), number_of) for end in distinct], np.int32)[which]
    return services, of


def _ends(rows: Rows) -> list[bytes]:
    """Return the local ends: address, port and version, 19 octets each."""
    packed = np.empty((len(rows), _END), np.uint8)
    packed[:, :16] = rows["local_ip"]
    packed[:, 16:18] = np.ascontiguousarray(rows["local_port"]).view(np.uint8).reshape(-1, 2)
    packed[:, 18] = rows["ip_version"]
    return [octets.tobytes() for octets in packed]


def _number(end: bytes, number_of: dict[bytes, int]) -> int:
    port, version = end[16:18], end[18]
    everywhere = [_ANY[version] + port + bytes((version,))] if version in _ANY else []
    both = _ANY[6] + port + b"\6"  # a socket for both families
    return next((number_of[key] for key in (end, *everywhere, both) if key in number_of), -1)


def _service(rows: Rows, numbers: list[int]) -> Service:
    fullest = max(numbers, key=lambda at: int(rows["recv_queue"][at]) - int(rows["send_queue"][at]))
    first = rows[numbers[0]]
    drops = rows["drops"][numbers]
    return Service(
        endpoint_text(first["local_ip"], int(first["ip_version"]), int(first["local_port"])),
        tuple(numbers),
        int(rows["recv_queue"][fullest]),
        int(rows["send_queue"][fullest]),
        -1 if (drops < 0).any() else int(drops.sum()),
    )


def subjects_of(rows: Rows, service_of: Rows, services: list[Service]) -> tuple[list[str], Rows]:
    """Return whom sockets are to be told of, and for each of `rows` the number of its name.

    The service for its own ends, the local address for ends that this host opened.
    """
    names = [service.name for service in services]
    group = service_of.astype(np.int64)
    opened = np.flatnonzero(service_of < 0)
    if len(opened):
        mine = rows[opened]
        addresses = np.column_stack([mine["local_ip"], mine["ip_version"]])
        distinct, which = np.unique(np.ascontiguousarray(addresses).view("V17").reshape(-1), return_inverse=True)
        group[opened] = len(names) + which
        names += [ip_text(end.tobytes()[:16], end.tobytes()[16]) for end in distinct]
    return names, group


def holders(rows: Rows) -> dict[str, int]:
    """Return the processes that hold most of `rows`, "command/pid" to how many; what none is known for is left out."""
    pids, first, counts = np.unique(rows["pid"], return_index=True, return_counts=True)
    named = [
        (f"{rows['process'][at].decode('ascii')}/{pid}", int(number))
        for pid, at, number in zip(pids.tolist(), first.tolist(), counts.tolist(), strict=True)
        if pid >= 0
    ]
    return dict(sorted(named, key=lambda item: -item[1])[:_NAMED])


def unit_of_most(rows: Rows) -> str | None:
    """Return the unit or container that most of `rows` are of, None where none is known."""
    units = Counter(unit for unit in rows["unit"].tolist() if unit)
    return units.most_common(1)[0][0].decode("ascii") if units else None


def top_peers(rows: Rows) -> tuple[int, dict[str, int]]:
    """Return how many remote addresses `rows` have, and the commonest with their counts."""
    addresses = np.column_stack([rows["remote_ip"], rows["ip_version"]])
    distinct, counts = np.unique(np.ascontiguousarray(addresses).view("V17").reshape(-1), return_counts=True)
    top = np.argsort(-counts, kind="stable")[:_NAMED]
    ends = [(distinct[at].tobytes(), int(counts[at])) for at in top]
    return len(distinct), {ip_text(end[:16], end[16]): number for end, number in ends}
