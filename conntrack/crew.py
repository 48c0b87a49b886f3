"""Threads that share work which comes in lanes: in each lane one thing after the other, in different lanes at once.

Whoever hands out work takes part: a crew of N threads starts N - 1, and `work_until` does what is waiting, so that no
more threads than were asked for are busy. Kernels run without the GIL, so that this helps on any build of Python. Knows
nothing of what the work is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

__all__ = ["Crew"]

_Result = TypeVar("_Result")
_Piece = TypeVar("_Piece")
_Question = Callable[[Any], Any]
_Questions = Generator[_Question, list[Any], _Result]


class Crew:
    """Threads and lanes. The first exception in any work ends all of it, and is raised by whatever is called next.

    Args:
        threads: how many work, whoever hands out work included.
        lanes: how many lanes there are.

    Attributes:
        lanes: so many.
    """

    def __init__(self, threads: int, lanes: int) -> None:
        self.lanes = lanes
        self._changed = threading.Condition()
        self._waiting: list[deque[Callable[[], bool]]] = [deque() for _ in range(lanes)]
        self._taken = [False] * lanes
        self._failure: BaseException | None = None
        self._closed = False
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(threads - 1)]
        for thread in self._threads:
            thread.start()

    def put(self, lane: int, work: Callable[[], None]) -> None:
        """Have `work` done in a lane, after all that is there."""

        def once() -> bool:
            work()
            return False

        self._put([(lane, once)])

    def ask(self, subjects: Sequence[Any], questions: _Questions[_Result], told: Callable[[_Result], None]) -> None:
        """Have the lanes meet, each after all that is there, and go on when everything is answered.

        Args:
            subjects: what each lane is asked of.
            questions: yields what every subject is asked next, and is sent the answers, one for each lane.
            told: takes what `questions` returns, in one of the threads, before any lane goes on.
        """
        meeting = _Meeting(self, subjects, questions, told)
        self._put([(lane, partial(meeting.arrive, lane, None)) for lane in range(len(subjects))])

    def work_until(self, ready: Callable[[], object]) -> None:
        """Do what is waiting in the lanes until `ready()`, which is asked whenever work has been done."""
        while True:
            with self._changed:
                while True:
                    if self._failure is not None:
                        raise self._failure
                    if ready():
                        return
                    lane = self._next()
                    if lane is not None:
                        break
                    self._changed.wait()
                work = self._take(lane)
            self._do(lane, work)

    def in_turn(self, sources: Sequence[Iterator[_Piece]], ahead: int) -> Iterator[_Piece]:
        """Yield what `sources` have, each advanced in its lane: of each in turn the next, until none has any.

        Args:
            sources: one for each lane, of anything but None.
            ahead: how many of each are made before they are asked for.
        """
        made: list[deque[_Piece | None]] = [deque() for _ in sources]

        def make(lane: int) -> None:
            made[lane].append(next(sources[lane], None))

        for lane in [*range(len(sources))] * ahead:
            self.put(lane, partial(make, lane))
        lanes = deque(range(len(sources)))
        while lanes:
            lane = lanes.popleft()
            self.work_until(partial(len, made[lane]))
            piece = made[lane].popleft()
            if piece is not None:
                self.put(lane, partial(make, lane))
                lanes.append(lane)
                yield piece

    def most_waiting(self) -> int:
        """Return how much is waiting in the longest lane."""
        return max(map(len, self._waiting))

    def is_idle(self) -> bool:
        """Return whether everything is done."""
        return not any(self._waiting) and not any(self._taken)

    def close(self) -> None:
        """End the threads; what is waiting is not done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def let_go(self, held: int, begin: Callable[[int], Callable[[], bool]] | None) -> None:
        """Let the lanes that wait at a meeting go on, all but `held`, where this is called; `begin` comes first."""
        with self._changed:
            for lane, waiting in enumerate(self._waiting):
                if begin is not None:
                    waiting.appendleft(begin(lane))
                if lane != held:
                    self._taken[lane] = False
            self._changed.notify_all()

    def _put(self, works: Sequence[tuple[int, Callable[[], bool]]]) -> None:
        with self._changed:
            if self._failure is not None:
                raise self._failure
            for lane, work in works:
                self._waiting[lane].append(work)
            self._changed.notify_all()

    def _serve(self) -> None:
        while True:
            with self._changed:
                while (lane := self._next()) is None:
                    if self._closed or self._failure is not None:
                        return
                    self._changed.wait()
                work = self._take(lane)
            self._do(lane, work)

    def _next(self) -> int | None:
        # Of the lanes where nobody is, the one with the most to do.
        if self._closed or self._failure is not None:
            return None
        free = [lane for lane, waiting in enumerate(self._waiting) if waiting and not self._taken[lane]]
        return max(free, key=lambda lane: len(self._waiting[lane]), default=None)

    def _take(self, lane: int) -> Callable[[], bool]:
        self._taken[lane] = True
        return self._waiting[lane].popleft()

    def _do(self, lane: int, work: Callable[[], bool]) -> None:
        stays = False
        failure = None
        try:
            stays = work()
        except BaseException as error:
            failure = error
        with self._changed:
            self._failure = self._failure or failure
            if not stays:
                self._taken[lane] = False
            self._changed.notify_all()


class _Meeting:
    """All lanes at one point: those that come first stay taken until the last is there."""

    def __init__(
        self, crew: Crew, subjects: Sequence[Any], questions: _Questions[Any], told: Callable[[Any], None]
    ) -> None:
        self._crew = crew
        self._subjects = subjects
        self._questions = questions
        self._told = told
        self._lock = threading.Lock()
        self._answers: list[Any] = []
        self._begun = False

    def arrive(self, lane: int, question: _Question | None) -> bool:
        """Answer, if there is a question; return whether the lane has to wait for others."""
        answer = None if question is None else question(self._subjects[lane])
        with self._lock:
            self._answers.append((lane, answer))
            if len(self._answers) < len(self._subjects):
                return True
            answers = [each for _, each in sorted(self._answers, key=lambda one: one[0])]
            self._answers = []
        begin = None
        try:
            following = self._questions.send(answers) if self._begun else next(self._questions)
            self._begun = True
        except StopIteration as end:
            self._told(end.value)
        else:
            begin = partial(self._begin, following)
        self._crew.let_go(lane, begin)
        return False

    def _begin(self, question: _Question, lane: int) -> Callable[[], bool]:
        return partial(self.arrive, lane, question)
