"""Convolution in four ways, one for each call: with images, channels or pixels in lanes, and by Winograd.

    conv_images      a vector is one pixel of one channel of 16 images: full vectors whatever the channels
    conv_channels    a vector is one pixel of 16 targets of one image: sources stay as they lie, whatever the batch
    conv_pixels      a vector is 16 pixels of a row: nothing to transpose, for stride 1 and rows of 16 pixels or more
    conv_winograd    channels in lanes, a third of the multiplications: 3x3, stride 1, 16 channels or more

The choice depends on the sizes alone, and so do the bits of a result: not on the number of threads, nor on the run.
Every way computes in float32, whatever the precision.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf, prod
from types import ModuleType
from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cpu import activation as activations
from cnn.kernels.cpu import (
    conv_channels,
    conv_channels_plan,
    conv_images,
    conv_pixels,
    conv_pixels_plan,
    conv_plan,
    conv_winograd,
    conv_winograd_plan,
)
from cnn.kernels.cpu.compile import REORDERED, jit
from cnn.kernels.cpu.conv_ends import Windows, source_of, target_of, windows_of
from cnn.kernels.cpu.element import get
from cnn.kernels.cpu.layout import flat
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.simd import LANES
from cnn.kernels.cpu.threads import share_signalled
from cnn.kernels.geometry import ConvGeometry, PoolGeometry

Array = np.ndarray[Any, Any]

PLANS = {
    conv_images: conv_plan,
    conv_channels: conv_channels_plan,
    conv_pixels: conv_pixels_plan,
    conv_winograd: conv_winograd_plan,
}

# What bringing one element into lanes or back costs, in multiplications. To copy it as it lies costs next to nothing.
LAYOUT = 20

# What a product costs with channels in lanes, where it costs 1 with images: it takes more loads, most of them where all
# channels of the target fit into one vector.
CHANNELS, GRADIENT_CHANNELS, ONE_VECTOR = 1.2, 1.05, 1.3

# As much more with channels in lanes is taken for the same: a network with strides then has a function less to compile,
# most of a second in its first step.
SAME = 1.06

# What channels in lanes cost more where targets come in phases, as those of an input gradient with strides do: a tile's
# pixels are no neighbours, and a phase may have nothing to add.
PHASES = 1.3

# Overlays of a kernel gradient whose planes, with images in lanes, no longer stay in the first-level cache, and what
# that costs: a tile of sums passes over all of them.
FAR_OVERLAYS = 200
FAR = 1.5


def conv_forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    geometry: ConvGeometry,
    activation: str | None,
    _precision: str,
    out: Array,
    pool: PoolGeometry | None = None,
    argmax: Array | None = None,
) -> None:
    """With `pool`, out and argmax are those of max pooling behind the activation, which is None or "relu" then."""
    way, plan, given, taken = _forward(geometry, pool)
    relu = activation == "relu"
    source = source_of(x, given)
    target = target_of(out, taken, relu=relu, argmax=argmax)
    way.correlate(plan, source, geometry.batch, weight, bias, target)
    if activation is not None and not relu:
        getattr(activations, f"{activation}_forward")(out, out)


def conv_input_gradient(
    grad_output: Array,
    weight: Array,
    geometry: ConvGeometry,
    _precision: str,
    out: Array,
    pool: PoolGeometry | None = None,
    argmax: Array | None = None,
    gate: Array | None = None,
    around: Array | None = None,
) -> None:
    """With `pool`, grad_output is that of the maxima. around, of out's shape, is added to it; out is 0 where gate, of
    its shape, too, is not above 0.
    """
    way, plan, given, taken = _input_gradient(geometry, pool)
    source = source_of(grad_output, given, argmax)
    target = target_of(out, taken, gate=gate, around=around)
    way.correlate(plan, source, geometry.batch, weight, None, target)


def conv_kernel_gradient(
    x: Array,
    grad_output: Array,
    geometry: ConvGeometry,
    deterministic: bool,
    _precision: str,
    out: Array,
    grad_bias: Array | None,
    pool: PoolGeometry | None = None,
    argmax: Array | None = None,
) -> None:
    way, plan, given, taken = _kernel_gradient(geometry, pool)
    source = source_of(x, given)
    gradient = source_of(grad_output, taken, argmax)
    way.kernel_gradient(plan, source, gradient, geometry, out, grad_bias)


def conv_bias_gradient(grad_output: Array, out: Array) -> None:
    images, filters = grad_output.shape[:2]
    sums = buffers.empty((images, filters), np.float32)
    pixels = grad_output.size // max(sums.size, 1)
    flat_grad, flat_sums = flat(grad_output), sums.reshape(-1)
    least = max(2**14 // max(pixels, 1), 1)
    share_signalled(lambda words, i, j: _sum_planes(words, flat_grad, pixels, i, j, flat_sums), sums.size, least)
    sums.sum(axis=0, out=out)


# The way, its plan, and the windows of the two arrays that lie in planes. Looked up once for each call: one image of a
# small network takes no longer than a few such searches.
_Chosen = tuple[ModuleType, Any, Windows, Windows]


@lru_cache(maxsize=1024)
def _forward(geometry: ConvGeometry, pool: PoolGeometry | None) -> _Chosen:
    way = _correlating(geometry, geometry.channels, geometry.filters, geometry.output, pool, phases=False)
    plan = PLANS[way].forward_plan(geometry)
    return way, plan, windows_of(plan.source, None), windows_of(plan.target, pool)


@lru_cache(maxsize=1024)
def _input_gradient(geometry: ConvGeometry, pool: PoolGeometry | None) -> _Chosen:
    phases = max(geometry.stride) > 1
    way = _correlating(geometry, geometry.filters, geometry.channels, geometry.input, pool, phases=phases)
    plan = PLANS[way].input_gradient_plan(geometry)
    return way, plan, windows_of(plan.source, pool), windows_of(plan.target, None)


def _correlating(
    geometry: ConvGeometry,
    sources: int,
    targets: int,
    size: tuple[int, ...],
    pool: PoolGeometry | None,
    *,
    phases: bool,
) -> ModuleType:
    """The way from `sources` to `targets` channels of `size`."""
    if conv_winograd_plan.serves(geometry):
        return conv_winograd
    waste = inf if pool else conv_pixels_plan.waste(geometry, targets, size)
    return _cheapest(geometry, sources, targets, prod(size), waste, phases=phases)


@lru_cache(maxsize=1024)
def _kernel_gradient(geometry: ConvGeometry, pool: PoolGeometry | None) -> _Chosen:
    if conv_winograd_plan.serves(geometry):
        plan = conv_winograd_plan.forward_plan(geometry)
        return conv_winograd, plan, windows_of(plan.source, None), windows_of(plan.target, pool)
    waste = inf if pool else conv_pixels_plan.gradient_waste(geometry)
    way = _cheapest(geometry, geometry.channels, geometry.filters, prod(geometry.output), waste, gradient=True)
    plan = PLANS[way].kernel_gradient_plan(geometry)
    return way, plan, windows_of(plan.source, None), windows_of(plan.grad, pool)


def _cheapest(
    geometry: ConvGeometry,
    sources: int,
    targets: int,
    size: int,
    waste: float,
    *,
    gradient: bool = False,
    phases: bool = False,
) -> ModuleType:
    """The way from `sources` to `targets` channels of `size` pixels that costs least, counted in multiplications.

    waste: pixels that are computed for each one, where pixels are in lanes; infinity where they cannot be. gradient:
    whether it is the kernel's. phases: whether it is that of an input that strides go over.
    """
    if geometry.groups > 1:
        return conv_images
    batch, pixels, overlays = geometry.batch, prod(geometry.input), prod(geometry.output)
    work = sources * overlays * prod(geometry.kernel)  # for each target of an image
    layout = LAYOUT * (geometry.channels * pixels + geometry.filters * overlays)
    images = targets * work * (FAR if gradient and overlays > FAR_OVERLAYS else 1) + layout
    several = ONE_VECTOR if targets <= LANES else GRADIENT_CHANNELS if gradient else CHANNELS
    costs = {
        conv_images: _whole(batch) * images,
        conv_channels: batch * _whole(targets) * (work * several + LAYOUT * size) * (PHASES if phases else 1 / SAME),
        conv_pixels: batch * targets * work * waste,
    }
    return min(costs, key=lambda way: costs[way])


def _whole(size: int) -> int:
    return conv_plan.up(size, LANES)


@jit(fastmath=REORDERED)
def _sum_planes(words, values, size, first, last, sums):
    begin(words)
    for plane in range(first, last):
        total = np.float32(0)
        for i in range(plane * size, plane * size + size):
            total += get(values, i)
        sums[plane] = total
