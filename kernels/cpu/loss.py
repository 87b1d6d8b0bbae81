"""Losses and their gradients; the formulas stand in `cnn.kernels.loss`. One loop over the images, loss by loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cpu.compile import jit

Array = np.ndarray[Any, Any]


def softmax_cross_entropy(logits: Array, labels: Array, reduction: str, loss: Array, grad: Array) -> None:
    losses = buffers.empty(len(labels), np.float32)
    _softmax_cross_entropy(np.ascontiguousarray(logits), labels, _scale(losses, reduction), losses, grad)
    _reduce(losses, reduction, loss)


def hinge(scores: Array, labels: Array, margin: float, reduction: str, loss: Array, grad: Array) -> None:
    losses = buffers.empty(len(labels), np.float32)
    _hinge(np.ascontiguousarray(scores), labels, np.float32(margin), _scale(losses, reduction), losses, grad)
    _reduce(losses, reduction, loss)


def mean_squared_error(y: Array, target: Array, reduction: str, loss: Array, grad: Array) -> None:
    losses = loss.reshape(-1) if reduction == "none" else buffers.empty(y.size, np.float32)
    flat_y, flat_target = np.ascontiguousarray(y).reshape(-1), np.ascontiguousarray(target).reshape(-1)
    _squared_error(flat_y, flat_target, _scale(losses, reduction), losses, grad.reshape(-1))
    _reduce(losses.reshape(loss.shape) if reduction == "none" else losses, reduction, loss)


def _scale(losses: Array, reduction: str) -> np.float32:
    """What the gradient of the sum is multiplied by."""
    return np.float32(1 / losses.size if reduction == "mean" and losses.size else 1)


def _reduce(losses: Array, reduction: str, loss: Array) -> None:
    if reduction == "none":
        loss[...] = losses
    elif reduction == "sum" or losses.size:
        loss[...] = losses.sum() * _scale(losses, reduction)
    else:
        loss[...] = np.nan  # the mean of nothing, as in PyTorch


@jit()
def _softmax_cross_entropy(logits, labels, scale, losses, grad):
    images, classes = logits.shape
    for n in range(images):
        largest = logits[n, 0]
        for j in range(1, classes):
            if not logits[n, j] <= largest:  # true for NaN as well, which then spreads
                largest = logits[n, j]
        total = np.float32(0)
        for j in range(classes):
            grad[n, j] = np.exp(logits[n, j] - largest)  # at most 1: nothing overflows
            total += grad[n, j]
        for j in range(classes):
            grad[n, j] *= scale / total
        label = labels[n]
        grad[n, label] -= scale
        losses[n] = np.log(total) - (logits[n, label] - largest)


@jit()
def _hinge(scores, labels, margin, scale, losses, grad):
    images, classes = scores.shape
    for n in range(images):
        label = labels[n]
        total = active = np.float32(0)
        for j in range(classes):
            excess = scores[n, j] - scores[n, label] + margin
            violated = j != label and not excess <= 0
            grad[n, j] = scale if violated else np.float32(0)
            total += excess if violated else np.float32(0)
            active += np.float32(1) if violated else np.float32(0)
        grad[n, label] = -scale * active
        losses[n] = total


@jit()
def _squared_error(y, target, scale, losses, grad):
    for i in range(y.size):
        difference = y[i] - target[i]
        losses[i] = difference * difference
        grad[i] = np.float32(2) * difference * scale
