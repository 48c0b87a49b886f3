"""Who holds a socket: inode to process by /proc/PID/fd, and cgroup to systemd unit or container. Reads only.

Without root the descriptors of other users' processes cannot be read; the units of their sockets can, for the kernel
tells each socket's cgroup. Names come from outside: what a table or a terminal could trip over is percent-encoded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Owners", "descriptors", "fill", "unit_of"]

Rows = np.ndarray[Any, Any]

_PROC = "/proc"
_CGROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
_MOST_CGROUPS = 65_536
"""Directories of cgroups that are looked at; a node with more containers than this keeps the rest nameless."""

_SOCKET = "socket:["
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


def fill(rows: Rows) -> Owners:
    """Fill in `pid`, `process` and `unit` of sockets (HOST_SOCKET_DTYPE, shape (n,)) in place, where permitted.

    Of processes that share a socket, the one with the lowest pid is told.
    """
    inodes, which = _numbered(rows["inode"])
    wanted = set(inodes.tolist()) - {0}
    pids, unreadable = _holders(wanted)
    cgroups, cgroup_of = _numbered(rows["cgroup_id"])
    units = _units_by_cgroup(set(cgroups.tolist()) - {0})
    distinct = set(pids.values())
    names = {pid: _command(pid) for pid in distinct}
    unit_of_pid = {pid: _unit_of_process(pid) for pid in distinct}
    of_inode = [pids.get(inode, -1) for inode in inodes.tolist()]
    rows["pid"] = np.array(of_inode, np.int32)[which]
    rows["process"] = np.array([names.get(pid, b"") for pid in of_inode], "S32")[which]
    rows["unit"] = np.array([unit_of_pid.get(pid, b"") for pid in of_inode], "S64")[which]
    by_cgroup = np.array([units.get(cgroup, b"") for cgroup in cgroups.tolist()], "S64")[cgroup_of]
    missing = rows["unit"] == b""
    rows["unit"][missing] = by_cgroup[missing]
    return Owners(unreadable, int(((rows["inode"] != 0) & (rows["pid"] < 0)).sum()))


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


def _holders(wanted: set[int]) -> tuple[dict[int, int], int]:
    """Return inode to the lowest pid that has it open, and how many processes could not be looked at."""
    found: dict[int, int] = {}
    unreadable = 0
    for pid in sorted(int(path.name) for path in Path(_PROC).iterdir() if path.name.isdecimal()):
        if len(found) == len(wanted):
            break
        try:
            for inode in _sockets_of(pid):
                if inode in wanted:
                    found.setdefault(inode, pid)
        except PermissionError:
            unreadable += 1
        except OSError:  # it has ended
            continue
    return found, unreadable


def _sockets_of(pid: int) -> Iterator[int]:
    folder = os.open(f"{_PROC}/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for target in _targets(folder):
            if target.startswith(_SOCKET):
                yield int(target[len(_SOCKET) : -1])
    finally:
        os.close(folder)


def _targets(folder: int) -> Iterator[str]:
    """Yield what each descriptor in a /proc/PID/fd is. Listing them takes the kernel as long as reading them; where
    there is none missing below their number, which the folder's size is (since Linux 6.2), none need be listed."""
    number, there = 0, os.stat(folder).st_size
    try:
        while number < there:
            yield os.readlink(str(number), dir_fd=folder)
            number += 1
        if there:
            return
    except FileNotFoundError:  # a gap, or closed since
        pass
    for name in os.listdir(folder):
        if int(name) >= number:
            try:
                yield os.readlink(name, dir_fd=folder)
            except FileNotFoundError:
                continue


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
