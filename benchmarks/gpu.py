"""The GPU: whether there is one, its clock, its limits. All of CuPy that is called for timing is called here.

A run is measured between two CUDA events. Before the first event the GPU is given memory to fill, more than twice its
L2 cache, which makes the cache cold, and as often as keeps the GPU busy until the host has launched what follows: what
lies between the events is the GPU's work and not the host's. For a warm cache, an uncounted run comes in between.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.clock import ROUNDS, Call, Statistics, first_call

COLD, WARM = "cold L2", "warm L2"

EMULATED = "EMULATED"  # how the name of a device begins that is none

LEAST_RUNS, MOST_RUNS = 2, 200  # of a turn

# For how long the GPU is kept busy: the host makes a call twice, and some are slower than those that were timed.
HOST_CALLS, TIMED_CALLS = 4, 5

# What nvidia-smi is asked for, before and after.
STATE = ("clocks.sm", "clocks.mem", "temperature.gpu", "power.draw", "clocks_throttle_reasons.active")


@cache
def missing() -> str | None:
    """Why our kernels cannot run on a GPU here, or None."""
    from cnn.info import gpu_status

    usable, text = gpu_status()
    return None if usable else text.removeprefix("not used: ")


@cache
def emulated() -> bool:
    """Whether what answers to the name of CuPy is a stand-in, whose times say nothing about a GPU."""
    return hasattr(import_module("cupy"), "vgpu")


@cache
def name() -> str:
    cupy = import_module("cupy")
    text = str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())
    return f"{EMULATED} on a CPU, not a GPU ({text})" if emulated() else text


def state() -> str:
    """Clocks, temperature and power now, as nvidia-smi tells them; "" without it."""
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(STATE)}", "--format=csv,noheader"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30)
    values = run.stdout.strip().split(", ")
    return (
        ", ".join(f"{what} {value}" for what, value in zip(STATE, values, strict=False)) if not run.returncode else ""
    )


def finished(call: Call) -> Call:
    """`call`, and a wait until the GPU is done."""
    cupy = import_module("cupy")

    def call_and_wait() -> Any:
        result = call()
        cupy.cuda.Device().synchronize()
        return result

    return call_and_wait


def issued(call: Call) -> float:
    """Seconds until the host has issued `call`. The GPU is done before: a full queue would make the host wait."""
    finished(lambda: None)()
    start = perf_counter()
    call()
    return perf_counter() - start


def alternate(calls: Mapping[str, tuple[Call, float]], seconds: float) -> dict[str, dict[str, Statistics]]:
    """As `clock.alternate`, for the two states of the cache: name -> state -> statistics."""
    spill = _spill()
    fills = {name: _fills(call, spill) for name, (call, _) in calls.items()}
    per_turn = {name: _runs(call, seconds) for name, (call, _) in calls.items()}
    times: dict[str, dict[str, list[float]]] = {name: {COLD: [], WARM: []} for name in calls}
    for _ in range(ROUNDS):
        for name, (call, _) in calls.items():
            for condition, found in times[name].items():
                found += _turn(call, spill, fills[name], per_turn[name], condition == WARM)
    return {
        name: {condition: Statistics.of(found, calls[name][1]) for condition, found in both.items()}
        for name, both in times.items()
    }


def cross_check(call: Call) -> str:
    """What CuPy's own profiler says: the median with a warm cache, gaps between launches included."""
    profiler = import_module("cupyx.profiler")
    result = profiler.benchmark(call, n_repeat=3 if emulated() else 50, n_warmup=1)
    return f"cupyx.profiler {float(np.median(result.gpu_times)) * 1e6:.1f} us"


def limits(size: int, copied: int) -> tuple[Call, Call]:
    """A float32 matrix product of `size`, and a copy of so many bytes."""
    cupy = import_module("cupy")
    a, b, c = (cupy.ones((size, size), np.float32) for _ in range(3))
    source, target = (cupy.ones(copied // 4, np.float32) for _ in range(2))

    def copy() -> None:
        target[...] = source

    return lambda: cupy.matmul(a, b, out=c), copy


def _spill() -> Callable[[], Any]:
    cupy = import_module("cupy")
    cache_bytes = int(cupy.cuda.Device().attributes["L2CacheSize"])
    memory = cupy.empty(2 * cache_bytes // 4 + 1, np.float32)
    return lambda: memory.fill(0)


def _runs(call: Call, seconds: float) -> int:
    """How many runs of a turn come to its share of the seconds, half of it for each state of the cache."""
    if emulated():
        return 1
    _, once = first_call(finished(call))
    return int(np.clip(seconds / 2 / ROUNDS / max(once, 1e-9), LEAST_RUNS, MOST_RUNS))


def _fills(call: Call, spill: Call) -> int:
    """How often memory is filled before a run."""
    if emulated():
        return 1
    busy = min(_between_events(spill, TIMED_CALLS, spill))
    return math.ceil(HOST_CALLS * float(np.median([issued(call) for _ in range(TIMED_CALLS)])) / busy)


def _turn(call: Call, spill: Call, fills: int, runs: int, warm: bool) -> list[float]:
    def before() -> None:
        for _ in range(fills):
            spill()
        if warm:
            call()

    return _between_events(call, runs, before)


def _between_events(call: Call, runs: int, before: Call) -> list[float]:
    """Seconds on the GPU of each run, before which something else comes."""
    event = import_module("cupy").cuda.Event
    pairs = [(event(), event()) for _ in range(runs)]
    for start, end in pairs:
        before()
        start.record()
        call()
        end.record()
    pairs[-1][1].synchronize()
    elapsed = import_module("cupy").cuda.get_elapsed_time
    return [elapsed(start, end) / 1e3 for start, end in pairs]
