"""A mini-batch from a data set that stays on the GPU; the formula stands in `cnn.kernels.gather`."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from cnn.kernels.cuda.compiler import Kernel, cuda, float32, pointer, types, uint32
from cnn.kernels.cuda.launch import Launch, contiguous, integers

THREADS = 128

NAN = np.float32(np.nan)


def gather_batch(images: Any, indices: Any, centre: tuple[float, ...], scale: tuple[float, ...], out: Any) -> None:
    """An index that is no image's makes its image NaN, where the other backends raise an error."""
    indices = integers(indices)
    launch = plan_gather_batch(out.shape, centre, scale, indices.dtype.name)
    launch(contiguous(images), indices, out, len(images), len(indices))


@cache
def plan_gather_batch(
    shape: tuple[int, ...], centre: tuple[float, ...], scale: tuple[float, ...], indices: str
) -> Launch:
    """shape: of the batch. indices: the name of their dtype."""
    return Launch(_kernel(shape[1:], centre, scale, indices), (-(-math.prod(shape) // THREADS),), (THREADS,))


@cache
def _kernel(shape: tuple[int, ...], centre: tuple[float, ...], scale: tuple[float, ...], indices: str) -> Kernel:
    channels, pixels = shape[0], math.prod(shape[1:])
    centres, scales = tuple(map(np.float32, centre)), tuple(map(np.float32, scale))

    def gather(images, indices, y, count, batch):
        # A thread owns a pixel of one channel.
        i = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x))
        if i < uint32(batch * uint32(channels * pixels)):
            image = uint32(i // uint32(channels * pixels))
            place = uint32(i - image * uint32(channels * pixels))
            channel = uint32(place // uint32(pixels))
            index = indices[image]
            if index >= 0 and index < count:
                pixel = float32(images[uint32(uint32(index) * uint32(channels * pixels) + place)])
                y[i] = (pixel - centres[channel]) * scales[channel]
            else:
                y[i] = NAN

    real = pointer(float32)
    parameters = pointer(types.uint8), pointer(getattr(types, indices)), real, uint32, uint32
    return Kernel("gather_batch", gather, parameters, THREADS)
