"""Batch normalisation; the formulas stand in `cnn.kernels.reference.norm`. A thread takes a run of channels.

Sums run over a plane, or a few small ones, in float32 vectors and beyond that in float64, so that their error does not
grow with the batch. A plane's squares are summed around the mean of those before it, and moved to the common one (Chan,
Golub, LeVeque, Algorithms for computing the sample variance, 1983): one pass over memory. A second pass makes the
result, of a channel that mostly lies in a cache still. Each way is one loop with and without a relu behind the layer,
so that the bits are those of one after the other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnn.kernels.buffers import empty
from cnn.kernels.cpu import activation as activations
from cnn.kernels.cpu.compile import REORDERED, inner, jit
from cnn.kernels.cpu.element import get, put
from cnn.kernels.cpu.layout import NOTHING, flat
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.simd import LANES, add_vector, load_tile, store_sums, zeros
from cnn.kernels.cpu.simd_arithmetic import minus, plus, plus_product, times
from cnn.kernels.cpu.simd_choice import NO_FLOOR, RELU_FLOOR, clip_below, where_positive
from cnn.kernels.cpu.simd_memory import streams, write, written
from cnn.kernels.cpu.threads import share_signalled

Array = np.ndarray[Any, Any]

# A thread costs more than it computes below about this many elements.
LEAST = 2**14

# Elements of small planes, of several images, that are summed up in float32 in one go.
RUN = 2**10


def batch_norm_forward(
    x: Array,
    weight: Array,
    bias: Array,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float,
    eps: float,
    activation: str | None,
    around: Array | None,
    y: Array,
    saved: Array,
) -> None:
    sizes = _sizes(x)
    relu = activation == "relu"
    added = NOTHING if around is None else flat(around)
    floor, past = RELU_FLOOR if relu else NO_FLOOR, streams(y, sizes[2])
    arrays = flat(x), weight, bias, np.float32(eps), added, floor, y.reshape(-1), past, saved
    if training and x.size:
        running = running_mean, running_var, np.float32(momentum)
        _share(lambda words, i, j: _normalise_by_batch(words, *sizes, *arrays, *running, i, j), sizes)
    else:
        _share(lambda words, i, j: _normalise(words, *sizes, *arrays, running_mean, running_var, i, j), sizes)
    if activation is not None and not relu:
        getattr(activations, f"{activation}_forward")(y, y)


def batch_norm_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    saved: Array,
    activation: str | None,
    y: Array | None,
    grad_x: Array,
    grad_weight: Array,
    grad_bias: Array,
) -> None:
    sizes = _sizes(x)
    g, gate = grad_output, NOTHING
    if activation == "relu" and y is not None:
        gate = flat(y)
    elif activation is not None:
        g = empty(g.shape, np.float32)
        getattr(activations, f"{activation}_backward")(grad_output, y, g)
    gradients = grad_x.reshape(-1), streams(grad_x, sizes[2]), grad_weight, grad_bias
    arrays = flat(g), gate, flat(x), weight, saved, *gradients
    _share(lambda words, i, j: _gradients(words, *sizes, *arrays, i, j), sizes)


def _sizes(x: Array) -> tuple[int, int, int]:
    """Images, channels, and elements of a plane."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def _share(work: Any, sizes: tuple[int, int, int]) -> None:
    images, channels, pixels = sizes
    share_signalled(work, channels, max(LEAST // max(images * pixels, 1), 1))


@inner()
def _affine(x, images, channels, pixels, c, scale, shift, around, floor, y, past):
    for n in range(images - 1, -1, -1):
        first = (n * channels + c) * pixels
        whole = first + pixels // LANES * LANES
        for i in range(first, whole, LANES):
            tile = minus(times(load_tile(x, i, 0, 0, 1, 1, LANES), scale), -shift)
            if around.size > 0:
                tile = add_vector(tile, around, i)
            tile = clip_below(tile, floor)
            write(tile, y, i, 0, 0, past)
        for i in range(whole, first + pixels):
            value = get(x, i) * scale + shift
            if around.size > 0:
                value += get(around, i)
            put(y, i, floor if value < floor else value)  # NaN is not below, and stays
    written(past)


@jit(fastmath=REORDERED)
def _statistics(x, images, channels, pixels, c):
    """Mean and biased variance of a channel."""
    total = np.float32(0)
    for i in range(c * pixels, (c + 1) * pixels):
        total += get(x, i)
    centre = following = total / np.float32(pixels)
    mean = squares = 0.0
    for n in range(images):
        first, last = (n * channels + c) * pixels, (n * channels + c + 1) * pixels
        rest = part = np.float32(0)
        for i in range(first, last):
            apart = get(x, i) - centre
            part += apart * apart
            rest += apart
        # Where the plane's mean is far from the centre, so is it from the mean, which adds more than rounding took.
        off = np.float64(rest) / pixels
        difference = centre + off - mean
        mean += difference / (n + 1)
        squares += max(part - off * rest, 0.0) + difference * difference * pixels * n / (n + 1)
        centre, following = following, np.float32(mean)  # so that the next plane need not wait for this one's
    return mean, squares / (images * pixels)


@jit()
def _normalise_by_batch(
    words,
    images,
    channels,
    pixels,
    x,
    weight,
    bias,
    eps,
    around,
    floor,
    y,
    past,
    saved,
    running_mean,
    running_var,
    momentum,
    first,
    last,
):
    begin(words)
    count = images * pixels
    for c in range(first, last):
        mean, var = _statistics(x, images, channels, pixels, c)
        running_mean[c] += momentum * (np.float32(mean) - running_mean[c])
        running_var[c] += momentum * (np.float32(var * count / (count - 1)) - running_var[c])
        saved[0, c] = mean
        saved[1, c] = np.float32(1) / np.sqrt(np.float32(var) + eps)
        scale = weight[c] * saved[1, c]
        _affine(x, images, channels, pixels, c, scale, bias[c] - saved[0, c] * scale, around, floor, y, past)


@jit()
def _normalise(
    words,
    images,
    channels,
    pixels,
    x,
    weight,
    bias,
    eps,
    around,
    floor,
    y,
    past,
    saved,
    running_mean,
    running_var,
    first,
    last,
):
    begin(words)
    for c in range(first, last):
        saved[0, c] = running_mean[c]
        saved[1, c] = np.float32(1) / np.sqrt(running_var[c] + eps)
        scale = weight[c] * saved[1, c]
        _affine(x, images, channels, pixels, c, scale, bias[c] - saved[0, c] * scale, around, floor, y, past)


@jit()
def _gradients(
    words, images, channels, pixels, g, gate, x, weight, saved, grad_x, past, grad_weight, grad_bias, first, last
):
    begin(words)
    sums, run = np.empty(2, np.float32), max(RUN // max(pixels, 1), 1)
    for c in range(first, last):
        mean, scale = saved[0, c], saved[1, c]
        total = product = 0.0
        for n in range(0, images, run):
            _sums(g, gate, x, mean, (n * channels + c) * pixels, channels * pixels, min(run, images - n), pixels, sums)
            total += sums[0]
            product += sums[1]
        product *= scale
        grad_bias[c] = total
        grad_weight[c] = product
        count = max(images * pixels, 1)
        # factor * (g - total / count - (x - mean) * scale * product / count), gathered by x
        factor = weight[c] * scale
        slope = np.float32(product / count) * scale * factor
        shift = np.float32(total / count) * factor
        for n in range(images - 1, -1, -1):
            start = (n * channels + c) * pixels
            whole = start + pixels // LANES * LANES
            for i in range(start, whole, LANES):
                tile = load_tile(g, i, 0, 0, 1, 1, LANES)
                if gate.size > 0:
                    tile = where_positive(tile, load_tile(gate, i, 0, 0, 1, 1, LANES))
                apart = minus(load_tile(x, i, 0, 0, 1, 1, LANES), mean)
                tile = minus(plus(times(tile, factor), times(apart, -slope)), shift)
                write(tile, grad_x, i, 0, 0, past)
            for i in range(whole, start + pixels):
                put(grad_x, i, factor * _passed(g, gate, i) - (get(x, i) - mean) * slope - shift)
    written(past)


@inner()
def _sums(g, gate, x, mean, first, step, planes, pixels, sums):
    """Of g, and of g * (x - mean), where the gate is open: of planes with `step` from one to the next."""
    total, product = zeros(1, 1, LANES), zeros(1, 1, LANES)
    rest = rest_product = np.float32(0)
    for start in range(first, first + planes * step, step):
        whole = start + pixels // LANES * LANES
        for i in range(start, whole, LANES):
            tile = load_tile(g, i, 0, 0, 1, 1, LANES)
            if gate.size > 0:
                tile = where_positive(tile, load_tile(gate, i, 0, 0, 1, 1, LANES))
            total = plus(total, tile)
            product = plus_product(product, tile, minus(load_tile(x, i, 0, 0, 1, 1, LANES), mean))
        for i in range(whole, start + pixels):
            passed = _passed(g, gate, i)
            rest += passed
            rest_product += passed * (get(x, i) - mean)
    store_sums(total, sums, 0, 0)
    store_sums(product, sums, 1, 0)
    sums[0] += rest
    sums[1] += rest_product


@jit(inline="always")
def _passed(g, gate, i):
    value = get(g, i)
    if gate.size > 0:
        value = value if get(gate, i) > np.float32(0) else np.float32(0)
    return value
