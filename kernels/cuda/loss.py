"""Losses and their gradients; the formulas stand in `cnn.kernels.loss`.

One launch computes gradients, losses and, while one block can do all of it, their sum; a larger batch is cut into
blocks, whose sums a second launch adds up. Both orders are fixed. Nothing is read back: a label that is no class makes
loss and gradient of its image NaN, where the other backends raise an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cuda.compiler import SIMULATED, Kernel, cuda, device, float32, pointer, types, uint32
from cnn.kernels.cuda.launch import Launch, contiguous, integers
from cnn.kernels.cuda.reduce import WARP, block_sum, warp_max, warp_sum
from cnn.kernels.cuda.row_sums import row_sums

# One block saves a launch as long as it takes about as long as one: up to this many images for each of its warps, and
# elements for each of its threads. A larger batch goes to blocks that are small, so that there are many.
IMAGES, ELEMENTS = 8, 16
ONE = 64 if SIMULATED else 1024  # threads; the simulator runs a Python thread for each
MANY = 64 if SIMULATED else 128
MOST_BLOCKS = 1024

NAN, INFINITY = np.float32(np.nan), np.float32(np.inf)


def softmax_cross_entropy(logits: Any, labels: Any, reduction: str, loss: Any, grad: Any) -> None:
    labels = integers(labels)
    launch = plan_softmax_cross_entropy(*logits.shape, labels.dtype.name, reduction == "none")
    arguments = contiguous(logits), labels, len(labels), _scale(len(labels), reduction), grad
    _run(launch, arguments, reduction, loss)


def hinge(scores: Any, labels: Any, margin: float, reduction: str, loss: Any, grad: Any) -> None:
    labels = integers(labels)
    launch = plan_hinge(*scores.shape, margin, labels.dtype.name, reduction == "none")
    arguments = contiguous(scores), labels, len(labels), _scale(len(labels), reduction), grad
    _run(launch, arguments, reduction, loss)


def mean_squared_error(y: Any, target: Any, reduction: str, loss: Any, grad: Any) -> None:
    launch = plan_mean_squared_error(y.size, reduction == "none")
    _run(launch, (contiguous(y), contiguous(target), y.size, _scale(y.size, reduction), grad), reduction, loss)


@cache
def plan_softmax_cross_entropy(images: int, classes: int, labels: str, each: bool) -> Launch:
    """labels: the name of their dtype. each: one loss for each image, in place of their sum."""
    threads, blocks = _threads_and_blocks(images, classes)
    kernel = _kernel("softmax_cross_entropy", _softmax_cross_entropy, classes, labels, each, threads)
    return Launch(kernel, (blocks,), (threads,))


@cache
def plan_hinge(images: int, classes: int, margin: float, labels: str, each: bool) -> Launch:
    """labels and each as in `plan_softmax_cross_entropy`."""
    threads, blocks = _threads_and_blocks(images, classes)
    kernel = _kernel("hinge", _hinge(margin), classes, labels, each, threads)
    return Launch(kernel, (blocks,), (threads,))


@cache
def plan_mean_squared_error(size: int, each: bool) -> Launch:
    """each: one loss for each element, in place of their sum."""
    threads, blocks = ONE, 1
    if size > ELEMENTS * ONE:
        threads, blocks = MANY, min(-(-size // (ELEMENTS * MANY)), MOST_BLOCKS)
    return Launch(_squared_kernel(each, threads), (blocks,), (threads,))


def _threads_and_blocks(images: int, classes: int) -> tuple[int, int]:
    if images <= IMAGES * ONE // WARP and images * classes <= ELEMENTS * ONE:
        return ONE, 1
    return MANY, min(-(-images * WARP // MANY), MOST_BLOCKS)


def _run(launch: Launch, arguments: tuple[Any, ...], reduction: str, loss: Any) -> None:
    (blocks,) = launch.grid
    if blocks == 1 or reduction == "none":
        launch(*arguments, loss)
    else:
        sums = buffers.empty((1, blocks), np.float32, like=loss)
        launch(*arguments, sums)
        row_sums(sums, loss)


def _scale(count: int, reduction: str) -> float:
    """What gradients and the sum of the losses are multiplied by."""
    if reduction != "mean":
        return 1.0
    return 1 / count if count else math.nan  # the mean of nothing, as in PyTorch


@cache
def _kernel(name: str, image_loss: Callable[..., Any], classes: int, labels: str, each: bool, threads: int) -> Kernel:
    warps = threads // WARP

    def kernel(scores, labels, images, scale, grad, losses):
        # A warp owns an image, then the one as many further as there are warps; a lane owns every 32nd class of it.
        thread = uint32(cuda.threadIdx.x)
        lane = thread & uint32(31)
        image = uint32(uint32(cuda.blockIdx.x) * uint32(warps) + (thread >> uint32(5)))
        total = float32(0)
        while image < images:
            label = labels[image]
            known = label >= 0 and label < classes
            start = uint32(image * uint32(classes))
            chosen = uint32(start + uint32(label)) if known else start
            # Everything that this poisons is computed from it; no address is.
            poison = float32(0) if known else NAN
            loss = image_loss(scores, start, uint32(start + uint32(classes)), chosen, poison, scale, grad, lane)
            if each:
                if lane == uint32(0):
                    losses[image] = loss
            else:
                total += loss
            image = uint32(image + uint32(cuda.gridDim.x) * uint32(warps))
        if not each:
            total = block_sum(total if lane == uint32(0) else float32(0))
            if thread == uint32(0):
                losses[uint32(cuda.blockIdx.x)] = total * scale

    real = pointer(float32)
    return Kernel(name, kernel, (real, pointer(getattr(types, labels)), uint32, float32, real, real), threads)


@device
def _softmax_cross_entropy(logits, start, end, chosen, poison, scale, grad, lane):
    largest = -INFINITY
    i = uint32(start + lane)
    while i < end:
        largest = max(largest, logits[i])
        i = uint32(i + uint32(WARP))
    largest = warp_max(largest) + poison
    powers = float32(0)
    i = uint32(start + lane)
    while i < end:
        powers += math.exp(logits[i] - largest)  # at most 1: nothing overflows; NaN reaches the sum here
        i = uint32(i + uint32(WARP))
    powers = warp_sum(powers)
    factor = scale / powers
    i = uint32(start + lane)
    while i < end:
        grad[i] = math.exp(logits[i] - largest) * factor - (scale if i == chosen else float32(0))
        i = uint32(i + uint32(WARP))
    return math.log(powers) - (logits[chosen] - largest)


@cache
def _hinge(margin: float) -> Any:
    distance = np.float32(margin)

    @device
    def hinge(scores, start, end, chosen, poison, scale, grad, lane):
        loss = active = float32(0)
        i = uint32(start + lane)
        while i < end:
            if i != chosen:
                excess = scores[i] - scores[chosen] + distance + poison
                violated = not excess <= float32(0)  # true for NaN as well, which then spreads
                grad[i] = scale + poison if violated else float32(0)
                loss += excess if violated else float32(0)
                active += float32(1) if violated else float32(0)
            i = uint32(i + uint32(WARP))
        loss, active = warp_sum(loss), warp_sum(active)
        if lane == uint32(0):
            grad[chosen] = poison - scale * active
        return loss + poison

    return hinge


@cache
def _squared_kernel(each: bool, threads: int) -> Kernel:
    def kernel(y, target, size, scale, grad, losses):
        # A thread owns an element, then the one as many further as there are threads.
        thread = uint32(cuda.threadIdx.x)
        i = uint32(uint32(cuda.blockIdx.x) * uint32(threads) + thread)
        total = float32(0)
        while i < size:
            difference = y[i] - target[i]
            grad[i] = float32(2) * difference * scale
            if each:
                losses[i] = difference * difference
            else:
                total += difference * difference
            i = uint32(i + uint32(cuda.gridDim.x) * uint32(threads))
        if not each:
            total = block_sum(total)
            if thread == uint32(0):
                losses[uint32(cuda.blockIdx.x)] = total * scale

    real = pointer(float32)
    return Kernel("mean_squared_error", kernel, (real, real, uint32, float32, real, real), threads)
