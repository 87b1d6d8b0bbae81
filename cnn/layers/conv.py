"""Convolution layers: weight (K, C/groups, *kernel), bias (K,), shared by all overlays of the input (N, C, ...)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from cnn import kernels
from cnn.array import Array
from cnn.layers.arguments import brief, check_size, check_sizes, shown
from cnn.layers.initial import uniform
from cnn.layers.layer import Layer

CROSS_CORRELATION = "cross-correlation"


class _Conv(Layer):
    spatial: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Any = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        mode: str = CROSS_CORRELATION,
        precision: str | None = None,
    ) -> None:
        name, dimensions = type(self).__name__, len(self.spatial)
        self.in_channels = check_size(name, "in_channels", in_channels)
        self.out_channels = check_size(name, "out_channels", out_channels)
        self.kernel_size = check_sizes(name, "kernel_size", kernel_size, dimensions)
        self.stride = check_sizes(name, "stride", stride, dimensions)
        self.padding = padding
        self.dilation = check_sizes(name, "dilation", dilation, dimensions)
        self.groups = check_size(name, "groups", groups)
        self.mode = mode
        self.set_precision(precision)
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        # A geometry for an input no smaller than the dilated filter finds whatever else does not fit together.
        least = tuple(size * step for size, step in zip(self.kernel_size, self.dilation, strict=True))
        self._geometry(name, (1, self.in_channels, *least), shape)
        fan_in = math.prod(shape[1:])
        self.weight = uniform(shape, fan_in)
        self.bias = uniform((self.out_channels,), fan_in) if bias else None

    def forward(self, x: Array) -> Array:
        return self.forward_joined(x)

    def forward_joined(self, x: Array, *, activation: str | None = None, window: Any = None) -> Array:
        """As `forward`, with an activation and max pooling of windows side by side behind it, in one pass."""
        self._check_input(x, "N", self.in_channels, *self.spatial)
        bias = None if self.bias is None else self.bias.data
        y, argmax = kernels.conv_block_forward(
            x,
            self.weight.data,
            bias,
            **self._options(),
            activation=activation,
            window=window,
            precision=self.precision_in_effect,
        )
        self._remember(x, None if activation is None else y, argmax)
        return y

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        return self.backward_joined(grad_output, needs_input_gradient=needs_input_gradient)

    def backward_joined(
        self,
        grad_output: Array,
        *,
        activation: str | None = None,
        window: Any = None,
        input_activation: str | None = None,
        grad_around: Array | None = None,
        needs_input_gradient: bool = True,
        zeroed: bool = False,
    ) -> Array:
        """As `backward`, from the gradient of what `forward_joined` returned with the same window.

        activation: None where grad_output is the gradient from before it. input_activation: the one that x came out of;
        the gradient from before it is returned. grad_around: another gradient of x, which is added to this one before.
        zeroed: the parameters' gradients are zero already.
        """
        x, y, argmax = self._recall()
        return kernels.conv_block_backward(
            x,
            self.weight.data,
            grad_output,
            self.weight.grad,
            None if self.bias is None else self.bias.grad,
            **self._options(),
            activation=activation,
            y=None if activation is None else y,
            window=window,
            argmax=argmax,
            input_activation=input_activation,
            grad_around=grad_around,
            needs_input_gradient=needs_input_gradient,
            deterministic=self.deterministic,
            precision=self.precision_in_effect,
            zeroed=zeroed,
        )

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_shape(shape, "N", self.in_channels, *self.spatial)
        geometry = self._geometry(str(self), shape, self.weight.shape)
        return geometry.y_shape

    def _geometry(self, name: str, x_shape: tuple[int, ...], weight_shape: tuple[int, ...]) -> kernels.ConvGeometry:
        return kernels.ConvGeometry.of(name, x_shape, weight_shape, **self._options())

    def _options(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "mode": self.mode,
        }

    def _arguments(self) -> str:
        return shown(
            self.in_channels,
            self.out_channels,
            brief(self.kernel_size),
            stride=(brief(self.stride), 1),
            padding=(self.padding, 0),
            dilation=(brief(self.dilation), 1),
            groups=(self.groups, 1),
            bias=(self.bias is not None, True),
            mode=(self.mode, CROSS_CORRELATION),
            precision=(self.precision, None),
        )


class Conv1d(_Conv):
    """Convolution over x (N, C, L): y (N, K, P). Arguments as `Conv2d`, with one dimension."""

    spatial = ("L",)


class Conv2d(_Conv):
    """Convolution over x (N, C, H, W): y (N, K, P, Q), with `torch.nn.Conv2d`'s arguments, initialisation and results.

    kernel_size, stride, dilation: an int or one per dimension. padding: an int, one int or one (before, after) pair per
    dimension, "valid", or "same" (output size = ceil(input / stride), the odd one after). groups divides channels and
    filters. mode: "cross-correlation", or "convolution" for filters rotated by 180 degrees. precision: "float32",
    "tf32", "bf16", or None for what `cnn.set_precision` says.
    Raises `ShapeError`, a ValueError, for arguments or inputs that do not fit together.
    """

    spatial = ("H", "W")
