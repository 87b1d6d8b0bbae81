"""Accuracy: how many images have their largest score at their label."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.buffers import empty
from cnn.kernels.dispatch import backend_module, check_arrays, check_labels, check_shape
from cnn.kernels.errors import ShapeError


def count_correct(scores: Any, labels: Any) -> Any:
    """How many rows of scores (N, M) have their maximum, the first of equal ones, at the row's integer label (N,).

    A row with a NaN is wrong, and so is one whose label is none of 0..M-1. Returns an int32 array of shape ().
    Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "count_correct"
    check_arrays(operation, scores=scores)
    check_labels(operation, "labels", labels, scores)
    if scores.ndim != 2 or scores.shape[1] < 1:
        raise ShapeError(f"{operation}: scores must be (N, M) with at least one class, got {scores.shape}")
    check_shape(operation, "labels", labels, scores.shape[:1])
    count = empty((), np.int32, like=scores)
    backend_module(operation, "accuracy", scores).count_correct(scores, labels, count)
    return count
