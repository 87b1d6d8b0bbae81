"""The dense layer: y = x W^T + b; its gradients are g^T x, the sum of g over the images, and g W."""

from __future__ import annotations

from cnn import kernels
from cnn.array import Array, namespace
from cnn.kernels import DTypeError, ShapeError
from cnn.kernels.buffers import empty
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
        return self.forward_activated(x, None)

    def forward_activated(self, x: Array, activation: str | None) -> Array:
        """As `forward`, with an activation behind the bias, which the layer must have."""
        self._check_input(x, "N", self.in_features)
        self._check_dtype("x", x)
        y = _product(x, self.weight.data.T)
        if self.bias is not None:
            kernels.add_bias(y, self.bias.data, activation=activation)
        self._remember(x)
        return y

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        return self.backward_activated(grad_output, None, None, needs_input_gradient=needs_input_gradient)

    def backward_activated(
        self, grad_output: Array, y: Array | None, activation: str | None, *, needs_input_gradient: bool
    ) -> Array:
        """As `backward`, from the gradient of y, what `forward_activated` returned."""
        (x,) = self._recall()
        if grad_output.shape != (len(x), self.out_features):
            raise ShapeError(
                f"{self}: grad_output must be {(len(x), self.out_features)}, got {tuple(grad_output.shape)}"
            )
        self._check_dtype("grad_output", grad_output)
        if self.bias is not None:
            grad_output = kernels.bias_backward(grad_output, self.bias.grad, activation=activation, y=y)
        namespace(x).matmul(grad_output.T, x, out=self.weight.grad)
        return _product(grad_output, self.weight.data) if needs_input_gradient else None

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_shape(shape, "N", self.in_features)
        return (shape[0], self.out_features)

    def _check_dtype(self, name: str, array: Array) -> None:
        if array.dtype != self.weight.data.dtype:
            raise DTypeError(f"{self}: {name} must be {self.weight.data.dtype} like the weights, got {array.dtype}")

    def _arguments(self) -> str:
        return shown(self.in_features, self.out_features, bias=(self.bias is not None, True))


def _product(a: Array, b: Array) -> Array:
    """a b, in an array that a training step may reuse; on a GPU by cuBLAS."""
    product = empty((a.shape[0], b.shape[1]), a.dtype, like=a)
    return namespace(a).matmul(a, b, out=product)
