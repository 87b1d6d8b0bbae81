"""A few threads that live as long as the process, and the split of a range among them.

Compiled functions release the interpreter's lock, so Python threads are enough. A worker that has just worked watches
for more for a moment, and begins within some microseconds; later it sleeps, and has to be woken (see `signals`). The
split says who computes what, never in which order numbers are added: results do not depend on the number of threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cpu import signals
from cnn.kernels.threads import get_num_threads

Array = np.ndarray[Any, Any]

_SignalledWork = Callable[[Array, int, int], None]

# float32 in a cache line. A vector that lies in two lines takes twice as long to load.
LINE = 16

# More threads than this are not started: their words have a fixed place.
MOST_THREADS = 1024

_local = threading.local()


def share(work: Callable[[int, int], None], total: int, least: int = 1) -> None:
    """Call work(first, last) for parts that cover range(total), each of at least `least`, side by side.

    The calling thread takes the first part. Returns when all are done; the first exception is raised again.
    """
    _share(lambda _, first, last: work(first, last), total, least, signalled=False)


def share_signalled(work: _SignalledWork, total: int, least: int = 1) -> None:
    """As `share`, and faster: work(words, first, last) calls a compiled function that begins with `begin(words)`.

    It has to: the other threads are not told to begin before that.
    """
    _share(work, total, least, signalled=True)


@contextmanager
def rehearsed(*, compiled: bool) -> Iterator[None]:
    """In this process nothing is shared meanwhile, nor computed. compiled: what would compute is called for no part.

    So Numba compiles it for these arrays; what they hold means nothing.
    """
    global _rehearsal
    _rehearsal = _call_for_nothing if compiled else _leave_out
    try:
        yield
    finally:
        _rehearsal = None


def _call_for_nothing(work: _SignalledWork) -> None:
    work(signals.NOBODY, 0, 0)


def _leave_out(work: _SignalledWork) -> None:
    pass


_rehearsal: Callable[[_SignalledWork], None] | None = None


def _share(work: _SignalledWork, total: int, least: int, signalled: bool) -> None:
    if _rehearsal is not None:
        _rehearsal(work)
        return
    parts = min(get_num_threads(), total // max(least, 1), MOST_THREADS)
    pool = _pool
    if parts <= 1 or not pool.free.acquire(blocking=False):  # another thread has the workers
        work(signals.NOBODY, 0, total)
        return
    bounds = [total * part // parts for part in range(parts + 1)]
    try:
        words = pool.arm([(work, bounds[part], bounds[part + 1]) for part in range(1, parts)])
        if not signalled:
            signals.begin(words)
        try:
            work(words, bounds[0], bounds[1])
        finally:
            signals.begin(words)  # whatever happened: nobody may stay armed
            signals.await_workers(words)
        errors = pool.errors()
    finally:
        pool.free.release()
    if errors:
        raise errors[0]


class _Pool:
    """Workers, each with a word, a queue at which it sleeps, and a job. Who holds `free` may give jobs."""

    def __init__(self) -> None:
        self.free = threading.Lock()
        self._words = np.zeros(MOST_THREADS * signals.APART, np.int64)
        self._queues: list[SimpleQueue[None]] = []
        self._jobs: list[tuple[_SignalledWork, int, int] | None] = []
        self._errors: list[BaseException] = []

    def arm(self, jobs: list[tuple[_SignalledWork, int, int]]) -> Array:
        """Give each job to a worker; the words of those."""
        for number, job in enumerate(jobs):
            if number == len(self._queues):
                self._queues.append(SimpleQueue())
                self._jobs.append(None)
                name = f"cnn-cpu-{number + 1}"
                threading.Thread(target=self._serve, args=(number,), daemon=True, name=name).start()
            self._jobs[number] = job
            if not signals.arm(self._words, number * signals.APART):
                self._queues[number].put(None)
        return self._words[: len(jobs) * signals.APART]

    def errors(self) -> list[BaseException]:
        errors, self._errors = self._errors, []
        return errors

    def _serve(self, number: int) -> None:
        awake = False
        while True:
            if not awake:
                self._queues[number].get()
            job, self._jobs[number] = self._jobs[number], None
            assert job is not None
            work, first, last = job
            try:
                work(signals.NOBODY, first, last)
            except BaseException as error:
                self._errors.append(error)
            del job, work  # a waiting thread must not keep the arrays of its last job alive
            awake = signals.await_job(self._words, number * signals.APART)


_pool = _Pool()


def _forget_workers() -> None:
    global _pool
    _pool = _Pool()


# A forked child has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


def scratch(slot: str, size: int) -> Array:
    """Working memory of this thread, `size` float32 with unknown contents, kept from call to call.

    One array for each `slot` name, as large as the largest request so far: fresh memory would cost a page fault for
    every 4 KiB in every call, more than the arithmetic of a thin layer.
    """
    arrays = _local.__dict__
    if slot not in arrays or arrays[slot].size < size:
        arrays[slot] = aligned(buffers.allocate(size + LINE, np.float32))
    array: Array = arrays[slot]
    return array[:size]


def odd_lines(size: int) -> int:
    """At least `size`, and an odd number of cache lines: addresses that far apart do not meet in one set of a cache."""
    return (-(-size // LINE) | 1) * LINE


def aligned(array: Array) -> Array:
    """All of `array` but at most `LINE` elements, so that it starts with a cache line."""
    start = -array.ctypes.data // array.itemsize % LINE
    return array[start : array.size - LINE + start]
