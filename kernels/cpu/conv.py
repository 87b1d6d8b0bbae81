"""Convolution on register tiles whose lanes are images; the tables come from `conv_plan`, the layout from `layout`.

Each thread takes groups of images: it brings a group's source into the blocked layout, computes its target there, and
writes the target back. A partial sum of the kernel gradient belongs to one group of images, and the groups are added
in order: the bits depend neither on the number of threads nor on the run.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cpu import activation as activations
from cnn.kernels.cpu.compile import REORDERED, jit
from cnn.kernels.cpu.conv_plan import Correlation, forward_plan, input_gradient_plan, kernel_gradient_plan
from cnn.kernels.cpu.layout import interleave, separate
from cnn.kernels.cpu.simd import LANES, add_outer, add_products, splat_rows, store, store_sums, zeros
from cnn.kernels.cpu.threads import scratch, share
from cnn.kernels.geometry import ConvGeometry

Array = np.ndarray[Any, Any]


def conv_forward(
    x: Array, weight: Array, bias: Array | None, geometry: ConvGeometry, activation: str | None, out: Array
) -> None:
    _correlate(forward_plan(geometry), x, weight, bias, out)
    if activation is not None:
        getattr(activations, f"{activation}_forward")(out, out)


def conv_input_gradient(grad_output: Array, weight: Array, geometry: ConvGeometry, out: Array) -> None:
    _correlate(input_gradient_plan(geometry), grad_output, weight, None, out)


def conv_kernel_gradient(
    x: Array,
    grad_output: Array,
    geometry: ConvGeometry,
    deterministic: bool,
    out: Array,
    grad_bias: Array | None,
) -> None:
    if grad_bias is not None:
        conv_bias_gradient(grad_output, grad_bias)
    plan = kernel_gradient_plan(geometry)
    filters, rows = plan.tile
    x, grad_output = _flat(x), _flat(grad_output)
    image_groups = -(-geometry.batch // LANES)
    padded = (geometry.groups, plan.blocks * filters, len(plan.offsets))
    partial = buffers.empty((image_groups, *padded), np.float32)
    partials = partial.reshape(-1)
    correlate_overlays = _correlate_overlays(filters, rows, LANES)
    height, width = geometry.output if geometry.dimensions == 2 else (1, *geometry.output)

    def work(first: int, last: int) -> None:
        source, grad = plan.source, plan.grad
        # The last tile of filters may read a few planes beyond the last filter's: there is room for them.
        spare = filters * grad.size
        padded_x = scratch("source", source.channels * source.size)
        padded_grad = scratch("grad", grad.channels * grad.size + spare)
        padded_grad[grad.channels * grad.size :] = 0
        for group in range(first, last):
            image = group * LANES
            images = min(LANES, geometry.batch - image)
            padded_x.fill(0)
            interleave(x, image, images, source.channels, source.pixels, source.positions, padded_x, source.size)
            interleave(grad_output, image, images, grad.channels, grad.pixels, grad.positions, padded_grad, grad.size)
            correlate_overlays(
                padded_x,
                source.channels // geometry.groups * source.size,
                *plan.source_steps,
                plan.offsets,
                padded_grad,
                grad.size,
                geometry.filters // geometry.groups,
                geometry.groups,
                plan.blocks,
                height,
                width,
                partials,
                group * partial[0].size,
            )

    share(work, image_groups)
    total = partial.sum(axis=0)[:, : geometry.filters // geometry.groups, : plan.rows].reshape(geometry.weight_shape)
    out[...] = np.flip(total, tuple(range(2, total.ndim))) if geometry.flipped else total


def conv_bias_gradient(grad_output: Array, out: Array) -> None:
    images, filters = grad_output.shape[:2]
    sums = buffers.empty((images, filters), np.float32)
    flat = _flat(grad_output)
    pixels = flat.size // max(sums.size, 1)

    def work(first: int, last: int) -> None:
        _sum_planes(flat, pixels, first, last, sums.reshape(-1))

    share(work, sums.size, least=max(2**14 // max(pixels, 1), 1))
    out[...] = sums.sum(axis=0)


def _correlate(plan: Correlation, source_array: Array, weight: Array, bias: Array | None, out: Array) -> None:
    channels, pixels = plan.tile
    source, target = plan.source, plan.target
    flat_source, flat_out = _flat(source_array), out.reshape(-1)
    batch = source_array.shape[0]
    weights = buffers.empty(plan.weights.size, np.float32)
    _pick(_flat(weight), plan.weights, weights)
    padded_targets = plan.blocks * channels
    biases = np.zeros((plan.groups, padded_targets), np.float32)
    if bias is not None:
        biases[:, : target.channels // plan.groups] = bias.reshape(plan.groups, -1)
    correlate = _correlate_tiles(channels, pixels, LANES)

    def work(first: int, last: int) -> None:
        blocked_source = scratch("source", source.channels * source.size)
        blocked_target = scratch("target", plan.groups * padded_targets * target.size)
        for group in range(first, last):
            image = group * LANES
            images = min(LANES, batch - image)
            blocked_source.fill(0)
            interleave(
                flat_source,
                image,
                images,
                source.channels,
                source.pixels,
                source.positions,
                blocked_source,
                source.size,
            )
            correlate(
                blocked_source,
                source.channels // plan.groups * source.size,
                *plan.source_steps,
                weights,
                biases.reshape(-1),
                plan.offsets,
                plan.grids,
                plan.groups,
                plan.blocks,
                blocked_target,
                target.size,
                *plan.target_steps,
            )
            separate(
                blocked_target,
                target.size,
                target.positions,
                flat_out,
                image,
                images,
                target.channels,
                target.pixels,
                target.channels // plan.groups,
                padded_targets,
            )

    share(work, -(-batch // LANES))


@cache
def _correlate_tiles(channels: int, pixels: int, lanes: int) -> Any:
    """The loop over tiles, compiled for one tile shape."""

    @jit()
    def correlate(
        source,
        source_group,
        source_down,
        source_right,
        weights,
        biases,
        offsets,
        grids,
        groups,
        blocks,
        target,
        target_plane,
        target_down,
        target_right,
    ):
        """All channels of a few pixels before the next pixels: their source stays in the first-level cache."""
        for grid in range(grids.shape[0]):
            rows, first_row, first_weight, start, height, width = grids[grid]
            for i in range(height):
                for j in range(0, width, pixels):
                    for group in range(groups):
                        place = group * source_group + i * source_down + j * source_right
                        for block in range(blocks):
                            channel = (group * blocks + block) * channels
                            weight = first_weight + channel * rows
                            tile = splat_rows(biases, channel, channels, pixels, lanes)
                            for e in range(rows):
                                at = place + offsets[first_row + e]
                                tile = add_outer(tile, weights, weight + e * channels, source, at, source_right)
                            at = channel * target_plane + start + i * target_down + j * target_right
                            store(tile, target, at, target_plane, target_right)

    return correlate


@cache
def _correlate_overlays(filters: int, rows: int, lanes: int) -> Any:
    """The kernel gradient of one group of images, compiled for one tile shape."""

    @jit()
    def correlate_overlays(
        source,
        source_group,
        source_down,
        source_right,
        offsets,
        grad,
        grad_plane,
        group_filters,
        groups,
        blocks,
        height,
        width,
        partial,
        start,
    ):
        """A tile of sums is held over every overlay of every image, then its lanes are added."""
        for group in range(groups):
            for block in range(blocks):
                line = (group * blocks + block) * filters
                filter_at = (group * group_filters + block * filters) * grad_plane
                for row in range(0, offsets.size, rows):
                    tile = zeros(filters, rows, lanes)
                    for i in range(height):
                        place = group * source_group + i * source_down
                        at = filter_at + i * width * lanes
                        for j in range(width):
                            tile = add_products(
                                tile, grad, at + j * lanes, grad_plane, source, place + j * source_right, offsets, row
                            )
                    store_sums(tile, partial, start + line * offsets.size + row, offsets.size)

    return correlate_overlays


@jit()
def _pick(values, index, out):
    for i in range(index.size):
        out[i] = values[index[i]] if index[i] >= 0 else np.float32(0)


@jit(fastmath=REORDERED)
def _sum_planes(values, size, first, last, sums):
    for plane in range(first, last):
        total = np.float32(0)
        for i in range(plane * size, plane * size + size):
            total += values[i]
        sums[plane] = total


def _flat(array: Array) -> Array:
    """The elements in C order, copied only where they do not lie that way."""
    return np.ascontiguousarray(array).reshape(-1)
