"""Who holds a socket: inode to process by /proc/PID/fd, and cgroup to systemd unit or container. Reads only.

Without root the descriptors of other users' processes cannot be read; the units of their sockets can, for the kernel
tells each socket's cgroup. Names come from outside: what a table or a terminal could trip over is percent-encoded.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conntrack.host.descriptors import socket_inodes

__all__ = ["Holders", "Owners", "descriptors", "fill", "find_holders", "unit_of"]

Rows = np.ndarray[Any, Any]

_PROC = "/proc"
_CGROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
_MOST_CGROUPS = 65_536
"""Directories of cgroups that are looked at; a node with more containers than this keeps the rest nameless."""

_CONTAINER = re.compile(r"(?:^|[/-])([0-9a-f]{64})(?:\.scope)?(?:/|$)")
"""Docker, Podman, containerd and CRI-O all name a cgroup for the 64 digits of the container."""
_PAYLOAD = re.compile(r"/(?:lxc\.payload\.|lxc/|machine\.slice/machine-)([^/]+)")
_UNIT = re.compile(r"/([^/]+\.(?:service|scope))(?:/|$)")


@dataclass(frozen=True, slots=True)
class Owners:
    """What `fill` could not find out.

    Attributes:
        unreadable: processes whose descriptors may not be read.
        unnamed: sockets with an inode whose process was not found.
    """

    unreadable: int
    unnamed: int


@dataclass(frozen=True, slots=True, eq=False)
class Holders:
    """Which process has which socket open.

    Attributes:
        inodes: of the sockets, ascending, each once: uint64, shape (n,).
        pids: the lowest that has it: int32, shape (n,).
        unreadable: processes whose descriptors may not be read.
    """

    inodes: Rows
    pids: Rows
    unreadable: int


def fill(rows: Rows, holders: Holders) -> Owners:
    """Fill in `pid`, `process` and `unit` of sockets (HOST_SOCKET_DTYPE, shape (n,)) in place, where permitted.

    Of processes that share a socket, the one with the lowest pid is told.
    """
    rows["pid"] = -1
    if len(holders.inodes):
        wanted = rows["inode"]
        at = np.minimum(np.searchsorted(holders.inodes, wanted), len(holders.inodes) - 1)
        rows["pid"] = np.where(holders.inodes[at] == wanted, holders.pids[at], -1)
    pids, which = _numbered(rows["pid"])
    processes = pids.tolist()
    rows["process"] = np.array([_command(pid) for pid in processes], "S32")[which]
    of_process = np.array([_unit_of_process(pid) for pid in processes], "S64")
    cgroups, cgroup_of = _numbered(rows["cgroup_id"])
    units = _units_by_cgroup(set(cgroups.tolist()) - {0})
    of_cgroup = np.array([units.get(cgroup, b"") for cgroup in cgroups.tolist()], "S64")
    rows["unit"] = np.where((of_process == b"")[which], of_cgroup[cgroup_of], of_process[which])
    return Owners(holders.unreadable, int(((rows["inode"] != 0) & (rows["pid"] < 0)).sum()))


def _numbered(values: Rows) -> tuple[Rows, Rows]:
    """Return the distinct values in order, and for each of `values` which it is; as np.unique, which imports numpy.ma,
    and that takes as long as a thousand sockets."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    new = np.concatenate((np.ones(min(1, len(values)), bool), ordered[1:] != ordered[:-1]))
    which = np.empty(len(values), np.int64)
    which[order] = np.cumsum(new) - 1
    return ordered[new], which


def descriptors(pid: int) -> tuple[int, int] | None:
    """Return how many files a process has open, and how many it may (RLIMIT_NOFILE); None where we may not know."""
    try:
        limits = Path(_PROC, str(pid), "limits").read_text()
        used = sum(1 for _ in Path(_PROC, str(pid), "fd").iterdir())
    except OSError:
        return None
    found = re.search(r"^Max open files\s+(\d+)", limits, re.MULTILINE)
    return (used, int(found[1])) if found else None


def unit_of(cgroup: str) -> str:
    """Return the systemd unit or the container that a cgroup's path names; "" for neither.

    "/system.slice/nginx.service" is "nginx.service", "/system.slice/docker-<64 digits>.scope" "container:<12 digits>".
    """
    if container := _CONTAINER.search(cgroup):
        return f"container:{container[1][:12]}"
    if payload := _PAYLOAD.search(cgroup):
        return f"container:{payload[1].removesuffix('.scope')}"
    units: list[str] = _UNIT.findall(cgroup)
    return units[-1] if units else ""


def find_holders() -> Holders:
    """Look at the descriptors of every process that may be looked at; takes about 2 us for each."""
    pids, inodes, unreadable = [], [np.empty(0, np.uint64)], 0
    for pid in _processes():
        try:
            inodes.append(_sockets_of(pid))
            pids.append(pid)
        except PermissionError:
            unreadable += 1
        except OSError:  # it has ended
            continue
    sockets, which = np.concatenate(inodes), np.repeat(np.array(pids, np.int32), [len(part) for part in inodes[1:]])
    order = np.argsort(sockets, kind="stable")  # of the same socket the lowest pid comes first
    sockets, which = sockets[order], which[order]
    first = np.concatenate((np.ones(min(1, len(sockets)), bool), sockets[1:] != sockets[:-1]))
    return Holders(sockets[first], which[first], unreadable)


def _processes() -> list[int]:
    try:
        return sorted(int(path.name) for path in Path(_PROC).iterdir() if path.name.isdecimal())
    except OSError:  # not mounted here
        return []


def _sockets_of(pid: int) -> Rows:
    """Return the inodes of the sockets that a process has open: uint64, shape (n,)."""
    folder = os.open(f"{_PROC}/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
    try:
        inodes = _inodes(folder)
    finally:
        os.close(folder)
    held: Rows = inodes[inodes != 0]
    return held


def _inodes(folder: int) -> Rows:
    """Return which socket each descriptor in a /proc/PID/fd is, 0 for none.

    Listing them takes the kernel as long as reading them; where there is none missing below their number, which the
    folder's size is (since Linux 6.2), none need be listed.
    """
    there = os.stat(folder).st_size
    inodes = np.empty(there, np.uint64)
    if there and socket_inodes(folder, np.arange(there, dtype=np.int32), inodes, True) == there:
        return inodes
    numbers = np.array([int(name) for name in os.listdir(folder)], np.int32)  # a gap, or one was closed since
    inodes = np.empty(len(numbers), np.uint64)
    socket_inodes(folder, numbers, inodes, False)
    return inodes


def _command(pid: int) -> bytes:
    try:
        return _safe(Path(_PROC, str(pid), "comm").read_bytes().removesuffix(b"\n"))
    except OSError:
        return b""


def _unit_of_process(pid: int) -> bytes:
    """Return the unit of a process: by its cgroup of version 2, or else by the one that systemd names."""
    try:
        lines = Path(_PROC, str(pid), "cgroup").read_bytes().splitlines()
    except OSError:
        return b""
    for line in sorted(lines, key=lambda line: (not line.startswith(b"0::"), b"name=systemd" not in line)):
        if unit := unit_of(os.fsdecode(line.split(b":", 2)[-1])):
            return _safe(os.fsencode(unit))
    return b""


def _units_by_cgroup(wanted: set[int]) -> dict[int, bytes]:
    """Return the inodes of cgroups (version 2), as far as they are `wanted`, to their units."""
    found: dict[int, bytes] = {}
    for root in _CGROUPS:
        if not (root / "cgroup.procs").exists():  # version 1, or none
            continue
        waiting, seen = [str(root)], 0
        while waiting and seen < _MOST_CGROUPS and len(found) < len(wanted):
            path = waiting.pop()
            seen += 1
            try:
                inode = Path(path).stat().st_ino
                if inode in wanted:
                    found[inode] = _safe(os.fsencode(unit_of(path.removeprefix(str(root)))))
                with os.scandir(path) as entries:
                    waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:  # gone, or hidden
                continue
    return found


def _safe(name: bytes) -> bytes:
    """Return `name` with everything but plain ASCII as %XX, and what separates or quotes in an output as well."""
    return b"".join(
        bytes((octet,)) if 0x20 <= octet < 0x7F and octet not in b'",%\\' else b"%%%02X" % octet for octet in name
    )
