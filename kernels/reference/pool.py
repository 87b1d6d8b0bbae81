"""Pooling over windows: output p covers the input positions p * stride - padding + r, r = 0..window-1."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnn.kernels.geometry import PoolGeometry

Array = np.ndarray[Any, Any]


def max_pool_forward(x: Array, geometry: PoolGeometry, out: Array, argmax: Array) -> None:
    planes = x.reshape(geometry.batch, geometry.channels, math.prod(geometry.input))
    for p in np.ndindex(*geometry.output):
        # The window's real elements in row-major order: np.argmax takes the first of equals, and NaN over numbers.
        rows = [range(a, b) for a, b in _window(p, geometry)]
        inside = np.ravel_multi_index(np.ix_(*rows), geometry.input).ravel()
        winner = inside[planes[:, :, inside].argmax(axis=-1)]
        argmax[(..., *p)] = winner
        out[(..., *p)] = np.take_along_axis(planes, winner[..., None], axis=-1)[..., 0]


def max_pool_backward(grad_output: Array, argmax: Array, _geometry: PoolGeometry, out: Array) -> None:
    images, channels, *sizes = grad_output.shape
    flat = (images, channels, math.prod(sizes))
    planes = np.zeros((images, channels, math.prod(out.shape[2:])), out.dtype)
    n, c = np.indices((images, channels)).reshape(2, images, channels, 1)
    np.add.at(planes, (n, c, argmax.reshape(flat)), grad_output.reshape(flat))
    out[...] = planes.reshape(out.shape)


def avg_pool_forward(x: Array, geometry: PoolGeometry, count_include_pad: bool, out: Array) -> None:
    axes = tuple(range(2, x.ndim))
    for p in np.ndindex(*geometry.output):
        out[(..., *p)] = x[_covered(p, geometry)].sum(axis=axes) / _divisor(p, geometry, count_include_pad)


def avg_pool_backward(grad_output: Array, geometry: PoolGeometry, count_include_pad: bool, out: Array) -> None:
    out[...] = 0
    for p in np.ndindex(*geometry.output):
        share = grad_output[(..., *p)] / _divisor(p, geometry, count_include_pad)
        out[_covered(p, geometry)] += share.reshape(*share.shape, *(1,) * geometry.dimensions)


def _window(p: tuple[int, ...], geometry: PoolGeometry) -> list[tuple[int, int]]:
    """First and one-past-last input position of window p in each dimension, padding left out."""
    bounds = zip(p, geometry.stride, geometry.padding, geometry.window, geometry.input, strict=True)
    return [
        (max(i * stride - before, 0), min(i * stride - before + window, size))
        for i, stride, (before, _), window, size in bounds
    ]


def _covered(p: tuple[int, ...], geometry: PoolGeometry) -> Any:
    """The index of window p's elements in every image and channel."""
    return (..., *(slice(a, b) for a, b in _window(p, geometry)))


def _divisor(p: tuple[int, ...], geometry: PoolGeometry, count_include_pad: bool) -> int:
    """How many elements window p is the average of; what ceil_mode adds beyond the padding never counts."""
    if not count_include_pad:
        return int(np.prod([b - a for a, b in _window(p, geometry)]))
    bounds = zip(p, geometry.stride, geometry.padding, geometry.window, geometry.input, strict=True)
    return int(
        np.prod(
            [
                min(i * stride + window, before + size + after) - i * stride
                for i, stride, (before, after), window, size in bounds
            ]
        )
    )
