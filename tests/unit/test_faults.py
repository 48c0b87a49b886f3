"""Faults from outside: full disks, signals at any moment, inputs that change while they are read.

What must hold: under the name of an output is what was there before, or the whole new file; one line says what went
wrong; the exit code is a documented one; nothing is left beside it. `CONNTRACK_SIGNALS=2000` tries as many moments.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conntrack.capture.unchanged import FileState
from conntrack.cli import COMMANDS, main
from conntrack.cli.errors import ExitCode
from conntrack.errors import InputError
from conntrack.generate import generate

CAPTURES = Path(__file__).parent.parent / "captures"
INCIDENT = str(CAPTURES / "incident.pcap")
SNAPSHOT = str(CAPTURES / "incident_ss.txt")
BEFORE = b"what was there before"
MOMENTS = int(os.environ.get("CONNTRACK_SIGNALS", "24"))

WRITING = {
    "report": [INCIDENT, "-o", "{out}.txt"],
    "report json": [INCIDENT, "-o", "{out}.json"],
    "report html": [INCIDENT, "-o", "{out}.html"],
    "report html shared": [INCIDENT, "--workers", "1", "--spill", "{folder}", "-o", "{out}.html"],
    "flows": ["flows", INCIDENT, "-o", "{out}.csv"],
    "flows ndjson": ["flows", INCIDENT, "-o", "{out}.ndjson"],
    "flows parquet": ["flows", INCIDENT, "-o", "{out}.parquet"],
    "flows arrow": ["flows", INCIDENT, "-o", "{out}.arrow"],
    "flows arrows": ["flows", INCIDENT, "--format", "arrows"],
    "flows zeek": ["flows", INCIDENT, "--format", "zeek"],
    "flows spill": ["flows", INCIDENT, "--spill", "{folder}", "-o", "{out}.tsv"],
    "sockets": ["sockets", INCIDENT, "-o", "{out}.ndjson"],
    "sockets now": ["sockets", "-o", "{out}.csv"],
    "host": ["host", "--for", "0.1", "--format", "json"],
    "explain": ["explain", INCIDENT, "--flow", "4", "-o", "{out}.json"],
    "info": ["info", INCIDENT, "--format", "json"],
    "compare": ["compare", INCIDENT, "--with", SNAPSHOT, "-o", "{out}.ndjson"],
    "live": ["live", INCIDENT, "-o", "{out}.html"],
    "states": ["states", "-o", "{out}.txt"],
    "generate": ["generate", "{out}", "--connections", "300"],
    "generate truth": ["generate", "{folder}/made.pcap", "--connections", "10", "--truth", "{out}"],
    "bench": ["bench", "--connections", "1000", "--format", "json"],
}
"""Each option that writes a file, in each command. Without -o or {out} of its own it gets `-o {out}`."""


def arguments(name: str, out: Path) -> tuple[list[str], Path]:
    """The command, and the file that it writes."""
    given = [word.format(out=out, folder=out.parent) for word in WRITING[name]]
    target = next((Path(word) for word in given if word.startswith(str(out))), None)
    return (given, target) if target is not None else ([*given, "-o", str(out)], out)


def run(given: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-m", "conntrack", *given]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


def test_every_command_that_writes_is_here() -> None:
    assert {name.split()[0] for name in WRITING} == set(COMMANDS)


@pytest.mark.parametrize("name", WRITING)
def test_a_file_is_whole_or_as_it_was(name: str, tmp_path: Path) -> None:
    """Its disk is full after 64 bytes (RLIMIT_FSIZE, "file too large"); then it is not."""
    given, target = arguments(name, tmp_path / "out")
    target.write_bytes(BEFORE)
    target.chmod(0o640)
    done = run(
        given,
        env=os.environ | {"GCOV_PREFIX": os.devnull},  # or else it leaves 64 bytes of the counts of benches/covered.py
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY)),
    )
    assert done.returncode == ExitCode.USAGE, done.stderr
    *notes, line = done.stderr.splitlines()
    assert len(notes) == (name == "compare")
    assert "file too large" in line or "no room for more" in line
    assert line.startswith("ctrack: " if name == "bench" else f"ctrack: {tmp_path}")
    assert target.read_bytes() == BEFORE
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert main(given) == 0
    assert target.stat().st_mode & 0o777 == 0o640
    assert len(target.read_bytes()) > 64 and BEFORE not in target.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} <= {target.name, "made.pcap"}


if os.geteuid() == 0:

    @pytest.fixture
    def small_disk(tmp_path: Path) -> Iterator[Path]:
        """A disk of 32 KiB."""
        folder = tmp_path / "disk"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(folder)], check=True)
        yield folder
        subprocess.run(["umount", str(folder)], check=True)

    @pytest.mark.parametrize("name", ["report html", "flows", "flows parquet", "flows spill", "sockets", "generate"])
    def test_a_full_disk(name: str, small_disk: Path) -> None:
        given, target = arguments(name, small_disk / "out")
        target.write_bytes(BEFORE)
        done = run(given)
        assert done.returncode == ExitCode.USAGE
        assert done.stderr.count("\n") == 1 and done.stderr.startswith(f"ctrack: {small_disk}")
        assert "no space left on device" in done.stderr or "no room for more" in done.stderr
        assert target.read_bytes() == BEFORE
        assert [path.name for path in small_disk.iterdir()] == [target.name]

    def test_a_full_disk_ends_the_keeping_of_live_and_not_the_tracking(small_disk: Path, tmp_path: Path) -> None:
        kept = small_disk / "kept.pcap"
        kept.write_bytes(BEFORE)
        done = run(["live", INCIDENT, "-w", str(kept), "-o", str(tmp_path / "report.json")])
        assert done.returncode == 0
        assert f"{kept}.part: no space left on device; packets are not kept any more" in done.stderr
        assert kept.read_bytes() == BEFORE
        part = Path(f"{kept}.part").read_bytes()
        assert part and Path(INCIDENT).read_bytes().startswith(part)
        assert json.loads((tmp_path / "report.json").read_text())["connections"]["total"] == 1057


SIGNALLED = {
    "report html": lambda data: data.endswith(b"</html>\n"),
    "report json": lambda data: bool(json.loads(data)),
    "flows": lambda data: data.endswith(b"\n") and data.count(b"\n") > 1,
    "flows parquet": lambda data: data.endswith(b"PAR1"),
    "generate": lambda data: len(data) > 24,
}
"""Commands and whether what they wrote is whole."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A capture that takes half a second or so."""
    path = tmp_path_factory.mktemp("large") / "large.pcap"
    with path.open("wb") as out:
        generate(out, connections=20_000, seed=3)
    return str(path)


def wait_for_our_first_line(process: subprocess.Popen[str]) -> None:
    """Until then a signal is Python's, which answers with a traceback; it catches SIGINT, and we let go of it first."""
    status = Path("/proc", str(process.pid), "status")

    def caught() -> int:
        found = re.search(r"^SigCgt:\s*([0-9a-f]+)", status.read_text(), re.MULTILINE)
        return int(found[1], 16) if found else 0

    def of(number: int) -> int:
        return 1 << (number - 1)

    while process.poll() is None and not caught() & of(signal.SIGINT):
        time.sleep(0.0005)
    while process.poll() is None and caught() & of(signal.SIGINT) and not caught() & of(signal.SIGTERM):
        time.sleep(0.0005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGKILL])
@pytest.mark.parametrize("name", SIGNALLED)
def test_a_signal_at_any_moment(name: str, number: signal.Signals, large: str, tmp_path: Path) -> None:
    """It says so in a line, or (Ctrl-C while it reads) reports what it has; the file is whole, or what it was."""
    given, target = arguments(name, tmp_path / "out")
    given = ["20000" if word == "300" else large if word == INCIDENT else word for word in given]
    begun_s = time.monotonic()
    assert run(given).returncode == 0
    lasts_s = time.monotonic() - begun_s
    moments = random.Random(number)
    codes = {0, -number, 128 + number} if number != signal.SIGPIPE else {0}
    for _ in range(-(-MOMENTS // 24)):
        target.write_bytes(BEFORE)
        command = [sys.executable, "-B", "-m", "conntrack", *given]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            wait_for_our_first_line(process)
            time.sleep(moments.uniform(0, 0.9) * lasts_s)
            process.send_signal(number)
            out, err = process.communicate(timeout=300)
        assert (process.returncode in codes, out) == (True, ""), (process.returncode, err)
        assert "Traceback" not in err and all(line.startswith("ctrack: ") for line in err.splitlines()), err
        data = target.read_bytes()
        assert data == BEFORE or SIGNALLED[name](data)
        assert data != BEFORE or process.returncode
        left = [path for path in tmp_path.iterdir() if path != target]
        assert number == signal.SIGKILL or not left
        for path in left:
            assert path.name.startswith(".ctrack-")
            path.unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_command(number: signal.Signals, large: str, tmp_path: Path) -> None:
    """Also where it cannot tell them; its directory goes where it can."""
    command = [sys.executable, "-B", "-m", "conntrack", large, "--workers", "2", "--spill", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        while not any(one.name.startswith("chunk-") for one in tmp_path.glob("conntrack-*/*")):
            time.sleep(0.01)
            assert process.poll() is None, process.communicate()
        process.send_signal(number)
        process.wait(timeout=300)
        until_s = time.monotonic() + 120
        while (alive := members_of(process.pid)) and time.monotonic() < until_s:
            time.sleep(0.05)
        assert alive == []
    assert process.returncode in (0, 128 + number, -number)
    assert number == signal.SIGKILL or list(tmp_path.iterdir()) == []


def members_of(session: int) -> list[str]:
    """The processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        fields = text.rpartition(")")[2].split()
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(text)
    return found


def test_a_killed_live_leaves_what_it_kept_beside_its_place(tmp_path: Path) -> None:
    kept = tmp_path / "kept.pcap"
    for number in range(2):
        command = [sys.executable, "-B", "-m", "conntrack", "live", "-", "-w", str(kept)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            assert process.stdin is not None
            process.stdin.write(Path(INCIDENT).read_bytes())
            process.stdin.flush()
            part = Path(f"{kept}.part" if not number else f"{kept}.2.part")
            while not part.exists() or part.stat().st_size < Path(INCIDENT).stat().st_size:
                time.sleep(0.02)
                assert process.poll() is None
            process.kill()
        assert not kept.exists()
        assert part.read_bytes() == Path(INCIDENT).read_bytes()
    assert run(["live", INCIDENT, "-w", str(kept)]).returncode == 0
    assert kept.read_bytes() == Path(INCIDENT).read_bytes()
    assert len(list(tmp_path.iterdir())) == 3, "and what was kept before is still there"


def cut(path: Path) -> None:
    os.truncate(path, 100_000)


def replaced(path: Path) -> None:
    other = path.with_suffix(".new")
    with other.open("wb") as out:
        generate(out, connections=5_000, seed=9)
    other.replace(path)


def written_over(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:24] + bytes(len(data) - 24))
    os.utime(path, ns=(0, 0))


CHANGES = {cut: "was cut while", replaced: "was replaced while", written_over: "was written over while"}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_file_that_changes_is_told(change: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(Path(INCIDENT).read_bytes())
    state = FileState.of(str(path))
    assert state is not None
    state.check(str(path))
    with path.open("ab") as out:
        out.write(b"more")
    state.check(str(path))
    os.truncate(path, state.size)
    change(path)
    with pytest.raises(InputError, match=CHANGES[change]):
        state.check(str(path))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("options", [[], ["--workers", "1"], ["--spill", "."]], ids=["alone", "workers", "spill"])
def test_an_input_that_changes_while_it_is_read(
    change: Callable[[Path], None], options: list[str], large: str, tmp_path: Path
) -> None:
    """At any moment: a report of what was read, or a line that says why there is none; never a crash."""
    moments = random.Random(7)
    for _ in range(2):
        path = tmp_path / "a.pcap"
        path.write_bytes(Path(large).read_bytes())
        command = [sys.executable, "-B", "-m", "conntrack", str(path), *options, "--format", "json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            time.sleep(moments.uniform(0.1, 1.2))
            change(path)
            out, err = process.communicate(timeout=300)
        assert process.returncode in (0, 2, 3), err
        assert err.count("\n") == (process.returncode != 0), err
        assert "internal error" not in err and (not err or err.startswith(f"ctrack: {path}: "))
        assert (process.returncode == 2) == (out == "")
        if out:
            assert json.loads(out)["capture"]["packets"] > 0
