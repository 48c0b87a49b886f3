"""Executors whose workers are killed in the middle of a task: by number of the task, not by the clock."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

FATAL = (3, 40)
"""The tasks whose workers die; the second is handed out when the first was done again."""


class Deadly(Executor):
    """Hands tasks on to another executor; those of FATAL kill their worker the first time that they run.

    Args:
        inner: of processes.
        folder: where each worker that dies leaves a file by the number of its task, with its process id.
        given: how many tasks were handed on by executors before this one, in one list.
        ready: returns when workers may die; it is called before a task of FATAL is handed on.
    """

    def __init__(
        self, inner: Executor, folder: Path, given: list[int], ready: Callable[[], object] = lambda: None
    ) -> None:
        self._inner = inner
        self._folder = folder
        self._given = given
        self._ready = ready

    def submit(self, task: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        self._given[0] += 1
        if self._given[0] in FATAL:
            self._ready()
            marker = str(self._folder / str(self._given[0]))
            return self._inner.submit(die_in, marker, task, *args, **named)
        return self._inner.submit(task, *args, **named)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._inner.shutdown(wait=wait, cancel_futures=cancel_futures)


def die_in(marker: str, task: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Kill this process while it does the task; where `marker` is there, somebody died of it before: just do it."""
    try:
        with Path(marker).open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return task(*args, **named)
    threading.Timer(0.005, os.kill, (os.getpid(), signal.SIGKILL)).start()
    task(*args, **named)
    return threading.Event().wait()  # the task may have been quicker: it is never told that it was done


def killed(folder: Path) -> list[int]:
    """Return the process ids of those who died, in the order of their tasks."""
    return [int((folder / str(number)).read_text()) for number in FATAL]


def killed_so_far(folder: Path) -> set[int]:
    """Return the process ids of those who have died until now."""
    return {int(marker.read_text() or 0) for marker in folder.iterdir()}
