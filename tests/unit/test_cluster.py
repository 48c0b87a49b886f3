"""Captures read by several workers: the connections and findings are those of one thread, however it was split up."""

from __future__ import annotations

import multiprocessing
import os
import random
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from frames import eth_ipv4_tcp, ethernet, ipv4, tcp, write_pcap, write_pcapng
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import Deadly, killed
from tracked import sorted_bytes

from conntrack import cluster
from conntrack.capture import CaptureInfo, open_capture
from conntrack.cli import main
from conntrack.cluster.crew import Crew, process_crew
from conntrack.cluster.run import open_run
from conntrack.errors import ConntrackError, InputError
from conntrack.generate import generate
from conntrack.pipeline import analyze, flow_batches
from conntrack.report.json import render_json
from conntrack.tracker import Tracker

T0 = 1_700_000_000_000_000_000
ACCOUNT = (
    "files", "bytes", "packets", "tcp_segments", "skipped", "first_ts_ns", "last_ts_ns", "time_inversions",
    "incomplete",
)  # fmt: skip


def threads(n: int = 2) -> Crew:
    """A crew in this process: the same tasks, without the start of processes."""
    return Crew(lambda: ThreadPoolExecutor(n), n)


def in_memory(paths: list[Path], expression: str | None = None) -> tuple[bytes, CaptureInfo]:
    with open_capture(paths, filter=expression) as capture:
        return sorted_bytes(flow_batches(capture, Tracker())), capture.info


def hold(
    paths: list[Path], directory: Path, chunk_bytes: int, parts: int = 5, expression: str | None = None
) -> tuple[int, int]:
    """Compare with one thread; return how many pieces there were, and how many chunks were read again."""
    rows, info = in_memory(paths, expression)
    given = [str(path) for path in paths]
    part = {"filter": expression}
    with open_run(given, threads(), directory=str(directory), chunk_bytes=chunk_bytes, parts=parts, part=part) as run:
        assert sorted_bytes(run.flows()) == rows
        for name in ACCOUNT:
            assert getattr(run.info, name) == getattr(info, name), name
        assert [str(fault) for fault in run.info.faults] == [str(fault) for fault in info.faults]
        assert list(run.info.paths) == list(info.paths)
        assert run.shuffle.at.segments == info.tcp_segments
        result = len(run.shuffle.at.pieces), run.shuffle.at.again
    assert list(directory.iterdir()) == []
    return result


@pytest.fixture
def room(tmp_path: Path) -> Path:
    (tmp_path / "room").mkdir()
    return tmp_path / "room"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mixed") / "mixed.pcap"
    with path.open("wb") as out:
        generate(out, scenario="mixed", connections=2500)
    return path


class TestOneCapture:
    @pytest.mark.parametrize("chunk_bytes", [30_000, 100_000, 333_333, 1 << 30])
    @pytest.mark.parametrize("parts", [1, 16])
    def test_any_size_of_chunks_and_number_of_parts(
        self, mixed: Path, room: Path, chunk_bytes: int, parts: int
    ) -> None:
        pieces, again = hold([mixed], room, chunk_bytes, parts)
        assert again == 0 and pieces >= mixed.stat().st_size // chunk_bytes - 2

    def test_a_filter(self, mixed: Path, room: Path) -> None:
        hold([mixed], room, 50_000, expression="tcp port 443")

    @pytest.mark.parametrize("write", [write_pcap, write_pcapng], ids=["pcap", "pcapng"])
    def test_what_carries_over(self, tmp_path: Path, room: Path, write: object) -> None:
        """Fragments, paths, segments out of order over more than the window, and one of the far future."""
        rng = random.Random(5)
        packets = []
        for i in range(20_000):
            late = rng.randrange(200) if i % 3 else 0
            ts_ns = T0 + (i - late) * 100_000
            segment = tcp(sport=2000 + i % 700, seq=i * 10, payload=bytes(20))
            if i % 1000 == 7:
                packets.append((ts_ns, ethernet(ipv4(segment[:24], ip_id=i, fragment=0x2000))))
                packets.append((ts_ns, ethernet(ipv4(segment[24:], ip_id=i, fragment=3))))
            else:
                tags = [(0x8100, i // 900 % 5)] if i % 2 else []
                packets.append((ts_ns, eth_ipv4_tcp(sport=2000 + i % 700, seq=i * 10, payload=bytes(20), vlans=tags)))
            if i == 9000:
                packets.append((T0 + 10**18, eth_ipv4_tcp(sport=1999)))
        path = write(tmp_path / "a", packets)
        _, again = hold([path], room, 400_000)
        assert again > 0
        hold([path], room, 70_000)

    def test_cut_short(self, mixed: Path, tmp_path: Path, room: Path) -> None:
        path = tmp_path / "cut.pcap"
        path.write_bytes(mixed.read_bytes()[:-9])
        hold([path], room, 60_000)

    def test_every_shared_capture(self, shared: Path, room: Path) -> None:
        paths = [path for path in sorted((shared / "captures").rglob("*.pcap*")) if path.is_file()]
        for path in paths:
            hold([path], room, max(path.stat().st_size // 5, 500), 2)
        assert len(paths) > 200


class TestSeveralCaptures:
    def cut(self, tmp_path: Path, names: list[str], overlap: int = 0) -> list[Path]:
        packets = [(T0 + i * 1_000_000, eth_ipv4_tcp(sport=1000 + i % 50, seq=i)) for i in range(9000)]
        each = len(packets) // len(names)
        return [
            write_pcap(tmp_path / name, packets[max(i * each - overlap, 0) : (i + 1) * each])
            for i, name in enumerate(names)
        ]

    def test_in_any_order(self, tmp_path: Path, room: Path) -> None:
        paths = self.cut(tmp_path, ["c", "a", "b"])
        results = set()
        for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
            given = [paths[i] for i in order]
            hold(given, room, 100_000)
            with open_run([str(path) for path in given], threads(), directory=str(room), chunk_bytes=100_000) as run:
                report = render_json(run.analysis().report(run.info))
            assert report == render_json(analyze(*given, keep_flows=False))
            results.add((in_memory(given)[0], report))
        assert len(results) == 1

    def test_that_overlap(self, tmp_path: Path, room: Path) -> None:
        hold(self.cut(tmp_path, ["a", "b", "c"], overlap=20), room, 100_000)

    def test_compressed(self, tmp_path: Path, room: Path) -> None:
        import gzip

        paths = self.cut(tmp_path, ["a", "b", "c"])
        paths[1].write_bytes(gzip.compress(paths[1].read_bytes()))
        hold(paths, room, 100_000)

    @settings(max_examples=8, deadline=None)
    @given(data=st.data())
    def test_anything(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
        folder = tmp_path_factory.mktemp("any")
        (folder / "room").mkdir()
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
        jitter = data.draw(st.sampled_from([0, 10, 3000]))
        paths = []
        at = T0
        for name in "ab"[: data.draw(st.integers(1, 2))]:
            n = data.draw(st.sampled_from([0, 1, 700, 2100, 6000]))
            times = at + np.arange(n) * 1000 + (rng.normal(0, jitter, n) * 1000).astype(int)
            at = int(times.max()) + data.draw(st.integers(-2, 5)) * 1000 if n else at
            flags = rng.choice([2, 16, 17, 18, 4], n)
            packets = [
                (int(ts), eth_ipv4_tcp(sport=int(port), flags=int(flag), seq=i))
                for i, (ts, port, flag) in enumerate(zip(times, rng.integers(1, 60, n), flags, strict=True))
            ]
            paths.append(write_pcap(folder / name, packets))
        hold(paths, folder / "room", data.draw(st.sampled_from([5000, 77_777, 200_000])))


def test_the_report_is_the_same(mixed: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        report = cluster.analyze(mixed, executor=pool, workers=2, chunk_bytes=100_000)
    assert render_json(report) == render_json(analyze(mixed, keep_flows=False))


def test_the_connections_worth_showing_are_the_same(mixed: Path, room: Path) -> None:
    from conntrack.capture import open_capture
    from conntrack.pipeline import Analysis

    one = Analysis(choose=True)
    with open_capture([mixed]) as capture:
        for flows in flow_batches(capture, Tracker(), ordered=False):
            one.feed(flows)
    with open_run([str(mixed)], threads(), directory=str(room), chunk_bytes=100_000) as run:
        chosen = run.analysis(choose=True).report(run.info).chosen
    expected = one.report(capture.info).chosen
    assert chosen is not None and expected is not None and chosen.tobytes() == expected.tobytes()


def test_parquet_parts(mixed: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    with ThreadPoolExecutor(2) as pool:
        connections = cluster.write_parquet(mixed, to=tmp_path / "out", executor=pool, workers=1, chunk_bytes=100_000)
    tables = [pq.read_table(path) for path in sorted((tmp_path / "out").iterdir())]
    assert len(tables) == 8 and sum(table.num_rows for table in tables) == connections
    ids = sorted(i for table in tables for i in table["flow_id"].to_pylist())
    assert ids == sorted(i for rows in flow_batches(open_capture([mixed]), Tracker()) for i in rows["flow_id"].tolist())


class TestProcesses:
    def test_the_same_connections_and_findings(self, mixed: Path, room: Path) -> None:
        with open_run([str(mixed)], process_crew(2), directory=str(room), chunk_bytes=200_000) as run:
            rows = sorted_bytes(run.flows())
            assert render_json(run.analysis().report(run.info)) == render_json(analyze(mixed, keep_flows=False))
        assert rows == in_memory([mixed])[0]

    def test_workers_that_are_killed(self, mixed: Path, room: Path, tmp_path: Path) -> None:
        """Twice in the middle of the run: the tasks are done again by new ones."""
        dead, given = tmp_path / "dead", [0]
        dead.mkdir()
        context = multiprocessing.get_context("spawn")
        crew = Crew(lambda: Deadly(ProcessPoolExecutor(2, mp_context=context), dead, given), 2)
        with open_run([str(mixed)], crew, directory=str(room), chunk_bytes=60_000) as run:
            rows = sorted_bytes(run.flows())
        assert len(set(killed(dead))) == 2
        assert rows == in_memory([mixed])[0]
        assert list(room.iterdir()) == []

    def test_workers_that_always_die(self, room: Path) -> None:
        with process_crew(1) as crew, pytest.raises(ConntrackError, match="workers die again and again"):
            crew.one(os._exit, 9)


def test_a_crew_is_left_in_the_middle_of_results() -> None:
    """A worker that is ended while it sends leaves half a result, whose rest nobody may wait for."""
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt), process_crew(2) as crew:
            for _ in crew.run(bytes, [(50_000_000,)] * 7):
                raise KeyboardInterrupt


def test_what_is_no_capture(tmp_path: Path, room: Path) -> None:
    (tmp_path / "a").write_text("no capture")
    with (
        pytest.raises(InputError, match="not a capture"),
        open_run([str(tmp_path / "a")], threads(), directory=str(room)),
    ):
        pass
    assert list(room.iterdir()) == []


def test_a_directory_that_is_not_there(mixed: Path, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none")
    with pytest.raises(ConntrackError, match="no such file"), open_run([str(mixed)], threads(), directory=nowhere):
        pass


@pytest.mark.parametrize("command", ["report", "flows"])
def test_the_command(mixed: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for options in ([], ["--workers", "2", "--spill", str(tmp_path)]):
        assert main([command, *options, str(mixed)]) == 0
        outputs.append(sorted(capsys.readouterr().out.splitlines()))
    assert outputs[0] == outputs[1] and len(outputs[0]) > 10
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_is_damaged(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(mixed.read_bytes()[:-9])
    assert main(["report", "--workers", "1", str(path)]) == 3
    assert capsys.readouterr().err.startswith(f"ctrack: {path}: cut short in packet ")
    assert main(["report", "--workers", "1", "--cluster", "tcp://127.0.0.1:1", str(path)]) == 2
    assert "two ways" in capsys.readouterr().err
