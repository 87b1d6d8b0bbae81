"""The end of a step, by one thread; the formula stands in `cnn.kernels.record`."""

from __future__ import annotations

from functools import cache
from typing import Any

from cnn.kernels.cuda.compiler import cuda, device, float32, int32, pointer, types, uint32
from cnn.kernels.cuda.launch import Launch, contiguous
from cnn.kernels.cuda.side_by_side import alone
from cnn.kernels.record import Record


def record(ending: Record) -> None:
    plan_record(1, ending.calls is not None)(*arguments(ending))


def arguments(ending: Record) -> tuple[Any, ...]:
    """Those of the launch."""
    always = contiguous(ending.value), ending.history, ending.counts, len(ending.history), ending.images
    return always if ending.calls is None else (*always, ending.calls, ending.made)


@cache
def plan_record(threads: int, calls: bool) -> Launch:
    """threads: of its block, as many as what it runs beside has. calls: whether those of dropout are counted."""
    real = pointer(float32)
    parameters: tuple[Any, ...] = (real, real, pointer(int32), uint32, int32)
    if calls:
        parameters = *parameters, pointer(types.uint64), uint32
    return Launch(alone("record", _record_calls if calls else _record, parameters, threads, {}), (1,), (threads,))


@device
def _record(_block, arguments, _shared):
    value, history, counts, size, images = arguments
    if uint32(cuda.threadIdx.x) == uint32(0):
        history[uint32(counts[0]) % size] = value[0]
        counts[0] += int32(1)
        counts[1] += images


@device
def _record_calls(block, arguments, shared):
    _record(block, arguments[:5], shared)
    calls, made = arguments[5:]
    if uint32(cuda.threadIdx.x) == uint32(0):
        calls[1] += types.uint64(made)
