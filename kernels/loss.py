"""Losses and their gradients in one call. With t the label or target of an image:

    softmax_cross_entropy:  log(sum_j exp(s_j)) - s_t              gradient  softmax(s) - onehot(t)
    mean_squared_error:     (y - t)^2                              gradient  2 (y - t)
    hinge:                  sum_{j != t} max(0, margin + s_j - s_t)  gradient  1 at active j, minus their count at t

reduction="mean" divides loss and gradient by the number of images (elements, for the squared error), "sum" adds up,
"none" keeps one loss per image (element) and the gradient of their sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.buffers import empty
from cnn.kernels.dispatch import backend_module, check_arrays, check_labels, check_shape, readable
from cnn.kernels.errors import ShapeError
from cnn.kernels.options import check_choice, check_number

REDUCTIONS = ("mean", "sum", "none")


def softmax_cross_entropy(logits: Any, labels: Any, *, reduction: str = "mean") -> tuple[Any, Any]:
    """Cross-entropy of softmax(logits (N, M)) with integer labels (N,) in 0..M-1.

    Returns (loss, grad_logits): loss is an array of shape (), or (N,) with reduction="none".
    Raises `ShapeError` (labels out of range, too: on a GPU their loss is NaN instead), `DTypeError`, `BackendError`.
    """
    return _labelled("softmax_cross_entropy", "logits", logits, labels, reduction)


def hinge(scores: Any, labels: Any, *, margin: float = 1.0, reduction: str = "mean") -> tuple[Any, Any]:
    """Multi-class support-vector loss of scores (N, M) with integer labels (N,) in 0..M-1.

    Returns (loss, grad_scores) as `softmax_cross_entropy` does, and raises the same errors.
    """
    return _labelled("hinge", "scores", scores, labels, reduction, check_number("hinge", "margin", margin))


def mean_squared_error(y: Any, target: Any, *, reduction: str = "mean") -> tuple[Any, Any]:
    """Squared difference of y and target, arrays of one shape; "mean" divides by the number of elements.

    Returns (loss, grad_y): loss is an array of shape (), or of y's with reduction="none".
    Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "mean_squared_error"
    check_arrays(operation, y=y, target=target)
    check_shape(operation, "target", target, y.shape)
    check_choice(operation, "reduction", reduction, REDUCTIONS)
    loss = empty(y.shape if reduction == "none" else (), y.dtype, like=y)
    grad_y = empty(y.shape, y.dtype, like=y)
    backend_module(operation, "loss", y).mean_squared_error(y, target, reduction, loss, grad_y)
    return loss, grad_y


def _labelled(operation: str, name: str, scores: Any, labels: Any, reduction: str, *options: float) -> tuple[Any, Any]:
    check_arrays(operation, **{name: scores})
    check_labels(operation, "labels", labels, scores)
    if scores.ndim != 2 or scores.shape[1] < 1:
        raise ShapeError(f"{operation}: {name} must be (N, M) with at least one class, got {scores.shape}")
    images, classes = scores.shape
    check_shape(operation, "labels", labels, (images,))
    check_choice(operation, "reduction", reduction, REDUCTIONS)
    # Read without their sign, negative numbers are the largest.
    if readable(labels) and images and labels.view(f"u{labels.itemsize}").max() >= classes:
        wrong = int(np.argmax((labels < 0) | (labels >= classes)))
        raise ShapeError(f"{operation}: labels must lie in 0..{classes - 1}, got {labels[wrong]} for image {wrong}")
    loss = empty((images,) if reduction == "none" else (), scores.dtype, like=scores)
    grad_scores = empty(scores.shape, scores.dtype, like=scores)
    compute = getattr(backend_module(operation, "loss", scores), operation)
    compute(scores, labels, *options, reduction, loss, grad_scores)
    return loss, grad_scores
