"""Batch normalisation: each channel gets mean 0 and variance 1 over the batch, then a learned scale and shift."""

from __future__ import annotations

import numpy as np

from cnn import kernels
from cnn.array import Array
from cnn.layers.arguments import check_size, shown
from cnn.layers.layer import Layer
from cnn.parameter import Parameter


class _BatchNorm(Layer):
    buffer_names = ("running_mean", "running_var", "num_batches_tracked")

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.num_features = check_size(type(self).__name__, "num_features", num_features)
        self.eps = float(eps)
        self.momentum = float(momentum)
        self.weight = Parameter(np.ones(self.num_features, np.float32))
        self.bias = Parameter(np.zeros(self.num_features, np.float32))
        self.running_mean: Array = np.zeros(self.num_features, np.float32)
        self.running_var: Array = np.ones(self.num_features, np.float32)
        self.num_batches_tracked = np.zeros((), np.int64)

    def forward(self, x: Array) -> Array:
        return self.forward_joined(x)

    def forward_joined(self, x: Array, *, activation: str | None = None, around: Array | None = None) -> Array:
        """As `forward`, with a sum with `around` and an activation behind it, in one pass."""
        self._check_input(x, *self._sizes(np.ndim(x)))
        y, saved = kernels.batch_norm_forward(
            x,
            self.weight.data,
            self.bias.data,
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
            activation=activation,
            around=around,
        )
        self.replayed()
        self._remember(x, saved, None if activation is None else y)
        return y

    def replayed(self) -> None:
        if self.training:
            self.num_batches_tracked += 1

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        return self.backward_joined(grad_output)

    def backward_joined(self, grad_output: Array, *, activation: str | None = None) -> Array:
        """As `backward`, from the gradient of what `forward_joined` returned; without activation, from before it."""
        x, saved, y = self._recall()
        grad_x, self.weight.grad, self.bias.grad = kernels.batch_norm_backward(
            grad_output, x, self.weight.data, saved, activation=activation, y=None if activation is None else y
        )
        return grad_x

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_shape(shape, *self._sizes(len(shape)))
        return shape

    def _sizes(self, rank: int) -> tuple[int | str, ...]:
        """The sizes that an input of `rank` dimensions must have."""
        raise NotImplementedError

    def _arguments(self) -> str:
        return shown(self.num_features, eps=(self.eps, 1e-5), momentum=(self.momentum, 0.1))


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of x (N, C) or (N, C, L). As `BatchNorm2d` otherwise."""

    def _sizes(self, rank: int) -> tuple[int | str, ...]:
        return ("N", self.num_features) if rank == 2 else ("N", self.num_features, "L")


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of x (N, C, H, W), C = num_features, as `torch.nn.BatchNorm2d` with its defaults does.

    Training normalises by the batch and moves running_mean and running_var (C,) towards it by `momentum`; evaluation
    uses the running ones. eps is added to the variance. Raises `ShapeError`, a ValueError, for another shape and for
    training on one value per channel. Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167.
    """

    def _sizes(self, rank: int) -> tuple[int | str, ...]:
        return ("N", self.num_features, "H", "W")
