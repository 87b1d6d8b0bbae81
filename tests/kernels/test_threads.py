"""The threads of the CPU backend: who does what, who waits, and what becomes of an exception."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from cnn.kernels.cpu import signals, threads
from cnn.kernels.cpu.compile import jit
from cnn.kernels.threads import set_num_threads

Array = np.ndarray[Any, Any]

# Longer than a worker watches its word before it falls asleep.
NAP = 0.02


@jit()
def count(words, values, first, last):
    signals.begin(words)
    for i in range(first, last):
        values[i] += 1


@pytest.fixture(params=[1, 2, 3, 7])
def number(request: pytest.FixtureRequest, threads_as_before: None) -> int:
    set_num_threads(request.param)
    return int(request.param)


@pytest.mark.parametrize("total", [0, 1, 2, 5, 100])
@pytest.mark.parametrize("nap", [0, NAP])
@pytest.mark.usefixtures("number")
def test_every_part_is_done_once(total: int, nap: float) -> None:
    values = np.zeros(total, np.int64)
    for run in range(1, 6):
        time.sleep(nap)  # workers that are asleep, and workers that watch
        threads.share_signalled(lambda words, first, last: count(words, values, first, last), total)
        assert (values == run).all()


def test_parts_run_side_by_side(number: int) -> None:
    # Each waits for all others: one after the other they would wait for ever.
    start = threading.Barrier(number, timeout=30)
    names = []

    def work(first: int, last: int) -> None:
        start.wait()
        names.append(threading.current_thread().name)
        assert last - first == 1

    threads.share(work, number)
    assert len(set(names)) == number


@pytest.mark.usefixtures("number")
def test_a_rehearsal_computes_nothing() -> None:
    values, parts = np.zeros(5, np.int64), []

    def work(words: Array, first: int, last: int) -> None:
        parts.append((len(words), first, last))
        count(words, values, first, last)

    with threads.rehearsed(compiled=True):
        threads.share_signalled(work, 5)
        threads.share(lambda first, last: parts.append((first, last)), 5)
    assert parts == [(0, 0, 0), (0, 0)]
    with threads.rehearsed(compiled=False):
        threads.share_signalled(work, 5)
    assert len(parts) == 2
    assert not values.any()
    threads.share_signalled(work, 5)
    assert (values == 1).all()


def test_no_part_is_smaller_than_the_least(number: int) -> None:
    sizes: list[int] = []
    threads.share(lambda first, last: sizes.append(last - first), 10, least=4)
    assert sum(sizes) == 10
    assert min(sizes) >= 4
    assert len(sizes) == min(number, 2)


@pytest.mark.parametrize("where", [0, -1])
def test_an_exception_comes_back_when_all_are_done(number: int, where: int) -> None:
    done = []

    def work(first: int, last: int) -> None:
        if first == (0, number - 1)[where]:
            raise ArithmeticError(f"part {first}")
        time.sleep(NAP)
        done.append(first)

    with pytest.raises(ArithmeticError, match="part"):
        threads.share(work, number)
    assert len(done) == number - 1
    threads.share(lambda first, last: done.append(first), number)  # and the threads are there for the next
    assert len(done) == 2 * number - 1


def test_work_that_shares_work_does_it_alone(number: int) -> None:
    values = np.zeros(100, np.int64)

    def work(first: int, last: int) -> None:
        part = values[first:last]
        threads.share(lambda i, j: part.__setitem__(slice(i, j), part[i:j] + 1), last - first)

    threads.share(work, len(values))
    assert (values == 1).all()


def test_scratch_begins_with_a_cache_line() -> None:
    for size in (1, 16, 1000):
        array = threads.scratch("a test's own", size)
        assert array.size == size
        assert array.ctypes.data % 64 == 0
