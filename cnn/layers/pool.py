"""Pooling layers: the maximum or the average of windows over each channel of x (N, C, *spatial)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from cnn import kernels
from cnn.array import Array
from cnn.layers.arguments import brief, check_sizes, shown
from cnn.layers.layer import Layer


class _Pool(Layer):
    spatial: ClassVar[tuple[str, ...]]

    def _set(self, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
        name = type(self).__name__
        self.kernel_size = check_sizes(name, "kernel_size", kernel_size, len(self.spatial))
        self.stride = self.kernel_size if stride is None else check_sizes(name, "stride", stride, len(self.spatial))
        self.padding = padding
        self.ceil_mode = bool(ceil_mode)
        # An input of one window's size finds a padding that does not fit.
        self._geometry(name, (1, 1, *self.kernel_size))

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_shape(shape, "N", "C", *self.spatial)
        return self._geometry(str(self), shape).y_shape

    def _geometry(self, name: str, shape: tuple[int, ...]) -> kernels.PoolGeometry:
        return kernels.PoolGeometry.of(
            name, shape, self.kernel_size, stride=self.stride, padding=self.padding, ceil_mode=self.ceil_mode
        )

    def _options(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "ceil_mode": self.ceil_mode}

    def _shown(self, **more: tuple[Any, Any]) -> str:
        return shown(
            brief(self.kernel_size),
            stride=(brief(self.stride), brief(self.kernel_size)),
            padding=(self.padding, 0),
            ceil_mode=(self.ceil_mode, False),
            **more,
        )


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: Any = 0,
        *,
        ceil_mode: bool = False,
    ) -> None:
        self._set(kernel_size, stride, padding, ceil_mode)

    @property
    def is_side_by_side(self) -> bool:
        """Whether windows neither overlap nor leave anything between them, and none reaches beyond the input."""
        return self.stride == self.kernel_size and self.padding == 0 and not self.ceil_mode

    def forward(self, x: Array) -> Array:
        self._check_input(x, "N", "C", *self.spatial)
        y, argmax = kernels.max_pool_forward(x, self.kernel_size, **self._options())
        self._remember(argmax, x.shape)
        return y

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        argmax, shape = self._recall()
        return kernels.max_pool_backward(grad_output, argmax, shape, window=self.kernel_size, **self._options())

    def _arguments(self) -> str:
        return self._shown()


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self._set(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = bool(count_include_pad)

    def forward(self, x: Array) -> Array:
        self._check_input(x, "N", "C", *self.spatial)
        y = kernels.avg_pool_forward(x, self.kernel_size, **self._options())
        self._remember(x.shape)
        return y

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        (shape,) = self._recall()
        return kernels.avg_pool_backward(grad_output, shape, self.kernel_size, **self._options())

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "count_include_pad": self.count_include_pad}

    def _arguments(self) -> str:
        return self._shown(count_include_pad=(self.count_include_pad, True))


class MaxPool1d(_MaxPool):
    """Maxima of windows over x (N, C, L). As `MaxPool2d`, with one dimension."""

    spatial = ("L",)


class MaxPool2d(_MaxPool):
    """Maxima of windows over x (N, C, H, W), as `torch.nn.MaxPool2d` without dilation: the first one wins a tie.

    kernel_size, stride: an int or one per dimension; stride=None sets windows side by side. padding: as in `Conv2d`,
    smaller than the window. ceil_mode rounds the output size up. Raises `ShapeError`, a ValueError, for what does
    not fit together.
    """

    spatial = ("H", "W")


class AvgPool1d(_AvgPool):
    """Averages of windows over x (N, C, L). As `AvgPool2d`, with one dimension."""

    spatial = ("L",)


class AvgPool2d(_AvgPool):
    """Averages of windows over x (N, C, H, W), as `torch.nn.AvgPool2d`. Arguments and errors as `MaxPool2d`.

    count_include_pad: padding counts as zeros; otherwise each sum is divided by the number of real elements.
    """

    spatial = ("H", "W")


class AdaptiveAvgPool2d(Layer):
    """The average of each channel's whole plane: x (N, C, H, W) to (N, C, 1, 1). The only `output_size` served is 1.

    Raises `ShapeError`, a ValueError, for another output size or rank.
    """

    def __init__(self, output_size: int | Sequence[int]) -> None:
        sizes = check_sizes("AdaptiveAvgPool2d", "output_size", output_size, 2)
        if sizes != (1, 1):
            raise kernels.ShapeError(f"AdaptiveAvgPool2d: output_size must be 1, got {output_size!r}")

    def forward(self, x: Array) -> Array:
        self._check_input(x, "N", "C", "H", "W")
        y = kernels.avg_pool_forward(x, x.shape[2:])
        self._remember(x.shape)
        return y

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        (shape,) = self._recall()
        return kernels.avg_pool_backward(grad_output, shape, shape[2:])

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_shape(shape, "N", "C", "H", "W")
        return (*shape[:2], 1, 1)

    def _arguments(self) -> str:
        return "1"
