"""A few threads that live as long as the process, and the split of a range among them.

Compiled functions release the GIL, so Python threads are enough, and waking one costs some ten microseconds. The
split says who computes what, never in which order numbers are added: results do not depend on the number of threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np

from cnn.kernels import buffers

_Job = tuple[Callable[[int, int], None], int, int, "SimpleQueue[BaseException | None]"]

_queues: list[SimpleQueue[_Job]] = []
_lock = threading.Lock()
_local = threading.local()


def number_of_threads() -> int:
    """Threads in use: `CNN_NUM_THREADS` where it is set, else the cores this process may run on."""
    setting = os.environ.get("CNN_NUM_THREADS", "")
    if setting:
        if not setting.isdecimal() or int(setting) < 1:
            raise ValueError(f"CNN_NUM_THREADS must be a whole number of at least 1, got {setting!r}")
        return int(setting)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(work: Callable[[int, int], None], total: int, least: int = 1) -> None:
    """Call work(first, last) for parts that cover range(total), each of at least `least`, side by side.

    The calling thread takes the first part. Returns when all are done; the first exception is raised again.
    """
    parts = max(min(number_of_threads(), total // max(least, 1)), 1)
    bounds = [total * part // parts for part in range(parts + 1)]
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for number in range(1, parts):
        _queue(number - 1).put((work, bounds[number], bounds[number + 1], done))
    try:
        work(bounds[0], bounds[1])
    finally:
        errors = [error for error in (done.get() for _ in range(1, parts)) if error is not None]
    if errors:
        raise errors[0]


def scratch(slot: str, size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Working memory of this thread, `size` float32 with unknown contents, kept from call to call.

    One array for each `slot` name, as large as the largest request so far: fresh memory would cost a page fault for
    every 4 KiB in every call, more than the arithmetic of a thin layer.
    """
    arrays = _local.__dict__
    if slot not in arrays or arrays[slot].size < size:
        arrays[slot] = buffers.allocate(size, np.float32)
    array: np.ndarray[Any, np.dtype[np.float32]] = arrays[slot]
    return array[:size]


def _queue(number: int) -> SimpleQueue[_Job]:
    with _lock:
        while len(_queues) <= number:
            jobs: SimpleQueue[_Job] = SimpleQueue()
            threading.Thread(target=_serve, args=(jobs,), daemon=True, name=f"cnn-cpu-{len(_queues) + 1}").start()
            _queues.append(jobs)
        return _queues[number]


def _serve(jobs: SimpleQueue[_Job]) -> None:
    while True:
        work, first, last, done = jobs.get()
        try:
            work(first, last)
        except BaseException as error:
            done.put(error)
        else:
            done.put(None)
        del work  # a waiting thread must not keep the arrays of its last job alive


# A forked child has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_queues.clear)
