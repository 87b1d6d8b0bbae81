"""Pairs of layers that the kernels compute in one pass: a convolution or a dense layer, and the activation behind it.

The numbers are those of one layer after the other, with fewer passes over memory and, on a GPU, fewer launches.
"""

from __future__ import annotations

from collections.abc import Iterable

from cnn.array import Array
from cnn.layers.activation import ReLU, Sigmoid, Tanh
from cnn.layers.containers import Residual, Sequential
from cnn.layers.conv import Conv1d, Conv2d
from cnn.layers.layer import Layer
from cnn.layers.linear import Linear

NAMES: dict[type[Layer], str] = {ReLU: "relu", Sigmoid: "sigmoid", Tanh: "tanh"}


def join(layer: Layer) -> Layer:
    """What computes as `layer` does, made of the same layers, with every pair joined that can be.

    A class derived from one of the library's may do something else, and is left as it is.
    """
    if type(layer) is Sequential:
        return Sequential(*_joined(layer))
    if type(layer) is Residual:
        shortcut = None if layer.shortcut is None else join(layer.shortcut)
        return Residual(*_joined(layer.body), shortcut=shortcut)
    return layer


def _joined(layers: Iterable[Layer]) -> list[Layer]:
    joined: list[Layer] = []
    for layer in layers:
        before = joined[-1] if joined else None
        if type(layer) in NAMES and isinstance(before, Conv1d | Conv2d | Linear) and _takes_activation(before):
            joined[-1] = Joined(before, layer)
        else:
            joined.append(join(layer))
    return joined


def _takes_activation(layer: Conv1d | Conv2d | Linear) -> bool:
    return type(layer) in (Conv1d, Conv2d, Linear) and layer.bias is not None


class Joined(Layer):
    """`layer` and then `activation`, which remember what they would have remembered one after the other."""

    def __init__(self, layer: Conv1d | Conv2d | Linear, activation: Layer) -> None:
        self.layer = layer
        self.activation = activation
        self._name = NAMES[type(activation)]

    def forward(self, x: Array) -> Array:
        y = self.layer.forward_activated(x, self._name)
        self.activation._remember(y)
        return y

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        (y,) = self.activation._recall()
        return self.layer.backward_activated(grad_output, y, self._name, needs_input_gradient=needs_input_gradient)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.layer.output_shape(shape)
