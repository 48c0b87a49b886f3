"""`ctrack ... | head`: a reader of the output who has gone ends every command, without a word, although input goes on.

The captures here come through a pipe that is never closed: what does not end by itself never ends.
"""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

from conntrack.cli import COMMANDS
from conntrack.export import BINARY, FLOW_FORMATS, FORMATS
from conntrack.generate import generate

PATIENCE_S = 300  # of a test that fails
SNAPSHOT = str(Path(__file__).parent.parent / "captures" / "incident_ss.txt")
READING = {
    "report": [[], ["--format", "json"], ["--format", "html"]],
    "sockets": [["--format", name] for name in FORMATS],
    "explain": [["--flow", "999999999"], ["--between", "192.0.2.1:1", "192.0.2.2:2"]],
    "info": [[], ["--format", "json"]],
    "compare": [["--with", SNAPSHOT]],
    "live": [[], ["--format", "ndjson"]],
}
MADE = {
    "states": [],
    "generate": ["-", "--connections", "20000"],
    "host": ["--format", "json"],
    "bench": ["--connections", "1000"],
}


@pytest.fixture(scope="module")
def capture() -> bytes:
    out = io.BytesIO()
    generate(out, connections=3_000, seed=5)
    return out.getvalue()


def later(capture: bytes) -> Iterator[bytes]:
    """Its first packet over and over, ten seconds after the one before, from the end of the capture on."""
    fields = struct.unpack("<IIII", capture[24:40])
    frame = capture[40 : 40 + fields[2]]
    seconds = fields[0] + 10_000
    while True:
        seconds += 10
        yield b"".join(struct.pack("<II", seconds, number) + capture[32:40] + frame for number in range(100))


def feed(to: IO[bytes], capture: bytes) -> None:
    with suppress(BrokenPipeError):
        to.write(capture)
        for packets in later(capture):
            to.write(packets)


@contextmanager
def endless(command: list[str], capture: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """A command whose standard input gives a capture and then ever more packets."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-m", "conntrack", *command], stdin=pipe, stdout=pipe, stderr=pipe) as run:
        assert run.stdin is not None
        feeder = threading.Thread(target=feed, args=(run.stdin, capture))
        feeder.start()
        try:
            yield run
        finally:
            run.kill()
            feeder.join()
            with suppress(BrokenPipeError):
                run.stdin.close()


def ends_quietly(run: subprocess.Popen[bytes]) -> None:
    assert run.stdout is not None and run.stderr is not None
    run.stdout.close()
    assert run.wait(timeout=PATIENCE_S) == 141
    assert run.stderr.read() == b""


@pytest.mark.parametrize("name", FLOW_FORMATS)
def test_flows_give_rows_as_they_come_and_end_with_their_reader(name: str, capture: bytes) -> None:
    with endless(["flows", "-", "--format", name], capture) as run:
        assert run.stdout is not None
        if name in BINARY:
            assert len(run.stdout.read(4)) == 4
        else:
            assert all(line.endswith(b"\n") for line in (run.stdout.readline() for _ in range(100)))
        ends_quietly(run)


@pytest.mark.parametrize(
    ("command", "options"), [(command, options) for command, several in READING.items() for options in several]
)
def test_what_answers_at_the_end_does_not_read_on_for_nobody(command: str, options: list[str], capture: bytes) -> None:
    with endless([command, "-", *options], capture) as run:
        ends_quietly(run)


@pytest.mark.parametrize("command", MADE)
def test_what_reads_nothing_ends_as_well(command: str, capture: bytes) -> None:
    with endless([command, *MADE[command]], capture) as run:
        assert run.stdout is not None
        assert run.stdout.read(100)
        run.stdout.close()
        assert run.wait(timeout=PATIENCE_S) in ((141,) if command == "generate" else (0, 141))  # all fits into the pipe
        assert run.stderr is not None and run.stderr.read() == b""


def test_every_command_is_here() -> None:
    assert {"flows", *READING, *MADE} >= set(COMMANDS)


def test_a_file_is_written_although_nobody_reads_standard_output(root: str, tmp_path: str) -> None:
    """Only where data goes there does it count who reads it."""
    out = f"{tmp_path}/flows.csv"
    capture = f"{root}/tests/captures/incident.pcap"
    command = [sys.executable, "-m", "conntrack", "flows", capture, "-o", out]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.close()
        assert (run.wait(timeout=PATIENCE_S), run.stderr.read()) == (0, b"")
    with Path(out).open() as written:
        assert len(written.readlines()) == 1_058
