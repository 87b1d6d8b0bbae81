"""3x3 convolution by Winograd's minimal filtering: 24 multiplications where the definition has 72.

A vector's lanes are channels. Targets come in tiles of 4 x 2, from sources of 6 x 4; `conv_winograd_tiles` has the
transforms. With U, V, M, G for the transformed weights, sources, targets and output gradients, for each of the 24
points of a transformed tile:

    forward, input gradient:   M[tile][target] = sum over c of V[tile][c] * U[c][target]
    kernel gradient:           S[filter][c] = sum over tiles of G[tile][filter] * V[tile][c]

In the kernel gradient 4 x 2 output gradients are the weights of a correlation with 3 x 3 targets: the filter's. A NaN
or an infinity spreads to the other pixels of its tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.cpu.compile import inner, jit
from cnn.kernels.cpu.conv_ends import Source, Target, bring, clear_gaps, deliver
from cnn.kernels.cpu.conv_plan import up
from cnn.kernels.cpu.conv_winograd_loops import (
    add_tiles,
    multiply,
    transform_gradients,
    transform_sources,
    transform_targets,
    transform_weights,
)
from cnn.kernels.cpu.conv_winograd_plan import PARTS, POINTS, ROWS, TAPS, Winograd
from cnn.kernels.cpu.conv_winograd_tiles import HEIGHT, WIDTH, target_transform
from cnn.kernels.cpu.layout import NONE, ONE, flat
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.simd import LANES, add_tile, add_vector, store, zeros
from cnn.kernels.cpu.threads import odd_lines, scratch, share_signalled
from cnn.kernels.geometry import ConvGeometry

Array = np.ndarray[Any, Any]

# Vectors of filters whose transformation takes a thread longer than to begin.
LEAST = 2**8


def correlate(plan: Winograd, x: Source, batch: int, weight: Array, bias: Array | None, y: Target) -> None:
    """The forward pass or the input gradient, as the plan says."""
    source, target = plan.source, plan.target
    u_step = odd_lines(source.width * target.width)
    u = scratch("transformed weights", POINTS * u_step)
    u.reshape(POINTS, u_step)[:, source.channels * target.width :] = 0  # of channels that are none
    weights, sizes = flat(weight), (target.channels, target.width)
    share_signalled(
        lambda words, first, last: transform_weights(words, weights, plan.order, *sizes, first, last, u, u_step),
        source.channels,
        -(-LEAST // target.blocks),
    )
    biases = np.zeros(target.width, np.float32)
    if bias is not None:
        biases[: target.channels] = bias
    v_step, m_step = odd_lines(plan.padded * source.width), odd_lines(plan.padded * target.width)

    def work(words: Array, first: int, last: int) -> None:
        correlate_units(
            words,
            *(x, y, first * plan.images, min(last * plan.images, batch), plan.images, plan.tiles, plan.chunk),
            *(source.layout, source.tiles, scratch("source", plan.images * source.image)),
            *(target.layout, target.tiles, scratch("target", plan.images * target.image)),
            *(u, u_step, biases),
            *(scratch("transformed source", POINTS * v_step), v_step),
            *(scratch("transformed target", POINTS * m_step), m_step),
        )

    share_signalled(work, -(-batch // plan.images))


def kernel_gradient(
    plan: Winograd, x: Source, gradient: Source, geometry: ConvGeometry, out: Array, grad_bias: Array | None
) -> None:
    source, target = plan.source, plan.target
    batch = geometry.batch
    units = -(-batch // plan.images)
    parts = min(units, PARTS)
    # The last rows of a tile of sums may be no filters': there is room for them, and for what is read for them.
    s_step = odd_lines(up(target.width, ROWS) * source.width)
    sums = scratch("sums", parts * POINTS * s_step)
    bias_sums = scratch("bias sums", parts * target.width)
    v_step, g_step = odd_lines(plan.padded * source.width), odd_lines(plan.padded * target.width)

    def work(words: Array, first: int, last: int) -> None:
        add_parts(
            words,
            *(x, gradient, first, last, parts, units, batch, plan.images, plan.tiles, plan.chunk),
            *(source.layout, source.tiles, scratch("source", plan.images * source.image)),
            *(target.layout, target.tiles, scratch("target", plan.images * target.image)),
            *(scratch("transformed source", POINTS * v_step), v_step),
            *(scratch("transformed target", POINTS * g_step + ROWS), g_step),
            *(sums, s_step, bias_sums),
        )

    share_signalled(work, parts)
    sizes, weights = (source.channels, source.width), out.reshape(-1)
    share_signalled(
        lambda words, first, last: finish(words, sums, parts, s_step, *sizes, first, last, geometry.flipped, weights),
        geometry.filters,
    )
    if grad_bias is not None:
        bias_sums.reshape(parts, target.width)[:, : target.channels].sum(axis=0, out=grad_bias)


@inner()
def block_images(x, start, images, layout, planes):
    channels, _, blocks, plane, _ = layout
    for i in range(images):
        for b in range(blocks):
            line, count = (start + i) * channels + b * LANES, min(LANES, channels - b * LANES)
            bring(x, line, count, ONE, planes[(i * blocks + b) * plane :], NONE)


@inner()
def _add_planes(planes, images, layout, sums, at):
    """sums[at + channel] += what lies in the channel's planes: zeros, where there is no pixel."""
    _, _, blocks, plane, _ = layout
    for i in range(images):
        for b in range(blocks):
            first = (i * blocks + b) * plane
            total = zeros(1, 1, LANES)
            for place in range(first, first + plane - LANES, LANES):  # the last one is the spare vector
                total = add_vector(total, planes, place)
            store(add_vector(total, sums, at + b * LANES), sums, at + b * LANES, 0, 0)


@jit()
def correlate_units(
    words,
    x,
    y,
    first_image,
    last_image,
    unit,
    image_tiles,
    chunk,
    source,
    source_tiles,
    source_planes,
    target,
    target_tiles,
    target_planes,
    u,
    u_step,
    biases,
    v,
    v_step,
    m,
    m_step,
):
    begin(words)
    clear_gaps(x, unit * source[2], source_planes, source[3])
    v_width, m_width = source[2] * LANES, target[2] * LANES
    channels, _, blocks, plane, _ = target
    x_size, y_size = source[0] * x[2][1], channels * y[2][1]
    for start in range(first_image, last_image, unit):
        images = min(unit, last_image - start)
        block_images(x, start, images, source, source_planes)
        after, size = start + unit, images * y_size
        ahead = (  # the sources of the next images, and what these ones' targets meet: gate and around
            (x[0], after * x_size, max(min(unit, last_image - after), 0) * x_size),
            (y[4], start * y_size, min(size, y[4].size)),
            (y[5], start * y_size, min(size, y[5].size)),
        )
        for first in range(0, images * image_tiles, chunk):
            last = min(first + chunk, images * image_tiles)
            transform_sources(source_planes, source, source_tiles, first, last, v, v_step)
            multiply(v, v_step, v_width, source[0], u, u_step, m, m_step, m_width, last - first, ahead)
            transform_targets(m, m_step, biases, target_planes, target, target_tiles, first, last)
        for i in range(images):
            for b in range(blocks):
                line, count = (start + i) * channels + b * LANES, min(LANES, channels - b * LANES)
                here = target_planes[(i * blocks + b) * plane :]
                deliver(here, NONE, y, line, count, ONE, ONE, ONE)


@jit()
def add_parts(
    words,
    x,
    grad,
    first_part,
    last_part,
    parts,
    units,
    batch,
    unit,
    image_tiles,
    chunk,
    source,
    source_tiles,
    source_planes,
    target,
    target_tiles,
    target_planes,
    v,
    v_step,
    g,
    g_step,
    all_sums,
    step,
    bias_sums,
):
    begin(words)
    clear_gaps(x, unit * source[2], source_planes, source[3])
    clear_gaps(grad, unit * target[2], target_planes, target[3])
    v_width, g_width = source[2] * LANES, target[2] * LANES
    x_size, g_size = source[0] * x[2][1], target[0] * grad[2][1]
    for part in range(first_part, last_part):
        sums = all_sums[part * POINTS * step : (part + 1) * POINTS * step]
        sums[:] = 0
        bias_sums[part * g_width : (part + 1) * g_width] = 0
        end = min(units * (part + 1) // parts * unit, batch)
        for start in range(units * part // parts * unit, end, unit):
            images = min(unit, end - start)
            after = start + unit
            following = max(min(unit, end - after), 0)
            ahead = (x[0], after * x_size, following * x_size), (grad[0], after * g_size, following * g_size)
            block_images(x, start, images, source, source_planes)
            block_images(grad, start, images, target, target_planes)
            _add_planes(target_planes, images, target, bias_sums, part * g_width)
            for first in range(0, images * image_tiles, chunk):
                last = min(first + chunk, images * image_tiles)
                transform_sources(source_planes, source, source_tiles, first, last, v, v_step)
                transform_gradients(target_planes, target, target_tiles, first, last, g, g_step)
                add_tiles(g, g_step, target[0], g_width, v, v_step, v_width, last - first, sums, step, ahead)


@jit()
def finish(words, sums, parts, step, channels, width, first, last, flipped, out):
    """The parts, added in order, become gradients of the filters first to last."""
    begin(words)
    taps = np.empty(TAPS * TAPS * LANES, np.float32)
    for k in range(first, last):
        for c in range(0, width, LANES):
            tile = zeros(HEIGHT, WIDTH, LANES)
            for part in range(parts):
                tile = add_tile(tile, sums, part * POINTS * step + k * width + c, WIDTH * step, step)
            store(target_transform(tile, TAPS, TAPS), taps, 0, TAPS * LANES, LANES)
            for lane in range(min(LANES, channels - c)):
                at = (k * channels + c + lane) * TAPS * TAPS
                for tap in range(TAPS * TAPS):
                    out[at + (TAPS * TAPS - 1 - tap if flipped else tap)] = taps[tap * LANES + lane]
