"""Time on a CPU: providers take turns, so that what the machine does meanwhile meets all of them alike.

A turn begins with a rest until the threads of the one before have stopped to spin, and with calls that are not counted,
which bring back the data into the caches and the threads onto the cores. Then single calls are timed for an equal share
of the provider's seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

import numpy as np

Call = Callable[[], Any]

ROUNDS = 5

# Threads that wait for work spin: OpenMP's for some milliseconds, onnxruntime's for 50, OpenBLAS's for 100. On as many
# cores as threads, whoever comes next takes up to twice its time. A process is at rest that uses a tenth of one core
# (looked at for longer than the kernel's slowest tick).
LOOK, MOST_LOOKS, IDLE = 0.011, 50, 0.1

# Uncounted calls at the beginning of a turn: after a rest it takes some time until the scheduler has spread the threads
# over the cores again, and a call meanwhile takes up to twice its time. A training loop does not rest.
WARM_UP = 0.05

# Of all processors, what others may use without a word being said.
DISTURBED = 0.05
DISTURBED_NOTE = "others meanwhile kept"
STAT = Path("/proc/stat")

# Where a call takes longer than this, one is timed.
SLOW = 1.0


@dataclass(frozen=True)
class Statistics:
    """Of the times of single calls, in seconds. first: of the very first one, with compilation."""

    median: float
    p20: float
    p80: float
    runs: int
    first: float

    @staticmethod
    def of(times: list[float], first: float) -> Statistics:
        p20, median, p80 = (float(value) for value in np.percentile(times, (20, 50, 80)))
        return Statistics(median, p20, p80, len(times), first)

    def per(self, number: int) -> Statistics:
        """Of one of `number` things that were timed together."""
        return Statistics(self.median / number, self.p20 / number, self.p80 / number, self.runs, self.first)


@dataclass
class Timed:
    """A call that takes its turns. first: seconds of its first call."""

    call: Call
    first: float
    times: list[float] = field(default_factory=list)

    def turn(self, seconds: float) -> None:
        if self.times and self.times[-1] > SLOW:
            return
        settle()
        end = perf_counter() + min(seconds, WARM_UP)
        self.call()
        while perf_counter() < end:
            self.call()
        end = perf_counter() + seconds
        while True:
            start = perf_counter()
            self.call()
            now = perf_counter()
            self.times.append(now - start)
            if now >= end:
                return


class Others:
    """What else kept the processors busy, from here on. Known on Linux, where /proc/stat counts it."""

    def __init__(self) -> None:
        self._start, self._busy, self._own = perf_counter(), _busy(), process_time()

    @property
    def share(self) -> float:
        """Of all processors, 0 to 1; 0 where it is not known."""
        elapsed = (perf_counter() - self._start) * (os.cpu_count() or 1)
        return max(_busy() - self._busy - (process_time() - self._own), 0) / elapsed

    def note(self) -> str:
        """ "" where it was little."""
        share = self.share
        return f"{DISTURBED_NOTE} {share:.0%} of the processors busy" if share > DISTURBED else ""


def _busy() -> float:
    """Seconds of all processors since the machine started: proc(5)."""
    if not STAT.exists():
        return 0.0
    user, nice, system, _idle, _waiting, *rest = map(int, STAT.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def settle() -> None:
    """Wait until no thread of this process spins."""
    for _ in range(MOST_LOOKS):
        before = process_time()
        sleep(LOOK)
        if process_time() - before < IDLE * LOOK:
            return


def first_call(call: Call) -> tuple[Any, float]:
    """The result, and the seconds it took."""
    settle()
    start = perf_counter()
    result = call()
    return result, perf_counter() - start


def alternate(calls: Mapping[str, tuple[Call, float]], seconds: float) -> dict[str, Statistics]:
    """name -> (call, seconds of its first call) becomes name -> statistics, from about `seconds` for each name."""
    timed = {name: Timed(call, first) for name, (call, first) in calls.items()}
    names = list(timed)
    for number in range(ROUNDS):
        shift = number % max(len(names), 1)
        for name in names[shift:] + names[:shift]:
            timed[name].turn(seconds / ROUNDS)
    return {name: Statistics.of(each.times, each.first) for name, each in timed.items()}
