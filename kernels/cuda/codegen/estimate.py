"""Estimates from the emulator ptxsim, which executes the compiled kernels and counts what a GPU would do.

A lower bound of a launch's time from its counters, for an H100. Never a measurement.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from cnn.kernels.cuda import conv_forward, conv_kernel_gradient
from cnn.kernels.cuda.codegen.launches import convolutions
from cnn.kernels.cuda.compiler import compile_kernel
from cnn.kernels.cuda.conv_block import plan_backward
from cnn.kernels.cuda.conv_phase import forward_phase, input_gradient_phases
from cnn.kernels.cuda.launch import Call, Launch
from cnn.kernels.errors import BackendError
from cnn.kernels.geometry import ConvGeometry
from cnn.kernels.precision import FLOAT32
from cnn.kernels.suites import SUITES

GPU, SM = "H100", 90
FLOPS = 59.3e12  # 132 multiprocessors x 128 lanes x 2 x 1.755 GHz
BYTES = 3.35e12  # a second

# Blocks of a grid that are emulated; they do alike, and stand for the rest.
BLOCKS = 8

Array = Any


@dataclass(frozen=True)
class Estimate:
    """Of one pass of a convolution. Times in seconds; wavefronts and sectors over their ideal."""

    layer: str
    purpose: str
    seconds: float
    lower_bound: float
    bound_by: str
    wavefronts: float
    sectors: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.lower_bound


def estimates_of(suite: str, precision: str = FLOAT32) -> Iterator[Estimate]:
    """Of the convolution passes of a training step, with what is computed along; each as a launch of its own, also
    where two are one. A pass before both gradients is in neither. Raises `BackendError` without ptxsim.
    """
    network = SUITES[suite].computed_in(precision)
    images = network.batch
    for number, (joined, own, before) in enumerate(convolutions(network)):
        geometry = joined.layer.conv(images)
        pool = None if joined.pool is None else joined.pool.pool(images)
        shape = geometry.y_shape if pool is None else pool.y_shape
        x, y, weight, bias = (
            np.ones(size, np.float32) for size in (geometry.x_shape, shape, geometry.weight_shape, geometry.filters)
        )
        places = np.zeros(shape, np.int32)
        there = forward_phase(geometry, joined.layer.bias, joined.activation, pooled=pool is not None)
        plan = conv_forward.plan([there], images, precision)
        passes = {"forward": conv_forward.calls(plan, images, x, weight, y, bias=bias, places=places)}
        back = plan_backward(geometry, joined.layer.bias, own, pool, before, False, number > 0, precision)
        read: dict[str, Any] = {"winners": places, "outputs": y}
        if back.before is not None:
            y = np.ones(geometry.y_shape, np.float32)
        if back.inputs is not None:
            passes["input gradient"] = conv_forward.calls(back.inputs, images, y, weight, x, inputs=x, **read)
        passes["kernel gradient"] = conv_kernel_gradient.calls(back.kernel, images, x, y, weight, bias, **read)
        for purpose, calls in passes.items():
            yield estimate(f"{suite}.{joined.layer.name}", purpose, geometry, calls)


def estimate(layer: str, purpose: str, geometry: ConvGeometry, calls: list[Call]) -> Estimate:
    reports = [run(*call, blocks=BLOCKS, check=False) for call in calls]
    found = [report.estimate(GPU) for report in reports]
    longest, counters = max(
        zip(found, (report.counters for report in reports), strict=True), key=lambda e: e[0].seconds
    )
    shared = [f"shared_{way}_wavefronts" for way in ("load", "store")]
    return Estimate(
        layer=layer,
        purpose=purpose,
        seconds=sum(e.seconds for e in found),
        lower_bound=lower_bound(geometry),
        bound_by=longest.bound,
        wavefronts=sum(counters[n] for n in shared) / max(sum(counters[f"{n}_ideal"] for n in shared), 1),
        sectors=counters["global_load_sectors"] / max(counters["global_load_sectors_ideal"], 1),
    )


def lower_bound(geometry: ConvGeometry) -> float:
    """Seconds for the arithmetic of any one pass, or to read and write each number that has part in it once."""
    x = geometry.batch * geometry.channels * math.prod(_met(geometry))
    y, weight = math.prod(geometry.y_shape), math.prod(geometry.weight_shape)
    return max(2 * y * weight / geometry.filters / FLOPS, 4 * (x + y + weight) / BYTES)


def run(launch: Launch, arguments: tuple[Any, ...], *, blocks: int | None = None, **options: Any) -> Any:
    """Emulate a launch on NumPy arrays, which it updates, or its first `blocks` blocks: ptxsim's report."""
    try:
        ptxsim = import_module("ptxsim")
    except ImportError as error:
        raise BackendError("estimates need the emulator ptxsim: put its folder on PYTHONPATH") from error
    os.environ["CNN_CUDA_KEEP_PTX"] = "1"
    text = compile_kernel(launch.kernel, SM).path.with_suffix(".ptx").read_text()
    if blocks is not None and math.prod(launch.grid) > blocks:
        options["blocks"] = (0, blocks)
    return ptxsim.run(text, None, launch.grid, launch.block, arguments, launch.kernel.shared_bytes, **options)


def forward_calls(
    geometry: ConvGeometry, x: Array, weight: Array, bias: Array | None, y: Array, precision: str = FLOAT32
) -> list[Call]:
    """The launches of a pass with their arguments, NumPy arrays; here and below. precision: one that the GPU serves."""
    plan = conv_forward.plan([forward_phase(geometry, bias is not None, None)], geometry.batch, precision)
    return conv_forward.calls(plan, geometry.batch, x, weight, y, bias=bias)


def input_gradient_calls(
    geometry: ConvGeometry, grad_output: Array, weight: Array, grad_x: Array, precision: str = FLOAT32
) -> list[Call]:
    plan = conv_forward.plan(input_gradient_phases(geometry), geometry.batch, precision)
    return conv_forward.calls(plan, geometry.batch, grad_output, weight, grad_x)


def kernel_gradient_calls(
    geometry: ConvGeometry,
    x: Array,
    grad_output: Array,
    grad_weight: Array,
    grad_bias: Array,
    deterministic: bool,
    precision: str = FLOAT32,
) -> list[Call]:
    phase = forward_phase(geometry, True, None)
    plan = conv_kernel_gradient.plan(phase, geometry.batch, deterministic, precision=precision)
    return conv_kernel_gradient.calls(plan, geometry.batch, x, grad_output, grad_weight, grad_bias)


def _met(geometry: ConvGeometry) -> Iterator[int]:
    """In each dimension, the number of input positions that some overlay meets: strides may step over the rest."""
    for axis, size in enumerate(geometry.input):
        phase = geometry.forward_phase(axis)
        met = {start + p * phase.stride for _, start in phase.met for p in range(phase.size)}
        yield len(met & set(range(size)))
