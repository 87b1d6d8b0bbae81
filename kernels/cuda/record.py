"""The end of a step, by one thread; the formula stands in `cnn.kernels.record`."""

from __future__ import annotations

from functools import cache
from typing import Any

from cnn.kernels.cuda.compiler import Kernel, float32, int32, pointer, uint32
from cnn.kernels.cuda.launch import Launch, contiguous


def record(value: Any, history: Any, counts: Any, images: int) -> None:
    plan_record()(contiguous(value), history, counts, len(history), images)


@cache
def plan_record() -> Launch:
    real = pointer(float32)
    return Launch(Kernel("record", _record, (real, real, pointer(int32), uint32, int32), 1), (1,), (1,))


def _record(value, history, counts, size, images):
    history[uint32(counts[0]) % size] = value[0]
    counts[0] += int32(1)
    counts[1] += images
