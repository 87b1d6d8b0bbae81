"""Convolutions drawn for property tests, and the sum that defines a convolution, term by term."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st

Array = np.ndarray[Any, Any]

# Output and kernel sizes small enough for `conv_by_definition`, whatever the number of dimensions.
LARGEST_OUTPUT = {1: 7, 2: 4, 3: 2}
LARGEST_KERNEL = {1: 4, 2: 3, 3: 2}


@dataclass(frozen=True)
class ConvCase:
    x_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    options: dict[str, Any]

    def integers(self, seed: int) -> tuple[Array, Array, Array]:
        """x, weight and grad_output of integers in -3..3 as float32: every sum of their products is exact."""
        rng = np.random.default_rng(seed)
        shapes = (self.x_shape, self.weight_shape, self.y_shape)
        x, weight, grad_output = (rng.integers(-3, 4, shape).astype(np.float32) for shape in shapes)
        return x, weight, grad_output

    def reals(self, seed: int) -> tuple[Array, Array, Array]:
        """x, weight and grad_output in [-1, 1] as float64."""
        rng = np.random.default_rng(seed)
        x, weight, grad_output = (rng.uniform(-1, 1, s) for s in (self.x_shape, self.weight_shape, self.y_shape))
        return x, weight, grad_output


@st.composite
def conv_cases(draw: st.DrawFn, dimensions: int, widest: int = 2) -> ConvCase:
    """A convolution in `dimensions` dimensions: the output size is drawn first, and the input derived from it.

    widest: the most channels, and filters, of a group. Strides may exceed the kernel, padding may exceed it too and
    differ before and after; groups may be 1, some, or one for each channel (depthwise); the last overlay may leave
    input elements over.
    """
    sizes = []
    for _ in range(dimensions):
        output = draw(st.integers(1, LARGEST_OUTPUT[dimensions]))
        kernel = draw(st.integers(1, LARGEST_KERNEL[dimensions]))
        stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        extent = dilation * (kernel - 1) + 1
        padded = (output - 1) * stride + extent + draw(st.integers(0, stride - 1))
        before = draw(st.integers(0, min(3, padded - 1)))
        after = draw(st.integers(0, min(3, padded - 1 - before)))
        sizes.append((padded - before - after, kernel, output, stride, dilation, (before, after)))
    inputs, kernels, outputs, strides, dilations, paddings = zip(*sizes, strict=True)
    groups = draw(st.integers(1, 3))
    channels, filters = groups * draw(st.integers(1, widest)), groups * draw(st.integers(1, widest))
    batch = draw(st.integers(1, 3))
    options = {
        "stride": strides,
        "padding": paddings,
        "dilation": dilations,
        "groups": groups,
        "mode": draw(st.sampled_from(["cross-correlation", "convolution"])),
    }
    return ConvCase(
        (batch, channels, *inputs), (filters, channels // groups, *kernels), (batch, filters, *outputs), options
    )


def conv_by_definition(case: ConvCase, x: Array, weight: Array) -> Array:
    """y[n, k, p] = sum over c, r of weight[k, c, r] * x[n, c, p * stride + r * dilation - padding], one by one."""
    o = case.options
    if o["mode"] == "convolution":
        weight = np.flip(weight, axis=tuple(range(2, weight.ndim)))
    filters, group_channels, *kernel = case.weight_shape
    filters_per_group = filters // o["groups"]
    y = np.zeros(case.y_shape, np.float64)
    for n, k, *p in np.ndindex(*case.y_shape):
        first_channel = k // filters_per_group * group_channels
        for c, *r in product(range(group_channels), *map(range, kernel)):
            at = [
                i * stride + tap * dilation - before
                for i, tap, stride, dilation, (before, _) in zip(
                    p, r, o["stride"], o["dilation"], o["padding"], strict=True
                )
            ]
            if all(0 <= i < size for i, size in zip(at, case.x_shape[2:], strict=True)):
                y[(n, k, *p)] += float(weight[(k, c, *r)]) * float(x[(n, first_channel + c, *at)])
    return y


def inner(a: Array, b: Array) -> int:
    """<a, b> of integer-valued arrays, exactly."""
    assert (a == np.rint(a)).all()
    assert (b == np.rint(b)).all()
    return int(np.sum(a.astype(np.int64) * b.astype(np.int64)))
