"""Where the convolutions get their planes of vectors from, and where these go: the ends of one fused pass.

A source is an array as it lies in memory, (N, C, pixels), or the gradient of what max pooling gave of it: then every
element goes to the pixel where its maximum stood, while images (or channels) are brought into lanes. A target is an
array, too: before, there may be relu, and max pooling that leaves the maxima and where they stood; or, for a gradient,
another gradient of the same array, and the derivative of the relu that it came out of. What is pooled away is never
written to memory.

`bring` takes lanes as `layout.interleave` does, and `deliver` gives them back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.cpu.compile import inner, jit
from cnn.kernels.cpu.layout import NOTHING, flat, interleave
from cnn.kernels.cpu.simd import LANES, add_tile, load_tile, splat_rows, store, zeros
from cnn.kernels.cpu.simd_arithmetic import plus
from cnn.kernels.cpu.simd_choice import NO_FLOOR, RELU_FLOOR, clip_below, take_equal, where_positive, where_wins
from cnn.kernels.cpu.simd_memory import streams, write, written
from cnn.kernels.cpu.transpose import gather_rows, load_rows, scatter_rows, store_rows, transpose
from cnn.kernels.geometry import PoolGeometry

Array = np.ndarray[Any, Any]

# Plain tuples: those with names take Numba three times as long to hand over, and small networks wait for that.
#
# Windows: for every tap of the pooling window a line of positions, where the pixels under the tap lie in their plane,
# and one of numbers, their flat index in the array's plane (int32 in the bits of float32), filled up to whole vectors;
# and the gaps, vectors of the plane that are under no tap: zeros.
Windows = tuple[int, int, Array, Array, Array]  # taps (0: nothing is pooled), pixels, positions, numbers, gaps
Source = tuple[Array, Array, Windows]  # values, argmax (as numbers; nothing where nothing was pooled)
# Values, argmax, windows, floor of the values, gate, around, and whether values are written past the caches.
Target = tuple[Array, Array, Windows, np.float32, Array, Array, bool]


def source_of(values: Array, windows: Windows, argmax: Array | None = None) -> Source:
    return flat(values), NOTHING if argmax is None else flat(argmax).view(np.float32), windows


def target_of(
    values: Array,
    windows: Windows,
    *,
    relu: bool = False,
    argmax: Array | None = None,
    gate: Array | None = None,
    around: Array | None = None,
) -> Target:
    """around: is added to the values. gate: these pass where it is positive, and are 0 elsewhere."""
    marks = NOTHING if argmax is None else argmax.reshape(-1).view(np.float32)
    floor, past = RELU_FLOOR if relu else NO_FLOOR, streams(values, windows[1])
    gates, others = NOTHING if gate is None else flat(gate), NOTHING if around is None else flat(around)
    return values.reshape(-1), marks, windows, floor, gates, others, past


def windows_of(planes: Any, pool: PoolGeometry | None) -> Windows:
    """For the planes of a convolution's plan, pooled as `pool` says."""
    if pool is None:
        return 0, planes.pixels, planes.positions, NOTHING, np.setdiff1d(planes.vectors, planes.positions)
    (height, width), (rows, columns) = ((1, *sizes)[-2:] for sizes in (pool.window, pool.output))
    r, s, p, q = np.indices((height, width, rows, columns)).reshape(4, height * width, -1)
    numbers = (p * height + r) * pool.input[-1] + q * width + s
    missing = ((0, 0), (0, -numbers.shape[1] % LANES))
    # A pooled pixel that is none reads the plane's spare vector, which holds anything, and is never stored.
    positions = np.pad(planes.positions[numbers], missing, constant_values=planes.size - LANES)
    numbers = np.pad(numbers, missing, constant_values=-1).astype(np.int32)
    gaps = np.setdiff1d(planes.vectors, positions)
    return height * width, rows * columns, positions.reshape(-1), numbers.reshape(-1).view(np.float32), gaps


@inner()
def clear_gaps(source, channels, planes, plane):
    """What `bring` never writes."""
    gaps = source[2][4]
    for c in range(channels):
        for i in range(gaps.size):
            store(zeros(1, 1, LANES), planes, c * plane + gaps[i], 0, 0)


@inner()
def bring(source, image, images, channels, planes, plane):
    """planes[c * plane + position of pixel + l] = source[image + l, c, pixel]: `interleave`, unpooling on the way."""
    values, _, (taps, pixels, positions, _, _) = source
    if taps == 0:
        interleave(values, image, images, channels, pixels, positions, planes, plane)
    else:
        _unpool(source, image, images, channels, planes, plane)


@inner()
def deliver(planes, plane, target, image, images, channels, part, padded_part):
    """The way back. Channels come in parts, a convolution's groups: `padded_part` planes for `part` channels."""
    for c in range(channels):
        first = (c // part * padded_part + c % part) * plane
        if target[2][0] == 0:
            _deliver_plane(planes, first, target, image, images, channels, c)
        else:
            _pool_plane(planes, first, target, image, images, channels, c)
    written(target[6])


@jit(inline="always")
def _unpool(source, image, images, channels, planes, plane):
    values, marks, (taps, pixels, positions, numbers, _) = source
    line, step = positions.size // taps, channels * pixels
    for c in range(channels):
        for p in range(0, pixels, LANES):
            start = (image * channels + c) * pixels + p
            gradients = transpose(load_rows(values, start, step, images, pixels - p, LANES))
            chosen = transpose(load_rows(marks, start, step, images, pixels - p, LANES))
            for k in range(p, p + taps * line, line):
                scatter_rows(take_equal(gradients, chosen, numbers, k), planes, c * plane, positions, k)


@jit(inline="always")
def _deliver_plane(planes, first, target, image, images, channels, c):
    values, _, (_, pixels, positions, _, _), floor, gate, around, past = target
    step = channels * pixels
    for p in range(0, pixels, LANES):
        tile = transpose(clip_below(gather_rows(planes, first, positions, p, LANES), floor))
        start = (image * channels + c) * pixels + p
        if images == LANES and p + LANES <= pixels:
            if around.size > 0:
                tile = add_tile(tile, around, start, step, 0)
            if gate.size > 0:
                tile = where_positive(tile, load_tile(gate, start, step, 0, LANES, 1, LANES))
            write(tile, values, start, step, 0, past)
        else:
            if around.size > 0:
                tile = plus(tile, load_rows(around, start, step, images, pixels - p, LANES))
            if gate.size > 0:
                tile = where_positive(tile, load_rows(gate, start, step, images, pixels - p, LANES))
            store_rows(tile, values, start, step, images, pixels - p)


@jit(inline="always")
def _pool_plane(planes, first, target, image, images, channels, c):
    values, marks, (taps, pixels, positions, numbers, _), floor, _, _, _ = target
    line, step = positions.size // taps, channels * pixels
    best_rows, mark_rows = np.empty(LANES * LANES, np.float32), np.empty(LANES * LANES, np.float32)
    for p in range(0, pixels, LANES):
        for r in range(LANES):
            best = clip_below(load_tile(planes, first + positions[p + r], 0, 0, 1, 1, LANES), floor)
            mark = splat_rows(numbers, p + r, 1, 1, LANES)
            for k in range(p + r + line, p + r + taps * line, line):
                tile = clip_below(load_tile(planes, first + positions[k], 0, 0, 1, 1, LANES), floor)
                mark = where_wins(tile, best, splat_rows(numbers, k, 1, 1, LANES), mark)
                best = where_wins(tile, best, tile, best)
            store(best, best_rows, r * LANES, 0, 0)
            store(mark, mark_rows, r * LANES, 0, 0)
        start = (image * channels + c) * pixels + p
        tile = transpose(load_tile(best_rows, 0, LANES, 0, LANES, 1, LANES))
        store_rows(tile, values, start, step, images, pixels - p)
        tile = transpose(load_tile(mark_rows, 0, LANES, 0, LANES, 1, LANES))
        store_rows(tile, marks, start, step, images, pixels - p)
