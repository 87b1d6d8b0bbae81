"""From images to rows."""

from __future__ import annotations

import math

from cnn.array import Array
from cnn.layers.layer import Layer


class Flatten(Layer):
    """x (N, ...) to (N, the number of elements of one image), in C order: a view where x is contiguous."""

    def forward(self, x: Array) -> Array:
        self._remember(x.shape)
        return x.reshape(self.output_shape(x.shape))

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        (shape,) = self._recall()
        return grad_output.reshape(shape)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], math.prod(shape[1:]))
