"""What a small report and `--version` import: starting is most of their time, so that nothing unused is loaded."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

LATE = (
    "conntrack.capture.compressed",
    "conntrack.capture.foreign",
    "conntrack.capture.pcapng",
    "conntrack.capture.tcpdump_text",
    "conntrack.explain",
    "conntrack.export",
    "conntrack.report.html",
    "conntrack.report.json",
    "importlib.metadata",
    "datasketches",
    "jinja2",
    "pyarrow",
    "rich.markdown",
    "rich.progress",
)
"""Each is imported where it is first needed."""


def loaded_by(*arguments: str) -> set[str]:
    """The modules that are there after the command has run in a process of its own."""
    code = "import sys; from conntrack.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout
    return set(done.stderr.split())


def test_a_report_of_a_plain_capture_imports_what_it_uses(root: Path) -> None:
    loaded = loaded_by(str(root / "tests" / "captures" / "incident.pcap"))
    assert {"numpy", "conntrack.capture.pcap", "conntrack.report.text", "rich.table"} <= loaded
    assert not loaded & set(LATE)


def test_the_sockets_of_this_host_need_no_findings() -> None:
    """Of 16,000 sockets the table takes 29 ms; all of the detectors took 20 to import, numpy.ma 30."""
    loaded = loaded_by("sockets", "--format", "tsv")
    assert {"numpy", "conntrack.host.netlink"} <= loaded
    assert not {"conntrack.detect", "conntrack.host.options", "conntrack.tracker", "numpy.ma", "rich"} & loaded


def test_the_version_needs_no_arrays_and_no_look_at_what_is_installed() -> None:
    assert not {"numpy", "importlib.metadata", "conntrack.capture", "conntrack.tracker", "rich"} & loaded_by(
        "--version"
    )


def test_the_build_takes_the_version_from_where_the_command_does(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "conntrack.version.VERSION"}
