"""The result of a provider against the reference in float64, on as many images of the batch as that takes seconds for.

Forward and input gradient: those images of the whole batch's result. Kernel gradient: a run on the whole batch in which
grad_output is zero for all other images, so that the sum over the batch is the sum over these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.counts import flops
from benchmarks.shapes import FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT, Case
from cnn import kernels
from cnn.kernels.buffers import allocate

Array = np.ndarray[Any, Any]

# Multiply-adds that the reference computes in a second or so.
MULTIPLY_ADDS = 1e9

# The rule of `tests/tolerances.py`: a sum of `length` products of numbers in [-1, 1] may be off by eps * length, eight
# times what a random walk of its rounding errors comes to. Rounded factors, two of 10 or 7 bits of mantissa, add an
# error to each product, and those add up like sqrt(length); eight times that, too.
EPSILON = 2.0**-23
OF_FACTORS = {"float32": 0.0, "tf32": 2.0**-10, "bf16": 2.0**-7}


@dataclass(frozen=True)
class Data:
    """Numbers in [-1, 1], the same for every provider; float32."""

    x: Array
    weight: Array
    bias: Array | None
    grad_output: Array

    @staticmethod
    def of(case: Case) -> Data:
        draw = np.random.default_rng(0)
        geometry = case.geometry

        def uniform(shape: tuple[int, ...]) -> Array:
            # It begins with a cache line, as what layers hand on does, ours and others'.
            array: Array = draw.random(dtype=np.float32, out=allocate(shape, np.float32))
            array *= 2
            array -= 1
            return array

        bias = uniform((geometry.filters,)) if case.bias else None
        return Data(uniform(geometry.x_shape), uniform(geometry.weight_shape), bias, uniform(geometry.y_shape))


class Expected:
    """What the three passes of a case give for some images of its batch, in float64."""

    def __init__(self, case: Case, data: Data) -> None:
        self.case = case
        self.data = data
        affordable = int(MULTIPLY_ADDS // max(flops(case) // 2 // max(case.images, 1), 1))
        number = min(max(affordable, 1), case.images)
        # From the first to the last, evenly: the ends are where a batch is split wrongly.
        self.images = np.unique(np.linspace(0, case.images - 1, number).astype(int)) if number else np.arange(0)

    @property
    def extent(self) -> str:
        """ "all images" or "3 of 64 images"."""
        whole = len(self.images) == self.case.images
        return "all images" if whole else f"{len(self.images)} of {self.case.images} images"

    @cached_property
    def few(self) -> Data:
        """All of grad_output is zero but for the images that are looked at."""
        if len(self.images) == self.case.images:
            return self.data
        grad_output = np.zeros_like(self.data.grad_output)
        grad_output[self.images] = self.data.grad_output[self.images]
        return Data(self.data.x, self.data.weight, self.data.bias, grad_output)

    def of(self, purpose: str) -> Array:
        data, images, options = self.data, self.images, self.case.options
        x, grad_output = (array[images].astype(np.float64) for array in (data.x, data.grad_output))
        weight = data.weight.astype(np.float64)
        with kernels.backend("reference"):
            if purpose == FORWARD:
                bias = None if data.bias is None else data.bias.astype(np.float64)
                return np.asarray(kernels.conv_forward(x, weight, bias, **options))
            if purpose == KERNEL_GRADIENT:
                return np.asarray(kernels.conv_kernel_gradient(x, grad_output, weight.shape, **options))
            return np.asarray(kernels.conv_input_gradient(grad_output, weight, x.shape, **options))

    def length(self, purpose: str) -> int:
        """Of the sums that a pass computes."""
        geometry = self.case.geometry
        taps = math.prod(geometry.kernel)
        if purpose == FORWARD:
            return taps * geometry.channels // geometry.groups + self.case.bias
        if purpose == INPUT_GRADIENT:
            return taps * geometry.filters // geometry.groups
        return len(self.images) * math.prod(geometry.output)

    def selected(self, purpose: str, result: Array) -> Array:
        return result if purpose == KERNEL_GRADIENT else result[self.images]


def mistake(actual: Array, expected: Array, length: int, precision: str) -> str | None:
    """What is wrong with sums of `length` products computed in `precision`, or None where nothing is."""
    if actual.shape != expected.shape:
        return f"its result has shape {actual.shape}, not {expected.shape}"
    if actual.dtype != np.float32:
        return f"its result is {actual.dtype}, not float32"
    allowed = EPSILON * max(length, 4) + 8 * OF_FACTORS[precision] * math.sqrt(length)
    with np.errstate(invalid="ignore"):
        error = np.abs(actual - expected) / (1 + np.abs(expected))
    worst = float(error.max(initial=0.0)) if not np.isnan(error).any() else math.nan
    return None if worst <= allowed else f"its result is off by {worst:.1e} where {allowed:.1e} is allowed"
