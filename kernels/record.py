"""The end of a step, on the device: keep its loss, count the step and its images.

history[counts[0] % len(history)] = value;  counts[0] += 1;  counts[1] += images
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.dispatch import backend_module, check_arrays, check_labels, check_shape, check_written
from cnn.kernels.errors import DTypeError, ShapeError
from cnn.kernels.options import check_number


def record(value: Any, history: Any, counts: Any, *, images: int = 0) -> None:
    """Write value, one number, to history (n,), and update counts, int32 (2,): steps so far, and images.

    history and counts are contiguous. Nothing is read back. Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "record"
    check_arrays(operation, value=value, history=history)
    check_labels(operation, "counts", counts, value)
    if value.size != 1:
        raise ShapeError(f"{operation}: value must be one number, got shape {value.shape}")
    if history.ndim != 1 or not len(history) or not history.flags.c_contiguous:
        raise ShapeError(f"{operation}: history must be a contiguous array (n,) with n above 0, got {history.shape}")
    if counts.dtype != np.int32:
        raise DTypeError(f"{operation}: counts must be int32, got {counts.dtype}")
    check_shape(operation, "counts", counts, (2,))
    check_written(operation, "history", history, value)
    check_written(operation, "counts", counts)
    images = int(check_number(operation, "images", images, least=0))
    backend_module(operation, "record", value).record(value, history, counts, images)
