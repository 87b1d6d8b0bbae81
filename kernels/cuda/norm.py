"""Batch normalisation; the formulas stand in `cnn.kernels.reference.norm`.

Each direction takes two launches. In the first a block reduces one part of one channel. In the second every warp puts
the parts of its channel together, one part a lane, and applies the result to elements of that channel; the channel's
first block also writes what there is one of for each channel. Nothing is added atomically: two runs give the same bits.
Evaluation needs a second launch only. What goes around the layer is added in a launch of its own.

Mean and variance come from one pass: Welford's update in each thread, then Chan's rule for two sets of values
(https://doi.org/10.1080/00031305.1983.10483115), both on x minus the channel's first element, so that a mean far from
zero costs the variance no digits.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cuda.activation import DERIVATIVES, FUNCTIONS
from cnn.kernels.cuda.channels import THREADS, parts, place
from cnn.kernels.cuda.compiler import Kernel, cuda, device, float32, pointer, uint32
from cnn.kernels.cuda.intrinsics import shuffle
from cnn.kernels.cuda.launch import Launch, contiguous
from cnn.kernels.cuda.reduce import WARP, block_sum, warp_sum
from cnn.kernels.cuda.residual import residual_forward

# Elements for each thread of a second launch, so that putting the parts together is worth it.
APPLIED = 8
MOST_BLOCKS = 1024

REAL = pointer(float32)


def batch_norm_forward(
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    activation: str | None,
    around: Any | None,
    y: Any,
    saved: Any,
) -> None:
    if around is not None:
        batch_norm_forward(x, weight, bias, running_mean, running_var, training, momentum, eps, None, None, y, saved)
        residual_forward(y, around, activation, y)
        return
    images, channels, pixels = sizes = _sizes(x)
    count = images * pixels
    x, weight, bias = contiguous(x), contiguous(weight), contiguous(bias)
    mean, var = contiguous(running_mean), contiguous(running_var)
    if not (training and count):
        plan_batch_norm_evaluation(*sizes, activation)(x, weight, bias, mean, var, y, saved, eps, count)
        return
    number, length = parts(count)
    moments = buffers.empty((3, channels, number), np.float32, like=x)
    plan_batch_norm_moments(*sizes)(x, moments, count, length)
    launch = plan_batch_norm_training(*sizes, activation)
    launch(x, weight, bias, moments, mean, var, y, saved, momentum, eps, count, number)
    for given, written in ((running_mean, mean), (running_var, var)):
        if written is not given:
            given[...] = written


def batch_norm_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    saved: Any,
    activation: str | None,
    y: Any | None,
    grad_x: Any,
    grad_weight: Any,
    grad_bias: Any,
) -> None:
    images, channels, pixels = sizes = _sizes(x)
    count = images * pixels
    number, length = parts(count)
    grad_output, x, weight, saved = (contiguous(array) for array in (grad_output, x, weight, saved))
    y = grad_output if y is None else contiguous(y)  # not read without an activation
    sums = buffers.empty((2, channels, number), np.float32, like=x)
    plan_batch_norm_sums(*sizes, activation)(grad_output, y, x, saved, sums, count, length)
    launch = plan_batch_norm_gradient(*sizes, activation)
    launch(grad_output, y, x, weight, saved, sums, grad_x, grad_weight, grad_bias, count, number)


def plan_batch_norm_moments(images: int, channels: int, pixels: int) -> Launch:
    """The first launch of a training pass. pixels: of one image and channel, here and below."""
    return Launch(_moments(channels, pixels), (channels, parts(images * pixels)[0]), (THREADS,))


def plan_batch_norm_training(images: int, channels: int, pixels: int, activation: str | None) -> Launch:
    """The second launch of a training pass."""
    return Launch(_training(channels, pixels, activation), _applying(images, channels, pixels), (THREADS,))


def plan_batch_norm_evaluation(images: int, channels: int, pixels: int, activation: str | None) -> Launch:
    return Launch(_evaluation(channels, pixels, activation), _applying(images, channels, pixels), (THREADS,))


def plan_batch_norm_sums(images: int, channels: int, pixels: int, activation: str | None) -> Launch:
    """The first launch of a backward pass."""
    return Launch(_sums(channels, pixels, activation), (channels, parts(images * pixels)[0]), (THREADS,))


def plan_batch_norm_gradient(images: int, channels: int, pixels: int, activation: str | None) -> Launch:
    """The second launch of a backward pass."""
    return Launch(_gradient(channels, pixels, activation), _applying(images, channels, pixels), (THREADS,))


def _applying(images: int, channels: int, pixels: int) -> tuple[int, int]:
    blocks = -(-images * pixels // (APPLIED * THREADS))
    return channels, min(max(blocks, 1), MOST_BLOCKS)


def _sizes(x: Any) -> tuple[int, int, int]:
    """Images, channels, and elements of a plane."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


@cache
def _moments(channels: int, pixels: int) -> Kernel:
    at = place(channels, pixels)
    warps = THREADS // WARP

    def moments(x, moments, count, length):
        # A block owns a part of a channel.
        shared = cuda.shared.array((3, WARP), float32)
        thread = uint32(cuda.threadIdx.x)
        lane, warp = thread & uint32(31), thread >> uint32(5)
        channel, part = uint32(cuda.blockIdx.x), uint32(cuda.blockIdx.y)
        origin = x[at(channel, uint32(0))]
        seen = mean = spread = float32(0)
        e = uint32(part * length + thread)
        end = uint32(min(uint32((part + uint32(1)) * length), count))
        while e < end:
            value = x[at(channel, e)] - origin
            seen += float32(1)
            distance = value - mean
            mean += distance / seen
            spread += distance * (value - mean)
            e = uint32(e + uint32(THREADS))
        seen, mean, spread = warp_moments(seen, mean, spread)
        if lane == uint32(0):
            shared[0, warp], shared[1, warp], shared[2, warp] = seen, mean, spread
        cuda.syncthreads()
        seen = mean = spread = float32(0)
        if lane < uint32(warps):
            seen, mean, spread = shared[0, lane], shared[1, lane], shared[2, lane]
        seen, mean, spread = warp_moments(seen, mean, spread)
        if thread == uint32(0):
            rows, row = uint32(cuda.gridDim.x), uint32(cuda.gridDim.y)
            moments[uint32(channel * row + part)] = seen
            moments[uint32((rows + channel) * row + part)] = mean
            moments[uint32((rows + rows + channel) * row + part)] = spread

    return Kernel("batch_norm_moments", moments, (REAL, REAL, uint32, uint32), THREADS)


@cache
def _training(channels: int, pixels: int, activation: str | None) -> Kernel:
    at, act = place(channels, pixels), FUNCTIONS[activation]

    def training(x, weight, bias, moments, running_mean, running_var, y, saved, momentum, eps, count, number):
        # A block owns a run of a channel; a lane, one of its parts.
        thread = uint32(cuda.threadIdx.x)
        lane = thread & uint32(31)
        channel, rows = uint32(cuda.blockIdx.x), uint32(cuda.gridDim.x)
        seen = mean = spread = float32(0)
        if lane < number:
            seen = moments[uint32(channel * number + lane)]
            mean = moments[uint32((rows + channel) * number + lane)]
            spread = moments[uint32((rows + rows + channel) * number + lane)]
        seen, mean, spread = warp_moments(seen, mean, spread)
        mean += x[at(channel, uint32(0))]
        scale = float32(1) / math.sqrt(spread / float32(count) + eps)
        if thread == uint32(0) and uint32(cuda.blockIdx.y) == uint32(0):
            saved[channel], saved[uint32(rows + channel)] = mean, scale
            unbiased = spread / float32(count - uint32(1))
            running_mean[channel] += momentum * (mean - running_mean[channel])
            running_var[channel] += momentum * (unbiased - running_var[channel])
        factor, shift = scale * weight[channel], bias[channel]
        e = uint32(uint32(cuda.blockIdx.y) * uint32(THREADS) + thread)
        while e < count:
            i = at(channel, e)
            y[i] = act((x[i] - mean) * factor + shift)
            e = uint32(e + uint32(cuda.gridDim.y) * uint32(THREADS))

    arrays = (REAL,) * 8
    return Kernel("batch_norm_training", training, (*arrays, float32, float32, uint32, uint32), THREADS)


@cache
def _evaluation(channels: int, pixels: int, activation: str | None) -> Kernel:
    at, act = place(channels, pixels), FUNCTIONS[activation]

    def evaluation(x, weight, bias, running_mean, running_var, y, saved, eps, count):
        # A block owns a run of a channel.
        thread = uint32(cuda.threadIdx.x)
        channel, rows = uint32(cuda.blockIdx.x), uint32(cuda.gridDim.x)
        mean = running_mean[channel]
        scale = float32(1) / math.sqrt(running_var[channel] + eps)
        if thread == uint32(0) and uint32(cuda.blockIdx.y) == uint32(0):
            saved[channel], saved[uint32(rows + channel)] = mean, scale
        factor, shift = scale * weight[channel], bias[channel]
        e = uint32(uint32(cuda.blockIdx.y) * uint32(THREADS) + thread)
        while e < count:
            i = at(channel, e)
            y[i] = act((x[i] - mean) * factor + shift)
            e = uint32(e + uint32(cuda.gridDim.y) * uint32(THREADS))

    return Kernel("batch_norm_evaluation", evaluation, ((REAL,) * 7 + (float32, uint32)), THREADS)


@cache
def _sums(channels: int, pixels: int, activation: str | None) -> Kernel:
    at, derivative = place(channels, pixels), DERIVATIVES[activation]

    def sums(grad_output, y, x, saved, sums, count, length):
        # A block owns a part of a channel.
        thread = uint32(cuda.threadIdx.x)
        channel, part = uint32(cuda.blockIdx.x), uint32(cuda.blockIdx.y)
        rows, row = uint32(cuda.gridDim.x), uint32(cuda.gridDim.y)
        mean, scale = saved[channel], saved[uint32(rows + channel)]
        total = product = float32(0)
        e = uint32(part * length + thread)
        end = uint32(min(uint32((part + uint32(1)) * length), count))
        while e < end:
            i = at(channel, e)
            g = derivative(grad_output[i], y[i])
            total += g
            product += g * ((x[i] - mean) * scale)
            e = uint32(e + uint32(THREADS))
        total, product = block_sum(total), block_sum(product)
        if thread == uint32(0):
            sums[uint32(channel * row + part)] = total
            sums[uint32((rows + channel) * row + part)] = product

    return Kernel("batch_norm_sums", sums, (*(REAL,) * 5, uint32, uint32), THREADS)


@cache
def _gradient(channels: int, pixels: int, activation: str | None) -> Kernel:
    at, derivative = place(channels, pixels), DERIVATIVES[activation]

    def gradient(grad_output, y, x, weight, saved, sums, grad_x, grad_weight, grad_bias, count, number):
        # A block owns a run of a channel; a lane, one of its parts.
        thread = uint32(cuda.threadIdx.x)
        lane = thread & uint32(31)
        channel, rows = uint32(cuda.blockIdx.x), uint32(cuda.gridDim.x)
        total = product = float32(0)
        if lane < number:
            total = sums[uint32(channel * number + lane)]
            product = sums[uint32((rows + channel) * number + lane)]
        total, product = warp_sum(total), warp_sum(product)
        if thread == uint32(0) and uint32(cuda.blockIdx.y) == uint32(0):
            grad_bias[channel], grad_weight[channel] = total, product
        mean, scale = saved[channel], saved[uint32(rows + channel)]
        factor = weight[channel] * scale
        total, product = total / float32(count), product / float32(count)
        e = uint32(uint32(cuda.blockIdx.y) * uint32(THREADS) + thread)
        while e < count:
            i = at(channel, e)
            g = derivative(grad_output[i], y[i])
            grad_x[i] = factor * (g - total - (x[i] - mean) * scale * product)
            e = uint32(e + uint32(cuda.gridDim.y) * uint32(THREADS))

    return Kernel("batch_norm_gradient", gradient, ((REAL,) * 9 + (uint32, uint32)), THREADS)


@device
def warp_moments(seen, mean, spread):
    """Number, mean and sum of squared distances from it of the values of all lanes, in every lane."""
    lane = uint32(cuda.threadIdx.x) & uint32(31)
    distance = uint32(16)
    while distance > uint32(0):
        partner = lane ^ distance
        others, gap = shuffle(seen, partner), shuffle(mean, partner) - mean
        share = others / max(seen + others, float32(1))
        spread += shuffle(spread, partner) + gap * gap * seen * share
        mean += gap * share
        seen += others
        distance >>= uint32(1)
    # Partners round differently; one lane's numbers hold for all.
    return shuffle(seen, uint32(0)), shuffle(mean, uint32(0)), shuffle(spread, uint32(0))
