"""A normalised mini-batch from a data set of bytes; a thread takes a run of images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnn.kernels.cpu.compile import jit
from cnn.kernels.cpu.element import get, put
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.threads import share_signalled

Array = np.ndarray[Any, Any]

# A thread costs more than it computes below about this many pixels.
LEAST = 2**15


def gather_batch(
    images: Array, indices: Array, centre: tuple[float, ...], scale: tuple[float, ...], out: Array
) -> None:
    channels, pixels = images.shape[1], math.prod(images.shape[2:])
    flat = np.ascontiguousarray(images).reshape(-1), out.reshape(-1)
    factors = np.array(centre, np.float32), np.array(scale, np.float32)
    least = max(LEAST // max(channels * pixels, 1), 1)
    arrays = *flat, indices, *factors
    share_signalled(lambda words, i, j: _gather(words, *arrays, channels, pixels, i, j), len(indices), least)


def gather_next(
    images: Array,
    labels: Array,
    order: Array,
    position: Array,
    centre: tuple[float, ...],
    scale: tuple[float, ...],
    out: Array,
    out_labels: Array,
) -> None:
    picked = order[position[0] : position[0] + len(out)]
    gather_batch(images, picked, centre, scale, out)
    out_labels[...] = labels[picked]


@jit()
def _gather(words, images, y, indices, centre, scale, channels, pixels, first, last):
    begin(words)
    for b in range(first, last):
        source = np.int64(indices[b])
        for c in range(channels):
            for i in range(pixels):
                pixel = np.float32(get(images, (source * channels + c) * pixels + i))
                put(y, (b * channels + c) * pixels + i, (pixel - centre[c]) * scale[c])
