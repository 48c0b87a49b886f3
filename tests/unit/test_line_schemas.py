"""The JSON Schemas of the lines of `live` and `compare`: shipped as they are made; other lines do not meet them.

That real lines do is asked where they are made: test_cli_live.py, test_compare.py, tests/kernel.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
from reported import validator

from conntrack.cli.jsonschema import render_schema
from conntrack.compare.reasons import REASONS

STOPPED: dict[str, Any] = {
    "schema": 1,
    "event": "stopped",
    "ts": "2026-11-21T06:17:03.566704000Z",
    "packets": 3,
    "tcp_segments": 3,
    "dropped_packets": None,
    "skipped": {},
    "connections": 1,
    "open_findings": 0,
}
ROW: dict[str, Any] = {
    "schema": 1,
    "local_ip": "10.0.0.2",
    "local_port": 443,
    "remote_ip": "2001:db8::1",
    "remote_port": 50_000,
    "wire_state": "ESTABLISHED/SYN_RECEIVED",
    "kernel_state": None,
    "reason": "nat",
    "since_ts": None,
    "last_ts": 1_763_726_400.5,
    "flow_id": 7,
    "at_ts": "2026-11-21T06:17:03.566704000Z",
    "explanation": "So it is.",
}


@pytest.mark.parametrize("of", ["live", "compare"])
def test_what_is_shipped_is_what_is_made(root: Path, of: Literal["live", "compare"]) -> None:
    shipped = (root / "conntrack" / "cli" / f"{of}.schema.json").read_text()
    assert shipped == render_schema(of), f"python -m conntrack.cli.jsonschema writes {of}.schema.json anew"


@pytest.mark.parametrize(
    ("of", "line", "change"),
    [
        ("live", STOPPED, {"schema": 2}),
        ("live", STOPPED, {"event": "opened"}),  # without a finding
        ("live", STOPPED, {"packets": -1}),
        ("live", STOPPED, {"finding": {}, "event": "grew"}),
        ("live", STOPPED, {"ts": "noon"}),
        ("compare", ROW, {"local_ip": "10.0.0"}),
        ("compare", ROW, {"remote_port": 65_536}),
        ("compare", ROW, {"wire_state": "OPEN"}),
        ("compare", ROW, {"wire_state": "LISTEN/"}),
        ("compare", ROW, {"reason": "bad luck"}),
        ("compare", ROW, {"last_ts": "noon"}),
    ],
)
def test_other_lines_do_not_meet_it(of: str, line: dict[str, Any], change: dict[str, Any]) -> None:
    validator(of).validate(line)
    with pytest.raises(jsonschema.ValidationError):
        validator(of).validate(line | change)


def test_the_reasons_are_those_of_the_readme_and_of_the_sources(root: Path) -> None:
    rows = re.search(r"\| reason \| what is likely \|\n(.*?)\n\n", (root / "README.md").read_text(), re.DOTALL)
    assert rows
    assert {name for row in rows[1].splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])} == set(REASONS)
    sources = "".join(
        (root / "conntrack" / "compare" / name).read_text().split("REASONS = (")[-1].split("# fmt: skip", 1)[-1]
        for name in ("reasons.py", "firewall.py")
    )
    assert [name for name in REASONS if f'"{name}"' not in sources] == []
