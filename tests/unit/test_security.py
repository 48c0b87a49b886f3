"""What SECURITY.md promises, held against the code: sockets, programs, files written, rights, limits."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conntrack.cli import COMMANDS

CAPTURES = Path(__file__).parent.parent / "captures"
INCIDENT = str(CAPTURES / "incident.pcap")
SNAPSHOT = str(CAPTURES / "incident_ss.txt")

WATCHED = """
import os, sys
NOTED = (
    "socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.send", "subprocess", "os.exec",
    "os.fork", "os.posix_spawn", "os.spawn", "os.system", "ctypes.dlopen", "pickle", "urllib", "webbrowser",
)
seen = []
def watch(event, arguments):
    if event == "open":
        name, mode, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and name != os.devnull:
            seen.append(f"writes {name}")
    elif event == "socket.__new__":
        seen.append(f"socket of family {int(arguments[1])}")
    elif event.startswith(NOTED) and (event, arguments) != ("ctypes.dlopen", (None,)):  # numpy, of the process itself
        seen.append(" ".join(map(str, (event, *arguments))))
sys.addaudithook(watch)
import conntrack
from conntrack.cli import main
code = main(sys.argv[1:])
print(code, file=sys.stderr)
print("\\n".join(seen), file=sys.stderr)
"""
QUIET = {
    "import": ["--version"],
    "report": [INCIDENT],
    "json": [INCIDENT, "--format", "json"],
    "html": [INCIDENT, "-o", "{out}.html"],
    "flows": ["flows", INCIDENT, "--where", "server_port=443"],
    "parquet": ["flows", INCIDENT, "-o", "{out}.parquet"],
    "sockets": ["sockets", INCIDENT],
    "explain": ["explain", INCIDENT, "--flow", "4"],
    "info": ["info", INCIDENT],
    "compare": ["compare", INCIDENT, "--with", SNAPSHOT],
    "live": ["live", INCIDENT, "-w", "{out}"],
    "states": ["states"],
    "generate": ["generate", "{out}", "--connections", "50"],
    "bench": ["bench", "--connections", "1000"],
}
"""Commands that no option asks to do more."""
KERNEL = {
    "sockets": ["sockets"],
    "host": ["host", "--for", "0.1"],
    "compare": ["compare", INCIDENT, "--with", "host", "--host", "10.9.0.2"],
}
AF_NETLINK = 16


def watched(arguments: list[str], *before: str) -> tuple[int, list[str]]:
    """The exit code, and what the interpreter's audit events (PEP 578) tell of a command."""
    command = [*before, sys.executable, "-B", "-c", WATCHED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    said = [line for line in done.stderr.splitlines() if not line.startswith("ctrack: ")]
    assert said and said[0].isdigit(), done.stderr
    return int(said[0]), [line for line in said[1:] if line]


def text(root: Path) -> str:
    return (root / "SECURITY.md").read_text()


@pytest.mark.parametrize("name", QUIET)
def test_no_socket_no_program_no_file_but_the_one_that_was_named(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, seen = watched([word.format(out=out) for word in QUIET[name]])
    assert code == 0
    if name == "bench":  # which generates a capture, in the system's directory for temporary files
        seen = [
            one for one in seen if "ctrack-bench-" not in one and not re.fullmatch(r"writes /\S*/[a-z0-9_]{8}", one)
        ]
    assert [one for one in seen if not one.startswith(f"writes {tmp_path}")] == []
    assert {one.startswith("writes ") for one in seen} == (
        {True} if any("{out}" in word for word in QUIET[name]) else set()
    )


def test_every_command_was_watched() -> None:
    used = {words[0] if words[0] in COMMANDS else "report" for words in [*QUIET.values(), *KERNEL.values()]}
    assert used == set(COMMANDS)


@pytest.mark.parametrize("name", KERNEL)
def test_what_asks_the_kernel_has_a_netlink_socket_and_no_other(name: str) -> None:
    code, seen = watched(KERNEL[name])
    assert code == 0
    assert f"socket of family {AF_NETLINK}" in seen
    assert [one for one in seen if one != f"socket of family {AF_NETLINK}" and not one.startswith("socket.bind")] == []


def test_the_watching_sees(tmp_path: Path) -> None:
    """That nothing is seen above means something."""
    found = watched([INCIDENT, "--spill", str(tmp_path), "--filter", "tcp"])[1]
    assert any(one.startswith("ctypes.dlopen") for one in found), "libpcap"
    assert any(one.startswith(f"writes {tmp_path}") for one in found)
    found = watched(["live", "-i", "lo", "--for", "0.1"])[1]
    assert any(one.startswith("subprocess.Popen") for one in found)
    found = watched(["live", INCIDENT, "--listen", "0"])[1]
    assert any(one.startswith("socket.bind") and "127.0.0.1" in one for one in found)
    found = watched([INCIDENT, "--workers", "1"])[1]
    assert any(one.startswith("pickle") for one in found)


if os.geteuid() == 0:  # others have none to begin with

    @pytest.mark.parametrize("name", ["report", "flows", "sockets", "explain", "info", "compare", "live", "states"])
    def test_captures_are_read_without_any_capability(name: str, tmp_path: Path) -> None:
        dropping = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
        code, _ = watched([word.format(out=tmp_path / "out") for word in QUIET[name]], *dropping)
        assert code == 0

    @pytest.mark.parametrize("name", KERNEL)
    def test_the_kernel_is_asked_without_any_capability(name: str) -> None:
        code, _ = watched(KERNEL[name], "setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
        assert code == 0


def value_of(path: Path, name: str) -> int:
    """The number that a constant of that name, or a field with a default, has in a source."""
    found = re.search(rf"^ *{name}(?::[^=\n]*)? *= *([^#\n]+)", path.read_text(), re.MULTILINE)
    assert found, f"{path}: no {name}"
    tree = ast.parse(found[1].strip(), mode="eval")
    allowed = (ast.Expression, ast.BinOp, ast.LShift, ast.Mult, ast.Pow, ast.Sub, ast.Constant)
    assert all(isinstance(node, allowed) for node in ast.walk(tree)), found[1]
    value: int = eval(compile(tree, str(path), "eval"))
    return value


LIMIT = re.compile(r"^\| [^|]*? \|[^|]*?([\d,]+) \| `([\w/.]+)` `(\w+)` \| [^|]+ \|$", re.MULTILINE)


def test_the_limits_are_those_of_the_code(root: Path) -> None:
    limits = LIMIT.findall(text(root))
    table = text(root).split("## Limits")[1]
    assert len(limits) == table.count("\n| ") - 1 > 25, "every row has a number and where it is from"
    for number, file, name in limits:
        assert int(number.replace(",", "")) == value_of(root / "conntrack" / file, name), f"{file} {name}"
