"""The dense layer: y = x W^T + b."""

from __future__ import annotations

from cnn import kernels
from cnn.array import Array
from cnn.kernels import DTypeError, ShapeError
from cnn.layers.arguments import check_size, shown
from cnn.layers.initial import uniform
from cnn.layers.layer import Layer


class Linear(Layer):
    """x (N, in_features) to y (N, out_features), with weight (out_features, in_features) and bias (out_features,).

    Arguments and initialisation are those of `torch.nn.Linear`. Raises `ShapeError`, a ValueError, for another shape,
    `DTypeError`, a TypeError, for an x of another dtype than the weights.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features = check_size("Linear", "in_features", in_features)
        self.out_features = check_size("Linear", "out_features", out_features)
        self.weight = uniform((self.out_features, self.in_features), self.in_features)
        self.bias = uniform((self.out_features,), self.in_features) if bias else None

    def forward(self, x: Array) -> Array:
        return self.forward_joined(x)

    def forward_joined(
        self, x: Array, *, activation: str | None = None, dropout: tuple[float, Array, int] | None = None
    ) -> Array:
        """As `forward`, with an activation behind it and perhaps dropout behind a ReLU, in one pass."""
        self._check_input(x, "N", self.in_features)
        self._check_dtype("x", x)
        bias = None if self.bias is None else self.bias.data
        y = kernels.linear_forward(x, self.weight.data, bias, activation=activation, dropout=dropout)
        self._remember(x, None if activation is None else y)
        return y

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        return self.backward_joined(grad_output, needs_input_gradient=needs_input_gradient)

    def backward_joined(
        self,
        grad_output: Array,
        *,
        activation: str | None = None,
        dropout: float = 0.0,
        input_activation: str | None = None,
        input_dropout: float = 0.0,
        needs_input_gradient: bool = True,
        zeroed: bool = False,
    ) -> Array:
        """As `backward`, from the gradient of what `forward_joined` returned.

        activation: None where grad_output is the gradient from before it. input_activation: the one that x came out of;
        the gradient from before it is returned. dropout, input_dropout: the p of what came behind these, or 0. zeroed:
        the parameters' gradients are zero already.
        """
        x, y = self._recall()
        if grad_output.shape != (len(x), self.out_features):
            raise ShapeError(
                f"{self}: grad_output must be {(len(x), self.out_features)}, got {tuple(grad_output.shape)}"
            )
        self._check_dtype("grad_output", grad_output)
        return kernels.linear_backward(
            x,
            self.weight.data,
            grad_output,
            self.weight.grad,
            None if self.bias is None else self.bias.grad,
            activation=activation,
            y=None if activation is None else y,
            dropout=dropout,
            input_activation=input_activation,
            input_dropout=input_dropout,
            needs_input_gradient=needs_input_gradient,
            deterministic=self.deterministic,
            zeroed=zeroed,
        )

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_shape(shape, "N", self.in_features)
        return (shape[0], self.out_features)

    def _check_dtype(self, name: str, array: Array) -> None:
        if array.dtype != self.weight.data.dtype:
            raise DTypeError(f"{self}: {name} must be {self.weight.data.dtype} like the weights, got {array.dtype}")

    def _arguments(self) -> str:
        return shown(self.in_features, self.out_features, bias=(self.bias is not None, True))
