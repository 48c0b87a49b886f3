"""How soon `ctrack host` and `ctrack live` tell a fault, from the moment at which the kernel crosses its threshold.

    python -m benches.host_soon

By root: each fault is made in a network namespace of its own, with real servers (tests/host/moments.py, which says what
is measured). A healthy host is watched as well: what it is told there is listed. The account is kept in
benches/results/.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from benches.record import RESULTS, commit, machine

__all__ = ["measure"]

_MOMENTS = Path(__file__).resolve().parent.parent / "tests" / "host" / "moments.py"
_FAULTS = ("leak", "accept_queue", "syn_flood", "time_wait")
_HEALTHY = "healthy"


def _play(name: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(_MOMENTS), name], stdout=subprocess.PIPE, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def measure(rounds: int) -> dict[str, Any]:
    """Make every fault so often.

    Returns:
        By fault "host_s" and "live_s", one of each round: seconds, None where it was not told within a minute. And
        "healthy", what was told of a host that is.
    """
    account: dict[str, Any] = {}
    for name in _FAULTS:
        told = [_play(name) for _ in range(rounds)]
        account[name] = {f"{side}_s": [one[side] and one[side]["seconds"] for one in told] for side in ("host", "live")}
    account[_HEALTHY] = _play(_HEALTHY)["others"]
    return account


@click.command()
@click.option("--rounds", default=3, show_default=True)
def command(rounds: int) -> None:
    """Measure, print the account and keep it."""
    account = measure(rounds)
    now = datetime.now(UTC)
    about = {"schema": 1, "date": now.isoformat(timespec="seconds"), "commit": commit(), "machine": machine()}
    text = json.dumps({**about, **account}, indent=1) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"soon-{now:%Y-%m-%d}-{commit()}.json").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    command()
