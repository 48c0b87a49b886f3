"""What benches share: the traffic, made once, and how a time becomes nanoseconds for each thing that was worked on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benches.floor import build_floor
from benches.record import RATIO
from benches.traffic import CaptureFile, capture_file, given_file, segment_batches

Report = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conntrack benches")
    group.addoption("--bench-connections", type=int, default=100_000, help="connections of the generated traffic")
    group.addoption("--bench-capture", type=Path, help="a capture to use instead of a generated one")
    group.addoption("--bench-most-live", type=int, default=1_000_000, help="connections alive at once, at most")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("python_files", "bench_*.py")


@pytest.fixture(scope="session")
def connections(request: pytest.FixtureRequest) -> int:
    """How many connections the generated traffic has."""
    return int(request.config.getoption("--bench-connections"))


@pytest.fixture(scope="session")
def capture(request: pytest.FixtureRequest, connections: int, tmp_path_factory: pytest.TempPathFactory) -> CaptureFile:
    """The capture that file benches read."""
    given = request.config.getoption("--bench-capture")
    if given is not None:
        return given_file(given)
    return capture_file(tmp_path_factory.mktemp("traffic") / "mixed.pcap", connections=connections)


@pytest.fixture(scope="session")
def batches(connections: int) -> list[Any]:
    """The same traffic as the generated capture, as batches of SEGMENT_DTYPE."""
    return segment_batches(connections=connections)


@pytest.fixture(scope="session")
def most_live(request: pytest.FixtureRequest) -> int:
    """The most connections that a bench is to keep alive at once."""
    return int(request.config.getoption("--bench-most-live"))


@pytest.fixture(scope="session")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The compiled floor, where its source is."""
    return build_floor(tmp_path_factory.mktemp("floor"))


@pytest.fixture
def report(benchmark: Any) -> Report:
    """Return a function that notes how many things one round worked on: `report(packets=n, **more)`.

    The first is what the time is divided by; it gives `ns_per_<its name without the plural s>`, and with `floor_ns`,
    what the floor took a packet, also the ratio to it.
    """

    def note(*, floor_ns: float | None = None, **counts: Any) -> None:
        benchmark.extra_info.update(counts)
        name, count = next(iter(counts.items()))
        if benchmark.stats is not None and count:
            each_ns = benchmark.stats.stats.median * 1e9 / count
            benchmark.extra_info[f"ns_per_{name.removesuffix('s')}"] = round(each_ns, 2)
            if floor_ns is not None:
                benchmark.extra_info["floor_ns_per_packet"] = floor_ns
                benchmark.extra_info[RATIO] = round(each_ns / floor_ns, 2)

    return note
