"""Whose a socket is: processes, units and containers, and names that were made to confuse."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conntrack import host
from conntrack.export import make_exporter
from conntrack.host import owners
from conntrack.host.descriptors import socket_inodes
from conntrack.states import TcpState

ID = "3f4e1c9d" * 8


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/nginx.service", "nginx.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service", "foo.service"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        ("/system.slice/nginx.service/workers", "nginx.service"),
        (f"/system.slice/docker-{ID}.scope", f"container:{ID[:12]}"),
        (f"/docker/{ID}", f"container:{ID[:12]}"),
        (f"/machine.slice/libpod-{ID}.scope/container", f"container:{ID[:12]}"),
        (f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", f"container:{ID[:12]}"),
        ("/lxc.payload.web1/system.slice/nginx.service", "container:web1"),
        ("/machine.slice/machine-web1.scope", "container:web1"),
        ("/", ""),
        ("/process_api/7f486c39afa1385dea8bd4ef671d7687", ""),
        ("", ""),
    ],
)
def test_the_unit_or_container_that_a_cgroup_names(path: str, unit: str) -> None:
    assert owners.unit_of(path) == unit


def test_this_process_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        rows = host.sockets(with_owners=True)
        (mine,) = rows[(rows["local_port"] == port) & (rows["state"] == TcpState.LISTEN)]
        assert mine["pid"] == os.getpid()
        comm = Path("/proc/self/comm").read_bytes().rstrip(b"\n")
        assert mine["process"] == owners._safe(comm)
        assert mine["inode"] == os.fstat(server.fileno()).st_ino


def test_a_descriptor_that_is_no_socket_or_not_there_is_none(tmp_path: Path) -> None:
    for number, target in enumerate(
        ("socket:[7]", "/dev/null", "socket:[18446744073709551615]", "pipe:[7]", "socket:[]", "socket:[1x]", "x" * 100)
    ):
        (tmp_path / str(number)).symlink_to(target)
    numbers, inodes = np.array([0, 1, 2, 3, 4, 5, 6, 70_000], np.int32), np.ones(8, np.uint64)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert socket_inodes(folder, numbers, inodes, False) == 8
        assert inodes.tolist() == [7, 0, 2**64 - 1, 0, 0, 0, 0, 0]
        assert socket_inodes(folder, numbers, inodes, True) == 7
        with pytest.raises(ValueError, match="8 descriptors do not go into 7"):
            socket_inodes(folder, numbers, inodes[:7], False)
        with pytest.raises(ValueError, match="-1 is no descriptor"):
            socket_inodes(folder, np.array([-1], np.int32), inodes[:1], False)
    finally:
        os.close(folder)
    with pytest.raises(OSError, match="cannot be read"):
        socket_inodes(folder, numbers, inodes, False)


@pytest.mark.parametrize("let_go", [(), (0,), (3,), (7,), (0, 1, 5)], ids=str)
@pytest.mark.parametrize("kernel_tells", [True, False])
def test_every_socket_of_a_process_is_seen_whatever_numbers_its_descriptors_have(
    monkeypatch: pytest.MonkeyPatch, let_go: tuple[int, ...], kernel_tells: bool
) -> None:
    """In a process of its own, which has the lowest numbers all in use before it closes some."""
    if not kernel_tells:  # before Linux 6.2 the size of the folder was 0

        class Old:
            st_size = 0

        monkeypatch.setattr(owners.os, "stat", lambda _: Old)
    code = """if True:
        import os, socket, sys
        os.closerange(3, 64)
        held = [socket.socket() for _ in range(8)]
        for place in map(int, sys.argv[1:]):
            held[place].close()
        print(*sorted(os.fstat(one.fileno()).st_ino for one in held if one.fileno() >= 0), flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", code, *map(str, let_go)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdin is not None
        inodes = [int(word) for word in child.stdout.readline().split()]
        assert len(inodes) == 8 - len(let_go)
        assert sorted(owners._sockets_of(child.pid)) == inodes
        child.stdin.close()


def test_without_proc_sockets_are_listed_without_holders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(owners, "_PROC", str(tmp_path / "none"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        rows = host.sockets(with_owners=True)
        (mine,) = rows[(rows["local_port"] == server.getsockname()[1]) & (rows["state"] == TcpState.LISTEN)]
    assert (mine["pid"], mine["process"]) == (-1, b"")


def test_of_several_holders_the_lowest_pid_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = "import sys; print(flush=True); sys.stdin.read()"
        command = [sys.executable, "-c", code]
        with subprocess.Popen(
            command, pass_fds=[server.fileno()], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None and child.stdin is not None
            child.stdout.readline()
            rows = host.sockets(with_owners=True)
            (mine,) = rows[(rows["local_port"] == port) & (rows["state"] == TcpState.LISTEN)]
            assert mine["pid"] == min(os.getpid(), child.pid)
            child.stdin.close()


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        (b"nginx", b"nginx"),
        (b"tmux: server", b"tmux: server"),
        (b'a"b,c\td\n', b"a%22b%2Cc%09d%0A"),
        (b"100%\\", b"100%25%5C"),
        (b"\x1b[31m\xff\0", b"%1B[31m%FF%00"),
    ],
)
def test_names_cannot_break_a_table_or_a_terminal(name: bytes, safe: bytes) -> None:
    assert owners._safe(name) == safe
    row = host.sockets()[:0].copy()
    row.resize(1, refcheck=False)
    row["process"], row["ip_version"] = safe, 4
    for format_ in ("tsv", "csv", "ndjson"):
        exporter = make_exporter(format_, of="host")
        assert exporter.rows(row).count(b"\n") == 1
        assert safe in exporter.rows(row)
