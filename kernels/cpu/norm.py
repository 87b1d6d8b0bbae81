"""Batch normalisation; the formulas stand in `cnn.kernels.reference.norm`. A thread takes a run of channels.

Sums run over one plane in float32 vectors and from plane to plane in float64, so that their error does not grow with
the batch; the variance is summed around the mean, in a second pass.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cpu.compile import REORDERED, jit
from cnn.kernels.cpu.threads import share

Array = np.ndarray[Any, Any]


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
    images, channels, pixels = _sizes(x)
    flat_x, flat_y = np.ascontiguousarray(x).reshape(-1), y.reshape(-1)
    if training and x.size:
        n = images * pixels
        biased = buffers.empty(channels, np.float32)
        share(lambda *part: _statistics(flat_x, images, channels, pixels, saved[0], biased, *part), channels)
        running_mean += np.float32(momentum) * (saved[0] - running_mean)
        running_var += np.float32(momentum) * (biased * np.float32(n / (n - 1)) - running_var)
        saved[1] = 1 / np.sqrt(biased + np.float32(eps))
    else:
        saved[0] = running_mean
        saved[1] = 1 / np.sqrt(running_var + np.float32(eps))
    scale = weight * saved[1]
    shift = bias - saved[0] * scale
    share(lambda *part: _affine(flat_x, images, channels, pixels, scale, shift, flat_y, *part), channels)


def batch_norm_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    saved: Array,
    grad_x: Array,
    grad_weight: Array,
    grad_bias: Array,
) -> None:
    images, channels, pixels = _sizes(x)
    flat = [np.ascontiguousarray(a).reshape(-1) for a in (grad_output, x)]
    arrays = np.ascontiguousarray(weight), np.ascontiguousarray(saved), grad_x.reshape(-1), grad_weight, grad_bias
    share(lambda *part: _gradients(*flat, images, channels, pixels, *arrays, *part), channels)


def _sizes(x: Array) -> tuple[int, int, int]:
    """Images, channels, and elements of a plane."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


@jit(fastmath=REORDERED)
def _statistics(x, images, channels, pixels, mean, var, first, last):
    for c in range(first, last):
        total = 0.0
        for n in range(images):
            part = np.float32(0)
            for i in range((n * channels + c) * pixels, (n * channels + c + 1) * pixels):
                part += x[i]
            total += part
        centre = np.float32(total / (images * pixels))
        total = 0.0
        for n in range(images):
            part = np.float32(0)
            for i in range((n * channels + c) * pixels, (n * channels + c + 1) * pixels):
                part += (x[i] - centre) * (x[i] - centre)
            total += part
        mean[c] = centre
        var[c] = total / (images * pixels)


@jit()
def _affine(x, images, channels, pixels, scale, shift, y, first, last):
    for c in range(first, last):
        for n in range(images):
            for i in range((n * channels + c) * pixels, (n * channels + c + 1) * pixels):
                y[i] = x[i] * scale[c] + shift[c]


@jit(fastmath=REORDERED)
def _gradients(grad_output, x, images, channels, pixels, weight, saved, grad_x, grad_weight, grad_bias, first, last):
    for c in range(first, last):
        mean, scale = saved[0, c], saved[1, c]
        total = product = 0.0
        for n in range(images):
            part = part_product = np.float32(0)
            for i in range((n * channels + c) * pixels, (n * channels + c + 1) * pixels):
                part += grad_output[i]
                part_product += grad_output[i] * ((x[i] - mean) * scale)
            total += part
            product += part_product
        grad_bias[c] = total
        grad_weight[c] = product
        count = max(images * pixels, 1)
        shared, slope = np.float32(total / count), np.float32(product / count)
        factor = weight[c] * scale
        for n in range(images):
            for i in range((n * channels + c) * pixels, (n * channels + c + 1) * pixels):
                grad_x[i] = factor * (grad_output[i] - shared - (x[i] - mean) * scale * slope)
