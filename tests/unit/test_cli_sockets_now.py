"""`ctrack sockets` without a capture: this host's own table, on the sockets that the test holds."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import polars
import pytest

import conntrack
from conntrack import host
from conntrack.cli import main
from conntrack.export.columns import _TIMERS, HOST_SOCKET_COLUMNS, SOCKET_COLUMNS
from conntrack.host import netlink, procfs
from conntrack.host.kernel import TIMERS

COLUMNS = [column.name for column in HOST_SOCKET_COLUMNS]


@pytest.fixture
def port() -> Iterator[int]:
    """A port with a listening socket, one connection that waits to be accepted, and one of which the client closed."""
    with socket.create_server(("127.0.0.1", 0), backlog=7) as server:
        port = server.getsockname()[1]
        address = ("127.0.0.1", port)
        with socket.create_connection(address) as left, socket.create_connection(address) as closing:
            accepted, _ = server.accept()
            with accepted:
                assert accepted.getpeername() == left.getsockname()
                left.sendall(b"unread")
                closing.shutdown(socket.SHUT_WR)
                yield port


def rows(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert main(["sockets", "--format", "ndjson", *arguments]) == 0
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def test_columns_of_a_capture_come_first_and_keep_their_order() -> None:
    names = [column.name for column in SOCKET_COLUMNS]
    assert [*COLUMNS[: len(names) - 1], COLUMNS[-1]] == names
    assert _TIMERS == TIMERS


def test_what_the_kernel_knows_of_each_socket(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    found = rows(["--where", f"local_port={port}"], capfd)
    by_state = {row["state"]: row for row in found}
    assert set(by_state) == {"LISTEN", "ESTABLISHED", "CLOSE_WAIT"}
    for row in found:
        assert list(row) == COLUMNS
        assert row["local_ip"] == "127.0.0.1"
    assert (by_state["LISTEN"]["recv_queue"], by_state["LISTEN"]["send_queue"]) == (1, 7)
    assert by_state["LISTEN"]["pid"] == os.getpid()
    open_ = by_state["ESTABLISHED"]
    assert (open_["recv_queue"], open_["received_bytes"], open_["pid"]) == (6, 6, os.getpid())
    waiting = by_state["CLOSE_WAIT"]
    assert waiting["pid"] is None and waiting["inode"] == 0, "nobody has accepted it"
    assert 0 <= waiting["age_s"] < 60
    assert open_["age_s"] is None


def test_every_row_meets_the_schema(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    schema = json.loads(files("conntrack.export").joinpath("sockets.schema.json").read_text())
    check = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    found = rows([], capfd)
    assert len(found) >= 4
    for row in found:
        check.validate(row)
        assert set(row) == set(schema["properties"])


def test_where_takes_the_columns_that_only_a_host_has(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    of_port = f"local_port={port}"
    assert [row["state"] for row in rows(["--where", f"{of_port} and recv_queue>5"], capfd)] == ["ESTABLISHED"]
    assert [row["state"] for row in rows(["--where", f"{of_port} and pid=none"], capfd)] == ["CLOSE_WAIT"]
    assert [row["state"] for row in rows(["--where", f"{of_port} and age_s<60"], capfd)] == ["CLOSE_WAIT"]
    assert {row["state"] for row in rows(["--where", f"{of_port} and pid<99999999"], capfd)} == {
        "LISTEN",
        "ESTABLISHED",
    }
    assert rows(["--where", f"{of_port} and unit=no.service"], capfd) == []


def test_host_keeps_one_address(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert {row["local_ip"] for row in rows(["--host", "127.0.0.1"], capfd)} == {"127.0.0.1"}
    assert rows(["--host", "192.0.2.77"], capfd) == []


def test_piped_it_is_tsv_and_a_table_fits(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sockets"]) == 0
    assert capfd.readouterr().out.splitlines()[0].split("\t") == COLUMNS
    assert main(["sockets", "--format", "table", "--where", f"local_port={port}"]) == 0
    title, heading, *lines = capfd.readouterr().out.splitlines()
    assert title.endswith("Z: 3 sockets")
    assert heading.split()[:6] == ["state", "recv_q", "send_q", "local", "remote", "process"]
    assert max(map(len, (heading, *lines))) <= 80
    assert any(f"/{os.getpid()}" in line for line in lines)


def test_the_file_s_suffix_gives_the_format(port: int, tmp_path: Path) -> None:
    assert main(["sockets", "-o", str(tmp_path / "now.ndjson")]) == 0
    assert '"recv_queue":' in (tmp_path / "now.ndjson").read_text()


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--at", "12:00"], "--at"),
        (["--from", "2026-01-01"], "--from"),
        (["--to", "2026-01-01"], "--to"),
        (["--filter", "tcp"], "--filter"),
        (["--follow"], "--follow"),
        (["-r"], "-r"),
        (["--reader", "pyshark"], "--reader"),
        (["--display-filter", "http"], "--display-filter"),
        (["--profile", "linux"], "--profile"),
        (["--allow-truncated"], "--allow-truncated"),
    ],
)
def test_what_is_of_captures_needs_one(arguments: list[str], option: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sockets", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err == (
        f"ctrack: {option} is of captures, and none is given: it would be this host, now; see 'ctrack sockets --help'\n"
    )


class TestWithoutNetlink:
    @pytest.fixture(autouse=True)
    def refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def dump() -> Any:
            raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))

        monkeypatch.setattr(netlink, "dump", dump)

    def test_proc_is_read_and_that_is_said(self, port: int, capfd: pytest.CaptureFixture[str]) -> None:
        assert main(["sockets", "--format", "ndjson", "--where", f"local_port={port}"]) == 0
        out, err = capfd.readouterr()
        found = {row["state"]: row for row in map(json.loads, out.splitlines())}
        assert set(found) == {"LISTEN", "ESTABLISHED", "CLOSE_WAIT"}
        assert (found["ESTABLISHED"]["recv_queue"], found["ESTABLISHED"]["pid"]) == (6, os.getpid())
        assert found["CLOSE_WAIT"]["age_s"] is None
        assert found["LISTEN"]["send_queue"] is None
        assert err == (
            "ctrack: the kernel's sock_diag is not available (protocol not supported): read from /proc/net/tcp, "
            "without ages, retransmissions and the limits of accept queues; 'modprobe tcp_diag' as root may help\n"
        )

    def test_with_nothing_at_all_it_is_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(procfs, "NET", tmp_path)
        assert main(["sockets"]) == 2
        assert capfd.readouterr() == (
            "",
            f"ctrack: this host's sockets: netlink: protocol not supported; {tmp_path}/tcp: no such file or directory; "
            "this needs Linux with /proc\n",
        )


def test_both_sources_agree(port: int) -> None:
    names = ["state", "local_port", "remote_port", "recv_queue", "uid", "inode"]

    def of_port(table: Any) -> list[Any]:
        mine = table[table["local_port"] == port]  # the ends that wait; the client's are on their way
        return sorted(tuple(row[name].item() for name in names) for row in mine)

    assert of_port(netlink.dump()) == of_port(procfs.read())
    assert len(of_port(procfs.read())) == 3


def test_arrow_takes_it(port: int) -> None:
    frame = polars.DataFrame(conntrack.to_arrow(host.sockets(with_owners=True)))
    assert frame.columns == COLUMNS
    mine = frame.filter((polars.col("local_port") == port) & (polars.col("state") == "CLOSE_WAIT"))
    assert mine["pid"].to_list() == [None]
    assert mine["recv_queue"].to_list() == [1]
