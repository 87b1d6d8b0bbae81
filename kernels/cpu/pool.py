"""Pooling, one plane (an image's channel) after the other; a thread takes a run of planes.

One dimension is computed as two, with height 1. Functions are compiled for each window and step to the right, so that
the loop over the windows of a row that lie wholly inside their plane has neither a branch nor an inner loop and uses
vectors. Windows at the edge, and large ones, go through a loop for any window.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from cnn.kernels.cpu.compile import REORDERED, jit
from cnn.kernels.cpu.element import get, put
from cnn.kernels.cpu.layout import flat
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.threads import share_signalled
from cnn.kernels.geometry import PoolGeometry

Array = np.ndarray[Any, Any]

# A thread costs more than it computes below about this many elements.
LEAST = 2**14

# Above this many elements unrolling a window makes long code, and nothing faster.
MOST_UNROLLED = 16


def max_pool_forward(x: Array, geometry: PoolGeometry, out: Array, argmax: Array) -> None:
    loop = _max_pool(*_compiled_for(geometry))
    arrays = flat(x), *_sizes(geometry), out.reshape(-1), argmax.reshape(-1)
    _share(geometry, lambda words, first, last: loop(words, *arrays, first, last))


def max_pool_backward(grad_output: Array, argmax: Array, _geometry: PoolGeometry, out: Array) -> None:
    planes = math.prod(out.shape[:2])
    arrays = flat(grad_output), flat(argmax)
    sizes = math.prod(grad_output.shape[2:]), math.prod(out.shape[2:])
    least, flat_out = max(LEAST // max(sizes[1], 1), 1), out.reshape(-1)
    share_signalled(lambda words, i, j: _scatter(words, *arrays, *sizes, flat_out, i, j), planes, least)


def avg_pool_forward(x: Array, geometry: PoolGeometry, count_include_pad: bool, out: Array) -> None:
    if _whole_plane(geometry):
        size, ends = math.prod(geometry.input), (flat(x), out.reshape(-1))
        _share(geometry, lambda words, first, last: _mean_planes(words, *ends, size, first, last))
        return
    loop = _avg_pool(*_compiled_for(geometry), count_include_pad)
    arrays = flat(x), *_sizes(geometry), out.reshape(-1)
    _share(geometry, lambda words, first, last: loop(words, *arrays, first, last))


def avg_pool_backward(grad_output: Array, geometry: PoolGeometry, count_include_pad: bool, out: Array) -> None:
    if _whole_plane(geometry):
        size, ends = math.prod(geometry.input), (flat(grad_output), out.reshape(-1))
        _share(geometry, lambda words, first, last: _fill_planes(words, *ends, size, first, last))
        return
    spread = _side_by_side(geometry)
    loop = _spread(*_compiled_for(geometry)[:2]) if spread else _avg_pool_gradient(count_include_pad)
    arrays = flat(grad_output), *_sizes(geometry), out.reshape(-1)
    _share(geometry, lambda words, first, last: loop(words, *arrays, first, last))


def _share(geometry: PoolGeometry, work: Any) -> None:
    planes = geometry.batch * geometry.channels
    share_signalled(work, planes, max(LEAST // math.prod(geometry.input), 1))


def _plane(sizes: tuple[int, ...]) -> tuple[int, int]:
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (1, sizes[0])


def _side_by_side(geometry: PoolGeometry) -> bool:
    """Whether windows lie wholly inside and do not overlap."""
    sizes = zip(geometry.output, geometry.window, geometry.input, strict=True)
    fits = all(count * window <= size for count, window, size in sizes)
    return fits and geometry.stride == geometry.window and not np.any(geometry.padding)


def _whole_plane(geometry: PoolGeometry) -> bool:
    return geometry.window == geometry.input and not np.any(geometry.padding)


def _compiled_for(geometry: PoolGeometry) -> tuple[int, int, int]:
    """Height and width of the window and step to the right where they are to be constants, else zeros."""
    return (*_plane(geometry.window), geometry.stride[-1]) if math.prod(geometry.window) <= MOST_UNROLLED else (0, 0, 0)


def _sizes(geometry: PoolGeometry) -> tuple[int, ...]:
    """Height and width of input, output, window; steps down and right; padding above, below, left and right."""
    padding = ((0, 0), *geometry.padding)[-2:]
    planes = (_plane(sizes) for sizes in (geometry.input, geometry.output, geometry.window, geometry.stride))
    return tuple(size for pair in (*planes, *padding) for size in pair)


@jit(inline="always")
def _inside(size, window, step, before, count):
    """The first and last + 1 of `count` windows that lie wholly inside a line of `size` elements."""
    first = min(-(-before // step), count)
    return first, max(min((size + before - window) // step + 1, count), first)


@jit(inline="always")
def _wins(value, best):
    """NaN wins over numbers, and neither a NaN nor a number over one like it that came before."""
    return (not value <= best) & (best == best)


@cache
def _max_pool(constant_height: int, constant_width: int, constant_right: int) -> Any:
    @jit()
    def max_pool(
        words, x, height, width, rows, columns, wh, ww, down, right, above, _below, left, _after, y, argmax, i, j
    ):
        begin(words)
        if constant_width > 0:
            wh, ww, right = constant_height, constant_width, constant_right
        first, last = _inside(width, ww, right, left, columns)
        for plane in range(i, j):
            start = plane * height * width
            for p in range(rows):
                top, target = p * down - above, (plane * rows + p) * columns
                # Only constant windows take the fast way, and only where all their rows are inside.
                fast = constant_width > 0 and top >= 0 and top + wh <= height
                start_fast, end_fast = (first, last) if fast else (0, 0)
                for q in range(start_fast, end_fast):
                    best = top * width + q * right - left
                    value = get(x, start + best)
                    for r in range(constant_height):
                        for s in range(constant_width):
                            at = (top + r) * width + q * right - left + s
                            other = get(x, start + at)
                            better = _wins(other, value)
                            value, best = (other, at) if better else (value, best)
                    put(y, target + q, value)
                    put(argmax, target + q, np.int32(best))
                for left_over in ((0, start_fast), (end_fast, columns)):
                    for q in range(left_over[0], left_over[1]):
                        side = q * right - left
                        best = max(top, 0) * width + max(side, 0)
                        value = x[start + best]
                        for h in range(max(top, 0), min(top + wh, height)):
                            for w in range(max(side, 0), min(side + ww, width)):
                                at = h * width + w
                                if _wins(x[start + at], value):
                                    best, value = at, x[start + at]
                        y[target + q] = value
                        argmax[target + q] = best

    return max_pool


@jit()
def _scatter(words, grad_output, argmax, pixels, plane_size, grad_x, first, last):
    begin(words)
    for plane in range(first, last):
        grad_x[plane * plane_size : (plane + 1) * plane_size] = 0
        for i in range(plane * pixels, (plane + 1) * pixels):
            grad_x[plane * plane_size + argmax[i]] += grad_output[i]


@jit(inline="always")
def _divisor(top, side, wh, ww, height, width, below, after, include_pad):
    """Elements that the window with this corner averages; what lies beyond the padding never counts."""
    if include_pad:
        h = min(top + wh, height + below) - top
        w = min(side + ww, width + after) - side
    else:
        h = min(top + wh, height) - max(top, 0)
        w = min(side + ww, width) - max(side, 0)
    return np.float32(h * w)


@cache
def _avg_pool(constant_height: int, constant_width: int, constant_right: int, include_pad: bool) -> Any:
    @jit(fastmath=REORDERED)
    def avg_pool(words, x, height, width, rows, columns, wh, ww, down, right, above, below, left, after, y, i, j):
        begin(words)
        if constant_width > 0:
            wh, ww, right = constant_height, constant_width, constant_right
        first, last = _inside(width, ww, right, left, columns)
        for plane in range(i, j):
            start = plane * height * width
            for p in range(rows):
                top, target = p * down - above, (plane * rows + p) * columns
                fast = constant_width > 0 and top >= 0 and top + wh <= height
                start_fast, end_fast = (first, last) if fast else (0, 0)
                for q in range(start_fast, end_fast):
                    total = np.float32(0)
                    for r in range(constant_height):
                        for s in range(constant_width):
                            total += get(x, start + (top + r) * width + q * right - left + s)
                    put(y, target + q, total / np.float32(constant_height * constant_width))
                for left_over in ((0, start_fast), (end_fast, columns)):
                    for q in range(left_over[0], left_over[1]):
                        side = q * right - left
                        total = np.float32(0)
                        for h in range(max(top, 0), min(top + wh, height)):
                            for w in range(max(side, 0), min(side + ww, width)):
                                total += get(x, start + h * width + w)
                        y[target + q] = total / _divisor(top, side, wh, ww, height, width, below, after, include_pad)

    return avg_pool


@cache
def _avg_pool_gradient(include_pad: bool) -> Any:
    @jit()
    def avg_pool_gradient(
        words, grad_output, height, width, rows, columns, wh, ww, down, right, above, below, left, after, grad_x, i, j
    ):
        begin(words)
        for plane in range(i, j):
            grad_x[plane * height * width : (plane + 1) * height * width] = 0
            for p in range(rows):
                top = p * down - above
                for q in range(columns):
                    side = q * right - left
                    share = grad_output[(plane * rows + p) * columns + q] / _divisor(
                        top, side, wh, ww, height, width, below, after, include_pad
                    )
                    for h in range(max(top, 0), min(top + wh, height)):
                        for w in range(max(side, 0), min(side + ww, width)):
                            grad_x[(plane * height + h) * width + w] += share

    return avg_pool_gradient


@cache
def _spread(constant_height: int, constant_width: int) -> Any:
    """The gradient of windows side by side: every element lies in one window, or in none and behind the last."""

    @jit()
    def spread(
        words,
        grad_output,
        height,
        width,
        rows,
        columns,
        wh,
        ww,
        _down,
        _right,
        _above,
        _below,
        _left,
        _after,
        grad_x,
        i,
        j,
    ):
        begin(words)
        if constant_width > 0:
            wh, ww = constant_height, constant_width
        area = np.float32(wh * ww)
        for plane in range(i, j):
            for h in range(height):
                p, start = h // wh, (plane * height + h) * width
                covered = columns * ww if p < rows else 0
                for q in range(covered // ww):
                    share = get(grad_output, (plane * rows + p) * columns + q) / area
                    for s in range(ww):
                        put(grad_x, start + q * ww + s, share)
                grad_x[start + covered : start + width] = 0

    return spread


@jit(fastmath=REORDERED)
def _mean_planes(words, x, y, size, first, last):
    begin(words)
    for plane in range(first, last):
        total = np.float32(0)
        for i in range(plane * size, (plane + 1) * size):
            total += get(x, i)
        y[plane] = total / np.float32(size)


@jit()
def _fill_planes(words, grad_output, grad_x, size, first, last):
    begin(words)
    for plane in range(first, last):
        share = grad_output[plane] / np.float32(size)
        for i in range(plane * size, (plane + 1) * size):
            put(grad_x, i, share)
