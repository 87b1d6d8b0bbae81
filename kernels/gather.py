"""A normalised mini-batch from a data set of bytes: y[b, c] = (images[indices[b], c] / 255 - mean[c]) / std[c]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn.kernels.buffers import empty
from cnn.kernels.dispatch import backend_module, check_labels, check_shape, is_array, readable
from cnn.kernels.errors import DTypeError, ShapeError
from cnn.kernels.options import check_number

UNIT = 1 / 255  # what a pixel value of 1 stands for


def gather_batch(images: Any, indices: Any, mean: Sequence[float], std: Sequence[float]) -> Any:
    """Pick images (N, C, H, W), uint8, by integer indices (B,), and normalise them by mean and std, C numbers each.

    mean and std are those of images / 255, as in `cnn.data.Normalize`, and the result has the same bits as there:
    (images - mean * 255) * (1 / 255 / std), the factors rounded to float32 first.
    Returns float32 (B, C, H, W). Raises `ShapeError` (an index outside 0..N-1, too: on a GPU its image is NaN instead),
    `DTypeError`, `BackendError`.
    """
    operation = "gather_batch"
    centre, scale = _check_images(operation, images, "indices", indices, mean, std)
    count = len(images)
    if readable(indices) and indices.size and (indices.min() < 0 or indices.max() >= count):
        raise ShapeError(
            f"{operation}: indices must lie in 0..{count - 1}, got values from {indices.min()} to {indices.max()}"
        )
    module = backend_module(operation, "gather", images, dtype=np.uint8)
    y = empty((len(indices), *images.shape[1:]), np.float32, like=images)
    module.gather_batch(images, indices, centre, scale, y)
    return y


def gather_next(
    images: Any, labels: Any, order: Any, position: Any, size: int, mean: Sequence[float], std: Sequence[float]
) -> tuple[Any, Any]:
    """The batch of `size` at order[position]: (gather_batch(images, picked, mean, std), labels[picked]), where

        picked = order[position[0] : position[0] + size]

    labels (N,), order (M,): int64. position: int32 (1,), read when the batch is gathered, so that a
    recorded call goes on from where the last one ended. Raises `ShapeError` (on a GPU, images and labels beyond the end
    or of no image are NaN and -1 instead), `DTypeError`, `BackendError`.
    """
    operation = "gather_next"
    centre, scale = _check_images(operation, images, "order", order, mean, std)
    for name, array, dtype, shape in (
        ("labels", labels, np.int64, (len(images),)),
        ("order", order, np.int64, order.shape),
        ("position", position, np.int32, (1,)),
    ):
        check_labels(operation, name, array, images)
        check_shape(operation, name, array, shape)
        if array.dtype != dtype:
            raise DTypeError(f"{operation}: {name} must be {np.dtype(dtype)}, got {array.dtype}")
    size = int(check_number(operation, "size", size, least=0))
    if readable(position):
        first, count = int(position[0]), len(images)
        if not 0 <= first <= len(order) - size:
            raise ShapeError(f"{operation}: a batch of {size} at {first} does not lie in an order of {len(order)}")
        picked = order[first : first + size]
        if size and (picked.min() < 0 or picked.max() >= count):
            raise ShapeError(
                f"{operation}: order must hold 0..{count - 1}, got values from {picked.min()} to {picked.max()}"
            )
    module = backend_module(operation, "gather", images, dtype=np.uint8)
    y = empty((size, *images.shape[1:]), np.float32, like=images)
    picked_labels = empty((size,), np.int64, like=images)
    module.gather_next(images, labels, order, position, centre, scale, y, picked_labels)
    return y, picked_labels


def _check_images(
    operation: str, images: Any, name: str, indices: Any, mean: Sequence[float], std: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Images and their places in order: what to subtract from each channel, and what to multiply it by then."""
    if not is_array(images) or images.dtype != np.uint8:
        raise DTypeError(
            f"{operation}: images must be a NumPy or CuPy array of uint8, got "
            f"{images.dtype if is_array(images) else f'a {type(images).__name__}'}"
        )
    check_labels(operation, name, indices, images)
    if images.ndim != 4 or images.shape[1] < 1:
        raise ShapeError(f"{operation}: images must be (N, C, H, W) with at least one channel, got {images.shape}")
    if indices.ndim != 1:
        raise ShapeError(f"{operation}: {name} must be (B,), got {indices.shape}")
    means = _numbers(operation, "mean", mean, images.shape[1])
    stds = _numbers(operation, "std", std, images.shape[1])
    if min(stds) <= 0:
        raise ShapeError(f"{operation}: std must be above zero, got {stds}")
    return tuple(value / UNIT for value in means), tuple(UNIT / value for value in stds)


def _numbers(operation: str, name: str, values: Any, channels: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    if len(numbers) != channels or not all(map(math.isfinite, numbers)):
        raise ShapeError(f"{operation}: {name} must be {channels} finite numbers, one for each channel, got {values!r}")
    return numbers
