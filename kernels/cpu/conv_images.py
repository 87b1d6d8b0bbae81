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
from cnn.kernels.cpu.compile import jit
from cnn.kernels.cpu.conv_ends import Source, Target, bring, clear_gaps, deliver
from cnn.kernels.cpu.conv_plan import Correlation, Overlays, mirrored, pick
from cnn.kernels.cpu.element import get
from cnn.kernels.cpu.layout import flat
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.simd import (
    LANES,
    add_outer,
    add_products,
    add_vector,
    load_tile,
    splat_rows,
    store,
    store_sums,
    zeros,
)
from cnn.kernels.cpu.threads import scratch, share_signalled
from cnn.kernels.geometry import ConvGeometry

Array = np.ndarray[Any, Any]


def correlate(plan: Correlation, x: Source, batch: int, weight: Array, bias: Array | None, y: Target) -> None:
    """The forward pass or the input gradient, as the plan says."""
    channels, pixels = plan.tile
    source, target = plan.source, plan.target
    weights = scratch("picked", plan.weights.size)
    pick(flat(weight), plan.weights, weights)
    padded_targets = plan.blocks * channels
    biases = np.zeros((plan.groups, padded_targets), np.float32)
    if bias is not None:
        biases[:, : target.channels // plan.groups] = bias.reshape(plan.groups, -1)
    correlate_groups = _correlate(channels, pixels, LANES)

    def work(words: Array, first: int, last: int) -> None:
        correlate_groups(
            *(words, first, last, batch, plan.groups, plan.blocks),
            *(x, source.channels, source.size, *plan.source_steps),
            scratch("source", source.channels * source.size),
            *(y, target.channels, target.size, *plan.target_steps),
            scratch("target", plan.groups * padded_targets * target.size),
            *(weights, biases.reshape(-1), plan.offsets, plan.grids, plan.lines),
        )

    share_signalled(work, -(-batch // LANES))


def kernel_gradient(
    plan: Overlays, x: Source, gradient: Source, geometry: ConvGeometry, out: Array, grad_bias: Array | None
) -> None:
    filters, rows = plan.tile
    image_groups = -(-geometry.batch // LANES)
    padded = (geometry.groups, plan.blocks * filters, len(plan.offsets))
    partial = buffers.empty((image_groups, *padded), np.float32)
    partials = partial.reshape(-1)
    bias_sums = buffers.empty((image_groups, geometry.filters), np.float32)
    correlate_overlays = _correlate_overlays(filters, rows, LANES)
    source, grad = plan.source, plan.grad
    layers = geometry.groups, plan.blocks, geometry.filters // geometry.groups
    size = geometry.output if geometry.dimensions == 2 else (1, *geometry.output)

    def work(words: Array, first: int, last: int) -> None:
        # The last tile of filters reads a few planes beyond the last filter's, for sums that nobody reads.
        gradients = scratch("grad", (grad.channels + filters) * grad.size)
        correlate_overlays(
            *(words, first, last, geometry.batch, *layers, *size),
            *(x, source.channels, source.size, *plan.source_steps),
            scratch("source", source.channels * source.size),
            *(gradient, grad.channels, grad.pixels * LANES, grad.size, gradients),
            *(plan.lines, plan.offsets, scratch("sums", filters * plan.offsets.size * LANES), partials),
            bias_sums.reshape(-1),
        )

    share_signalled(work, image_groups)
    real = partial[:, :, : geometry.filters // geometry.groups, : plan.rows]
    out[...] = mirrored(real.sum(axis=0).reshape(geometry.weight_shape), geometry)
    if grad_bias is not None:
        bias_sums.sum(axis=0, out=grad_bias)


@cache
def _correlate(channels: int, pixels: int, lanes: int) -> Any:
    """Forward pass or input gradient of groups of images, compiled for one tile shape."""

    @jit()
    def correlate(
        words,
        first_group,
        last_group,
        batch,
        groups,
        blocks,
        x,
        x_channels,
        source_plane,
        source_down,
        source_right,
        source,
        y,
        y_channels,
        target_plane,
        target_down,
        target_right,
        target,
        weights,
        biases,
        offsets,
        grids,
        lines,
    ):
        """All channels of a few pixels before the next pixels: their source stays in the first-level cache."""
        begin(words)
        clear_gaps(x, x_channels, source, source_plane)
        source_group = x_channels // groups * source_plane
        for image in range(first_group * lanes, min(last_group * lanes, batch), lanes):
            images = min(lanes, batch - image)
            bring(x, image, images, x_channels, source, source_plane)
            for grid in range(grids.shape[0]):
                rows, first_row, first_weight, start, height, width, first_line = grids[grid]
                for i in range(height):
                    first_met, last_met = lines[first_line + i]
                    for j in range(0, width, pixels):
                        for group in range(groups):
                            place = group * source_group + i * source_down + j * source_right
                            for block in range(blocks):
                                channel = (group * blocks + block) * channels
                                weight = first_weight + channel * rows
                                tile = splat_rows(biases, channel, channels, pixels, lanes)
                                for e in range(first_met, last_met):
                                    at = place + get(offsets, first_row + e)
                                    tile = add_outer(tile, weights, weight + e * channels, 1, source, at, source_right)
                                at = channel * target_plane + start + i * target_down + j * target_right
                                store(tile, target, at, target_plane, target_right)
            part, padded_part = y_channels // groups, blocks * channels
            deliver(target, target_plane, y, image, images, y_channels, part, padded_part)

    return correlate


@cache
def _correlate_overlays(filters: int, rows: int, lanes: int) -> Any:
    """The kernel gradient of groups of images, compiled for one tile shape."""

    @jit()
    def correlate_overlays(
        words,
        first_group,
        last_group,
        batch,
        groups,
        blocks,
        group_filters,
        height,
        width,
        x,
        x_channels,
        source_plane,
        source_down,
        source_right,
        source,
        g,
        g_channels,
        g_size,
        grad_plane,
        grad,
        lines,
        offsets,
        sums,
        partials,
        bias_sums,
    ):
        """Sums of a tile are held over some lines of overlays, and put aside; in the end their lanes are added."""
        begin(words)
        clear_gaps(x, x_channels, source, source_plane)
        clear_gaps(g, g_channels, grad, grad_plane)
        source_group, sums_line = x_channels // groups * source_plane, offsets.size * lanes
        for images_from in range(first_group * lanes, min(last_group * lanes, batch), lanes):
            images = min(lanes, batch - images_from)
            bring(x, images_from, images, x_channels, source, source_plane)
            bring(g, images_from, images, g_channels, grad, grad_plane)
            for k in range(g_channels):
                total = zeros(1, 1, lanes)
                for i in range(k * grad_plane, k * grad_plane + g_size, lanes):
                    total = add_vector(total, grad, i)
                store_sums(total, bias_sums, images_from // lanes * g_channels + k, 0)
            for group in range(groups):
                for block in range(blocks):
                    line = ((images_from // lanes * groups + group) * blocks + block) * filters
                    filter_at = (group * group_filters + block * filters) * grad_plane
                    sums[:] = 0
                    for first_line in range(0, height, lines):
                        last_line = min(first_line + lines, height)
                        for row in range(0, offsets.size, rows):
                            tile = load_tile(sums, row * lanes, sums_line, lanes, filters, rows, lanes)
                            for i in range(first_line, last_line):
                                here = group * source_group + i * source_down
                                at = filter_at + i * width * lanes
                                for _ in range(width):
                                    gradients = load_tile(grad, at, grad_plane, 0, filters, 1, lanes)
                                    tile = add_products(tile, gradients, source, here, offsets, row)
                                    here, at = here + source_right, at + lanes
                            store(tile, sums, row * lanes, sums_line, lanes)
                    for row in range(0, offsets.size, rows):
                        tile = load_tile(sums, row * lanes, sums_line, lanes, filters, rows, lanes)
                        store_sums(tile, partials, line * offsets.size + row, offsets.size)

    return correlate_overlays
