"""Inverted dropout: y = x * mask / (1 - p) in training, mask 0 with probability p; y = x in evaluation.

Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html.
"""

from __future__ import annotations

from cnn import kernels, random
from cnn.array import Array
from cnn.layers.arguments import shown
from cnn.layers.layer import Layer


class Dropout(Layer):
    """Zero each element with probability p, in training only; x of any shape.

    The mask is a function of the seed and of how many calls of dropout there were (see `cnn.random`): a seed drops the
    same elements in every dtype and on every device. Raises `ValueError` for a p outside 0..1.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p must lie in 0..1, got {p}")
        self.p = float(p)

    def forward(self, x: Array) -> Array:
        if not self.training:
            return x
        state, call = random.next_call(x)
        self._remember(state, call)
        return kernels.dropout(x, self.p, state, call)

    def replayed(self) -> None:
        if self.training:
            random.replayed_call()

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        state, call = self._recall()
        return kernels.dropout(grad_output, self.p, state, call)

    def _arguments(self) -> str:
        return shown(self.p)
