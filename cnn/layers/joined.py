"""Neighbours that the kernels compute in one pass: a convolution or a dense layer with what stands behind it.

    [Conv | Linear]  [ReLU | Sigmoid | Tanh]  [MaxPool with windows side by side, behind a convolution]

On the way back, the derivative of an activation is taken where the gradient is made: by the next such group, where it
comes right behind (with a Flatten in between, perhaps). The numbers are those of one layer after the other, with fewer
passes over memory and, on a GPU, fewer launches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cnn.array import Array
from cnn.layers.activation import ReLU, Sigmoid, Tanh
from cnn.layers.containers import Residual, Sequential
from cnn.layers.conv import Conv1d, Conv2d
from cnn.layers.flatten import Flatten
from cnn.layers.layer import Layer
from cnn.layers.linear import Linear
from cnn.layers.pool import MaxPool1d, MaxPool2d

NAMES: dict[type[Layer], str] = {ReLU: "relu", Sigmoid: "sigmoid", Tanh: "tanh"}


class Joined(Layer):
    """`layer`, then `activation`, then `pool`; the last two may be missing. What there is to remember `layer` keeps.

    input_activation: the one that x came out of, where its derivative is left to this group. hands_over: whether the
    group behind does that for this one's. zeroed: whether somebody clears the gradients before each `backward`.
    """

    def __init__(self, layer: Conv1d | Conv2d | Linear) -> None:
        self.layer = layer
        self.activation: Layer | None = None
        self.pool: MaxPool1d | MaxPool2d | None = None
        self.input_activation: str | None = None
        self.hands_over = False
        self.zeroed = False

    @property
    def activation_name(self) -> str | None:
        return None if self.activation is None else NAMES[type(self.activation)]

    def takes(self, layer: Layer) -> bool:
        """Whether `layer`, which comes right behind, can be computed along; it is then."""
        # A class derived from one of the library's may do something else.
        if type(layer) in NAMES and self.activation is None and self.pool is None:
            self.activation = layer
            return True
        if type(layer) in (MaxPool1d, MaxPool2d) and type(self.layer) is not Linear and self.pool is None:
            assert isinstance(layer, MaxPool1d | MaxPool2d)
            if layer.spatial == self.layer.spatial and layer.is_side_by_side:
                self.pool = layer
                return True
        return False

    def follows(self, before: Joined) -> None:
        """x is what `before` returned, in another shape perhaps: take over the derivative of its activation."""
        if before.activation is not None:
            self.input_activation, before.hands_over = before.activation_name, True

    def forward(self, x: Array) -> Array:
        return self.layer.forward_joined(x, activation=self.activation_name, **self._window())

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        return self.layer.backward_joined(
            grad_output,
            activation=None if self.hands_over else self.activation_name,
            input_activation=self.input_activation,
            needs_input_gradient=needs_input_gradient,
            zeroed=self.zeroed,
            **self._window(),
        )

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        shape = self.layer.output_shape(shape)
        return shape if self.pool is None else self.pool.output_shape(shape)

    def _window(self) -> dict[str, Any]:
        return {} if self.pool is None else {"window": self.pool.kernel_size}


def join(layer: Layer) -> Layer:
    """What computes as `layer` does, made of the same layers, with all neighbours joined that can be."""
    if type(layer) is Sequential:
        return Sequential(*_joined(layer))
    if type(layer) is Residual:
        shortcut = None if layer.shortcut is None else join(layer.shortcut)
        return Residual(*_joined(layer.body), shortcut=shortcut)
    return layer


def _joined(layers: Iterable[Layer]) -> list[Layer]:
    joined: list[Layer] = []
    for layer in layers:
        last = joined[-1] if joined else None
        if isinstance(last, Joined) and last.takes(layer):
            continue
        if type(layer) in (Conv1d, Conv2d, Linear):
            assert isinstance(layer, Conv1d | Conv2d | Linear)
            group = Joined(layer)
            before = next((one for one in reversed(joined) if type(one) is not Flatten), None)
            if isinstance(before, Joined):
                group.follows(before)
            joined.append(group)
        else:
            joined.append(join(layer))
    return joined
