"""How much of the Cython the tests reach, line by line: `python -m benches.covered [--whole] [pytest arguments]`.

Owns that measurement; nothing is left out of it. The counts are gcc's own: the build of checked.py is without
optimisation and counts what it runs, gcov says how often each line of the generated C ran, and that belongs to the
line of the .pyx or .pxd that Cython names in the comment before it. A line counts when Cython makes code of it within
a function (what runs at import is in no function); a line of a .pxd once, whoever takes it. It is reached when any of
its C is. Cython's own linetrace is no way here: it asks for the GIL in functions that have given it up.

Prints the lines that were not reached. Ends with 1 where less than LEAST is reached, or a test fails. Needs gcc, which
has gcov.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benches import checked
from benches.record import ROOT

__all__ = ["kernel_lines", "lines_of_c", "main"]

LEAST = 0.95
NAMES = (
    *("step", "step_differences", "step_first_seen", "step_hosts", "step_outages", "copies", "clock", "shards"),
    *("decode", "layers", "fragments", "paths", "interfaces", "pcap", "pcapng", "dialects", "filter", "order"),
    *("detect_counting", "detect_occupancy", "detect_services", "detect_stuck", "detect_syn_flood", "detect_time_wait"),
    *("derived", "times", "report_packed", "addresses", "export_lines", "export_arrow", "export_instants"),
    *("host_messages", "chunks", "index", "pipeline", "sockets"),
    *("capture", "compare", "completeness", "cli", "cli_explain", "cli_host", "cli_options", "cli_sockets"),
    *("cli_sources", "detect_accept_queue_vain", "detect_close_wait", "detect_distinct", "detect_evidence"),
    *("detect_failures", "detect_kernels", "detect_limits", "detect_many_services", "detect_series", "detect_stuck"),
    *("detect_thresholds", "abi", "cli_html", "cli_sockets_now", "crew"),
)
SLOW = (
    *("shared", "downloaded", "tcpdump", "editcap", "nothing_behind_it_is_read", "scattered_failures"),
    *("display_filter", "only_what_is_asked_for"),
)
ENOUGH = (
    *(f"tests/unit/test_{name}.py" for name in NAMES),
    "tests/unit/test_sharded.py::TestEviction::test_of_equal_times_the_first_leave",
    *(f"tests/unit/test_floods.py::test_{name}" for name in ("generations_of_one_4_tuple", "out_of_order_ranges")),
    "tests/property/test_histories.py",
    *("-k", " and ".join(f"not {name}" for name in SLOW)),
)
"""Quick tests that reach as much between them: what is run by default."""

NAMED = re.compile(r'^\s+/\* "(?P<file>[^"]+)":(?P<line>\d+)$')
OUTERMOST = re.compile(r"^(?:[A-Za-z_}]|/\* #### Code section)")
AT_IMPORT = "__pyx_pymod_exec_"


def lines_of_c(code: str, sources: dict[str, str]) -> Iterator[tuple[int, tuple[str, int]]]:
    """Yield (line of the C, (source, its line)) for what Cython made of a line within a function.

    Args:
        code: The C that Cython wrote.
        sources: What each of our sources is called there, and its path from the root.
    """
    here: tuple[str, int] | None = None
    at_import = False
    for number, line in enumerate(code.split("\n"), 1):
        if OUTERMOST.match(line):
            here, at_import = None, AT_IMPORT in line
        elif line.lstrip().startswith("/* function exit code */"):
            here = None
        elif (named := NAMED.match(line)) is not None:
            source = sources.get(named["file"])
            here = (source, int(named["line"])) if source and not at_import else None
        elif here is not None:
            yield number, here


def _sources() -> dict[str, str]:
    # A .pyx is named by its path, a .pxd by its name alone.
    found = {}
    for path in sorted((ROOT / "conntrack").rglob("*.p[yx][xd]")):
        name = str(path.relative_to(ROOT))
        assert path.name not in found
        found[name] = name
        if path.suffix == ".pxd":
            found[path.name] = name
    return found


def _counted(notes: Path) -> dict[int, int]:
    # Line of the C → how often it ran, for one module; gcov takes the counts (.gcda) from beside the notes (.gcno).
    command = ["gcov", "--json-format", "--stdout", str(notes)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    name = str(notes.relative_to(checked.OBJECTS).with_suffix(".c"))
    counts: dict[int, int] = defaultdict(int)
    for file in json.loads(done.stdout)["files"]:
        if file["file"] == name:
            for line in file["lines"]:
                counts[line["line_number"]] += line["count"]
    return counts


def kernel_lines() -> dict[str, dict[int, bool]]:
    """Return, for each source of Cython with code, its lines and whether they were reached in the last run."""
    sources = _sources()
    notes = sorted(checked.OBJECTS.rglob("*.gcno"))
    reached: dict[str, dict[int, bool]] = defaultdict(dict)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, counts in zip(notes, pool.map(_counted, notes), strict=True):
            code = (ROOT / path.relative_to(checked.OBJECTS).with_suffix(".c")).read_text()
            for number, (source, line) in lines_of_c(code, sources):
                if number in counts:
                    reached[source][line] = reached[source].get(line, False) or counts[number] > 0
    return {source: dict(sorted(lines.items())) for source, lines in sorted(reached.items())}


def main(arguments: list[str]) -> int:
    """Build, run pytest with `arguments`, by default over ENOUGH, and say what was reached; return an exit code."""
    for path in checked.OBJECTS.rglob("*.gcda"):  # the last run's counts
        path.unlink()
    failed = checked.main(arguments or list(ENOUGH))
    lines = hits = 0
    for source, reached in kernel_lines().items():
        text = (ROOT / source).read_text().splitlines()
        lines += len(reached)
        hits += sum(reached.values())
        for line in (line for line, hit in reached.items() if not hit):
            print(f"{source}:{line}: {text[line - 1].strip()}")
    print(f"{hits} of {lines} lines of Cython reached, {hits / lines:.2%}")
    return failed or int(hits < LEAST * lines)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
