"""Neighbours that the kernels compute in one pass: a layer with sums and what stands behind it.

    [Conv | Linear | BatchNorm | Residual]  [ReLU | Sigmoid | Tanh]
                                            [MaxPool with windows side by side, behind a convolution]  [Dropout]

The sum of a residual layer is taken by the BatchNorm that its body ends with. On the way back, the derivative of an
activation is taken where the gradient is made: by the next such group, where it comes right behind (with a Flatten in
between, perhaps) and is no BatchNorm. Dropout joins behind a ReLU, where its way back is a factor for what is above
zero: a dense layer takes that along. The numbers are those of one layer after the other, with fewer passes over memory
and, on a GPU, fewer launches.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from cnn import kernels, random
from cnn.array import Array
from cnn.layers.activation import ReLU, Sigmoid, Tanh
from cnn.layers.containers import Residual, Sequential
from cnn.layers.conv import Conv1d, Conv2d
from cnn.layers.dropout import Dropout
from cnn.layers.flatten import Flatten
from cnn.layers.layer import Layer
from cnn.layers.linear import Linear
from cnn.layers.norm import BatchNorm1d, BatchNorm2d
from cnn.layers.pool import MaxPool1d, MaxPool2d

NAMES: dict[type[Layer], str] = {ReLU: "relu", Sigmoid: "sigmoid", Tanh: "tanh"}

# What an activation joins, and what takes over the derivative of the one before.
JOINING = (Conv1d, Conv2d, Linear, BatchNorm1d, BatchNorm2d, Residual)
TAKING = (Conv1d, Conv2d, Linear, Residual)


class JoinedResidual(Residual):
    """`residual` with the neighbours in it joined."""

    def __init__(self, residual: Residual) -> None:
        shortcut = None if residual.shortcut is None else join(residual.shortcut)
        super().__init__(*joined(residual.body), shortcut=shortcut)
        self._original = (residual,)  # in a tuple since it is no part of this one

    def _sum(self, x: Array, activation: str | None) -> Array:
        last = self.body[-1] if len(self.body) else None
        norm = last.layer if isinstance(last, Joined) and last.activation is None and last.dropout is None else None
        if not isinstance(norm, BatchNorm1d | BatchNorm2d):
            return super()._sum(x, activation)
        body = x
        for layer in self.body.layers[:-1]:
            body = layer.forward(body)
        around = x if self.shortcut is None else self.shortcut.forward(x)
        self._check_sum(norm.output_shape(body.shape), around.shape)
        return norm.forward_joined(body, activation=activation, around=around)

    def _parted(self, grad_output: Array, around: Array, input_activation: str | None, x: Array) -> Array:
        first = self.body[0] if len(self.body) else None
        if not isinstance(first, Joined) or not isinstance(first.layer, Conv1d | Conv2d):
            return super()._parted(grad_output, around, input_activation, x)
        for layer in reversed(self.body.layers[1:]):
            grad_output = layer.backward(grad_output)
        return first.backward(grad_output, input_activation=input_activation, grad_around=around)

    def _remember(self, *values: Any) -> None:
        if self._original[0].training:
            self._saved = values


class Joined(Layer):
    """`layer`, `activation`, `pool`, `dropout`; the last three may be missing. What there is to remember `layer` keeps.

    before: the group that x came out of, if this one takes over its activation's derivative and its dropout; in a tuple
    since it is no part of this one. hands_over: whether the group behind does so for this one's. zeroed:
    whether somebody clears the gradients before each `backward`.
    """

    def __init__(self, layer: Conv1d | Conv2d | Linear | BatchNorm1d | BatchNorm2d | Residual) -> None:
        self.layer = layer
        self.activation: Layer | None = None
        self.pool: MaxPool1d | MaxPool2d | None = None
        self.dropout: Dropout | None = None
        self.before: tuple[Joined, ...] = ()
        self.drawn: tuple[float, Array, int] | None = None  # of dropout, by the last forward pass
        self.hands_over = False
        self.zeroed = False

    # Kept: when a group computes, all that can has joined it.
    @cached_property
    def activation_name(self) -> str | None:
        return None if self.activation is None else NAMES[type(self.activation)]

    @cached_property
    def input_activation(self) -> str | None:
        return next((group.activation_name for group in self.before), None)

    @property
    def dropped(self) -> float:
        """The p of the dropout that the last forward pass went through, 0 without one."""
        return 0.0 if self.drawn is None else self.drawn[0]

    def takes(self, layer: Layer) -> bool:
        """Whether `layer`, which comes right behind, can be computed along; it is then."""
        # A class derived from one of the library's may do something else.
        if self.dropout is not None:
            return False
        if type(layer) is Dropout and type(self.activation) is ReLU:
            self.dropout = layer
            return True
        if type(layer) in NAMES and self.activation is None and self.pool is None:
            self.activation = layer
            return True
        if type(layer) in (MaxPool1d, MaxPool2d) and isinstance(self.layer, Conv1d | Conv2d) and self.pool is None:
            assert isinstance(layer, MaxPool1d | MaxPool2d)
            if layer.spatial == self.layer.spatial and layer.is_side_by_side:
                self.pool = layer
                return True
        return False

    def follows(self, before: Joined) -> None:
        """x is what `before` returned, in another shape perhaps: take over what stands behind its layer."""
        if before.activation is not None and isinstance(self.layer, TAKING if before.dropout is None else Linear):
            self.before, before.hands_over = (before,), True

    def forward(self, x: Array) -> Array:
        self.drawn = None
        if self.dropout is not None and self.dropout.training:
            self.drawn = self.dropout.p, *random.next_call(x)
        if isinstance(self.layer, Linear):
            return self.layer.forward_joined(x, activation=self.activation_name, dropout=self.drawn)
        y: Array = self.layer.forward_joined(x, activation=self.activation_name, **self._window())
        return y if self.drawn is None else kernels.dropout(y, *self.drawn)

    def backward(
        self,
        grad_output: Array,
        *,
        needs_input_gradient: bool = True,
        input_activation: str | None = None,
        grad_around: Array | None = None,
    ) -> Array:
        """input_activation, grad_around: of a convolution that begins the body of a residual layer, the activation in
        front of that and the gradient from the way around.
        """
        activation = None if self.hands_over else self.activation_name
        options: dict[str, Any] = {
            "activation": activation,
            "input_activation": input_activation or self.input_activation,
            "needs_input_gradient": needs_input_gradient,
        }
        if isinstance(self.layer, Linear):
            own = 0.0 if self.hands_over else self.dropped
            taken = sum(group.dropped for group in self.before)
            return self.layer.backward_joined(
                grad_output, dropout=own, input_dropout=taken, zeroed=self.zeroed, **options
            )
        if self.drawn is not None and not self.hands_over:
            grad_output = kernels.dropout(grad_output, *self.drawn)
        if isinstance(self.layer, BatchNorm1d | BatchNorm2d):
            return self.layer.backward_joined(grad_output, activation=activation)
        if isinstance(self.layer, Residual):
            return self.layer.backward_joined(grad_output, **options)
        return self.layer.backward_joined(
            grad_output, grad_around=grad_around, zeroed=self.zeroed, **options, **self._window()
        )

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        shape = self.layer.output_shape(shape)
        return shape if self.pool is None else self.pool.output_shape(shape)

    def _window(self) -> dict[str, Any]:
        return {} if self.pool is None else {"window": self.pool.kernel_size}


def join(layer: Layer) -> Layer:
    """What computes as `layer` does, made of the same layers, with all neighbours joined that can be."""
    if type(layer) is Sequential:
        return Sequential(*joined(layer))
    return JoinedResidual(layer) if type(layer) is Residual else layer


def joined(layers: Iterable[Layer]) -> list[Layer]:
    """Groups of neighbours where there are such, else the layer."""
    groups: list[Layer] = []
    for layer in layers:
        last = groups[-1] if groups else None
        if isinstance(last, Joined) and last.takes(layer):
            continue
        inner = join(layer)
        if type(layer) in JOINING:
            assert isinstance(inner, JOINING)
            group = Joined(inner)
            before = next((one for one in reversed(groups) if type(one) is not Flatten), None)
            if isinstance(before, Joined):
                group.follows(before)
            groups.append(group)
        else:
            groups.append(inner)
    return groups
