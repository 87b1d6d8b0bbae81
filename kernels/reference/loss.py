"""Losses and their gradients: one row per image."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def softmax_cross_entropy(logits: Array, labels: Array, reduction: str, loss: Array, grad: Array) -> None:
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)  # softmax does not change, and exp cannot overflow
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    grad[...] = np.exp(shifted - log_sum)
    grad[rows, labels] -= 1
    _reduce(log_sum[:, 0] - shifted[rows, labels], reduction, loss, grad)


def hinge(scores: Array, labels: Array, margin: float, reduction: str, loss: Array, grad: Array) -> None:
    rows = np.arange(len(labels))
    margins = scores - scores[rows, labels][:, None] + scores.dtype.type(margin)
    margins[rows, labels] = 0
    grad[...] = margins > 0
    grad[rows, labels] = -grad.sum(axis=1)
    _reduce(np.maximum(margins, 0).sum(axis=1), reduction, loss, grad)


def mean_squared_error(y: Array, target: Array, reduction: str, loss: Array, grad: Array) -> None:
    difference = y - target
    grad[...] = 2 * difference
    _reduce(difference * difference, reduction, loss, grad)


def _reduce(losses: Array, reduction: str, loss: Array, grad: Array) -> None:
    """Put `losses` into `loss` as `reduction` says, and scale the gradient, which is that of the sum, to it."""
    if reduction == "none":
        loss[...] = losses
    elif reduction == "sum":
        loss[...] = losses.sum()
    elif losses.size:
        loss[...] = losses.sum() / losses.dtype.type(losses.size)
        grad /= losses.dtype.type(losses.size)
    else:
        loss[...] = np.nan  # the mean of nothing, as in PyTorch
