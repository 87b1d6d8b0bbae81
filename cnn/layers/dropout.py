"""Inverted dropout: y = x * mask / (1 - p) in training, mask 0 with probability p; y = x in evaluation.

Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html.
"""

from __future__ import annotations

import numpy as np

from cnn.array import Array, fill, namespace
from cnn.kernels.buffers import empty
from cnn.layers.arguments import shown
from cnn.layers.layer import Layer
from cnn.random import generator


class Dropout(Layer):
    """Zero each element with probability p, in training only; x of any shape.

    The mask is drawn from `cnn.random` on the host, one float32 per element whatever the dtype and the device, so a
    seed drops the same elements everywhere. Raises `ValueError` for a p outside 0..1.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p must lie in 0..1, got {p}")
        self.p = float(p)

    def forward(self, x: Array) -> Array:
        if not self.training:
            return x
        drawn = empty(x.shape, np.float32)
        generator().random(dtype=np.float32, out=drawn)
        scale = 1 / (1 - self.p) if self.p < 1 else 0.0
        mask = empty(x.shape, x.dtype, like=x)
        fill(mask, (drawn >= self.p) * x.dtype.type(scale))
        self._remember(mask)
        return _product(x, mask)

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        (mask,) = self._recall()
        return _product(grad_output, mask)

    def _arguments(self) -> str:
        return shown(self.p)


def _product(a: Array, b: Array) -> Array:
    """a * b, in an array that a training step may reuse."""
    return namespace(a).multiply(a, b, out=empty(a.shape, a.dtype, like=a))
