"""`estimate --step`: what a whole training step would take on an H100, launch by launch. Estimates, never measurements.

The step runs on a stand-in for CuPy that executes the compiled kernels and counts (`cupy.vgpu`). A launch's estimate is
the least that the units allow for what was counted; its bound is what its operations and compulsory bytes allow (`cnn
info --plan`). Each launch costs `LAUNCH` in addition, in estimate and bound alike: as a node of a graph it costs less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np

import cnn
from benchmarks import gpu
from benchmarks.errors import BenchmarkError
from benchmarks.estimate import GPUS, HEADING
from benchmarks.networks import Network
from benchmarks.numbers import time
from benchmarks.tables import Table
from benchmarks.telling import tell
from cnn.batch import Batch
from cnn.data import Batches, Dataset
from cnn.runs.feed import feed

GPU = GPUS[0]
LAUNCH = 2e-6

# Multiply-adds of a tensor core in the time of one in float32; NVIDIA's white paper of Hopper.
TENSOR_CORES = {"tf32": 8, "bf16": 16}

# The first is launched kernel by kernel, the second is recorded; from then on it is replayed.
STEPS = 3


@dataclass(frozen=True)
class Part:
    """A launch. seconds: its estimate; bound: the least for its operations and bytes; both without `LAUNCH`."""

    layer: str
    purpose: str
    kernel: str
    seconds: float
    bound: float


def check() -> None:
    """Raises `BenchmarkError` without the stand-in."""
    reason = gpu.missing()
    if reason is not None or not gpu.emulated():
        raise BenchmarkError("estimate --step needs vgpu, the stand-in for CuPy, and ptxsim on PYTHONPATH")


def parts(network: Network, precision: str) -> list[Part]:
    """Of a replayed step, in order."""
    from cnn.runs.plan import plan

    vgpu = import_module("cupy").vgpu
    tell(f"{network.name}: {STEPS} steps of {network.batch} images are executed")
    model = network.build().to("cuda")
    model.set_precision(precision)
    optimizer = cnn.SGD(model.parameters(), 0.01, 0.9, True, 5e-4)
    step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), optimizer)
    for batch in _batches(network):
        vgpu.reset()
        step.run(batch)
    found = vgpu.reports()
    lines = [line for line in plan(model.to("cpu"), network.image, network.classes, network.batch) if line.grid]
    planned = [(math.prod(line.grid), math.prod(line.block)) for line in lines]
    launched = [(math.prod(each.grid), math.prod(each.block)) for each in found]
    if launched != planned:
        raise BenchmarkError(f"{network.name}: grids and blocks {launched} where the plan has {planned}")
    return [
        Part(
            line.layer,
            line.purpose,
            line.kernel,
            report.report.estimate(GPU.name).seconds,
            max(line.flops / (GPU.flops * _speed(line.kernel)), line.bytes / GPU.bytes),
        )
        for report, line in zip(found, lines, strict=True)
    ]


def table(network: Network, precision: str, found: Sequence[Part]) -> Table:
    lines = [[part.layer, part.purpose, part.kernel, *_times(part.seconds, part.bound)] for part in found]
    seconds, bound = sum(part.seconds for part in found), sum(part.bound for part in found)
    launches = len(found) * LAUNCH
    lines.append(["", "sum", "", *_times(seconds, bound)])
    lines.append(["", f"with {time(LAUNCH)} for each launch", "", *_times(seconds + launches, bound + launches)])
    columns = ("layer", "pass", "kernel", f"{GPU.name} ESTIMATE", "lower bound", "ratio")
    note = f"A step of {network.name}, {network.batch} images, convolutions in {precision}. Optimistic: see above."
    return Table(HEADING, columns, lines, (note,))


def _speed(kernel: str) -> int:
    """Of its multiply-adds, by its name."""
    return next((speed for precision, speed in TENSOR_CORES.items() if precision in kernel), 1)


def _times(seconds: float, bound: float) -> list[str]:
    return [time(seconds), time(bound), f"{seconds / bound:.2f}" if bound else ""]


def _batches(network: Network) -> Iterator[Batch]:
    """Gathered on the GPU from a data set that it holds, as in `cnn train`."""
    draw = np.random.default_rng(0)
    count = STEPS * network.batch
    images = draw.integers(0, 256, (count, *network.image), np.uint8)
    dataset = Dataset(images, draw.integers(0, network.classes, count), tuple(map(str, range(network.classes))))
    return feed(Batches(dataset, network.batch), "cuda").epoch(0)
