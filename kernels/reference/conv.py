"""Convolution as a sum over the taps of the filter.

A tap r is one position in the filter. Over all overlays it meets the padded input positions p * stride + r * dilation:
a strided view of the padded input, as large as the output. Each pass is one product per tap with that view.

    forward          y[n,g,k,p]   = sum_r sum_c view_r[n,g,c,p] weight[g,k,c,r]
    kernel gradient  gw[g,k,c,r]  = sum_n sum_p view_r[n,g,c,p] grad_output[n,g,k,p]
    input gradient   view_r[n,g,c,p] of grad_x  +=  sum_k grad_output[n,g,k,p] weight[g,k,c,r]

with g the groups, and with r mirrored in the filter for mode="convolution". In less than float32 the factors are
rounded as tensor cores round them, and summed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from cnn.kernels.geometry import ConvGeometry
from cnn.kernels.precision import FLOAT32
from cnn.kernels.reference import activation as activations
from cnn.kernels.reference.rounding import rounded

Array = np.ndarray[Any, Any]


def conv_forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    geometry: ConvGeometry,
    activation: str | None,
    precision: str,
    out: Array,
) -> None:
    x, weight = _factors(precision, x, weight)
    padded = np.pad(x, ((0, 0), (0, 0), *geometry.padding))
    weight = _by_group(weight, geometry)
    y = np.zeros((geometry.batch, geometry.groups, geometry.filters // geometry.groups, *geometry.output), x.dtype)
    for tap, view in _taps(padded, geometry):
        y += np.einsum("ngc...,gkc->ngk...", view, weight[tap])
    y = y.reshape(geometry.y_shape)
    if bias is not None:
        y += bias.reshape(-1, *(1,) * geometry.dimensions)
    if activation is None:
        out[...] = y
    else:
        getattr(activations, f"{activation}_forward")(y, out)


def conv_kernel_gradient(
    x: Array,
    grad_output: Array,
    geometry: ConvGeometry,
    deterministic: bool,
    precision: str,
    out: Array,
    grad_bias: Array | None,
) -> None:
    if grad_bias is not None:
        conv_bias_gradient(grad_output, grad_bias)
    x, grad_output = _factors(precision, x, grad_output)
    padded = np.pad(x, ((0, 0), (0, 0), *geometry.padding))
    # Images and pixels are summed over: pixels as one axis, since an ellipsis has to survive in einsum.
    pixels = math.prod(geometry.output)
    grad_output = _split(grad_output, geometry.groups)
    grad_output = grad_output.reshape(*grad_output.shape[:3], pixels)
    grad_weight = _by_group(out, geometry)
    for tap, view in _taps(padded, geometry):
        grad_weight[tap] = np.einsum("ngcp,ngkp->gkc", view.reshape(*view.shape[:3], pixels), grad_output)


def conv_input_gradient(grad_output: Array, weight: Array, geometry: ConvGeometry, precision: str, out: Array) -> None:
    grad_output, weight = _factors(precision, grad_output, weight)
    sizes = [size + before + after for size, (before, after) in zip(geometry.input, geometry.padding, strict=True)]
    padded = np.zeros((geometry.batch, geometry.channels, *sizes), grad_output.dtype)
    grad_output = _split(grad_output, geometry.groups)
    weight = _by_group(weight, geometry)
    for tap, view in _taps(padded, geometry):
        view += np.einsum("ngk...,gkc->ngc...", grad_output, weight[tap])
    inside: Any = [
        slice(before, before + size) for size, (before, _) in zip(geometry.input, geometry.padding, strict=True)
    ]
    out[...] = padded[(..., *inside)]


def conv_bias_gradient(grad_output: Array, out: Array) -> None:
    out[...] = grad_output.sum(axis=(0, *range(2, grad_output.ndim)))


def _factors(precision: str, *arrays: Array) -> tuple[Array, ...]:
    """The arrays as their products see them."""
    if precision == FLOAT32:
        return arrays
    return tuple(
        rounded(array, precision).astype(np.float64) if array.dtype == np.float32 else array for array in arrays
    )


def _taps(padded: Array, geometry: ConvGeometry) -> Iterator[tuple[Any, Array]]:
    """Each tap of the filter, as an index into `_by_group`'s array, with the view (N, G, C/G, *output) it meets."""
    padded = _split(padded, geometry.groups)
    for tap in np.ndindex(*geometry.kernel):
        view: Any = tuple(
            slice(r * dilation, r * dilation + (size - 1) * stride + 1, stride)
            for r, dilation, size, stride in zip(tap, geometry.dilation, geometry.output, geometry.stride, strict=True)
        )
        mirrored = tuple(size - 1 - r for r, size in zip(tap, geometry.kernel, strict=True))
        yield (..., *(mirrored if geometry.flipped else tap)), padded[(..., *view)]


def _split(array: Array, groups: int) -> Array:
    """(N, C, ...) as a view (N, groups, C/groups, ...)."""
    return array.reshape(array.shape[0], groups, array.shape[1] // groups, *array.shape[2:])


def _by_group(weight: Array, geometry: ConvGeometry) -> Array:
    """(K, C/G, *kernel) as a view (G, K/G, C/G, *kernel)."""
    return weight.reshape(geometry.groups, geometry.filters // geometry.groups, *weight.shape[1:])
