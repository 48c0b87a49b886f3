"""A leak on a real server behind a cable, while `ctrack live` watches the cable; and a FIN that the server never takes.

Run as `live_scene.py FOLDER`, by root: it enters a network namespace, makes another one for the server and the cable
(veth) between them, has `ctrack live` capture on the client's end, and leaves in FOLDER what it said (events.ndjson,
stderr.txt), the packets it kept (kept.pcapng), its report (report.json), its metrics, what `ss -tan` said on the server
and when (ss_*.txt, times.json), and what `ctrack compare --with host` said there (host.json). With --server it is the
server: it accepts, reads and never closes until it is told to.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import network

CLIENT, SERVER = "10.78.0.1", "10.78.0.2"
LEAKS, IDLE = 8080, 8081
FIRST, MORE = 15, 45
AGE_S, WINDOW_S = 1.0, 6.0
READY_S = 60.0
ROOT = Path(__file__).resolve().parent.parent.parent


def ip(*words: object) -> None:
    subprocess.run(["ip", *map(str, words)], check=True)


def until(what: str, happened: Callable[[], Any]) -> Any:
    """Return what `happened()` returns once that is true.

    Raises:
        TimeoutError: it never was.
    """
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if result := happened():
            return result
        time.sleep(0.05)
    raise TimeoutError(what)


def serve() -> None:
    """Be the server: a line in, what it asks for is done, a line out."""
    held: list[socket.socket] = []
    print("in", flush=True)
    sys.stdin.readline()
    ip("link", "set", "lo", "up")
    ip("address", "add", f"{SERVER}/24", "dev", "cable1")
    ip("link", "set", "cable1", "up")

    def accept(listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            connection.recv(100)
            held.append(connection)

    for port in (LEAKS, IDLE):
        listener = socket.create_server((SERVER, port), backlog=128)
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
    print("up", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["close"]:
                while held:
                    held.pop().close()
            case ["ss", path]:
                Path(path).write_bytes(subprocess.run(["ss", "-tan"], capture_output=True, check=True).stdout)
            case ["compare", capture, path]:  # this host now; the capture is still being written
                options = ["--with", "host", "--allow-truncated", "--format", "ndjson"]
                command = [sys.executable, "-m", "conntrack", "compare", capture, *options]
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
                Path(path).write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
            case ["deaf"]:  # frames to the address that the client knows are for somebody else
                ip("link", "set", "cable1", "address", "02:00:00:00:00:99")
        print("done", flush=True)


def run(folder: Path) -> None:
    """Play it."""
    here = Path(__file__)
    server = subprocess.Popen(
        [sys.executable, here, "--server"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: (network.tie_to_parent(), network.enter_namespace()),
    )  # fmt: skip
    assert server.stdin is not None and server.stdout is not None

    def tell(words: str) -> float:
        assert server.stdin is not None and server.stdout is not None
        before_s = time.time()
        print(words, file=server.stdin, flush=True)
        assert server.stdout.readline()
        return (before_s + time.time()) / 2

    server.stdout.readline()
    ip("link", "set", "lo", "up")
    ip("link", "add", "cable0", "type", "veth", "peer", "name", "cable1")
    ip("link", "set", "cable1", "netns", server.pid)
    ip("address", "add", f"{CLIENT}/24", "dev", "cable0")
    ip("link", "set", "cable0", "up")
    tell("go")

    options = f"-i cable0 --filter tcp --format ndjson --every 0.2 --window {WINDOW_S} --listen 0"
    options += f" --threshold close_wait_age_s={AGE_S} -w {folder / 'kept.pcapng'} -o {folder / 'report.json'}"
    live = subprocess.Popen(
        [sys.executable, "-m", "conntrack", "live", *options.split()],
        cwd=ROOT,
        stdout=(folder / "events.ndjson").open("wb"), stderr=(folder / "stderr.txt").open("wb"),
        preexec_fn=network.tie_to_parent,
    )  # fmt: skip

    def events(event: str) -> list[Any]:
        lines = (folder / "events.ndjson").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return [one for one in found if one["event"] == event and one["finding"]["kind"] == "close_wait_leak"]

    def leak(n: int, port: int = LEAKS) -> list[socket.socket]:
        made = [socket.create_connection((SERVER, port)) for _ in range(n)]
        for connection in made:
            connection.sendall(b"hello")
        return made

    def knock() -> None:  # and leave nothing behind
        with leak(1, IDLE)[0] as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def metrics() -> str:
        url = re.search(r"metrics at (\S+)", (folder / "stderr.txt").read_text())
        if url is None:
            return ""
        with contextlib.suppress(OSError):
            text: str = urllib.request.urlopen(url[1], timeout=10).read().decode()
            return text
        return ""

    until("it captures", lambda: knock() or _segments(metrics()))
    times: dict[str, float] = {}
    for connection in leak(FIRST):
        connection.close()
    until("the leak is found", lambda: events("opened"))
    times["leak"] = tell(f"ss {folder / 'ss_leak.txt'}")
    (folder / "metrics.txt").write_text(metrics())
    (folder / "leak.pcapng").write_bytes((folder / "kept.pcapng.part").read_bytes())
    tell(f"compare {folder / 'leak.pcapng'} {folder / 'host.json'}")
    idle = leak(1, IDLE)[0]
    for connection in leak(MORE):
        connection.close()
    until("it grows", lambda: events("grew"))
    tell("close")
    idle = leak(1, IDLE)[0]
    until("it ends", lambda: events("ended"))
    tell("deaf")
    idle.close()
    time.sleep(0.5)
    times["deaf"] = tell(f"ss {folder / 'ss_deaf.txt'}")
    time.sleep(0.5)
    live.send_signal(signal.SIGINT)
    times["code"] = live.wait(READY_S)
    (folder / "times.json").write_text(json.dumps(times))
    server.kill()


def _segments(text: str) -> bool:
    found = re.search(r"^ctrack_segments_total ([\d.e+]+)", text, re.MULTILINE)
    return found is not None and float(found[1]) > 0


if __name__ == "__main__":
    if sys.argv[1] == "--server":
        serve()
    else:
        network.enter_namespace()
        run(Path(sys.argv[1]))
