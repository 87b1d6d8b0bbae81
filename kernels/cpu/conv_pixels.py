"""Convolution on register tiles whose lanes are pixels of a target row: nothing is transposed.

    forward, input gradient:   target[t][pixel] = bias[t] + sum over e of weights[e][t] * source[pixel + offset[e]]
    kernel gradient:           sums[filter][e] = sum over images, pixels of grad[filter][pixel] * x[pixel + offset[e]]

A row e is one channel of the source under one tap. For stride 1 and targets whose rows are not shorter than a vector,
computed where they lie; the source is copied into planes with room around them, or read where it lies if it needs none.
A row's last vector overlaps the one before it: in the kernel gradient it meets gradients of 0 there, which make a NaN
of an infinite pixel.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cpu.compile import jit
from cnn.kernels.cpu.conv_ends import Source, Target
from cnn.kernels.cpu.conv_pixels_plan import Correlation, Overlays
from cnn.kernels.cpu.conv_plan import mirrored, pick
from cnn.kernels.cpu.element import get
from cnn.kernels.cpu.layout import flat
from cnn.kernels.cpu.rows import lay
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.simd import (
    LANES,
    add_outer,
    add_products,
    load_tile,
    splat_rows,
    store,
    store_sums,
)
from cnn.kernels.cpu.simd_arithmetic import plus
from cnn.kernels.cpu.simd_choice import clip_below, from_lane, where_positive
from cnn.kernels.cpu.simd_memory import write, written
from cnn.kernels.cpu.threads import scratch, share_signalled
from cnn.kernels.geometry import ConvGeometry

Array = np.ndarray[Any, Any]

# Partial sums of a kernel gradient. Their number depends on nothing but the batch, and so do the bits of the result.
PARTS = 8


def correlate(plan: Correlation, x: Source, batch: int, weight: Array, bias: Array | None, y: Target) -> None:
    """The forward pass or the input gradient, as the plan says. Nothing may be pooled on the way."""
    source, target = plan.source, plan.target
    out, _, _, floor, gate, around, past = y
    past = past and target.width % LANES == 0  # a tile begins anywhere in a row that is not whole vectors
    weights = scratch("picked", plan.weights.size)
    pick(flat(weight), plan.weights, weights)
    biases = np.zeros(target.channels, np.float32) if bias is None else flat(bias)
    correlate_images = _correlate_images(*plan.tile, LANES)

    def work(words: Array, first: int, last: int) -> None:
        correlate_images(
            *(words, first, last, plan.copied),
            *(x, source.layout, scratch("source", source.channels * source.size)),
            *(out, floor, gate, around, past, target.height, target.width, plan.down),
            *(weights, biases, plan.offsets),
        )

    share_signalled(work, batch)


def kernel_gradient(
    plan: Overlays, x: Source, gradient: Source, geometry: ConvGeometry, out: Array, grad_bias: Array | None
) -> None:
    source, grad = plan.source, plan.grad
    parts = min(geometry.batch, PARTS)
    lines, packed = plan.offsets.size, plan.images * plan.tile[0] * plan.starts.size * LANES
    partial = buffers.empty((parts, grad.channels, lines + 1), np.float32)
    add_parts = _add_parts(*plan.tile, LANES)

    def work(words: Array, first: int, last: int) -> None:
        add_parts(
            *(words, first, last, parts, geometry.batch, plan.images, plan.copied),
            *(x, source.layout, scratch("source", source.channels * source.size)),
            *(gradient[0], grad.channels, grad.pixels, plan.starts, plan.firsts, plan.places, plan.offsets),
            *(scratch("packed", packed), scratch("sums", grad.channels * (lines + 1) * LANES), partial.reshape(-1)),
        )

    share_signalled(work, parts)
    total = partial.sum(axis=0)
    if grad_bias is not None:
        grad_bias[...] = total[:, lines]
    out[...] = mirrored(total[:, : plan.rows].reshape(geometry.weight_shape), geometry)


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
        layout,
        planes,
        y,
        floor,
        gate,
        around,
        past,
        height,
        width,
        down,
        weights,
        biases,
        offsets,
    ):
        begin(words)
        if copied:
            planes[:] = 0
        x_channels, row, size = layout[0], layout[4], layout[5]
        pixels = height * width
        # A tile's vectors lie in one row, or each in a row of its own.
        right, source_right, target_right = (vectors * lanes, lanes, lanes) if down == 1 else (width, row, width)
        for image in range(first_image, last_image):
            source, start = planes, 0
            if copied:
                lay(x, image, layout, planes)
            else:
                source, start = x[0], image * x_channels * size
            for i in range(0, height, down):
                for step in range(0, width, right):
                    j = min(step, width - right)  # the last tile of a row may overlap the one before it
                    place = start + i * row + j
                    for t in range(0, biases.size, channels):
                        tile = splat_rows(biases, t, channels, vectors, lanes)
                        weight = t * offsets.size
                        for e in range(offsets.size):
                            at = place + get(offsets, e)
                            tile = add_outer(tile, weights, weight + e * channels, 1, source, at, source_right)
                        tile = clip_below(tile, floor)
                        at = (image * biases.size + t) * pixels + i * width + j
                        if around.size > 0:
                            other = load_tile(around, at, pixels, target_right, channels, vectors, lanes)
                            tile = plus(tile, other)
                        if gate.size > 0:
                            open_gate = load_tile(gate, at, pixels, target_right, channels, vectors, lanes)
                            tile = where_positive(tile, open_gate)
                        write(tile, y, at, pixels, target_right, past)
        written(past)

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
        layout,
        planes,
        g,
        g_channels,
        pixels,
        starts,
        firsts,
        places,
        offsets,
        packed,
        sums,
        partials,
    ):
        """The sums of a filter, and after them that of its bias, stay vectors until the part's last image.

        The gradients of a tile's filters are put side by side first: then all of them have one address.
        """
        begin(words)
        if copied:
            planes[:] = 0
        line, image_size = (offsets.size + 1) * lanes, layout[0] * layout[5]
        for part in range(first_part, last_part):
            sums[:] = 0
            last_image = batch * (part + 1) // parts
            for first_image in range(batch * part // parts, last_image, run):
                images = min(run, last_image - first_image)
                source, start = (planes, 0) if copied else (x[0], first_image * image_size)
                if copied:  # a run is one image then
                    lay(x, first_image, layout, planes)
                for k in range(0, g_channels, filters):
                    total = load_tile(sums, k * line + offsets.size * lanes, line, 0, filters, 1, lanes)
                    at = 0
                    for image in range(images):
                        grad = ((first_image + image) * g_channels + k) * pixels
                        for v in range(starts.size):
                            tile = load_tile(g, grad + starts[v], pixels, 0, filters, 1, lanes)
                            tile = from_lane(tile, firsts[v])
                            total = plus(total, tile)
                            store(tile, packed, at, lanes, 0)
                            at += filters * lanes
                    store(total, sums, k * line + offsets.size * lanes, line, 0)
                    for e in range(0, offsets.size, rows):
                        tile = load_tile(sums, k * line + e * lanes, line, lanes, filters, rows, lanes)
                        at = 0
                        for image in range(images):
                            first = start + image * image_size
                            for v in range(places.size):
                                gradients = load_tile(packed, at, lanes, 0, filters, 1, lanes)
                                tile = add_products(tile, gradients, source, first + places[v], offsets, e)
                                at += filters * lanes
                        store(tile, sums, k * line + e * lanes, line, lanes)
            for i in range(g_channels * (offsets.size + 1)):
                total = load_tile(sums, i * lanes, 0, 0, 1, 1, lanes)
                store_sums(total, partials, part * g_channels * (offsets.size + 1) + i, 0)

    return add_parts
