"""Reservations: records that are there only once they are touched, in huge pages where one fits."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from conntrack.memory import HUGE_PAGE_BYTES, Reservation

HUGE = Path("/sys/kernel/mm/transparent_hugepage").is_dir()
"""Whether this kernel has huge pages; whether it gives any is another matter."""


def asked_for_huge(address: int) -> bool:
    """Whether the mapping at `address` was advised to use huge pages: "hg" of VmFlags, proc_pid_smaps(5)."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if head := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(head[1], 16) <= address < int(head[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return "hg" in line.split()
    raise AssertionError(f"nothing is mapped at {address:#x}")


@pytest.mark.parametrize(
    ("mib", "huge_from_bytes", "at_the_beginning", "at_the_end"),
    [
        (1, 0, False, False),
        (2, 0, True, True),  # an index: filled all over as soon as it is there
        (2, HUGE_PAGE_BYTES, False, False),
        (4, HUGE_PAGE_BYTES, False, True),
        (8, 0, True, True),
    ],
)
def test_huge_pages_are_asked_for_where_one_fits(
    mib: int, huge_from_bytes: int, at_the_beginning: bool, at_the_end: bool
) -> None:
    kept = Reservation(mib << 17, np.dtype(np.uint64), 1, huge_from_bytes=huge_from_bytes)
    begin = kept.records.ctypes.data
    assert asked_for_huge(begin) is (HUGE and at_the_beginning)
    assert asked_for_huge(begin + kept.records.nbytes - 1) is (HUGE and at_the_end)


def test_what_was_given_back_reads_as_zero() -> None:
    kept = Reservation(1 << 20, np.dtype(np.uint64), 1)
    kept.records[:] = 7
    kept.give_back(1, len(kept.records))
    assert kept.records[0] == 7 and not kept.records[512:].any()


def test_less_is_reserved_where_there_is_no_more_and_not_less_than_will_do() -> None:
    assert 1 <= len(Reservation(1 << 60, np.dtype(np.uint64), 1).records) < 1 << 60
    with pytest.raises(MemoryError, match="records of 8"):
        Reservation(1 << 60, np.dtype(np.uint64), 1 << 60)
