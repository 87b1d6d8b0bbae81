"""Convolution on register tiles whose lanes are pixels of a target row: nothing is transposed.

    forward, input gradient:   target[t][pixel] = bias[t] + sum over e of weights[e][t] * source[pixel + offset[e]]
    kernel gradient:           sums[filter][e] = sum over images, pixels of grad[filter][pixel] * x[pixel + offset[e]]

A row e is one channel of the source under one tap. For stride 1 and targets whose rows are not shorter than a vector,
computed where they lie; the source is copied into planes with room around them, or read where it lies if it needs none.
The kernel gradient is for rows of whole vectors.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cpu.compile import inner, jit
from cnn.kernels.cpu.conv_ends import Source, Target, flat
from cnn.kernels.cpu.conv_pixels_plan import Correlation, Overlays
from cnn.kernels.cpu.conv_plan import pick
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.simd import (
    LANES,
    add_outer,
    add_products,
    add_tile,
    load_tile,
    splat_rows,
    store,
    store_sums,
)
from cnn.kernels.cpu.simd_choice import clip_below, where_positive
from cnn.kernels.cpu.threads import scratch, share_signalled
from cnn.kernels.geometry import ConvGeometry

Array = np.ndarray[Any, Any]

# Partial sums of a kernel gradient. Their number depends on nothing but the batch, and so do the bits of the result.
PARTS = 8


def correlate(plan: Correlation, x: Source, batch: int, weight: Array, bias: Array | None, y: Target) -> None:
    """The forward pass or the input gradient, as the plan says. Nothing may be pooled on the way."""
    source, target = plan.source, plan.target
    out, _, _, floor, gate = y
    weights = scratch("picked", plan.weights.size)
    pick(flat(weight), plan.weights, weights)
    biases = np.zeros(target.channels, np.float32) if bias is None else flat(bias)
    correlate_images = _correlate_images(*plan.tile, LANES)

    def work(words: Array, first: int, last: int) -> None:
        planes = scratch("source", source.channels * source.size)
        planes.fill(0)
        correlate_images(
            *(words, first, last, plan.copied),
            *(x[0], source.channels, source.height, source.width, source.first, source.row, source.size, planes),
            *(out, floor, gate, target.height, target.width, plan.down),
            *(weights, biases, plan.offsets),
        )

    share_signalled(work, batch)


def kernel_gradient(
    plan: Overlays, x: Source, gradient: Source, geometry: ConvGeometry, out: Array, grad_bias: Array | None
) -> None:
    source, grad = plan.source, plan.grad
    parts = min(geometry.batch, PARTS)
    lines = plan.offsets.size
    partial = buffers.empty((parts, grad.channels, lines + 1), np.float32)
    add_parts = _add_parts(*plan.tile, LANES)

    def work(words: Array, first: int, last: int) -> None:
        planes = scratch("source", source.channels * source.size)
        planes.fill(0)
        add_parts(
            *(words, first, last, parts, geometry.batch, plan.images, plan.copied),
            *(x[0], source.channels, source.height, source.width, source.first, source.row, source.size, planes),
            *(gradient[0], grad.channels, grad.height, grad.width),
            *(plan.offsets, scratch("sums", grad.channels * (lines + 1) * LANES), partial.reshape(-1)),
        )

    share_signalled(work, parts)
    total = partial.sum(axis=0)
    if grad_bias is not None:
        grad_bias[...] = total[:, lines]
    total = total[:, : plan.rows].reshape(geometry.weight_shape)
    out[...] = np.flip(total, tuple(range(2, total.ndim))) if geometry.flipped else total


@inner()
def copy_rows(x, first_row, height, width, planes, first, row, size, channels):
    """Rows of an image, whose first is row `first_row` of x, to planes with room around them."""
    for c in range(channels):
        for h in range(height):
            start, end = (first_row + c * height + h) * width, first + c * size + h * row
            here, there = x[start : start + width], planes[end : end + width]
            for i in range(here.size):  # slice to slice would take seconds to compile
                there[i] = here[i]


@cache
def _correlate_images(channels: int, vectors: int, lanes: int) -> Any:
    """Compiled for one tile shape."""

    @jit()
    def correlate_images(
        words,
        first_image,
        last_image,
        copied,
        x,
        x_channels,
        x_height,
        x_width,
        x_first,
        row,
        size,
        planes,
        y,
        floor,
        gate,
        height,
        width,
        down,
        weights,
        biases,
        offsets,
    ):
        begin(words)
        pixels = height * width
        # A tile's vectors lie in one row, or each in a row of its own.
        right, source_right, target_right = (vectors * lanes, lanes, lanes) if down == 1 else (width, row, width)
        for image in range(first_image, last_image):
            source, start = planes, 0
            if copied:
                copy_rows(x, image * x_channels * x_height, x_height, x_width, planes, x_first, row, size, x_channels)
            else:
                source, start = x, image * x_channels * size
            for i in range(0, height, down):
                for step in range(0, width, right):
                    j = min(step, width - right)  # the last tile of a row may overlap the one before it
                    place = start + i * row + j
                    for t in range(0, biases.size, channels):
                        tile = splat_rows(biases, t, channels, vectors, lanes)
                        weight = t * offsets.size
                        for e in range(offsets.size):
                            at = place + offsets[e]
                            tile = add_outer(tile, weights, weight + e * channels, 1, source, at, source_right)
                        tile = clip_below(tile, floor)
                        at = (image * biases.size + t) * pixels + i * width + j
                        if gate.size > 0:
                            open_gate = load_tile(gate, at, pixels, target_right, channels, vectors, lanes)
                            tile = where_positive(tile, open_gate)
                        store(tile, y, at, pixels, target_right)

    return correlate_images


@cache
def _add_parts(filters: int, rows: int, lanes: int) -> Any:
    """Compiled for one tile shape."""

    @jit()
    def add_parts(
        words,
        first_part,
        last_part,
        parts,
        batch,
        run,
        copied,
        x,
        x_channels,
        x_height,
        x_width,
        x_first,
        row,
        size,
        planes,
        g,
        g_channels,
        height,
        width,
        offsets,
        sums,
        partials,
    ):
        """The sums of a filter, and after them that of its bias, stay vectors until the part's last image."""
        begin(words)
        pixels, line, image_size = height * width, (offsets.size + 1) * lanes, x_channels * size
        for part in range(first_part, last_part):
            sums[:] = 0
            last_image = batch * (part + 1) // parts
            for first_image in range(batch * part // parts, last_image, run):
                images = min(run, last_image - first_image)
                source, start = (planes, 0) if copied else (x, first_image * image_size)
                if copied:  # a run is one image then
                    first_row = first_image * x_channels * x_height
                    copy_rows(x, first_row, x_height, x_width, planes, x_first, row, size, x_channels)
                for k in range(0, g_channels, filters):
                    for e in range(0, offsets.size, rows):
                        tile = load_tile(sums, k * line + e * lanes, line, lanes, filters, rows, lanes)
                        for image in range(images):
                            first, grad = start + image * image_size, ((first_image + image) * g_channels + k) * pixels
                            for i in range(height):
                                place, at = first + i * row, grad + i * width
                                for j in range(0, width, lanes):
                                    tile = add_products(tile, g, at + j, pixels, source, place + j, offsets, e)
                        store(tile, sums, k * line + e * lanes, line, lanes)
                for k in range(0, g_channels, filters):
                    last = k * line + offsets.size * lanes
                    total = load_tile(sums, last, line, 0, filters, 1, lanes)
                    for image in range(images):
                        grad = ((first_image + image) * g_channels + k) * pixels
                        for i in range(grad, grad + pixels, lanes):
                            total = add_tile(total, g, i, pixels, 0)
                    store(total, sums, last, line, 0)
            for i in range(g_channels * (offsets.size + 1)):
                total = load_tile(sums, i * lanes, 0, 0, 1, 1, lanes)
                store_sums(total, partials, part * g_channels * (offsets.size + 1) + i, 0)

    return add_parts
