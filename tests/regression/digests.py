"""SHA-256 of what the command writes of captures: the same everywhere, whatever the machine, threads, key and Python.

A program, so that other interpreters can be asked: `python digests.py CAPTURE...` prints them as JSON;
`python digests.py --record` generates the captures of CAPTURES and writes digests.json, to be done when what is written
was changed on purpose. Parquet and Arrow files are pyarrow's bytes, and not here.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path

from conntrack.cli import main
from conntrack.generate import SCENARIOS, generate

RECORDED = Path(__file__).with_name("digests.json")
INCIDENT = Path(__file__).parent.parent / "captures" / "incident.pcap"
CONNECTIONS = 300
SEED = 11
REPORTS = ("report.json", "report.html", "report.txt")
ROWS = ("flows.csv", "flows.ndjson", "flows.zeek", "sockets.ndjson", "info.json")


def make_captures(folder: Path) -> list[str]:
    """Put our captures into `folder`; return their names."""
    shutil.copy(INCIDENT, folder / INCIDENT.name)
    for scenario in SCENARIOS:
        with (folder / f"{scenario}.pcap").open("wb") as out:
            generate(out, scenario=scenario, connections=CONNECTIONS, seed=SEED)
    return sorted(path.name for path in folder.glob("*.pcap"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(capture: str, folder: Path, outputs: Sequence[str] = REPORTS + ROWS, *options: str) -> dict[str, str]:
    """What is written of a capture in `folder`, by name of the output.

    Args:
        capture: its name there; the name is in the reports.
        folder: where it is.
        outputs: of REPORTS and ROWS.
        options: for the commands report and flows.
    """
    found = {}
    before = Path.cwd()
    os.chdir(folder)
    try:
        with tempfile.TemporaryDirectory() as made:
            for output in outputs:
                command, _, suffix = output.partition(".")
                words = [command, capture, "-o", f"{made}/{output}"]
                words += options if command in ("report", "flows") else ()
                words += ["--format", suffix] if suffix == "zeek" else ()
                with redirect_stderr(io.StringIO()) as said:
                    code = main(words)
                written = Path(made, output)
                found[output] = digest(written) if written.exists() else f"{code}: {said.getvalue()}"
    finally:
        os.chdir(before)
    return found


def record() -> None:
    """Write digests.json."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = make_captures(folder)
        found = {name: {"capture": digest(folder / name), **digests(name, folder)} for name in names}
    RECORDED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--record"]:
        record()
    else:
        print(json.dumps({name: digests(Path(name).name, Path(name).parent) for name in sys.argv[1:]}))
