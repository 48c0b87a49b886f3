"""What happens when the whole suite runs, that is pytest without the name of a test: processes side by side, counted.

Owns how tests are spread over processes (pytest-xdist), and the least share of the Python layer that they must reach
(coverage.py; that of the Cython is in test_checked.py). Parts of the suite run in one process and count nothing: --pdb,
-s and the like are as always. `pytest -n 0` runs the whole in one process, uncounted.
"""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import coverage
import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 3
"""Two that compute, and one that waits for kernels and timers."""
IN_REAL_TIME = ("kernel", "corpus", "host")
"""Folders of tests with hosts of their own and minutes of traffic: in one process, from the start."""
LEAST = 95.0
"""Per cent of the lines of the Python layer, and of its branches, each for itself. What only runs in a process that a
test starts (`python -m conntrack` and all that) is not counted."""
COUNTS = ".coverage"
"""Beside pyproject.toml, which says what counts; followed by the name of the process until they are put together."""


def _in_real_time(node: str) -> bool:
    return node.split("/")[1] in IN_REAL_TIME


def _is_whole(config: pytest.Config) -> bool:
    # Without pytest-xdist (benches/mutants.py runs tests without plugins) there is nothing to spread.
    spread = getattr(config.option, "numprocesses", 0) is not None
    asked = config.getoption("collectonly") or config.getoption("usepdb") or spread
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not asked


class _ByFile(LoadScopeScheduling):
    # What a file makes for its tests is made once.
    def _split_scope(self, nodeid: str) -> str:
        return "real time" if _in_real_time(nodeid) else nodeid.split("::")[0]


class _WholeSuite:
    # In the process that hands out the tests.

    def __init__(self) -> None:
        self.said = ""
        for path in ROOT.glob(f"{COUNTS}*"):  # of a run that was broken off
            path.unlink()

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> LoadScopeScheduling:
        return _ByFile(config, log)

    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["counts"] = True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        # After the other processes have ended.
        if session.exitstatus == pytest.ExitCode.OK:
            lines, branches, missed = reached_of_all()
            self.said = f"{lines:.2f} % of the lines and {branches:.2f} % of the branches of the Python reached\n"
            if min(lines, branches) < LEAST:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
                self.said = missed + self.said

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write(self.said)


class _Counting:
    # In one of those that run them, from before the package is imported.

    def __init__(self, process: str) -> None:
        self.counts = coverage.Coverage(data_file=str(ROOT / COUNTS), data_suffix=process)
        self.counts.start()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        self.counts.stop()
        self.counts.save()


def reached_of_all() -> tuple[float, float, str]:
    """Put together what the processes have counted.

    Returns:
        How much of the lines and how much of the branches was reached, in per cent, and what was not, in words.
    """
    counts = coverage.Coverage(data_file=str(ROOT / COUNTS))
    counts.combine([str(ROOT)])
    counts.save()
    missed = io.StringIO()
    counts.report(file=missed, show_missing=True, skip_covered=True)
    with tempfile.NamedTemporaryFile("r", suffix=".json") as out:
        counts.json_report(outfile=out.name)
        found = json.load(out)["totals"]
    lines = found["covered_lines"] / found["num_statements"]
    return 100 * lines, 100 * found["covered_branches"] / found["num_branches"], missed.getvalue()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Spread the whole suite."""
    if not hasattr(config, "workerinput") and _is_whole(config):
        config.option.numprocesses, config.option.dist, config.option.loadscopereorder = PROCESSES, "loadscope", False
        config.pluginmanager.register(_WholeSuite())


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Count in each process that runs a part of the whole suite."""
    given = getattr(config, "workerinput", {})
    if "counts" in given:
        config.pluginmanager.register(_Counting(given["workerid"]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what waits first."""
    items.sort(key=lambda item: not _in_real_time(item.nodeid))
