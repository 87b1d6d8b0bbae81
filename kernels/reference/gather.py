"""A normalised mini-batch from a data set of bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def gather_batch(
    images: Array, indices: Array, centre: tuple[float, ...], scale: tuple[float, ...], out: Array
) -> None:
    per_channel = [np.array(values, np.float32).reshape(-1, 1, 1) for values in (centre, scale)]
    out[...] = (images[indices] - per_channel[0]) * per_channel[1]


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
