"""Activations, elementwise on arrays of any shape. The way back needs the output only: it is what they remember."""

from __future__ import annotations

from cnn import kernels
from cnn.array import Array
from cnn.layers.arguments import shown
from cnn.layers.layer import Layer


class ReLU(Layer):
    """max(x, 0)."""

    def forward(self, x: Array) -> Array:
        y = kernels.relu_forward(x)
        self._remember(y)
        return y

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        (y,) = self._recall()
        return kernels.relu_backward(grad_output, y)


class LeakyReLU(Layer):
    """x where x > 0, else negative_slope * x. Raises `ShapeError`, a ValueError, for a negative slope."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        if not negative_slope >= 0:
            raise kernels.ShapeError(f"LeakyReLU: negative_slope must be at least 0, got {negative_slope}")
        self.negative_slope = float(negative_slope)

    def forward(self, x: Array) -> Array:
        y = kernels.leaky_relu_forward(x, self.negative_slope)
        self._remember(y)
        return y

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        (y,) = self._recall()
        return kernels.leaky_relu_backward(grad_output, y, self.negative_slope)

    def _arguments(self) -> str:
        return shown(negative_slope=(self.negative_slope, 0.01))


class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Array) -> Array:
        y = kernels.sigmoid_forward(x)
        self._remember(y)
        return y

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        (y,) = self._recall()
        return kernels.sigmoid_backward(grad_output, y)


class Tanh(Layer):
    """tanh(x)."""

    def forward(self, x: Array) -> Array:
        y = kernels.tanh_forward(x)
        self._remember(y)
        return y

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        (y,) = self._recall()
        return kernels.tanh_backward(grad_output, y)
