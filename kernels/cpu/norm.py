"""Batch normalisation; the formulas stand in `cnn.kernels.reference.norm`. A thread takes a run of channels.

Sums run over one plane in float32 vectors and from plane to plane in float64, so that their error does not grow with
the batch. A plane's squares are summed around its own mean, while it lies in the first-level cache, and moved to the
common mean (Chan, Golub, LeVeque, Algorithms for computing the sample variance, 1983): one pass over memory. A second
pass makes the result, of a channel that mostly lies in a cache still.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnn.kernels.cpu.activation import flat_view
from cnn.kernels.cpu.compile import REORDERED, jit
from cnn.kernels.cpu.element import get, put
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.threads import share_signalled

Array = np.ndarray[Any, Any]

# A thread costs more than it computes below about this many elements.
LEAST = 2**14


def batch_norm_forward(
    x: Array,
    weight: Array,
    bias: Array,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float,
    eps: float,
    y: Array,
    saved: Array,
) -> None:
    sizes = _sizes(x)
    arrays = flat_view(x), weight, bias, np.float32(eps), y.reshape(-1), saved
    if training and x.size:
        running = running_mean, running_var, np.float32(momentum)
        _share(lambda words, i, j: _normalise_by_batch(words, *sizes, *arrays, *running, i, j), sizes)
    else:
        _share(lambda words, i, j: _normalise(words, *sizes, *arrays, running_mean, running_var, i, j), sizes)


def batch_norm_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    saved: Array,
    grad_x: Array,
    grad_weight: Array,
    grad_bias: Array,
) -> None:
    sizes = _sizes(x)
    arrays = flat_view(grad_output), flat_view(x), weight, saved, grad_x.reshape(-1), grad_weight, grad_bias
    _share(lambda words, i, j: _gradients(words, *sizes, *arrays, i, j), sizes)


def _sizes(x: Array) -> tuple[int, int, int]:
    """Images, channels, and elements of a plane."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def _share(work: Any, sizes: tuple[int, int, int]) -> None:
    images, channels, pixels = sizes
    share_signalled(work, channels, max(LEAST // max(images * pixels, 1), 1))


@jit(inline="always")
def _affine(x, images, channels, pixels, c, scale, shift, y):
    for n in range(images):
        for i in range((n * channels + c) * pixels, (n * channels + c + 1) * pixels):
            put(y, i, get(x, i) * scale + shift)


@jit(fastmath=REORDERED)
def _statistics(x, images, channels, pixels, c):
    """Mean and biased variance of a channel."""
    mean = squares = 0.0
    for n in range(images):
        first, last = (n * channels + c) * pixels, (n * channels + c + 1) * pixels
        total = np.float32(0)
        for i in range(first, last):
            total += get(x, i)
        centre = total / np.float32(pixels)
        rest = part = np.float32(0)
        for i in range(first, last):
            apart = get(x, i) - centre
            part += apart * apart
            rest += apart  # what the mean of the plane was rounded by
        difference = centre + np.float64(rest) / pixels - mean
        mean += difference / (n + 1)
        squares += part + difference * difference * pixels * n / (n + 1)
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
    y,
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
        _affine(x, images, channels, pixels, c, scale, bias[c] - saved[0, c] * scale, y)


@jit()
def _normalise(words, images, channels, pixels, x, weight, bias, eps, y, saved, running_mean, running_var, first, last):
    begin(words)
    for c in range(first, last):
        saved[0, c] = running_mean[c]
        saved[1, c] = np.float32(1) / np.sqrt(running_var[c] + eps)
        scale = weight[c] * saved[1, c]
        _affine(x, images, channels, pixels, c, scale, bias[c] - saved[0, c] * scale, y)


@jit(fastmath=REORDERED)
def _gradients(
    words, images, channels, pixels, grad_output, x, weight, saved, grad_x, grad_weight, grad_bias, first, last
):
    begin(words)
    for c in range(first, last):
        mean, scale = saved[0, c], saved[1, c]
        total = product = 0.0
        for n in range(images):
            part = part_product = np.float32(0)
            for i in range((n * channels + c) * pixels, (n * channels + c + 1) * pixels):
                part += get(grad_output, i)
                part_product += get(grad_output, i) * ((get(x, i) - mean) * scale)
            total += part
            product += part_product
        grad_bias[c] = total
        grad_weight[c] = product
        count = max(images * pixels, 1)
        # factor * (grad_output - total / count - (x - mean) * scale * product / count), gathered by x
        factor = weight[c] * scale
        slope = np.float32(product / count) * scale * factor
        shift = np.float32(total / count) * factor
        for n in range(images):
            for i in range((n * channels + c) * pixels, (n * channels + c + 1) * pixels):
                put(grad_x, i, factor * get(grad_output, i) - (get(x, i) - mean) * slope - shift)
