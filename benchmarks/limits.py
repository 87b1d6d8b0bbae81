"""What the machine can do at best, measured in the same run: a float32 matrix product, and a copy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import clock, gpu, sgemm
from benchmarks.clock import Statistics
from benchmarks.machine import has_avx512
from benchmarks.recorder import Recorder
from benchmarks.rows import OK, Row
from cnn.kernels.threads import get_num_threads

LAYER = "machine"
SGEMM, COPY = "sgemm", "copy"

# Large enough for the peak rate, and for memory rather than caches; with --quick neither.
SIZE, COPIED = 2048, 256 * 2**20
GPU_SIZE, GPU_COPIED = 8192, 2**30
QUICK_SIZE, QUICK_COPIED = 256, 2**20


@dataclass(frozen=True)
class Limits:
    """Operations and bytes a second."""

    flops: float
    bytes: float

    @staticmethod
    def of(rows: Iterable[Row], device: str) -> Limits | None:
        """The best of the rows that `measure` made for that device."""
        found = [row for row in rows if row.layer == LAYER and row.device == device and row.status == OK]
        flops = [row.flops / row.median for row in found if row.purpose == SGEMM and row.median]
        moved = [row.bytes / row.median for row in found if row.purpose == COPY and row.median]
        return Limits(max(flops), max(moved)) if flops and moved else None

    def seconds(self, flops: int, moved: int) -> float:
        """The least that so many operations and bytes take."""
        return max(flops / self.flops, moved / self.bytes)


def measure(recorder: Recorder, devices: Sequence[str], seconds: float, quick: bool) -> None:
    """Rows for each device, "cpu" or "cuda"."""
    for device in devices:
        if device == "cuda":
            size, copied = (QUICK_SIZE, QUICK_COPIED) if quick or gpu.emulated() else (GPU_SIZE, GPU_COPIED)
            _measure_gpu(recorder, size, copied, seconds)
        else:
            size, copied = (QUICK_SIZE, QUICK_COPIED) if quick else (SIZE, COPIED)
            _measure_cpu(recorder, size, copied, seconds)


def _measure_cpu(recorder: Recorder, size: int, copied: int, seconds: float) -> None:
    clock.settle()
    for provider, variables in {"NumPy": {}, **({"NumPy, AVX-512": sgemm.WIDE} if has_avx512() else {})}.items():
        times = sgemm.times(size, seconds, variables)
        statistics = Statistics.of(times, times[0])
        recorder.measured(LAYER, _square(size), SGEMM, provider, "cpu", flops=2 * size**3, statistics=statistics)
    threads = get_num_threads()
    size = copied // 4 // threads
    parts = [tuple(np.ones(size, np.float32) for _ in range(2)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            for _ in pool.map(lambda part: np.copyto(*part), parts):
                pass

        _, first = clock.first_call(copy)
        found = clock.alternate({COPY: (copy, first)}, seconds)
    shape, moved = f"{4 * size * threads} bytes", 2 * 4 * size * threads
    recorder.measured(LAYER, shape, COPY, "NumPy on every core", "cpu", bytes=moved, statistics=found[COPY])


def _measure_gpu(recorder: Recorder, size: int, copied: int, seconds: float) -> None:
    product, copy = gpu.limits(size, copied)
    calls = {name: (call, clock.first_call(gpu.finished(call))[1]) for name, call in ((SGEMM, product), (COPY, copy))}
    found = gpu.alternate(calls, seconds)
    of_run: dict[str, dict[str, Any]] = {SGEMM: {"flops": 2 * size**3}, COPY: {"bytes": 2 * copied}}
    for purpose, shape in ((SGEMM, _square(size)), (COPY, f"{copied} bytes")):
        statistics = found[purpose][gpu.COLD]
        recorder.measured(LAYER, shape, purpose, "CuPy", "cuda", statistics=statistics, **of_run[purpose])


def _square(size: int) -> str:
    return f"{size}x{size}x{size}"
