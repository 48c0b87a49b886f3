"""A run that is stopped, or killed, and goes on later: the same connections and report, and nothing is done twice."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from frames import eth_ipv4_tcp, write_pcap
from tracked import sorted_bytes

from conntrack.capture import open_capture
from conntrack.cli import main
from conntrack.cluster.checkpoint import open_checkpoint
from conntrack.cluster.crew import Crew
from conntrack.cluster.run import open_run
from conntrack.errors import ConntrackError, InputError
from conntrack.generate import generate
from conntrack.pipeline import analyze, flow_batches
from conntrack.report.json import render_json
from conntrack.tracker import Tracker

CHUNK_BYTES = 300_000


class Stop:
    """Watches a run; raises, or does something else, when it has come so far."""

    def __init__(self, reads: int | None = None, parts: int | None = None) -> None:
        self.left = {"read": reads, "followed": parts}
        self.reads = self.parts = 0

    def read(self, done_bytes: int, total_bytes: int | None, packets: int) -> None:
        self.reads += 1
        self._count("read")

    def followed(self, parts: int, of: int) -> None:
        self.parts += 1
        self._count("followed")

    def _count(self, what: str) -> None:
        left = self.left[what]
        if left is not None:
            self.left[what] = left - 1
            if not left:
                raise KeyboardInterrupt


def go(paths: list[Path], checkpoint: Path, watch: Stop, parts: int = 6, chunk_bytes: int = CHUNK_BYTES) -> bytes:
    crew = Crew(lambda: ThreadPoolExecutor(2), 2)
    given = [str(path) for path in paths]
    with open_run(
        given, crew, checkpoint=str(checkpoint), chunk_bytes=chunk_bytes, parts=parts, watch=watch
    ) as run:  # fmt: skip
        return sorted_bytes(run.flows())


def in_memory(*paths: Path) -> bytes:
    with open_capture(paths) as capture:
        return sorted_bytes(flow_batches(capture, Tracker()))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mixed") / "mixed.pcap"
    with path.open("wb") as out:
        generate(out, scenario="mixed", connections=2500)
    return path


@pytest.fixture(scope="module")
def expected(mixed: Path) -> bytes:
    return in_memory(mixed)


@pytest.fixture
def stopped(mixed: Path, tmp_path: Path) -> Path:
    """A checkpoint of `mixed`, read in part."""
    with pytest.raises(KeyboardInterrupt):
        go([mixed], tmp_path / "run.ckpt", Stop(reads=5))
    return tmp_path / "run.ckpt"


def test_a_run_that_is_not_stopped(mixed: Path, expected: bytes, tmp_path: Path) -> None:
    assert go([mixed], tmp_path / "run.ckpt", Stop()) == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [{"reads": 0}, {"reads": 7}, {"parts": 0}, {"parts": 3}], ids=str)
def test_stopped_once(mixed: Path, expected: bytes, tmp_path: Path, stop: dict[str, int]) -> None:
    checkpoint, whole, first, second = tmp_path / "run.ckpt", Stop(), Stop(**stop), Stop()
    go([mixed], tmp_path / "other.ckpt", whole)
    with pytest.raises(KeyboardInterrupt):
        go([mixed], checkpoint, first)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run.ckpt", "run.ckpt.parts"]
    assert go([mixed], checkpoint, second, parts=3, chunk_bytes=1 << 20) == expected  # these are of who began
    assert whole.reads - 1 <= first.reads + second.reads <= whole.reads + 1
    assert first.parts + second.parts <= whole.parts + 2
    assert list(tmp_path.iterdir()) == []


def test_stopped_again_and_again(mixed: Path, expected: bytes, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.ckpt"
    for times in range(100):  # noqa: B007  (asked for after the loop)
        try:
            rows = go([mixed], checkpoint, Stop(reads=2, parts=2))
        except KeyboardInterrupt:
            continue
        break
    assert 6 < times < 100 and rows == expected


def test_every_shared_capture(shared: Path, tmp_path: Path) -> None:
    """With fragments that wait, sections, paths and damage at the point where it is stopped."""
    paths = [path for path in sorted((shared / "captures").rglob("*.pcap*")) if path.is_file()]
    for path in paths:
        size = max(path.stat().st_size // 5, 500)
        for watch in (Stop(reads=1), Stop(reads=1), Stop(parts=1)):
            try:
                go([path], tmp_path / "run.ckpt", watch, 2, size)
            except KeyboardInterrupt:
                continue
        rest = go([path], tmp_path / "run.ckpt", Stop(), 2, size)
        assert rest == in_memory(path), path
        assert list(tmp_path.iterdir()) == []
    assert len(paths) > 200


KILLED = """
import os, signal, sys
from conntrack.cluster.crew import process_crew
from conntrack.cluster.run import open_run

class Kill:
    left = {reads}, {parts}
    def read(self, *_):
        self.left = self.left[0] - 1, self.left[1]
        self.look()
    def followed(self, *_):
        self.left = self.left[0], self.left[1] - 1
        self.look()
    def look(self):
        if min(self.left) < 0:
            os.kill(os.getpid(), signal.{signal})

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the background of a shell has it ignored
    with open_run(
        [sys.argv[1]], process_crew(2), checkpoint=sys.argv[2], chunk_bytes=300_000, parts=9, watch=Kill()
    ) as run:
        list(run.flows())
"""


@pytest.mark.parametrize(("signal", "command"), [("SIGKILL", "report"), ("SIGKILL", "flows"), ("SIGINT", "report")])
def test_killed_and_gone_on_with_by_the_command(
    mixed: Path, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str], signal: str, command: str
) -> None:
    """Killed twice, while it reads and while it follows."""
    checkpoint, script = tmp_path / "run.ckpt", tmp_path / "run.py"
    for reads, parts in ((4, 99), (99, 4)):
        script.write_text(KILLED.format(reads=reads, parts=parts, signal=signal))
        done = subprocess.run(
            [sys.executable, str(script), str(mixed), str(checkpoint)],
            env={"PYTHONPATH": str(root)}, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode != 0 and checkpoint.exists()
    format_ = ["--format", "json" if command == "report" else "csv"]
    assert main([command, *format_, "--checkpoint", str(checkpoint), str(mixed)]) == 0
    resumed = capsys.readouterr().out
    assert main([command, *format_, str(mixed)]) == 0
    plain = capsys.readouterr().out
    if command == "flows":
        resumed, plain = ("\n".join(sorted(text.splitlines())) for text in (resumed, plain))
    assert resumed == plain
    assert list(tmp_path.iterdir()) == [script]


def test_the_report_is_the_same(mixed: Path, stopped: Path) -> None:
    crew = Crew(lambda: ThreadPoolExecutor(2), 2)
    with open_run([str(mixed)], crew, checkpoint=str(stopped)) as run:
        report = run.analysis().report(run.info)
    assert render_json(report) == render_json(analyze(mixed, keep_flows=False))


def test_several_files_in_any_order(tmp_path: Path) -> None:
    packets = [(10**18 + i * 10**6, eth_ipv4_tcp(sport=1000 + i % 50, seq=i)) for i in range(9000)]
    paths = [write_pcap(tmp_path / name, packets[i * 3000 : (i + 1) * 3000]) for i, name in enumerate("cab")]
    with pytest.raises(KeyboardInterrupt):
        go(paths, tmp_path / "run.ckpt", Stop(reads=5), chunk_bytes=50_000)
    assert go([paths[2], paths[0], paths[1]], tmp_path / "run.ckpt", Stop()) == in_memory(*paths)


class TestRefused:
    def refused(self, paths: list[Path], checkpoint: Path, words: str) -> None:
        before = checkpoint.read_bytes()
        with pytest.raises(ConntrackError, match=words) as raised:
            go(paths, checkpoint, Stop())
        assert "\n" not in str(raised.value)
        assert checkpoint.read_bytes() == before

    def test_what_is_no_checkpoint(self, mixed: Path, tmp_path: Path) -> None:
        for content in (b"", b"notes of mine\n", b"PK\x03\x04" + bytes(100), mixed.read_bytes()[:5000]):
            (tmp_path / "notes").write_bytes(content)
            self.refused([mixed], tmp_path / "notes", "is damaged, or no checkpoint; give another name")
        np.savez(tmp_path / "notes", a=np.arange(3))
        self.refused([mixed], tmp_path / "notes.npz", "is damaged, or no checkpoint")

    def test_a_directory_in_its_place(self, mixed: Path, tmp_path: Path) -> None:
        (tmp_path / "run.ckpt.parts").mkdir()
        (tmp_path / "run.ckpt.parts" / "mine").touch()
        with pytest.raises(ConntrackError, match=r"parts: is there, without"):
            go([mixed], tmp_path / "run.ckpt", Stop())
        with pytest.raises(ConntrackError, match="none: no such file or directory; give --checkpoint a directory"):
            go([mixed], tmp_path / "none" / "run.ckpt", Stop())
        assert [entry.name for entry in tmp_path.rglob("*")] == ["run.ckpt.parts", "mine"]

    def test_damage(self, mixed: Path, expected: bytes, stopped: Path) -> None:
        """Any byte of it: it is refused, or the byte says nothing (zip has such)."""
        rng, good, refused = random.Random(1), stopped.read_bytes(), 0
        for _ in range(120):
            at = rng.randrange(len(good))
            bad = (
                good[:at]
                if rng.random() < 0.2
                else good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :]
            )
            stopped.write_bytes(bad)
            try:
                with open_checkpoint(str(stopped), {"profile": "linux"}, np.zeros(4, np.uint64), 1, 1) as kept:
                    assert kept.standing.jobs > 0
                    raise KeyboardInterrupt
            except ConntrackError as error:
                assert "\n" not in str(error)
                refused += 1
            except KeyboardInterrupt:
                pass
        assert refused > 100
        stopped.write_bytes(good)
        assert go([mixed], stopped, Stop()) == expected

    def test_what_was_never_written_by_us(self, mixed: Path, stopped: Path) -> None:
        with zipfile.ZipFile(stopped) as file:
            members = {name: file.read(name) for name in file.namelist()}
        document = json.loads(np.load(io.BytesIO(members["checkpoint.npy"])).tobytes())

        def forged(changes: dict[str, object]) -> None:
            standing = {**document["standing"]["Standing"], **changes.pop("standing", {})}
            text = json.dumps({**document, **changes, "standing": {"Standing": standing}}).encode()
            data = io.BytesIO()
            np.save(data, np.frombuffer(text, np.uint8))
            with zipfile.ZipFile(stopped, "w") as file:
                for name, content in {**members, "checkpoint.npy": data.getvalue()}.items():
                    file.writestr(name, content)

        piece = {"Piece": {"name": "../../secret", "frames_before": 0, "paths": None}}
        for changes in (
            {"standing": {"pieces": {"list": [piece]}}},
            {"standing": {"held": {"Held": {"rows": {"bytes": "00"}, "clock": {"tuple": [0, 0, 0]}}}}},
            {"standing": {"place": {"Path": {}}}},
            {"standing": {"counts": {"array": "nowhere"}}},
            {"parts": 0}, {"key": [1]}, {"chunk_bytes": "x"}, {"captures": 5}, {"form": "another"},
        ):  # fmt: skip
            forged(dict(changes))
            self.refused([mixed], stopped, "is damaged, or no checkpoint")
        forged({"version": "0"})
        self.refused([mixed], stopped, "another version")

    def test_other_captures(self, mixed: Path, stopped: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.pcap"
        other.write_bytes(mixed.read_bytes())
        self.refused([other], stopped, "is of other captures")
        self.refused([mixed, other], stopped, "is of other captures")

    def test_a_capture_that_has_changed(self, mixed: Path, tmp_path: Path) -> None:
        capture, checkpoint = tmp_path / "a.pcap", tmp_path / "run.ckpt"
        capture.write_bytes(mixed.read_bytes())
        with pytest.raises(KeyboardInterrupt):
            go([capture], checkpoint, Stop(reads=2))
        capture.write_bytes(mixed.read_bytes() + bytes(10))
        self.refused([capture], checkpoint, r"a.pcap: has changed since .*run.ckpt; remove that to begin anew")

    def test_other_options(self, mixed: Path, stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["report", "--checkpoint", str(stopped), "--filter", "tcp port 443", str(mixed)]) == 2
        assert "was begun with other options" in capsys.readouterr().err

    def test_segments_that_are_damaged_or_gone(self, mixed: Path, stopped: Path) -> None:
        piece = next(Path(f"{stopped}.parts").glob("chunk-00000-000001"))
        good = bytearray(piece.read_bytes())
        good[len(good) // 3] ^= 4
        piece.write_bytes(good)
        with pytest.raises(ConntrackError, match=r"chunk-00000-000001: is damaged \(offset \d+\); begin anew"):
            go([mixed], stopped, Stop())
        piece.unlink()
        self.refused([mixed], stopped, "chunk-00000-000001: is missing; remove .* to begin anew")

    def test_connections_that_are_damaged(self, mixed: Path, tmp_path: Path) -> None:
        checkpoint = tmp_path / "run.ckpt"
        with pytest.raises(KeyboardInterrupt):
            go([mixed], checkpoint, Stop(parts=4))
        rows = tmp_path / "run.ckpt.parts" / "rows-00000"
        good = rows.read_bytes()
        for bad in (good[:-3], good[:5000] + b"!!!!" + good[5004:], good[:3], b"\xff" * 12):
            rows.write_bytes(bad)
            with pytest.raises(ConntrackError, match=r"rows-00000: is damaged"):
                go([mixed], checkpoint, Stop())

    def test_two_at_once(self, mixed: Path, stopped: Path) -> None:
        with (
            open_checkpoint(str(stopped), {"profile": "linux"}, np.zeros(4, np.uint64), 1, 1),
            pytest.raises(ConntrackError, match="another run is at work with it"),
        ):
            go([mixed], stopped, Stop())

    def test_a_pipe(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="-: --checkpoint is for files: a pipe cannot be read again"):
            go([Path("-")], tmp_path / "run.ckpt", Stop())
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--cluster", "tcp://127.0.0.1:1"], "is for one machine"),
            (["--spill", "."], "leave --spill out"),
            (["--follow"], "--follow is for one process"),
            (["--threads", "2"], "--threads and --max-memory are for one process"),
        ],
    )
    def test_options(self, mixed: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str) -> None:
        for command in ("report", "flows"):
            assert main([command, "--checkpoint", "a.ckpt", *options, str(mixed)]) == 2
            assert words in capsys.readouterr().err


@pytest.fixture
def overlapping(tmp_path: Path) -> Iterator[list[Path]]:
    packets = [(10**18 + i * 10**6, eth_ipv4_tcp(sport=1000 + i % 50, seq=i)) for i in range(4000)]
    yield [write_pcap(tmp_path / "a", packets[:2500]), write_pcap(tmp_path / "b", packets[1500:])]


def test_captures_that_are_read_in_one(
    overlapping: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no going on for these, and that is said."""
    assert go(overlapping, tmp_path / "run.ckpt", Stop()) == in_memory(*overlapping)
    assert main(["report", "--checkpoint", str(tmp_path / "run.ckpt"), *map(str, overlapping)]) == 0
    assert "there is no going on from a checkpoint" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 2
