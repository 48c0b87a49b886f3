"""Make the labelled corpus with the real kernel, in about 100 seconds.

    sudo python tests/corpus/make.py OUT [NAME...]

writes NAME.END.pcap and NAME.json (the label) for every scenario, or those named, into the folder OUT, and then the
captures that are derived from them (derived.py). Needs root, iproute2, tcpdump and /dev/net/tun; touches nothing but
the namespaces that it makes itself. Imports nothing of the package: the corpus must not know what it judges.
"""

from __future__ import annotations

import sys
from pathlib import Path

import derived
import floods
import honest
import leaks
import ports
import queues
from stage import Scenario, make, missing

__all__ = ["SCENARIOS", "main"]

SCENARIOS: list[Scenario] = [
    scenario for family in (floods, leaks, ports, queues, honest) for scenario in family.SCENARIOS
]


def main(arguments: list[str]) -> int:
    """The command; see the module."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    if lack := missing():
        print(f"corpus: {lack}", file=sys.stderr)
        return 2
    folder, names = Path(arguments[0]).resolve(), arguments[1:]
    chosen = [scenario for scenario in SCENARIOS if not names or scenario.name in names]
    failed = list(make(folder, chosen))
    for name in failed:
        print(f"corpus: {name} failed", file=sys.stderr)
    if not failed:
        derived.make(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
