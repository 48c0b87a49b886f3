"""The same on a Dask cluster on loopback: 1 and 4 workers, and workers that are killed in the middle of the run."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster
from distributed.core import Status
from killing import Deadly, killed, killed_so_far
from tracked import sorted_bytes

from conntrack.capture import open_capture
from conntrack.cli import main
from conntrack.cluster.crew import Crew, dask_crew
from conntrack.cluster.run import open_run
from conntrack.errors import InputError
from conntrack.generate import generate
from conntrack.pipeline import analyze, flow_batches
from conntrack.report.json import render_json
from conntrack.tracker import Tracker

pytestmark = pytest.mark.filterwarnings("ignore")  # distributed's own, at the end of clusters and of killed workers


@contextmanager
def local(workers: int) -> Iterator[LocalCluster]:
    patient = {"distributed.comm.timeouts.connect": "300s", "distributed.comm.timeouts.tcp": "300s"}
    with (
        dask.config.set(patient),
        LocalCluster(  # a worker that gives up does not come back, and the run waits for it
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
            silence_logs=60,
        ) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dask") / "mixed.pcap"
    with path.open("wb") as out:
        generate(out, scenario="mixed", connections=2500)
    return path


@pytest.fixture(scope="module")
def expected(capture: Path) -> bytes:
    with open_capture([capture]) as batches:
        return sorted_bytes(flow_batches(batches, Tracker()))


@pytest.fixture
def room(tmp_path: Path) -> Path:
    (tmp_path / "room").mkdir()
    return tmp_path / "room"


@pytest.mark.parametrize("workers", [1, 4])
def test_the_same_connections_and_findings(capture: Path, expected: bytes, room: Path, workers: int) -> None:
    with local(workers) as cluster:
        crew = dask_crew(cluster.scheduler_address)
        assert crew.workers == workers
        with open_run([str(capture)], crew, directory=str(room), chunk_bytes=300_000) as run:
            assert run.shuffle.at.again == 0
            assert sorted_bytes(run.flows()) == expected
            assert render_json(run.analysis().report(run.info)) == render_json(analyze(capture, keep_flows=False))
    assert list(room.iterdir()) == []


def wait_for_nannies(cluster: LocalCluster, dead: Path) -> None:
    """Return when every worker is looked after: a nanny that is still starting its worker does not notice its death."""
    for _ in range(6000):
        nannies = list(cluster.workers.values())
        if all(one.status == Status.running and one.pid not in killed_so_far(dead) for one in nannies):
            return
        time.sleep(0.05)
    raise AssertionError([(one.status, one.pid) for one in cluster.workers.values()])


def test_workers_that_are_killed(capture: Path, expected: bytes, room: Path, tmp_path: Path) -> None:
    (tmp_path / "dead").mkdir()
    given = [0]
    with local(2) as cluster, Client(cluster.scheduler_address, set_as_default=False) as client:
        inner = client.get_executor(pure=False, retries=10)
        executor = Deadly(inner, tmp_path / "dead", given, lambda: wait_for_nannies(cluster, tmp_path / "dead"))
        crew = Crew(lambda: executor, 2, own=False)
        with open_run([str(capture)], crew, directory=str(room), chunk_bytes=60_000) as run:
            rows = sorted_bytes(run.flows())
    assert len(set(killed(tmp_path / "dead"))) == 2
    assert rows == expected
    assert list(room.iterdir()) == []


def allow_files_of_200_kb() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


def test_no_room_is_one_line_and_leaves_nothing(capture: Path, room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To a worker a limit to files is as a disk that fills."""
    with local(2) as cluster, Client(cluster.scheduler_address, set_as_default=False) as client:
        client.run(allow_files_of_200_kb)
        assert main(["report", "--cluster", cluster.scheduler_address, "--spill", str(room), str(capture)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"ctrack: {room}: no room for more segments; give --spill a directory with more\n"
    assert list(room.iterdir()) == []


def test_the_command(capture: Path, room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--format", "json", str(capture)]) == 0
    plain = capsys.readouterr().out
    with local(2) as cluster:
        arguments = ["--cluster", cluster.scheduler_address, "--spill", str(room), str(capture)]
        assert main(["report", "--format", "json", *arguments]) == 0
        assert capsys.readouterr().out == plain
        assert main(["flows", "--format", "csv", *arguments]) == 0
        shared = capsys.readouterr().out.splitlines()
    assert main(["flows", "--format", "csv", str(capture)]) == 0
    assert sorted(shared) == sorted(capsys.readouterr().out.splitlines())
    assert main(["report", "--cluster", "tcp://127.0.0.1:1", str(capture)]) == 2
    assert "give --spill a directory" in capsys.readouterr().err


def test_a_scheduler_that_is_not_there() -> None:
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        dask_crew("tcp://127.0.0.1:1")
