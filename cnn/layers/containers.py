"""Layers made of layers: one after the other, and a body with a way around it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from cnn import kernels
from cnn.array import Array
from cnn.kernels import ShapeError
from cnn.layers.layer import Layer


class Sequential(Layer):
    """Layers one after the other, named "0", "1", ... as in `torch.nn.Sequential`; model[i], len(model) and loops work.

    Raises `TypeError` for anything but layers, `ValueError` for a layer that is used twice: it remembers one forward
    pass, so each place needs a layer of its own.
    """

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers
        self._together: tuple[Layer, ...] | None = None
        _check_layers("Sequential", *layers)

    def forward(self, x: Array) -> Array:
        for layer in self.layers if self.training else self._joined_layers():
            x = layer.forward(x)
        return x

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        # Without an input gradient there is nothing to do before the first layer that has something to learn.
        first = 0 if needs_input_gradient else self._first_learning()
        for index in reversed(range(first, len(self))):
            grad_output = self.layers[index].backward(
                grad_output, needs_input_gradient=needs_input_gradient or index > first
            )
        for layer in self.layers[:first]:
            layer.forget()
        return grad_output if needs_input_gradient else None

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for layer in self.layers:
            shape = layer.output_shape(shape)
        return shape

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        return ((str(index), layer) for index, layer in enumerate(self.layers))

    def _joined_layers(self) -> tuple[Layer, ...]:
        """The same layers, neighbours computed together: without a way back nobody asks for what is between them."""
        if self._together is None:
            # Joined layers are made of containers themselves.
            from cnn.layers.joined import joined

            self._together = tuple(joined(self.layers))
        return self._together

    def _first_learning(self) -> int:
        learning = (index for index, layer in enumerate(self.layers) if any(True for _ in layer.named_parameters()))
        return next(learning, len(self))

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def _arguments(self) -> str:
        return _listed(self)


class Residual(Layer):
    """body(x) + x, or body(x) + shortcut(x) with a layer `shortcut` (He et al. 2015, https://arxiv.org/abs/1512.03385).

    Names in the state: "body.0...." and "shortcut....". Raises `TypeError` and `ValueError` as `Sequential` does, and
    `ShapeError`, a ValueError, where the two shapes differ.
    """

    def __init__(self, *body: Layer, shortcut: Layer | None = None) -> None:
        _check_layers("Residual", *body, *(() if shortcut is None else (shortcut,)))
        self.body = Sequential(*body)
        self.shortcut = shortcut

    def forward(self, x: Array) -> Array:
        return self.forward_joined(x)

    def forward_joined(self, x: Array, *, activation: str | None = None) -> Array:
        """As `forward`, with an activation behind the sum."""
        y = self._sum(x, activation)
        self._remember(x, None if activation is None else y)
        return y

    def _sum(self, x: Array, activation: str | None) -> Array:
        body = self.body.forward(x)
        around = x if self.shortcut is None else self.shortcut.forward(x)
        self._check_sum(body.shape, around.shape)
        return kernels.residual_forward(body, around, activation=activation)

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        return self.backward_joined(grad_output, needs_input_gradient=needs_input_gradient)

    def backward_joined(
        self,
        grad_output: Array,
        *,
        activation: str | None = None,
        input_activation: str | None = None,
        needs_input_gradient: bool = True,
    ) -> Array:
        """As `backward`, from the gradient of what `forward_joined` returned. Activations as in `Conv2d`'s."""
        x, y = self._recall()
        if activation is not None:
            grad_output = getattr(kernels, f"{activation}_backward")(grad_output, y)
        around = grad_output
        if self.shortcut is not None:
            around = self.shortcut.backward(grad_output, needs_input_gradient=needs_input_gradient)
        if not needs_input_gradient:
            return self.body.backward(grad_output, needs_input_gradient=False)
        return self._parted(grad_output, around, input_activation, x)

    def _parted(self, grad_output: Array, around: Array, input_activation: str | None, x: Array) -> Array:
        """The gradient of x, which came out of the activation, from that of the body's output and the one around."""
        before = {} if input_activation is None else {"input_activation": input_activation, "x": x}
        return kernels.residual_backward(self.body.backward(grad_output), around, **before)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        around = shape if self.shortcut is None else self.shortcut.output_shape(shape)
        self._check_sum(self.body.output_shape(shape), around)
        return around

    def _check_sum(self, body: tuple[int, ...], around: tuple[int, ...]) -> None:
        if body != around:
            raise ShapeError(f"Residual: body and shortcut must give one shape, got {body} and {around}")

    def _arguments(self) -> str:
        return _listed(self)


def _check_layers(name: str, *layers: Layer) -> None:
    for index, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise TypeError(f"{name}: expected layers, got {layer!r} at position {index}")
    seen = set()
    for layer in chain.from_iterable(layer.modules() for layer in layers):
        if id(layer) in seen:
            raise ValueError(f"{name}: {layer} is used twice; make a layer for each place")
        seen.add(id(layer))


def _listed(container: Layer) -> str:
    """One line for each layer inside, indented."""
    lines = [f"({name}): {layer}".replace("\n", "\n  ") for name, layer in container.named_children()]
    return "".join(f"\n  {line}" for line in lines) + "\n" if lines else ""
