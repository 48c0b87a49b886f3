"""How much a Detection keeps, of each kind of thing so much. Past a limit less is said, and what is said tells so.

Owns the numbers. What comes past a limit is written where it is kept: times become coarser (counting.Tally), distinct
values are estimated (distinct.py), every second end or pair is kept, chosen by its hash (close_wait.py, port_scan.py),
the keys with the least are let go (occupancy.py, cases.OwnCases, time_wait.py, Detection.narrow).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RUNNING", "WHOLE", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What is kept at most; in brackets what one of it takes.

    Attributes:
        services: servers' endpoints that are numbered [100 bytes, and what is counted of each].
        subjects: hosts and endpoints that a detector numbers for itself [50 bytes].
        hosts: of clients, whose states over time are counted; all of them or none [600 bytes].
        cells: of one Tally: what happened when [16 bytes, and half as many that wait].
        spans: TIME_WAITs that differ, of one side [16 to 24 bytes].
        waiting: of these, before equal ones are counted together [16 bytes].
        values: distinct sources or targets of one detector, all services together [16 bytes].
        lowest: connections named for one detector, all subjects together [16 to 32 bytes].
        ends: in CLOSE_WAIT for long [88 bytes].
        pairs: of a host and what it tried in vain [80 bytes].
    """

    services: int = 1 << 20
    subjects: int = 1 << 22
    hosts: int = 1 << 16
    cells: int = 1 << 21
    spans: int = 1 << 22
    waiting: int = 1 << 22
    values: int = 1 << 21
    lowest: int = 1 << 20
    ends: int = 1 << 20
    pairs: int = 300_000


WHOLE = Limits()
"""Of captures that end: so wide that few reach them; about a gigabyte where all of them are reached."""
RUNNING = Limits(
    services=1 << 13,
    subjects=1 << 13,
    hosts=1 << 12,
    cells=1 << 16,
    spans=1 << 17,
    waiting=1 << 17,
    values=1 << 17,
    lowest=1 << 15,
    ends=1 << 15,
    pairs=1 << 15,
)
"""Of what goes on for days, for everything behind the window (live/window.py): about 50 MB where all are reached."""
