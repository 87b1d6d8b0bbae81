"""A mini-batch from a data set that stays on the GPU; the formulas stand in `cnn.kernels.gather`."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from cnn.kernels.cuda.compiler import Kernel, cuda, device, float32, int32, pointer, types, uint32
from cnn.kernels.cuda.launch import Launch, contiguous, integers

THREADS = 128

NAN = np.float32(np.nan)


def gather_batch(images: Any, indices: Any, centre: tuple[float, ...], scale: tuple[float, ...], out: Any) -> None:
    """An index that is no image's makes its image NaN, where the other backends raise an error."""
    indices = integers(indices)
    launch = plan_gather_batch(out.shape, centre, scale, indices.dtype.name)
    launch(contiguous(images), indices, out, len(images), len(indices))


def gather_next(
    images: Any,
    labels: Any,
    order: Any,
    position: Any,
    centre: tuple[float, ...],
    scale: tuple[float, ...],
    out: Any,
    out_labels: Any,
) -> None:
    """As `gather_batch`; the label of what is no image is -1, which no loss takes for a class."""
    launch = plan_gather_next(out.shape, centre, scale)
    places = contiguous(labels), contiguous(order), contiguous(position)
    launch(contiguous(images), *places, out, out_labels, len(images), len(order), len(out))


@cache
def plan_gather_batch(
    shape: tuple[int, ...], centre: tuple[float, ...], scale: tuple[float, ...], indices: str
) -> Launch:
    """shape: of the batch. indices: the name of their dtype."""
    return Launch(_gather_batch(shape[1:], centre, scale, indices), _grid(shape), (THREADS,))


@cache
def plan_gather_next(shape: tuple[int, ...], centre: tuple[float, ...], scale: tuple[float, ...]) -> Launch:
    """shape: of the batch."""
    return Launch(_gather_next(shape[1:], centre, scale), _grid(shape), (THREADS,))


def _grid(shape: tuple[int, ...]) -> tuple[int]:
    return (-(-math.prod(shape) // THREADS),)


@cache
def _pixel(shape: tuple[int, ...], centre: tuple[float, ...], scale: tuple[float, ...]) -> Any:
    """The device function that normalises element `place` of image `index`."""
    size, pixels = math.prod(shape), math.prod(shape[1:])
    centres, scales = tuple(map(np.float32, centre)), tuple(map(np.float32, scale))

    @device
    def pixel(images, index, place, count):
        if index >= 0 and index < count:
            channel = uint32(place // uint32(pixels))
            value = float32(images[uint32(uint32(index) * uint32(size) + place)])
            return (value - centres[channel]) * scales[channel]
        return NAN

    return pixel


@cache
def _gather_batch(shape: tuple[int, ...], centre: tuple[float, ...], scale: tuple[float, ...], indices: str) -> Kernel:
    pixel, size = _pixel(shape, centre, scale), math.prod(shape)

    def gather(images, indices, y, count, batch):
        # A thread owns a pixel of one channel.
        i = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x))
        if i < uint32(batch * uint32(size)):
            image = uint32(i // uint32(size))
            y[i] = pixel(images, indices[image], uint32(i - image * uint32(size)), count)

    real = pointer(float32)
    parameters = pointer(types.uint8), pointer(getattr(types, indices)), real, uint32, uint32
    return Kernel("gather_batch", gather, parameters, THREADS)


@cache
def _gather_next(shape: tuple[int, ...], centre: tuple[float, ...], scale: tuple[float, ...]) -> Kernel:
    pixel, size = _pixel(shape, centre, scale), math.prod(shape)

    def gather(images, labels, order, position, y, y_labels, count, ordered, batch):
        # A thread owns a pixel of one channel; the first one of each image its label, too.
        i = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x))
        if i < uint32(batch * uint32(size)):
            image = uint32(i // uint32(size))
            place = uint32(i - image * uint32(size))
            at = uint32(uint32(position[0]) + image)
            index = order[at] if at < ordered else types.int64(-1)
            y[i] = pixel(images, index, place, count)
            if place == uint32(0):
                y_labels[image] = labels[uint32(index)] if index >= 0 and index < count else types.int64(-1)

    real, whole = pointer(float32), pointer(types.int64)
    parameters = (pointer(types.uint8), whole, whole, pointer(int32), real, whole, uint32, uint32, uint32)
    return Kernel("gather_next", gather, parameters, THREADS)
