"""Images side by side: (N, C, pixels) to [group][channel][position][lane], where lane l of a group is image l.

A group is as many images as a vector has lanes; missing images of the last group are zeros. `positions` says at which
element of its plane each pixel's vector stands, so that padding, row length and order are the caller's choice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.cpu.compile import inner
from cnn.kernels.cpu.simd import LANES, load_tile
from cnn.kernels.cpu.transpose import load_rows, scatter_rows, transpose

Array = np.ndarray[Any, Any]

# For arguments that are always the same: Numba would compile all that is called once more for a Python number.
NONE, ONE = np.int64(0), np.int64(1)

# In the place of an array that is left out.
NOTHING = np.zeros(0, np.float32)


def flat(array: Array) -> Array:
    """The elements in C order, copied only where they do not lie that way."""
    return np.asarray(array).ravel()


def padded_positions(positions: Array, spare: int) -> Array:
    """`positions` filled up to whole vectors with `spare`, the element where a pixel that is none may go."""
    missing = -len(positions) % LANES
    return np.concatenate([positions, np.full(missing, spare)]).astype(np.int64)


def _make(lanes: int) -> Any:
    @inner()
    def interleave(x, image, images, channels, pixels, positions, y, plane):
        """y[c * plane + positions[p] + l] = x[image + l, c, p], for l < images, c < channels, p < pixels."""
        for c in range(channels):
            for p in range(0, pixels, lanes):
                start = (image * channels + c) * pixels + p
                if images == lanes and p + lanes <= pixels:
                    tile = load_tile(x, start, channels * pixels, 0, lanes, 1, lanes)
                else:
                    tile = load_rows(x, start, channels * pixels, images, pixels - p, lanes)
                scatter_rows(transpose(tile), y, c * plane, positions, p)

    return interleave


interleave = _make(LANES)
