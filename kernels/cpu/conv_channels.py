"""Convolution on register tiles whose lanes are channels of the target: every image is computed by itself.

    forward, input gradient:   target[pixel][t] = bias[t] + sum over e of source[place + offset[e]] * weights[e][t]
    kernel gradient:           sums[e][filter] = sum over images, pixels of x[place + offset[e]] * grad[pixel][filter]

A row e is one channel of the source under one tap, and a pixel has its place in the source, as in `conv_plan`. Source
pixels are taken one at a time, from rows: only targets, and the gradients of a kernel gradient, are brought into lanes
or back, in planes [block of channels][position][lane]. A partial sum of the kernel gradient belongs to a run of images
that depends on the batch alone.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from cnn.kernels.cpu.compile import jit
from cnn.kernels.cpu.conv_channels_plan import ROWS, Correlation, Overlays
from cnn.kernels.cpu.conv_ends import Source, Target, bring, clear_gaps, deliver
from cnn.kernels.cpu.conv_plan import mirrored, pick, up
from cnn.kernels.cpu.element import get
from cnn.kernels.cpu.layout import NONE, ONE, flat
from cnn.kernels.cpu.rows import lay
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.simd import LANES, add_gathered, add_outer, add_vector, load_tile, store, zeros
from cnn.kernels.cpu.threads import scratch, share_signalled
from cnn.kernels.geometry import ConvGeometry

Array = np.ndarray[Any, Any]

# Partial sums of a kernel gradient. Their number depends on nothing but the batch, and so do the bits of the result.
PARTS = 8


def correlate(plan: Correlation, x: Source, batch: int, weight: Array, bias: Array | None, y: Target) -> None:
    """The forward pass or the input gradient, as the plan says."""
    source, target = plan.source, plan.target
    weights = scratch("picked", plan.weights.size)
    pick(flat(weight), plan.weights, weights)
    biases = np.zeros(up(target.channels, LANES), np.float32)
    if bias is not None:
        biases[: target.channels] = bias
    correlate_images = _correlate_images(*plan.tile, LANES)

    def work(words: Array, first: int, last: int) -> None:
        correlate_images(
            *(words, first, last),
            *(x, source.layout, *plan.source_steps, scratch("source", source.channels * source.size)),
            *(y, target.channels, target.size, *plan.target_steps),
            scratch("target", up(target.channels, LANES) // LANES * target.size),
            *(weights, biases, plan.offsets, plan.grids, plan.lines),
        )

    share_signalled(work, batch)


def kernel_gradient(
    plan: Overlays, x: Source, gradient: Source, geometry: ConvGeometry, out: Array, grad_bias: Array | None
) -> None:
    source, grad = plan.source, plan.grad
    batch = geometry.batch
    width, parts = up(grad.channels, LANES), min(batch, PARTS)
    sums = scratch("sums", parts * plan.offsets.size * width)
    bias_sums = scratch("bias sums", parts * width)
    size = geometry.two_dimensional().output
    add_parts = _add_parts(ROWS, plan.columns, LANES)

    def work(words: Array, first: int, last: int) -> None:
        add_parts(
            *(words, first, last, parts, batch, *size),
            *(x, source.layout, *plan.source_steps, scratch("source", source.channels * source.size)),
            *(gradient, grad.channels, grad.pixels * LANES, grad.size, scratch("target", width // LANES * grad.size)),
            *(plan.offsets, sums, bias_sums),
        )

    share_signalled(work, parts)
    total = sums.reshape(parts, plan.offsets.size, width).sum(axis=0)[: plan.rows, : grad.channels]
    total = np.moveaxis(total.reshape(*geometry.kernel, geometry.channels, geometry.filters), (-1, -2), (0, 1))
    out[...] = mirrored(total, geometry)
    if grad_bias is not None:
        bias_sums.reshape(parts, width)[:, : grad.channels].sum(axis=0, out=grad_bias)


@cache
def _correlate_images(pixels: int, columns: int, lanes: int) -> Any:
    """Compiled for one tile shape."""

    @jit()
    def correlate_images(
        words,
        first_image,
        last_image,
        x,
        layout,
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
        begin(words)
        source[:] = 0
        for image in range(first_image, last_image):
            lay(x, image, layout, source)
            for grid in range(grids.shape[0]):
                first_row, start, height, width, first_line = grids[grid]
                for k in range(0, biases.size, columns * lanes):
                    for i in range(height):
                        first_met, last_met = lines[first_line + i]
                        for j in range(0, width, pixels):
                            place = i * source_down + j * source_right
                            tile = load_tile(biases, k, 0, lanes, pixels, columns, lanes)
                            for e in range(first_row + first_met, first_row + last_met):
                                at = place + get(offsets, e)
                                weight = k * offsets.size + e * columns * lanes
                                tile = add_outer(tile, source, at, source_right, weights, weight, lanes)
                            at = k // lanes * target_plane + start + i * target_down + j * target_right
                            store(tile, target, at, target_right, target_plane)
            for k in range(0, y_channels, lanes):
                line, count = image * y_channels + k, min(lanes, y_channels - k)
                deliver(target[k // lanes * target_plane :], NONE, y, line, count, ONE, ONE, ONE)

    return correlate_images


@cache
def _add_parts(rows: int, columns: int, lanes: int) -> Any:
    """Compiled for one tile shape."""

    @jit()
    def add_parts(
        words,
        first_part,
        last_part,
        parts,
        batch,
        height,
        width,
        x,
        layout,
        source_down,
        source_right,
        source,
        g,
        g_channels,
        g_size,
        grad_plane,
        grad,
        offsets,
        all_sums,
        bias_sums,
    ):
        begin(words)
        filters = (g_channels + lanes - 1) // lanes * lanes
        source[:] = 0
        clear_gaps(g, filters // lanes, grad, grad_plane)
        size = offsets.size * filters
        for part in range(first_part, last_part):
            sums = all_sums[part * size : (part + 1) * size]
            sums[:] = 0
            bias_sums[part * filters : (part + 1) * filters] = 0
            for image in range(batch * part // parts, batch * (part + 1) // parts):
                lay(x, image, layout, source)
                for k in range(0, g_channels, lanes):
                    line, count = image * g_channels + k, min(lanes, g_channels - k)
                    bring(g, line, count, ONE, grad[k // lanes * grad_plane :], NONE)
                    total = zeros(1, 1, lanes)
                    for at in range(k // lanes * grad_plane, k // lanes * grad_plane + g_size, lanes):
                        total = add_vector(total, grad, at)
                    at = part * filters + k
                    store(add_vector(total, bias_sums, at), bias_sums, at, 0, 0)
                for row in range(0, offsets.size, rows):
                    for k in range(0, filters, columns * lanes):
                        tile = load_tile(sums, row * filters + k, filters, lanes, rows, columns, lanes)
                        for i in range(height):
                            place, at = i * source_down, k // lanes * grad_plane + i * width * lanes
                            for j in range(width):
                                here = place + j * source_right
                                tile = add_gathered(tile, source, here, offsets, row, grad, at + j * lanes, grad_plane)
                        store(tile, sums, row * filters + k, filters, lanes)

    return add_parts
