"""Geometry of convolution and pooling: the one place that knows output sizes, padding, stride, dilation and groups.

For one dimension with input size H, kernel size R, stride s, dilation d and padding (a, b), the output size is

    P = floor((H + a + b - d (R - 1) - 1) / s) + 1

and output p is the overlay of the filter on the padded input positions p s + r d, r = 0..R-1.
A geometry is checked when it is made, is hashable, and serves all passes of its operation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any

from cnn.kernels.errors import ShapeError
from cnn.kernels.options import check_choice, check_flag
from cnn.kernels.sizes import (
    Pairs,
    check_not_negative,
    check_plane,
    freeze,
    read_integers,
    read_padding,
    read_shape,
    spatial_dimensions,
    within,
)

CROSS_CORRELATION, CONVOLUTION = "cross-correlation", "convolution"
MODES = (CROSS_CORRELATION, CONVOLUTION)


@dataclass(frozen=True)
class ConvGeometry:
    """All sizes of a convolution in 1 to 3 dimensions. Make it with `ConvGeometry.of`."""

    batch: int
    channels: int
    filters: int
    input: tuple[int, ...]
    kernel: tuple[int, ...]
    output: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int
    flipped: bool  # mode="convolution": the filter is rotated by 180 degrees

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return _hash(self)

    @staticmethod
    def of(
        operation: str,
        x_shape: Sequence[int],
        weight_shape: Sequence[int],
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: Any = 1,
        mode: str = CROSS_CORRELATION,
    ) -> ConvGeometry:
        """Geometry of x (N, C, *spatial) under filters (K, C/groups, *kernel).

        Raises `ShapeError`, in the name of `operation`, for anything that does not fit together.
        """
        return _conv_geometry(
            operation,
            read_shape(operation, "x", x_shape),
            read_shape(operation, "weight", weight_shape),
            freeze(stride),
            freeze(padding),
            freeze(dilation),
            freeze(groups),
            check_choice(operation, "mode", mode, MODES),
        )

    @property
    def dimensions(self) -> int:
        return len(self.input)

    @cached_property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.input)

    @cached_property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.filters, self.channels // self.groups, *self.kernel)

    @cached_property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.filters, *self.output)

    def forward_phase(self, axis: int) -> Phase:
        """Outputs as targets, inputs as sources: output p meets input p * stride + r * dilation - padding."""
        before = self.padding[axis][0]
        return Phase(self.output[axis], 0, 1, -before, self.stride[axis], self.kernel[axis], self.dilation[axis], 0, 1)

    def input_gradient_phases(self, axis: int) -> list[Phase]:
        """Inputs as targets, outputs as sources, one phase for each remainder of an input position by the stride.

        Input h meets output p under tap r where h + padding = p * stride + r * dilation, and p has to come out whole:
        that happens for every (stride / gcd(stride, dilation))-th tap or for none.
        """
        stride, dilation, before = self.stride[axis], self.dilation[axis], self.padding[axis][0]
        common = math.gcd(stride, dilation)
        phases = []
        for first in range(min(stride, self.input[axis])):
            size = -(-(self.input[axis] - first) // stride)
            taps = [r for r in range(self.kernel[axis]) if (first + before - r * dilation) % stride == 0]
            tap = taps[0] if taps else 0
            start = (first + before - tap * dilation) // stride
            phases.append(Phase(size, first, stride, start, 1, len(taps), -(dilation // common), tap, stride // common))
        return phases

    def two_dimensional(self) -> ConvGeometry:
        """The same geometry with a dimension of size 1 in front, where there is only one."""
        if self.dimensions != 1:
            return self
        return replace(
            self,
            input=(1, *self.input),
            kernel=(1, *self.kernel),
            output=(1, *self.output),
            stride=(1, *self.stride),
            padding=((0, 0), *self.padding),
            dilation=(1, *self.dilation),
        )


@dataclass(frozen=True)
class Phase:
    """One dimension of a regular set of overlays, for a backend that computes targets from sources.

    Target position `first + i * step`, i = 0..size-1, meets source position `start + i * stride + a * shift` under tap
    `tap + a * tap_step` of the filter, a = 0..taps-1. Positions outside the source meet nothing.
    """

    size: int
    first: int
    step: int
    start: int
    stride: int
    taps: int
    shift: int
    tap: int
    tap_step: int

    @property
    def met(self) -> list[tuple[int, int]]:
        """(tap, source position that it meets at i = 0) of every tap."""
        return [(self.tap + a * self.tap_step, self.start + a * self.shift) for a in range(self.taps)]


@dataclass(frozen=True)
class PoolGeometry:
    """All sizes of a pooling operation in 1 to 3 dimensions. Make it with `PoolGeometry.of`."""

    batch: int
    channels: int
    input: tuple[int, ...]
    window: tuple[int, ...]
    output: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pairs

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return _hash(self)

    @staticmethod
    def of(
        operation: str,
        x_shape: Sequence[int],
        window: Any,
        *,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
    ) -> PoolGeometry:
        """Geometry of windows over x (N, C, *spatial); `stride=None` means windows side by side.

        `ceil_mode` rounds the output size up, and drops a window that would start outside the input and its
        leading padding (as PyTorch does). Raises `ShapeError` in the name of `operation`.
        """
        return _pool_geometry(
            operation,
            read_shape(operation, "x", x_shape),
            freeze(window),
            freeze(stride),
            freeze(padding),
            check_flag(operation, "ceil_mode", ceil_mode),
        )

    @property
    def dimensions(self) -> int:
        return len(self.input)

    @cached_property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.input)

    @cached_property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.output)


def _hash(geometry: ConvGeometry | PoolGeometry) -> int:
    """Of all fields. A geometry keeps it, as it keeps its shapes: each call of a layer looks something up by it."""
    return hash(tuple(getattr(geometry, field.name) for field in fields(geometry)))


@lru_cache(maxsize=4096)
def _conv_geometry(
    operation: str,
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    mode: str,
) -> ConvGeometry:
    check_not_negative(operation, "x", x_shape)
    check_not_negative(operation, "weight", weight_shape)
    dimensions = spatial_dimensions(operation, x_shape)
    if len(weight_shape) != len(x_shape):
        raise ShapeError(f"{operation}: weight must have as many dimensions as x, got {weight_shape} for x {x_shape}")
    (groups,) = read_integers(operation, "groups", groups, 1, 1)
    batch, channels, *spatial = x_shape
    filters, filter_channels, *kernel = weight_shape
    if min(channels, filters, *kernel) < 1:
        raise ShapeError(
            f"{operation}: channels, filters and kernel sizes must be at least 1, got x {x_shape} and "
            f"weight {weight_shape}"
        )
    if channels % groups or filters % groups:
        raise ShapeError(
            f"{operation}: channels (={channels}) and filters (={filters}) must be divisible by groups (={groups})"
        )
    if filter_channels != channels // groups:
        raise ShapeError(
            f"{operation}: weight.shape[1] must be channels / groups = {channels} / {groups} = {channels // groups}, "
            f"got {filter_channels} (x {x_shape}, weight {weight_shape})"
        )
    strides = read_integers(operation, "stride", stride, dimensions, 1)
    dilations = read_integers(operation, "dilation", dilation, dimensions, 1)
    extents = tuple(d * (r - 1) + 1 for d, r in zip(dilations, kernel, strict=True))
    pads = read_padding(operation, padding, tuple(spatial), extents, strides)
    output = []
    for size, extent, step, (before, after) in zip(spatial, extents, strides, pads, strict=True):
        if size + before + after < extent:
            raise ShapeError(
                f"{operation}: the padded input must be at least as large as the dilated kernel, got size {size} + "
                f"padding ({before}, {after}) < {extent} (x {x_shape}, weight {weight_shape}, dilation {dilations})"
            )
        output.append((size + before + after - extent) // step + 1)
    check_plane(operation, tuple(spatial), pads)
    # One tap has nothing to dilate.
    dilations = tuple(d if r > 1 else 1 for d, r in zip(dilations, kernel, strict=True))
    return ConvGeometry(
        batch,
        channels,
        filters,
        tuple(spatial),
        tuple(kernel),
        tuple(output),
        within(strides, spatial, pads),
        pads,
        dilations,
        groups,
        mode == CONVOLUTION,
    )


@lru_cache(maxsize=4096)
def _pool_geometry(
    operation: str, x_shape: tuple[int, ...], window: Any, stride: Any, padding: Any, ceil_mode: bool
) -> PoolGeometry:
    check_not_negative(operation, "x", x_shape)
    dimensions = spatial_dimensions(operation, x_shape)
    batch, channels, *spatial = x_shape
    windows = read_integers(operation, "window", window, dimensions, 1)
    strides = windows if stride is None else read_integers(operation, "stride", stride, dimensions, 1)
    pads = read_padding(operation, padding, tuple(spatial), windows, strides)
    output = []
    for size, extent, step, (before, after) in zip(spatial, windows, strides, pads, strict=True):
        if max(before, after) >= extent:
            raise ShapeError(
                f"{operation}: padding must be smaller than the window, got {(before, after)} for window {extent}"
            )
        room = size + before + after - extent
        if size < 1 or (room < 0 and not ceil_mode):
            raise ShapeError(
                f"{operation}: the padded input must be at least as large as the window, got size {size} + "
                f"padding ({before}, {after}) < {extent} (x {x_shape})"
            )
        count = -(-room // step) + 1 if ceil_mode else room // step + 1
        # No window starts in the trailing padding, where it would cover nothing real.
        while (count - 1) * step >= size + before:
            count -= 1
        output.append(count)
        if count < 1:
            raise ShapeError(f"{operation}: no window fits size {size} with window {extent}, padding {before, after}")
    check_plane(operation, tuple(spatial), pads)
    strides, windows = within(strides, spatial, pads), within(windows, spatial, pads)
    return PoolGeometry(batch, channels, tuple(spatial), windows, tuple(output), strides, pads)
