"""Batch normalisation, with xh = (x - mean) / sqrt(var + eps) and n values per channel:

y = activation(xh * weight + bias + around)
g = grad_output activation'(y)
grad_bias = sum g,  grad_weight = sum g xh,  grad_x = weight / sqrt(var + eps) (g - grad_bias / n - xh grad_weight / n)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.reference import activation as activations

Array = np.ndarray[Any, Any]


def batch_norm_forward(
    x: Array,
    weight: Array,
    bias: Array,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float,
    eps: float,
    activation: str | None,
    around: Array | None,
    y: Array,
    saved: Array,
) -> None:
    axes, per_channel = _layout(x)
    mean, var = running_mean, running_var
    if training and x.size:
        n = x.size // x.shape[1]
        mean, var = x.mean(axis=axes), x.var(axis=axes)
        running_mean += x.dtype.type(momentum) * (mean - running_mean)
        running_var += x.dtype.type(momentum) * (var * x.dtype.type(n / (n - 1)) - running_var)
    saved[0] = mean
    saved[1] = 1 / np.sqrt(var + x.dtype.type(eps))
    normalised = (x - saved[0].reshape(per_channel)) * saved[1].reshape(per_channel)
    y[...] = normalised * weight.reshape(per_channel) + bias.reshape(per_channel)
    if around is not None:
        y += around
    if activation is not None:
        getattr(activations, f"{activation}_forward")(y, y)


def batch_norm_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    saved: Array,
    activation: str | None,
    y: Array | None,
    grad_x: Array,
    grad_weight: Array,
    grad_bias: Array,
) -> None:
    axes, per_channel = _layout(x)
    g = grad_output
    if activation is not None:
        g = np.empty_like(grad_output)
        getattr(activations, f"{activation}_backward")(grad_output, y, g)
    n = x.dtype.type(max(x.size // max(x.shape[1], 1), 1))
    mean, scale = saved.reshape(2, *per_channel)
    normalised = (x - mean) * scale
    grad_bias[...] = g.sum(axis=axes)
    grad_weight[...] = (g * normalised).sum(axis=axes)
    shared = (grad_bias.reshape(per_channel) + normalised * grad_weight.reshape(per_channel)) / n
    grad_x[...] = weight.reshape(per_channel) * scale * (g - shared)


def _layout(x: Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of x (N, C, *spatial) that are averaged over, and the shape that spreads (C,) over x."""
    return (0, *range(2, x.ndim)), (-1, *(1,) * (x.ndim - 2))
