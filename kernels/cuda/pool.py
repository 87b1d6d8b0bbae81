"""Pooling over windows: output p covers the input positions p * stride - padding + r, r = 0..window-1.

Forward a thread owns an output and walks over its window. Backward it owns an element of the input and walks over the
windows that may cover it, the last of which is p = (h + padding) // stride: no atomics, windows may overlap. For 2 x 2
maxima side by side see `pool_squares`. One dimension is computed as two, with height 1. Every size but the number of
planes (an image's channel each) is a constant of the kernel.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from cnn.kernels.cuda import pool_squares
from cnn.kernels.cuda.compiler import Kernel, cuda, device, float32, int32, pointer, uint32
from cnn.kernels.cuda.conv_result import derivative
from cnn.kernels.cuda.conv_windows import wins
from cnn.kernels.cuda.launch import Launch, contiguous
from cnn.kernels.cuda.reduce import WARP, warp_sum
from cnn.kernels.geometry import PoolGeometry

THREADS = 128

# Elements from which on a warp averages a window together: threads of their own would read far apart.
WIDE = 64

REAL, INTEGER = pointer(float32), pointer(int32)


def max_pool_forward(x: Any, geometry: PoolGeometry, out: Any, argmax: Any) -> None:
    plan_max_pool_forward(geometry)(contiguous(x), out, argmax, _planes(geometry))


def max_pool_backward(
    grad_output: Any, argmax: Any, geometry: PoolGeometry, out: Any, activation: str | None = None, y: Any = None
) -> None:
    """What argmax holds is compared with, and never an address: an element outside the windows adds to nothing.

    activation: before the pooling, whose output y is; grad_output is then multiplied with its derivative.
    """
    argmax = contiguous(argmax if argmax.dtype == np.int32 else argmax.astype(np.int32))
    grad_output = contiguous(grad_output)
    y = grad_output if y is None else contiguous(y)  # an address that is not used without an activation
    plan_max_pool_backward(geometry, activation)(grad_output, argmax, y, out, _planes(geometry))


def avg_pool_forward(x: Any, geometry: PoolGeometry, count_include_pad: bool, out: Any) -> None:
    plan_avg_pool_forward(geometry, count_include_pad)(contiguous(x), out, _planes(geometry))


def avg_pool_backward(grad_output: Any, geometry: PoolGeometry, count_include_pad: bool, out: Any) -> None:
    plan_avg_pool_backward(geometry, count_include_pad)(contiguous(grad_output), out, _planes(geometry))


@cache
def plan_max_pool_forward(geometry: PoolGeometry) -> Launch:
    return _launch(_max_pool(_plane(geometry)), np.prod(geometry.y_shape))


@cache
def plan_max_pool_backward(geometry: PoolGeometry, activation: str | None = None) -> Launch:
    if pool_squares.serves(geometry):
        return pool_squares.plan(geometry, activation)
    return _launch(_max_pool_gradient(_plane(geometry), activation), np.prod(geometry.x_shape))


@cache
def plan_avg_pool_forward(geometry: PoolGeometry, count_include_pad: bool) -> Launch:
    plane = _plane(geometry)
    return _launch(_avg_pool(plane, count_include_pad), np.prod(geometry.y_shape) * _lanes(plane))


@cache
def plan_avg_pool_backward(geometry: PoolGeometry, count_include_pad: bool) -> Launch:
    return _launch(_avg_pool_gradient(_plane(geometry), count_include_pad), np.prod(geometry.x_shape))


def _launch(kernel: Kernel, threads: Any) -> Launch:
    return Launch(kernel, (int(-(-threads // THREADS)),), (THREADS,))


def _planes(geometry: PoolGeometry) -> int:
    return geometry.batch * geometry.channels


def _plane(g: PoolGeometry) -> PoolGeometry:
    """One plane of it, with two dimensions: what its kernel is made for."""
    if g.dimensions == 2:
        return replace(g, batch=1, channels=1)
    size, window, output, stride = ((1, *each) for each in (g.input, g.window, g.output, g.stride))
    return PoolGeometry(1, 1, size, window, output, stride, ((0, 0), *g.padding))


def _inside(plane: PoolGeometry) -> bool:
    """Whether no window reaches out of the plane, so that no position has to be tested."""
    return all(
        before == 0 and (count - 1) * stride + window <= size
        for (before, _), count, stride, window, size in zip(
            plane.padding, plane.output, plane.stride, plane.window, plane.input, strict=True
        )
    )


@cache
def _max_pool(plane: PoolGeometry) -> Kernel:
    (height, width), (out_height, out_width) = plane.input, plane.output
    (rows, columns), (down, right) = plane.window, plane.stride
    (above, _), (left, _) = plane.padding
    inside = _inside(plane)

    def max_pool(x, y, argmax, planes):
        # A thread owns an output.
        i = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x))
        if i >= uint32(planes * uint32(out_height * out_width)):
            return
        row = uint32(i // uint32(out_width))
        n = uint32(row // uint32(out_height))
        # Negative positions wrap around: one comparison with the size finds those on both sides.
        top = uint32(uint32(row - n * uint32(out_height)) * uint32(down) - uint32(above))
        side = uint32(uint32(i - row * uint32(out_width)) * uint32(right) - uint32(left))
        start = uint32(n * uint32(height * width))
        best = uint32(0)
        if inside or top < uint32(height):
            best = uint32(top * uint32(width))
        if inside or side < uint32(width):
            best = uint32(best + side)
        value = x[uint32(start + best)]
        r = uint32(0)
        while r < uint32(rows):
            h = uint32(top + r)
            s = uint32(0)
            while s < uint32(columns):
                w = uint32(side + s)
                if inside or (h < uint32(height) and w < uint32(width)):
                    at = uint32(h * uint32(width) + w)
                    candidate = x[uint32(start + at)]
                    if wins(candidate, value):
                        best, value = at, candidate
                s = uint32(s + uint32(1))
            r = uint32(r + uint32(1))
        y[i] = value
        argmax[i] = int32(best)

    return Kernel("max_pool_forward", max_pool, (REAL, REAL, INTEGER, uint32), THREADS)


@cache
def _max_pool_gradient(plane: PoolGeometry, activation: str | None) -> Kernel:
    (height, width), (out_height, out_width) = plane.input, plane.output
    (down, right), ((above, _), (left, _)) = plane.stride, plane.padding
    tall, wide = _covering(plane)
    derive, derived = derivative(activation), activation is not None

    def max_pool_gradient(grad_output, argmax, y, grad_x, planes):
        # A thread owns an element of the input.
        i = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x))
        if i >= uint32(planes * uint32(height * width)):
            return
        row = uint32(i // uint32(width))
        n = uint32(row // uint32(height))
        start = uint32(n * uint32(out_height * out_width))
        here = int32(i - n * uint32(height * width))
        first_p = first_covering(uint32(row - n * uint32(height)), above, down, tall, out_height)
        first_q = first_covering(uint32(i - row * uint32(width)), left, right, wide, out_width)
        total = float32(0)
        j = uint32(0)
        while j < uint32(tall):
            p = uint32(first_p + j)
            k = uint32(0)
            while k < uint32(wide):
                q = uint32(first_q + k)
                if p < uint32(out_height) and q < uint32(out_width):
                    at = uint32(start + uint32(p * uint32(out_width)) + q)
                    if argmax[at] == here:
                        total += derive(grad_output[at], y[at] if derived else float32(0))
                k = uint32(k + uint32(1))
            j = uint32(j + uint32(1))
        grad_x[i] = total

    return Kernel("max_pool_backward", max_pool_gradient, (REAL, INTEGER, REAL, REAL, uint32), THREADS)


@cache
def _avg_pool(plane: PoolGeometry, count_include_pad: bool) -> Kernel:
    (height, width), (out_height, out_width) = plane.input, plane.output
    (rows, columns), (down, right) = plane.window, plane.stride
    (above, _), (left, _) = plane.padding
    (low, high), (near, far) = _counted(plane, count_include_pad)
    inside, lanes = _inside(plane), _lanes(plane)

    def avg_pool(x, y, planes):
        # A thread, or all lanes of a warp, own an output; a lane owns every 32nd element of its window.
        thread = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x))
        i = uint32(thread // uint32(lanes))
        if i >= uint32(planes * uint32(out_height * out_width)):
            return
        row = uint32(i // uint32(out_width))
        n = uint32(row // uint32(out_height))
        p, q = uint32(row - n * uint32(out_height)), uint32(i - row * uint32(out_width))
        top, side = uint32(p * uint32(down) - uint32(above)), uint32(q * uint32(right) - uint32(left))
        total = float32(0)
        e = uint32(thread % uint32(lanes))
        while e < uint32(rows * columns):
            r = uint32(e // uint32(columns))
            h, w = uint32(top + r), uint32(side + e - r * uint32(columns))
            # Negative positions wrap around: one comparison with the size finds those on both sides.
            if inside or (h < uint32(height) and w < uint32(width)):
                total += x[uint32((n * uint32(height) + h) * uint32(width) + w)]
            e = uint32(e + uint32(lanes))
        if lanes == WARP:
            total = warp_sum(total)
        if uint32(thread % uint32(lanes)) == uint32(0):
            count = uint32(extent(p, down, rows, low, high) * extent(q, right, columns, near, far))
            y[i] = total / float32(count)

    return Kernel("avg_pool_forward", avg_pool, (REAL, REAL, uint32), THREADS)


@cache
def _avg_pool_gradient(plane: PoolGeometry, count_include_pad: bool) -> Kernel:
    (height, width), (out_height, out_width) = plane.input, plane.output
    (rows, columns), (down, right) = plane.window, plane.stride
    (above, _), (left, _) = plane.padding
    (low, high), (near, far) = _counted(plane, count_include_pad)
    tall, wide = _covering(plane)

    def avg_pool_gradient(grad_output, grad_x, planes):
        # A thread owns an element of the input.
        i = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x))
        if i >= uint32(planes * uint32(height * width)):
            return
        row = uint32(i // uint32(width))
        n = uint32(row // uint32(height))
        h, w = uint32(row - n * uint32(height)), uint32(i - row * uint32(width))
        start = uint32(n * uint32(out_height * out_width))
        first_p = first_covering(h, above, down, tall, out_height)
        first_q = first_covering(w, left, right, wide, out_width)
        total = float32(0)
        j = uint32(0)
        while j < uint32(tall):
            p = uint32(first_p + j)
            k = uint32(0)
            while k < uint32(wide):
                q = uint32(first_q + k)
                # The place in the window, huge where the window begins behind this element.
                r = uint32(h + uint32(above) - p * uint32(down))
                s = uint32(w + uint32(left) - q * uint32(right))
                exists = p < uint32(out_height) and q < uint32(out_width)
                if exists and r < uint32(rows) and s < uint32(columns):
                    count = uint32(extent(p, down, rows, low, high) * extent(q, right, columns, near, far))
                    total += grad_output[uint32(start + uint32(p * uint32(out_width)) + q)] / float32(count)
                k = uint32(k + uint32(1))
            j = uint32(j + uint32(1))
        grad_x[i] = total

    return Kernel("avg_pool_backward", avg_pool_gradient, (REAL, REAL, uint32), THREADS)


def _lanes(plane: PoolGeometry) -> int:
    return WARP if np.prod(plane.window) >= WIDE else 1


def _covering(plane: PoolGeometry) -> tuple[int, ...]:
    """How many windows may cover an element, in each dimension."""
    return tuple(
        min(-(-window // stride), count)
        for window, stride, count in zip(plane.window, plane.stride, plane.output, strict=True)
    )


def _counted(plane: PoolGeometry, count_include_pad: bool) -> list[tuple[int, int]]:
    """In each dimension, the range of padded positions that an average counts."""
    return [
        (0, before + size + after) if count_include_pad else (before, before + size)
        for size, (before, after) in zip(plane.input, plane.padding, strict=True)
    ]


@device
def first_covering(position, before, stride, count, outputs):
    """The first of the `count` windows that may cover a position; wrapped around where there is no such window."""
    if count >= outputs:
        return uint32(0)
    return uint32((position + uint32(before)) // uint32(stride) - uint32(count) + uint32(1))


@device
def extent(p, stride, window, low, high):
    """How many positions of window p an average counts."""
    begin = uint32(p * uint32(stride))
    return uint32(min(uint32(begin + uint32(window)), uint32(high)) - max(begin, uint32(low)))
