"""Threads that share work in lanes: order within a lane, meetings of all lanes, and what an exception does."""

from __future__ import annotations

import threading
from collections.abc import Generator
from functools import partial
from typing import Any

import pytest

from conntrack.crew import Crew


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_lane_keeps_its_order(threads: int) -> None:
    crew = Crew(threads, 3)
    done: list[list[int]] = [[], [], []]
    for number in range(200):
        for lane in range(3):
            crew.put(lane, partial(done[lane].append, number))
    crew.work_until(crew.is_idle)
    crew.close()
    assert done == [list(range(200))] * 3


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_nothing_passes_a_meeting(threads: int) -> None:
    """Each lane adds to its own number; at every meeting all have added as much, and are told the sum."""
    crew = Crew(threads, 4)
    numbers = [[0] for _ in range(4)]
    told: list[tuple[list[int], list[int]]] = []

    def add(lane: int, size: int) -> None:
        numbers[lane][0] += size

    def questions() -> Generator[Any, list[Any], tuple[list[int], list[int]]]:
        first = yield lambda number: number[0]
        second = yield lambda number: number[0] * 2
        return first, second

    for turn in range(1, 30):
        for lane in range(4):
            for _ in range(lane + 1):
                crew.put(lane, partial(add, lane, turn))
        crew.ask(numbers, questions(), told.append)
    crew.work_until(crew.is_idle)
    crew.close()
    sums = [turn * (turn + 1) // 2 for turn in range(1, 30)]
    assert told == [([n * lane for lane in (1, 2, 3, 4)], [2 * n * lane for lane in (1, 2, 3, 4)]) for n in sums]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_exception_ends_the_work_and_is_raised_to_whoever_hands_it_out(threads: int) -> None:
    crew = Crew(threads, 2)
    crew.put(0, partial(divmod, 1, 0))
    with pytest.raises(ZeroDivisionError):
        crew.work_until(crew.is_idle)
    with pytest.raises(ZeroDivisionError):
        crew.put(1, crew.close)
    crew.close()


def test_an_exception_in_a_meeting_is_no_deadlock() -> None:
    crew = Crew(2, 2)

    def questions() -> Generator[Any, list[Any], None]:
        yield lambda subject: subject
        raise MemoryError("too many")

    crew.ask([1, 2], questions(), lambda _: None)
    with pytest.raises(MemoryError, match="too many"):
        crew.work_until(crew.is_idle)
    crew.close()


def test_close_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    crew = Crew(4, 4)
    assert threading.active_count() == before + 3
    crew.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("ahead", [1, 3])
def test_sources_are_read_in_turn(threads: int, ahead: int) -> None:
    crew = Crew(threads, 3)
    sources = [iter(range(4)), iter(()), iter(range(10, 12))]
    assert list(crew.in_turn(sources, ahead)) == [0, 10, 1, 11, 2, 3]
    crew.close()
