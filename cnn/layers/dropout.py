"""Inverted dropout: y = x * mask / (1 - p) in training, mask 0 with probability p; y = x in evaluation.

Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html.
"""

from __future__ import annotations

import numpy as np

from cnn.array import Array, device_of, move
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
        kept = generator().random(x.shape, np.float32) >= self.p
        scale = 1 / (1 - self.p) if self.p < 1 else 0.0
        mask = move(kept * x.dtype.type(scale), device_of(x))
        self._remember(mask)
        return x * mask

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        (mask,) = self._recall()
        return grad_output * mask

    def _arguments(self) -> str:
        return shown(self.p)
