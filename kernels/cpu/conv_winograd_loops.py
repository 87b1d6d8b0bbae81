"""The loops of `conv_winograd`: tiles of an array into the points of their transforms and back, and products of those.

Transformed arrays are [point][tile][channel], the weights [point][channel of the source][channel of the target]; `step`
is from one point to the next, and channels are filled up to whole vectors.
"""

from __future__ import annotations

import numpy as np

from cnn.kernels.cpu.compile import inner, jit
from cnn.kernels.cpu.conv_winograd_plan import POINTS, ROWS, ROWS_OF_ONE, STEPS, TAPS
from cnn.kernels.cpu.conv_winograd_tiles import HEIGHT, WIDTH, source_transform, target_transform, weight_transform
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.simd import LANES, add_column, add_outer, add_vector, load_tile, store, zeros
from cnn.kernels.cpu.simd_memory import prefetch
from cnn.kernels.cpu.threads import LINE
from cnn.kernels.cpu.transpose import load_rows, transpose


@jit()
def transform_weights(words, weights, order, targets, width, first, last, u, step):
    """Of the source channels first to last."""
    begin(words)
    taps, size = TAPS * TAPS, (TAPS * TAPS + LANES - 1) // LANES * LANES
    from_source, from_target, flipped = order
    block = np.empty(size * LANES, np.float32)
    start, right = ((taps - 1) * LANES, -LANES) if flipped else (0, LANES)
    for c in range(first, last):
        for k in range(0, width, LANES):
            for tap in range(0, taps, LANES):
                at = c * from_source + k * from_target + tap
                rows = load_rows(weights, at, from_target, targets - k, taps - tap, LANES)
                store(transpose(rows), block, tap * LANES, LANES, 0)
            tile = load_tile(block, start, TAPS * right, right, TAPS, TAPS, LANES)
            store(weight_transform(tile), u, c * width + k, WIDTH * step, step)


@inner()
def transform_sources(planes, layout, tiles, first, last, v, step):
    _, _, blocks, plane, row = layout
    for b in range(blocks):
        for t in range(first, last):
            tile = load_tile(planes, tiles[t] + b * plane, row, LANES, HEIGHT, WIDTH, LANES)
            store(source_transform(tile), v, ((t - first) * blocks + b) * LANES, WIDTH * step, step)


@inner()
def transform_gradients(planes, layout, tiles, first, last, g, step):
    _, _, blocks, plane, row = layout
    for b in range(blocks):
        for t in range(first, last):
            tile = load_tile(planes, tiles[t] + b * plane, row, LANES, STEPS[0], STEPS[1], LANES)
            store(weight_transform(tile), g, ((t - first) * blocks + b) * LANES, WIDTH * step, step)


@inner()
def transform_targets(m, step, biases, planes, layout, tiles, first, last):
    _, _, blocks, plane, row = layout
    for b in range(blocks):
        for t in range(first, last):
            tile = load_tile(m, ((t - first) * blocks + b) * LANES, WIDTH * step, step, HEIGHT, WIDTH, LANES)
            target = add_vector(target_transform(tile, STEPS[0], STEPS[1]), biases, b * LANES)
            store(target, planes, tiles[t] + b * plane, row, LANES)


@inner()
def fetch(array, start, size, point):
    """Begin to load one part of POINTS of what is needed next: memory is read while products are computed."""
    for i in range(start + size * point // POINTS, start + size * (point + 1) // POINTS, LINE):
        prefetch(array, i)


@inner()
def multiply(v, v_step, v_width, channels, u, u_step, m, m_step, m_width, count, ahead):
    """All points of M = V U; two vectors of targets at a time, and the last one alone where their number is odd.

    That one's weights, of a vector of source channels, stay in registers for all tiles: one load less for each product.
    """
    for point in range(POINTS):
        for array, start, size in ahead:
            fetch(array, start, size, point)
        for k in range(0, m_width - LANES, 2 * LANES):
            for t in range(0, count, ROWS):
                tile = zeros(ROWS, 2, LANES)
                a, b = point * v_step + t * v_width, point * u_step + k
                for c in range(channels):
                    tile = add_outer(tile, v, a + c, v_width, u, b + c * m_width, LANES)
                store(tile, m, point * m_step + t * m_width + k, m_width, LANES)
        if m_width // LANES % 2:
            k = m_width - LANES
            for c in range(0, channels, LANES):
                a, b = point * v_step + c, point * u_step + c * m_width + k
                factors = load_tile(u, b, m_width, 0, LANES, 1, LANES)
                for t in range(0, count, ROWS):
                    at = point * m_step + t * m_width + k
                    last = zeros(ROWS, 1, LANES)
                    if c > 0:
                        last = load_tile(m, at, m_width, 0, ROWS, 1, LANES)
                    store(add_column(last, v, a + t * v_width, v_width, 1, factors), m, at, m_width, 0)


@inner()
def add_tiles(g, g_step, filters, g_width, v, v_step, v_width, count, sums, step, ahead):
    """S += G V, likewise."""
    for point in range(POINTS):
        for array, start, size in ahead:
            fetch(array, start, size, point)
        for c in range(0, v_width - LANES, 2 * LANES):
            for k in range(0, filters, ROWS):
                line, a = point * step + k * v_width, point * g_step + k
                tile = load_tile(sums, line + c, v_width, LANES, ROWS, 2, LANES)
                for t in range(count):
                    tile = add_outer(tile, g, a + t * g_width, 1, v, point * v_step + c + t * v_width, LANES)
                store(tile, sums, line + c, v_width, LANES)
        if v_width // LANES % 2:
            c = v_width - LANES
            for k in range(0, filters, ROWS_OF_ONE):
                line, a = point * step + k * v_width, point * g_step + k
                last = load_tile(sums, line + c, v_width, LANES, ROWS_OF_ONE, 1, LANES)
                for t in range(count):
                    last = add_outer(last, g, a + t * g_width, 1, v, point * v_step + c + t * v_width, LANES)
                store(last, sums, line + c, v_width, LANES)
