"""Tasks given to an executor, and taken back in order: any concurrent.futures.Executor, of this machine or a cluster.

Owns what happens when workers die: on a cluster that is the scheduler's business; a pool of processes here is broken as
a whole then, and is made anew, with the tasks that were not done.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from importlib import import_module
from multiprocessing import connection
from typing import Any, TypeVar

from conntrack.errors import ConntrackError, InputError

__all__ = ["Crew", "dask_crew", "process_crew"]

Result = TypeVar("Result")

MOST_BROKEN = 5
"""Times that a pool of processes is made anew before it is given up."""


class Crew:
    """Runs tasks in order of their arguments. A context manager.

    Args:
        make: returns an executor; called again when it has broken.
        workers: how many there are.
        own: the executor is shut down at the end.
        close: is called at the end.
    """

    def __init__(
        self, make: Callable[[], Executor], workers: int, *, own: bool = True, close: Callable[[], None] = lambda: None
    ) -> None:
        self._make = make
        self._own = own
        self._close = close
        self._executor: Executor | None = None
        self._broken = 0
        self.workers = workers

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._executor is not None and self._own:
            if kind is not None:
                _terminate(self._executor)  # nobody shall write any more where files are removed now
            self._executor.shutdown(cancel_futures=True)
        self._close()

    def run(self, task: Callable[..., Result], arguments: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
        """Yield task(*arguments) for each of `arguments`, in their order; as many are under way as keep all at work.

        Raises:
            ConntrackError: workers die again and again.
        """
        waiting: list[tuple[tuple[Any, ...], Future[Result]]] = []
        coming = iter(arguments)
        more = True
        while more or waiting:
            while more and len(waiting) < 3 * self.workers + 1:
                following = next(coming, None)
                if following is None:
                    more = False
                else:
                    waiting.append((following, self._submit(task, following)))
            if waiting:
                try:
                    result = waiting[0][1].result()
                except BrokenExecutor as error:
                    self._renew(error)
                    waiting = [(one, self._submit(task, one)) for one, _ in waiting]
                    continue
                except Exception:
                    if not self._own:
                        wait(future for _, future in waiting)  # as in __exit__
                    raise
                del waiting[0]
                yield result

    def one(self, task: Callable[..., Result], *arguments: Any) -> Result:
        """Return task(*arguments)."""
        (result,) = self.run(task, [arguments])
        return result

    def _submit(self, task: Callable[..., Result], arguments: tuple[Any, ...]) -> Future[Result]:
        while True:
            if self._executor is None:
                self._executor = self._make()
            try:
                return self._executor.submit(task, *arguments)
            except BrokenExecutor as error:
                self._renew(error)

    def _renew(self, error: BrokenExecutor) -> None:
        self._broken += 1
        if not self._own:
            raise error
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
        if self._broken > MOST_BROKEN:
            raise ConntrackError("workers die again and again; is there memory enough for so many?") from error


def _terminate(executor: Executor) -> None:
    processes = list((getattr(executor, "_processes", None) or {}).values())  # terminate_workers() from 3.14 on
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
    # One that ended within a result leaves the executor's thread waiting for the rest of it, and shutdown() for that
    # thread: with the last end of the pipe that is written to, ours, the wait ends too.
    if (results := getattr(executor, "_result_queue", None)) is not None:
        results._writer.close()


def process_crew(workers: int) -> Crew:
    """Return a crew of `workers` processes on this machine."""

    def make() -> Executor:
        # Spawned: threads may be running here, and a fork would copy the locks that they hold.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)

    return Crew(make, workers)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who waits for us
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    # A worker whose parent was killed would wait for tasks for ever.
    connection.wait([sentinel])
    os._exit(1)


def dask_crew(address: str) -> Crew:
    """Return the workers of a Dask cluster as a crew.

    Args:
        address: of the scheduler: "tcp://host:8786".

    Raises:
        InputError: distributed is not installed, or nobody answers.
    """
    try:
        distributed: Any = import_module("distributed")
    except ImportError:
        raise InputError("--cluster: needs distributed; pip install 'tcp-conntrack[cluster]'") from None
    try:
        client = distributed.Client(address, timeout="15s", set_as_default=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise InputError(f"{address}: no Dask scheduler answers ({reason}); start one with: dask scheduler") from None
    workers = sum(client.nthreads().values())
    if not workers:
        client.close()
        raise InputError(f"{address}: the scheduler has no workers; start some with: dask worker {address}")
    return Crew(lambda: client.get_executor(pure=False, retries=10), workers, own=False, close=client.close)
